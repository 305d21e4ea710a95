//! Runs every test, and what is as good as one: formatting, lints, the dependency policy.
//!
//! Tests in virtual time need nothing and are what `cargo test` runs. Those that need a TUN device and root are `ignore`d
//! there and have `tun_` in their names; those that take long are `ignore`d and have `slow_` in theirs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::leftovers::Before;
use crate::packages::{self, is_root};
use crate::shell::{cargo, run, say, which};
use crate::watch::watch;
use crate::{guests, libfuzzer, policy};

/// How long a test program may print nothing. The longest tests of the everyday run take a minute.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The same for those that are called slow.
const PATIENCE_SLOW: Duration = Duration::from_secs(30 * 60);

/// How many tests did what.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// Runs everything that fits into a quarter of an hour or so, or, with `all`, everything.
///
/// # Errors
/// The first that fails, after all of its like have run.
pub(crate) fn run_all(all: bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    let before = Before::look();
    set_up()?;
    lint(all)?;

    let mut tally = Tally::default();
    let mut outcome = tests(&["--workspace"], &[], false, &mut tally);
    // One after the other: they share two cores with the kernel's end of the connection.
    let outer = tests(&["--workspace"], &["--ignored", "--test-threads=1", "tun_"], true, &mut tally);
    outcome = outcome.and(outer);
    if all {
        // A workspace of its own, for crates that nothing else here needs.
        let more =
            ["--manifest-path", "examples/more/Cargo.toml", "--target-dir", "target/more", "--examples"];
        outcome = outcome.and(tests(&more, &[], false, &mut tally));
        outcome = outcome.and(libfuzzer::short());
        // Not optimised for release: that would build everything anew, for longer than these tests take, and without assertions.
        let slow = ["--ignored", "--test-threads=1", "slow_"];
        outcome = outcome.and(tests(&["--workspace"], &slow, true, &mut tally));
    }
    outcome = outcome.and(before.nothing_new());
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    say(format!("{} tests passed, {} failed, {minutes:.1} minutes", tally.passed, tally.failed));
    outcome
}

/// What tests need that a fresh machine may not have: programs, the parts of the toolchain, the guests.
fn set_up() -> anyhow::Result<()> {
    packages::ensure_programs(&["ip", "curl", "iperf3", "strace"], "test against the kernel")?;
    packages::ensure_programs(
        &["nginx", "openssl", "wrk", "redis-server", "redis-benchmark"],
        "test with programs that people use",
    )?;
    packages::ensure_programs(
        &["git", "ssh", "dropbear", "rsync", "wget", "python3", "pip3"],
        "test the gateway with programs that people use",
    )?;
    for (component, probe) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let is_there =
            cargo().args([probe, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !is_there.is_ok_and(|status| status.success()) {
            say(format!("{component} is missing: rustup component add {component}"));
            run(Command::new("rustup").args(["component", "add", component]))
                .with_context(|| format!("install {component} for this toolchain"))?;
        }
    }
    guests::build_all(false)
}

/// Everything that is read and not run.
fn lint(all: bool) -> anyhow::Result<()> {
    policy::check()?;
    say("cargo fmt --check");
    for workspace in ["Cargo.toml", "tests/libfuzzer/Cargo.toml"] {
        run(cargo().args(["fmt", "--all", "--check", "--manifest-path", workspace]))
            .context("`cargo fmt --all` puts the formatting right")?;
    }
    say("cargo clippy");
    run(cargo().args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    // Other choices of features than the default, each as somebody's dependency has it.
    let lean = ["", "net", "fuzz-cases"].into_iter();
    let more =
        ["wasm,net", "tun", "process", "conformance", "fuzz"].into_iter().take(if all { 5 } else { 0 });
    for features in lean.chain(more) {
        say(format!("cargo clippy --no-default-features --features '{features}'"));
        let lib =
            ["clippy", "--quiet", "--locked", "--package", "bulkhead", "--lib", "--no-default-features"];
        run(cargo().args(lib).args(["--features", features, "--", "-D", "warnings"]))?;
    }
    if all {
        say("cargo doc");
        let mut doc = cargo();
        doc.env("RUSTDOCFLAGS", "-D warnings");
        run(doc.args([
            "doc",
            "--quiet",
            "--locked",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]))?;
    }
    Ok(())
}

/// Runs `cargo test` with these choices of packages and of tests, shows what it prints, and counts.
fn tests(packages: &[&str], choice: &[&str], root: bool, tally: &mut Tally) -> anyhow::Result<()> {
    let words = [packages, &["--"], choice].concat().join(" ");
    say(format!("cargo test {words}"));
    let mut command = cargo();
    command.args(["test", "--locked", "--no-fail-fast"]).args(packages).arg("--").args(choice);
    if root && !is_root() {
        if which("sudo").is_none() {
            bail!(
                "`cargo test {words}` needs root, for network namespaces and TUN devices; there is no sudo here"
            );
        }
        // Compiled by us, run by root.
        let arch = std::env::consts::ARCH.to_uppercase();
        command.env(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"), "sudo -E");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let patience = if choice.contains(&"slow_") { PATIENCE_SLOW } else { PATIENCE };
    tally.failed += watch(&mut child, patience, &mut std::io::stdout(), |line| tally.count(line))?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`cargo test {words}` failed");
    }
    Ok(())
}

impl Tally {
    /// Reads a line such as `test result: ok. 10 passed; 0 failed; 1 ignored; ...`.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = result.split([' ', ';']).collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let number = number.parse().unwrap_or(0);
            match *what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn closing_lines_are_counted() {
        let mut tally = Tally::default();
        tally.count(
            "test result: ok. 10 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s",
        );
        tally.count("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.count("test a_name ... ok");
        assert_eq!((tally.passed, tally.failed), (12, 3));
    }
}
