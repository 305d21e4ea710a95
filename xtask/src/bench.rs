//! The benchmarks: what one crossing of the wall costs, and what the stack does a second beside others.

use std::process::Command;

use anyhow::Context as _;

use crate::privileged::{build, run_as_root};
use crate::shell::{run, say};
use crate::{lwip, packages};

/// The applications over lwIP.
const LWIP: &str = "tests/bench/lwip/serve.c";

/// Builds everything and measures. `arguments` are those of the program that measures: `--help` shows them.
///
/// # Errors
/// Where something is missing that cannot be installed, or where a measurement cannot be set up.
pub(crate) fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let is_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    let folder = build(&["bulkhead-bench"])?;
    let program = folder.join("bulkhead-bench");
    if is_help {
        return run(Command::new(program).args(arguments));
    }
    let mut words = Vec::new();
    match lwip::compile(LWIP, "bench-lwip", &folder) {
        Ok(server) => words.extend(["--lwip".to_owned(), server.display().to_string()]),
        Err(error) => say(format!("without lwIP: {error:#}")),
    }
    say("what a step costs, and what a stack does a second");
    run_as_root(&program, words.iter().chain(arguments)).context("the benchmark")
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
