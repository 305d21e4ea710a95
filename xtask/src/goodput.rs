//! The goodput table: the sandboxed stack's sender beside the kernel's, against loss and round trip.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::guests;
use crate::packages::{self, is_root};
use crate::shell::{cargo, run, say, which};
use crate::toolchain::{target_directory, workspace};

/// Builds everything and measures. `arguments` are those of the program that measures.
///
/// # Errors
/// Where something is missing that cannot be installed, or where a measurement cannot be set up.
pub(crate) fn measure(arguments: &[String]) -> anyhow::Result<()> {
    packages::ensure_programs(&["ip"], "make network namespaces")?;
    if !Path::new("/dev/net/tun").exists() {
        bail!("there is no /dev/net/tun: run `modprobe tun` as root, or give this container the device");
    }
    guests::build_all(false)?;
    say("cargo build --release (the first time takes some minutes: the sandbox compiles)");
    run(cargo().args([
        "build",
        "--release",
        "--locked",
        "--workspace",
        "--bin",
        "bulkhead",
        "--bin",
        "goodput",
    ]))?;
    let folder = target_directory(&workspace()?)?.join("release");
    let mut command = if is_root() {
        Command::new(folder.join("goodput"))
    } else if which("sudo").is_some() {
        say("network namespaces need root: sudo");
        let mut command = Command::new("sudo");
        command.arg("-E").arg(folder.join("goodput"));
        command
    } else {
        bail!("network namespaces need root, and there is no sudo here: run `cargo xtask goodput` as root");
    };
    run(command.arg("--program").arg(folder.join("bulkhead")).args(arguments)).context("the table")
}
