//! What a defect of the module does in each placement: builds the modules that have them, and runs the comparison.

use std::process::Command;

use crate::guests;
use crate::shell::{cargo, run, say};
use crate::toolchain::{target_directory, workspace};

/// Builds everything and compares. `arguments` are those of `bulkhead compare faults`.
///
/// # Errors
/// Where something does not build, or the comparison cannot run.
pub(crate) fn compare(arguments: &[String]) -> anyhow::Result<()> {
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
        "faulty",
    ]))?;
    let target = target_directory(&workspace()?)?;
    let release = target.join("release");
    let mut command = Command::new(release.join("bulkhead"));
    command.args(["compare", "faults", "--program"]).arg(release.join("faulty"));
    run(command.arg("--module").arg(target.join("guests").join("hostile-guest.wasm")).args(arguments))
}
