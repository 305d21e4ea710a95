//! The interop matrix: the sandboxed stack against other stacks, with programs that people use.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::leftovers::Before;
use crate::privileged::{build, run_as_root};
use crate::shell::say;
use crate::{lwip, packages, page};

/// Programs whose packages the matrix needs.
const PROGRAMS: [&str; 13] = [
    "ip",
    "ss",
    "sysctl",
    "curl",
    "nginx",
    "iperf3",
    "redis-server",
    "redis-benchmark",
    "redis-cli",
    "ssh",
    "scp",
    "dropbear",
    "wrk",
];

/// What lwIP's peer is made of.
const LWIP: &str = "tests/interop/lwip/forward.c";

/// Builds everything and runs the matrix. `arguments` are those of the program that runs it: `--help` shows them.
///
/// # Errors
/// Where something is missing that cannot be installed, where a cell fails, or where something is left behind.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    packages::ensure_programs(&PROGRAMS, "be at both ends of connections")?;
    let folder = build(&["bulkhead", "bulkhead-interop"])?;
    let before = Before::look();
    let mut words =
        vec!["run".to_owned(), "--program".to_owned(), folder.join("bulkhead").display().to_string()];
    match lwip::compile(LWIP, "lwip-forward", &folder) {
        Ok(program) => words.extend(["--lwip".to_owned(), program.display().to_string()]),
        Err(error) => say(format!("without lwIP: {error:#}")),
    }
    let mut file = folder.with_file_name("interop.json");
    match arguments.iter().position(|argument| argument == "--json") {
        Some(at) => file = arguments.get(at + 1).map(PathBuf::from).unwrap_or(file),
        None => words.extend(["--json".to_owned(), file.display().to_string()]),
    }
    let outcome = run_as_root(&folder.join("bulkhead-interop"), words.iter().chain(arguments));
    before.nothing_new()?;
    let is_run = !arguments.iter().any(|argument| ["--list", "--help", "-h"].contains(&argument.as_str()));
    if is_run && file.exists() {
        page::show_matrix(&file)?;
    }
    outcome.context("the matrix")
}
