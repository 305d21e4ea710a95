//! The interop matrix: the sandboxed stack against other stacks, with programs that people use.

use anyhow::Context as _;

use crate::leftovers::Before;
use crate::packages;
use crate::privileged::{build, run_as_root};
use crate::shell::say;

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
/// Where the results go unless the arguments say otherwise.
const FILES: [(&str, &str); 2] = [("--json", "interop.json"), ("--markdown", "interop.md")];

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
    for (flag, name) in FILES {
        if !arguments.iter().any(|argument| argument.starts_with(flag)) {
            let file = folder.with_file_name(name).display().to_string();
            say(format!("results go to {file}"));
            words.extend([flag.to_owned(), file]);
        }
    }
    let outcome = run_as_root(&folder.join("bulkhead-interop"), words.iter().chain(arguments));
    before.nothing_new()?;
    outcome.context("the matrix")
}
