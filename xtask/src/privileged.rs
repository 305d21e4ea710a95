//! Programs that make network namespaces: built by us, run by root, and gone when we are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::guests;
use crate::packages::{self, is_root};
use crate::shell::{cargo, run, say, which};
use crate::toolchain::{target_directory, workspace};

/// Sees to what every one of them needs, builds these programs of the workspace, and says where they are.
///
/// # Errors
/// Where something is missing that cannot be installed.
pub(crate) fn build(programs: &[&str]) -> anyhow::Result<PathBuf> {
    packages::ensure_programs(&["ip"], "make network namespaces")?;
    if !Path::new("/dev/net/tun").exists() {
        bail!("there is no /dev/net/tun: run `modprobe tun` as root, or give this container the device");
    }
    guests::build_all(false)?;
    say("cargo build --release (the first time takes some minutes: the sandbox compiles)");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--workspace"]);
    command.args(programs.iter().flat_map(|program| ["--bin", program]));
    run(&mut command)?;
    Ok(target_directory(&workspace()?)?.join("release"))
}

/// Runs a program as root, by sudo if need be. It ends with us, by whatever signal we do, and what it has made with it.
///
/// # Errors
/// Where it cannot be run, or its exit code is not 0.
pub(crate) fn run_as_root<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> anyhow::Result<()> {
    let sudo = !is_root();
    if sudo && which("sudo").is_none() {
        bail!("network namespaces need root, and there is no sudo here: run this command as root");
    }
    if sudo {
        say("network namespaces need root: sudo");
    }
    let mut command = bulkhead_namespace::bound(program, sudo);
    let mut child =
        command.args(arguments).spawn().with_context(|| format!("cannot start {}", program.display()))?;
    // Held until it has ended; `wait` would close it.
    let input = child.stdin.take();
    let status = child.wait()?;
    drop(input);
    if !status.success() {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bail!("{name} failed ({status})");
    }
    Ok(())
}
