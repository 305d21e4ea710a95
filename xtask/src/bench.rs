//! The benchmarks: what one crossing of the wall costs, and what the stack does a second beside others.

use std::process::Command;

use anyhow::Context as _;

use crate::packages;
use crate::privileged::{build, run_as_root};
use crate::shell::{cargo, run, say};

/// Builds everything and measures. `arguments` are those of the program that measures: `--help` shows them.
///
/// # Errors
/// Where something is missing that cannot be installed, or where a measurement cannot be set up.
pub(crate) fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let is_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    let program = build(&["bulkhead-bench"])?.join("bulkhead-bench");
    if is_help {
        return run(Command::new(program).args(arguments));
    }
    if !arguments.iter().any(|argument| argument.starts_with("--measure")) {
        say("what a step costs");
        run(cargo().args(["bench", "--locked", "--workspace", "--bench", "step"]))?;
        say("what a segment costs, by the number of connections");
        let cost =
            ["test", "--quiet", "--release", "--locked", "--package", "bulkhead-tcp", "--test", "cost"];
        run(cargo().args(cost).args(["--", "--ignored", "--nocapture", "--test-threads", "1"]))?;
    }
    say("what a stack does a second");
    run_as_root(&program, arguments).context("the benchmark")
}

/// `bulkhead gateway` beside slirp4netns and pasta, which are installed where they are missing.
///
/// # Errors
/// Where something is missing that cannot be installed, or where a measurement cannot be set up.
pub(crate) fn gateways(arguments: &[String]) -> anyhow::Result<()> {
    packages::ensure_programs(&["slirp4netns", "pasta"], "compare gateways")?;
    let folder = build(&["bulkhead", "bulkhead-bench"])?;
    let program = folder.join("bulkhead").display().to_string();
    let words = ["gateways".to_owned(), "--program".to_owned(), program];
    run_as_root(&folder.join("bulkhead-bench"), words.iter().chain(arguments)).context("the comparison")
}
