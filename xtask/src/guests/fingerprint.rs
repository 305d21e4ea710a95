//! Whether a guest has to be built again: one number over everything that it is made of.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::shell::root;

/// The fingerprint of a package: the files of it and of every package of the workspace that it depends on, what the
/// workspace says, every locked version, and `settings`.
pub(super) fn of_package(workspace: &Value, package: &str, settings: &str) -> anyhow::Result<String> {
    of_files(&files_of(workspace, package)?, settings)
}

/// The fingerprint of what is in these folders, of every locked version, and `settings`: for what cargo does not build.
pub(super) fn of_folders(folders: &[PathBuf], settings: &str) -> anyhow::Result<String> {
    let mut files = BTreeSet::from([root().join("Cargo.lock")]);
    for folder in folders {
        list_files(folder, &mut files)?;
    }
    of_files(&files, settings)
}

fn of_files(files: &BTreeSet<PathBuf>, settings: &str) -> anyhow::Result<String> {
    let mut hasher = DefaultHasher::new();
    settings.hash(&mut hasher);
    for file in files {
        file.strip_prefix(root()).unwrap_or(file).hash(&mut hasher);
        std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x} {} files\n{settings}\n", hasher.finish(), files.len()))
}

fn files_of(workspace: &Value, package: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::from([root().join("Cargo.toml"), root().join("Cargo.lock")]);
    for folder in folders_of(workspace, package)? {
        list_files(&folder, &mut files)?;
    }
    Ok(files)
}

/// The folders of a package and of those of its dependencies that are given by a path.
fn folders_of(workspace: &Value, package: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let (mut folders, mut open) = (BTreeSet::new(), vec![package.to_owned()]);
    while let Some(name) = open.pop() {
        let packages = workspace["packages"].as_array().into_iter().flatten();
        let found = packages.into_iter().find(|one| one["name"] == name.as_str());
        let found = found.with_context(|| format!("there is no package {name} in this workspace"))?;
        let manifest = found["manifest_path"].as_str().context("a package has a manifest")?;
        let folder = Path::new(manifest).parent().context("a manifest has a folder")?.to_owned();
        if !folders.insert(folder) {
            continue;
        }
        for dependency in found["dependencies"].as_array().into_iter().flatten() {
            // What only tests need does not get into the guest.
            if dependency["path"].is_string() && dependency["kind"] != "dev" {
                open.extend(dependency["name"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(folders)
}

/// Every file below a folder, but for what other packages, tests and builds keep there.
fn list_files(folder: &Path, files: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_other =
            path.join("Cargo.toml").is_file() || ["target", "tests", "benches"].iter().any(|n| name == *n);
        if entry.file_type()?.is_dir() {
            if !is_other {
                list_files(&path, files)?;
            }
        } else if !name.to_string_lossy().starts_with('.') {
            files.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::files_of;

    #[test]
    fn a_guest_is_made_of_the_face_that_it_shares() {
        let workspace = crate::toolchain::workspace().unwrap();
        for guest in ["guest-tcp", "guest-udp", "hostile-guest", "planted-guest"] {
            let files = files_of(&workspace, guest).unwrap();
            for part in ["wit/face/src/exports.rs", "wit/face/src/quick.rs", "wit/bulkhead.wit"] {
                assert!(files.iter().any(|file| file.ends_with(part)), "{part} is a part of {guest}");
            }
        }
    }
}
