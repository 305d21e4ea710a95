//! Begins a protocol module: a small one, that builds, runs and keeps the contract.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::shell::{capture, cargo, root, say};
use crate::toolchain::workspace;

/// The module, with `{name}` where its name goes.
const SOURCE: &str = include_str!("../module/lib.rs");
/// Its manifest, with `{wit}` where the path to the contract goes.
const MANIFEST: &str = include_str!("../module/manifest.toml");

/// Writes a module called `arguments[0]` into a folder of that name: below `examples`, or below what `--in` says. Within the
/// repository it becomes a member of the workspace, elsewhere a workspace of its own.
///
/// # Errors
/// A name that cargo or we have no use for, a folder that is there already, or what the system says.
pub(crate) fn begin(arguments: &[String]) -> anyhow::Result<()> {
    let (name, parent) = match arguments {
        [name] => (name, root().join("examples")),
        [name, option, parent] if option == "--in" => (name, PathBuf::from(parent)),
        _ => bail!("expected NAME and perhaps --in FOLDER; see `cargo xtask help`"),
    };
    check(name)?;
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let folder = parent.canonicalize()?.join(name);
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::create_dir(folder.join("src"))?;
    let inner = folder.strip_prefix(root().canonicalize()?).ok();
    let (wit, tail) = match inner {
        Some(inner) => {
            let up = inner.iter().map(|_| "../").collect::<String>();
            (format!("{up}wit"), "\n[lints]\nworkspace = true\n")
        }
        None => (root().join("wit").display().to_string(), "\n[workspace]\n"),
    };
    let manifest = MANIFEST.replace("{name}", name).replace("{wit}", &wit) + tail;
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/lib.rs"), SOURCE.replace("{name}", name))?;
    match inner {
        Some(inner) => join_workspace(inner)?,
        // The same versions, so that nothing has to be downloaded.
        None => drop(fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?),
    }
    // Adds it to the lock file, or leaves in that what it needs.
    capture(
        cargo().args(["metadata", "--format-version", "1", "--manifest-path"]).arg(folder.join("Cargo.toml")),
    )?;
    say(next(name, &folder, inner.is_some()));
    Ok(())
}

/// A name is a package's, a component's and a folder's.
fn check(name: &str) -> anyhow::Result<()> {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if !name.starts_with(|letter: char| letter.is_ascii_lowercase()) || !name.chars().all(is_plain) {
        bail!("`{name}`: a module's name is made of a-z, 0-9 and -, and begins with a letter");
    }
    let workspace = workspace()?;
    let packages = workspace["packages"].as_array().into_iter().flatten();
    if packages.into_iter().any(|package| package["name"] == name) {
        bail!("there is a package {name} already");
    }
    Ok(())
}

/// Adds a folder to the members that the workspace's manifest lists.
fn join_workspace(inner: &Path) -> anyhow::Result<()> {
    let path = root().join("Cargo.toml");
    let manifest = fs::read_to_string(&path)?;
    let joined = with_member(&manifest, &inner.display().to_string());
    fs::write(&path, joined.context("Cargo.toml has no `members = [...]`")?)?;
    Ok(())
}

fn with_member(manifest: &str, member: &str) -> Option<String> {
    let begin = manifest.find("\nmembers = [")?;
    let end = begin + manifest.get(begin..)?.find(']')?;
    let (before, after) = manifest.split_at_checked(end)?;
    Some(format!("{before}, \"{member}\"{after}"))
}

/// What to do with it.
fn next(name: &str, folder: &Path, is_member: bool) -> String {
    let (option, target) = if is_member {
        (String::new(), PathBuf::from("target"))
    } else {
        (format!(" --manifest-path {}", folder.join("Cargo.toml").display()), folder.join("target"))
    };
    let file = target.join("guests").join(format!("{name}.wasm"));
    format!(
        "{} is a module that answers ping. Build it, and ask whether it keeps the contract:\n  \
         cargo xtask guests{option}\n  bulkhead check {}",
        folder.display(),
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::{check, with_member};

    #[test]
    fn names_are_those_of_packages_that_are_not_there() {
        check("a-module2").unwrap();
        for name in ["", "A", "2a", "a/b", "..", "a b", "tiny-tcp"] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_member_is_added_at_the_end() {
        let manifest = "[workspace]\nexclude = [\"c\"]\nmembers = [\"a\", \"b\"]\n";
        let joined = with_member(manifest, "d/e").unwrap();
        assert_eq!(joined, "[workspace]\nexclude = [\"c\"]\nmembers = [\"a\", \"b\", \"d/e\"]\n");
        assert_eq!(with_member("[workspace]\n", "a"), None);
    }
}
