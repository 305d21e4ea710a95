//! The benchmarks: what one crossing of the wall costs, and what the stack does a second beside others.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::guests;
use crate::packages::{self, is_root};
use crate::shell::{cargo, run, say, which};
use crate::toolchain::{target_directory, workspace};

/// Builds everything and measures. `arguments` are those of the program that measures: `--help` shows them.
///
/// # Errors
/// Where something is missing that cannot be installed, or where a measurement cannot be set up.
pub(crate) fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let is_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    packages::ensure_programs(&["ip"], "make network namespaces")?;
    if !Path::new("/dev/net/tun").exists() {
        bail!("there is no /dev/net/tun: run `modprobe tun` as root, or give this container the device");
    }
    guests::build_all(false)?;
    say("cargo build --release (the first time takes some minutes: the sandbox compiles)");
    run(cargo().args(["build", "--release", "--locked", "--workspace", "--bin", "bulkhead-bench"]))?;
    if !is_help && !arguments.iter().any(|argument| argument.starts_with("--measure")) {
        say("what a step costs");
        run(cargo().args(["bench", "--locked", "--workspace", "--bench", "step"]))?;
    }
    say("what a stack does a second");
    let program = target_directory(&workspace()?)?.join("release").join("bulkhead-bench");
    if is_root() || is_help {
        return run(Command::new(program).args(arguments));
    }
    if which("sudo").is_none() {
        bail!("network namespaces need root, and there is no sudo here: run `cargo xtask bench` as root");
    }
    say("network namespaces need root: sudo");
    run(Command::new("sudo").arg("-E").arg(program).args(arguments)).context("the benchmark")
}
