//! The recovery table: faults of every kind under load, in the sandbox.

use crate::guests;
use crate::shell::{cargo, run, say};

/// Builds everything and measures. `arguments` are those of the program that measures.
///
/// # Errors
/// Where something cannot be built, or a connection was lost.
pub(crate) fn measure(arguments: &[String]) -> anyhow::Result<()> {
    guests::build_all(false)?;
    say("cargo build --release (the first time takes some minutes: the sandbox compiles)");
    let build = ["run", "--release", "--locked", "--package", "bulkhead-tests", "--bin", "recovery", "--"];
    run(cargo().args(build).args(arguments))
}
