//! The interop matrix: the sandboxed stack against other stacks, with programs that people use.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::leftovers::Before;
use crate::packages;
use crate::page;
use crate::privileged::{build, run_as_root};

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
/// Builds everything and runs the matrix. `arguments` are those of the program that runs it: `--help` shows them.
///
/// # Errors
/// Where something is missing that cannot be installed, where a cell fails, or where something is left behind.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    packages::ensure_programs(&PROGRAMS, "be at both ends of connections")?;
    let folder = build(&["bulkhead", "bulkhead-bench", "bulkhead-interop"])?;
    let before = Before::look();
    let mut words = Vec::new();
    for (flag, name) in [("--program", "bulkhead"), ("--bench", "bulkhead-bench")] {
        words.extend([flag.to_owned(), folder.join(name).display().to_string()]);
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
