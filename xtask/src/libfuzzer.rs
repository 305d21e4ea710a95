//! Native fuzzing by libFuzzer: the rooms that read what strangers and modules say, and how fast that is beside `bulkhead fuzz`.
//!
//! The targets are a workspace of their own, `tests/libfuzzer`, built with what `cargo fuzz` passes to the compiler: counters at each
//! edge, comparisons traced, AddressSanitizer. These options are those of a nightly compiler, which a stable one takes too where
//! it is told to; so nothing has to be installed but a compiler for C++.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::packages;
use crate::shell::{capture, cargo, forget_cargo, root, run, say};
use crate::toolchain::{target_directory, workspace};

/// What there is to fuzz.
const TARGETS: [&str; 3] = ["split", "inspect", "tcp"];
/// Longest input, in bytes: a datagram, or a case of many events.
const LONGEST: &str = "-max_len=65536";
/// Counters and comparisons, as cargo-fuzz asks for them.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Runs of the one case that speeds are measured with.
const RUNS: u32 = 20_000;
/// Runs of each target in the tests, from a fixed seed.
const SHORT: &str = "-runs=20000";

/// `cargo xtask libfuzzer ...`.
///
/// # Errors
/// Where something cannot be built, or something was found.
pub(crate) fn fuzz(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["compare"] => compare(5),
        ["compare", seconds] => compare(seconds.parse().context("seconds are a number")?),
        [target, "--no-sanitizer", options @ ..] if TARGETS.contains(target) => {
            campaign(target, false, options)
        }
        [target, options @ ..] if TARGETS.contains(target) => campaign(target, true, options),
        _ => bail!("`cargo xtask libfuzzer {}`, or `compare [SECONDS]`", TARGETS.join("|")),
    }
}

/// A short run of each target, which is the same each time.
///
/// # Errors
/// As [`fuzz`].
pub(crate) fn short() -> anyhow::Result<()> {
    let programs = build(true)?;
    for target in TARGETS {
        say(format!("libFuzzer: {target} {SHORT}"));
        let folder = programs.join("artifacts");
        fs::create_dir_all(&folder)?;
        // What is new goes into the first directory: not into that of the cases, and each run begins from nothing.
        let corpus = programs.join("short").join(target);
        if corpus.exists() {
            fs::remove_dir_all(&corpus)?;
        }
        fs::create_dir_all(&corpus)?;
        let mut command = Command::new(programs.join(target));
        command.args([SHORT, LONGEST, "-seed=1", "-print_funcs=0", "-verbosity=0"]).arg(artifacts(&folder));
        run(command.arg(&corpus).args(cases(target)).stderr(Stdio::inherit()))?;
    }
    Ok(())
}

/// Builds the targets; says where they are.
fn build(has_sanitizer: bool) -> anyhow::Result<PathBuf> {
    packages::ensure_programs(&["c++"], "build libFuzzer")?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let (name, sanitizer) = if has_sanitizer { ("address", " -Zsanitizer=address") } else { ("none", "") };
    let folder = target_directory(&workspace()?)?.join("libfuzzer").join(name);
    say(format!("building tests/libfuzzer for libFuzzer (sanitizer: {name})"));
    let mut command = cargo();
    command.current_dir(root().join("tests/libfuzzer"));
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", format!("{COVERAGE}{sanitizer}"));
    command.args(["build", "--release", "--locked", "--target", &host, "--target-dir"]).arg(&folder);
    run(&mut command)?;
    Ok(folder.join(host).join("release"))
}

/// Cases that were found or made, as seeds.
fn cases(target: &str) -> Option<PathBuf> {
    let folder = root().join("tests/fuzz").join(target);
    folder.is_dir().then_some(folder)
}

fn artifacts(folder: &Path) -> String {
    format!("-artifact_prefix={}/", folder.display())
}

/// Until Ctrl-C, or as the options say. The corpus stays in the target directory, and the next run goes on from it.
fn campaign(target: &str, has_sanitizer: bool, options: &[&str]) -> anyhow::Result<()> {
    let programs = build(has_sanitizer)?;
    let folder = target_directory(&workspace()?)?.join("libfuzzer");
    let (corpus, findings) = (folder.join("corpus").join(target), folder.join("findings").join(target));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder)?;
    }
    say(format!("corpus in {}, findings in {}", corpus.display(), findings.display()));
    let mut command = Command::new(programs.join(target));
    forget_cargo(&mut command);
    command.args([LONGEST, "-print_funcs=0", "-print_final_stats=1"]).arg(artifacts(&findings));
    run(command.args(options).arg(&corpus).args(cases(target)))
}

/// Runs a second of the executor alone, and of the whole loop from nothing.
fn speeds(has_sanitizer: bool, seconds: u64) -> anyhow::Result<(f64, f64)> {
    let program = build(has_sanitizer)?.join("tcp");
    let told = |arguments: &[&str], after: &str| -> anyhow::Result<f64> {
        let output = Command::new(&program).args(arguments).arg("-print_funcs=0").output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let number = text.split(after).nth(1).and_then(|rest| rest.split_whitespace().next());
        let number = number.with_context(|| format!("libFuzzer does not tell: {text}"))?;
        Ok(number.parse()?)
    };
    let case = root().join("tests/libfuzzer/six.txt").display().to_string();
    let alone = told(&[&format!("-runs={RUNS}"), &case], "six.txt in ")?;
    let time = format!("-max_total_time={seconds}");
    let whole = told(&[&time, LONGEST, "-seed=1", "-print_final_stats=1"], "stat::average_exec_per_sec:")?;
    Ok((f64::from(RUNS) / (alone / 1e3), whole))
}

/// The same cases, changes of them, host and eyes, one core each, one after the other.
fn compare(seconds: u64) -> anyhow::Result<()> {
    crate::guests::build_all(false)?;
    let program = ["build", "--release", "--locked", "--workspace", "--bin", "fuzzing"];
    run(cargo().args(program))?;
    build(true)?;
    build(false)?;
    let fuzzing = target_directory(&workspace()?)?.join("release/fuzzing");
    let mut ours = Vec::new();
    for way in ["kept", "loop", "fresh"] {
        let time = Duration::from_secs(seconds).as_secs().to_string();
        let text = capture(Command::new(&fuzzing).args(["speed", &time, way]))?;
        let number = text
            .split_whitespace()
            .zip(text.split_whitespace().skip(1))
            .find(|(_, unit)| unit.starts_with("runs/s"));
        ours.push(number.context("no runs/s")?.0.parse::<f64>()?);
    }
    let [kept, whole, fresh] = ours.as_slice() else { bail!("three ways") };
    let (with, without) = (speeds(true, seconds)?, speeds(false, seconds)?);
    println!("\n| runs a second, one core | executor alone | whole loop, {seconds} s from nothing |");
    println!("|---|---|---|");
    println!("| bulkhead fuzz, in the sandbox, a kept instance | {kept:.0} | {whole:.0} |");
    println!("| bulkhead fuzz, a fresh instance each | {fresh:.0} | |");
    println!("| libFuzzer, natively, AddressSanitizer (its default) | {:.0} | {:.0} |", with.0, with.1);
    println!("| libFuzzer, natively, no sanitizer | {:.0} | {:.0} |", without.0, without.1);
    Ok(())
}
