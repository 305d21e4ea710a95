//! docs/conformance.md: everything that is known of how the stack does, on one page that is generated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::guests;
use crate::shell::{capture, cargo, root, run, say};
use crate::toolchain::{target_directory, workspace};

/// The page.
const PAGE: &str = "docs/conformance.md";

/// A module that conformance scripts are run against: a column of their table.
struct Run {
    heading: &'static str,
    /// Another module than the bundled one, by its name in the folder of guests.
    guest: Option<&'static str>,
    /// More words for `bulkhead check --scripts`.
    words: &'static [&'static str],
}

/// The first of them is what the page is about.
const RUNS: &[Run] = &[
    Run { heading: "sandbox", guest: None, words: &[] },
    Run { heading: "native", guest: None, words: &["--placement", "native"] },
    Run { heading: "smoltcp", guest: Some("smoltcp-module"), words: &[] },
];
/// Modules beside the bundled one whose contract is asked, by their names in the folder of guests.
const OTHERS: &[&str] = &["guest-udp", "smoltcp-module"];
/// About which module `cargo xtask interop --json FILE` found what last, and why cells fail.
const MATRICES: &[(&str, &str, &str)] = &[
    ("bulkhead-tcp", "docs/interop.json", ""),
    ("smoltcp, as a module", "docs/interop-smoltcp.json", SMOLTCP_FAILS),
];
/// What is not on the page, and why.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    ("SACK, timestamps, window scaling of smoltcp and lwIP, chosen", "they are as these were built"),
    ("an MTU of 576 over IPv6", "a link that carries IPv6 has 1280 at least (RFC 8200 5)"),
];

/// Writes the page anew: scripts and the contract are run, the matrix and the foreign suites are taken from their files.
///
/// # Errors
/// Where something cannot be built, read or written.
pub(crate) fn generate() -> anyhow::Result<()> {
    guests::build_all(false)?;
    say("cargo build --release");
    run(cargo().args(["build", "--release", "--locked", "--quiet", "--workspace", "--bin", "bulkhead"]))?;
    let target = target_directory(&workspace()?)?;
    let program = target.join("release").join("bulkhead");
    let guest = |name: &str| target.join("guests").join(format!("{name}.wasm")).display().to_string();
    let scripts = RUNS.iter().map(|run| {
        let file = run.guest.map(guest);
        let mut words = [&["--scripts", "tests/conformance"], run.words].concat();
        words.extend(file.as_deref());
        Ok((run.heading, check(&program, &words)?))
    });
    let scripts: Vec<(&str, Value)> = scripts.collect::<anyhow::Result<_>>()?;
    let Some((_, first)) = scripts.first() else { bail!("no module") };
    let mut contracts = vec![first.clone()];
    for name in OTHERS {
        contracts.push(check(&program, &[&guest(name)])?);
    }
    let mut sections = vec![
        ("Features", body(&read("docs/features.md")?)),
        ("Scripts of our own", format!("\n{SCRIPTS}\n{}", folders(&scripts))),
        ("The contract", format!("\n{}", contract(&contracts))),
        ("Real packetdrill", body(&read("docs/packetdrill.md")?)),
    ];
    let mut interop = PASSED.to_owned();
    for (module, file, why) in MATRICES {
        let results = serde_json::from_str(&read(file)?).with_context(|| (*file).to_owned())?;
        let _ = write!(interop, "\n### {module}\n\n{why}{}", matrix(&results));
    }
    sections.push(("Interop", interop));
    sections.push(("Not applicable", not_applicable()));
    let mut page = head(first)?;
    for (title, text) in sections {
        let _ = write!(page, "\n## {title}\n{text}");
    }
    std::fs::write(root().join(PAGE), page).with_context(|| PAGE.to_owned())?;
    say(format!("{PAGE} is written"));
    Ok(())
}

/// What `bulkhead check` says. It says by its exit code that something does not hold, and the page says what.
fn check(program: &Path, words: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new(program);
    command.current_dir(root()).args(["check", "--json"]).args(words);
    let output = command.output().context("cannot start bulkhead")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`bulkhead check {}`: {said}", words.join(" ")))
}

/// What the columns are.
const SCRIPTS: &str = "\
The scripts say what this TCP does, often to the byte: which options, how large a first flight, when an acknowledgement. smoltcp, as the module of
[smoltcp-module](../examples/smoltcp-module) behind the same contract, is another TCP: where it fails a script, it does something else, or lacks what the folder is about.
";

/// What a passed cell means.
const PASSED: &str = "
`cargo xtask interop` runs each cell in network namespaces of its own. A cell has passed if these hold:

- The same bytes. curl, ssh and scp: the SHA-256 of the copy. wrk: every answer is the file, compared in its script. Connects: every
  answer is compared. iperf3, redis and ssh: a witness between the programs and the stacks compares every byte, at both ends and in both directions.
- No stall. Bytes under way make some progress within three timeouts in a row, each twice as long as the one before, and a second for the path: 8 s from
  RFC 6298's first second on, 22 s with lwIP, whose first timeout is of 3 s. curl (`--speed-time`), wrk (`--timeout`), the client that connects, and the witness hold it
  against that. The witness's longest wait is told.
- Nothing leaked. The stack has no connection but in TIME-WAIT, no stream, no descriptor that it had not before; neither kernel has a connection; the witness
  saw every one end; no faults, no errors of the device; and no namespace, device, process or folder is left behind.

Programs whose peer is the kernel speak to the stack by their own sockets, but for those with the witness. smoltcp and lwIP hand connections on to
the programs as `bulkhead run forward` does. Cells are chosen so that every two choices that go together meet in one.
";

/// Why the other module fails cells.
const SMOLTCP_FAILS: &str = "\
`cargo xtask interop --module target/guests/smoltcp-module.wasm`. Where it fails, that is smoltcp's or how the module is built:

- `connects`: the module has room for 320 connections, and each that it closed first stays for smoltcp's ten seconds of TIME-WAIT, which it cannot take
  from it before. The bundled module has room for more, and lets the oldest of them go (RFC 9293 3.4.2, RFC 6191).
- The peer is `itself` and the MTU 576 or 1280: only path MTU discovery finds a link in the middle, and smoltcp has none. Peers whose own
  interface is that small say so by their MSS.
- `wrk-close` over loss or duplicates at MTU 576: one end stays in FIN-WAIT-2, waiting for a FIN. Whose fault it is was not found out.

";

fn not_applicable() -> String {
    let rows = NOT_APPLICABLE.iter().map(|(what, why)| format!("| {what} | {why} |\n"));
    format!("\n| what | why |\n|---|---|\n{}", rows.collect::<String>())
}

fn read(name: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root().join(name)).with_context(|| name.to_owned())
}

fn head(sandbox: &Value) -> anyhow::Result<String> {
    let date = capture(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let commit = capture(Command::new("git").current_dir(root()).args(["describe", "--always"]));
    let commit = commit.unwrap_or_else(|_| "outside of git".into());
    let rustc = capture(Command::new("rustc").arg("--version"))?;
    let Some(module) = sandbox["module"].as_str() else { bail!("`bulkhead check` names no module") };
    Ok(format!(
        "# Conformance\n\nGenerated by `cargo xtask conformance-page` on {date} from commit {commit}: not to be edited. \
         Module: {module}; {rustc}.\nThe matrix and the foreign suites were run when they say.\n"
    ))
}

/// A page without its title, its headings one level lower.
fn body(page: &str) -> String {
    let rest = page.split_once('\n').map_or("", |(_, rest)| rest);
    let lower = |line: &str| if line.starts_with('#') { format!("#{line}\n") } else { format!("{line}\n") };
    rest.lines().map(lower).collect()
}

fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Scripts by folder: passed of all, for each run.
fn folders(runs: &[(&str, Value)]) -> String {
    let mut out = "| folder |".to_owned();
    runs.iter().for_each(|(heading, _)| _ = write!(out, " {heading} |"));
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(runs.len()));
    let count = |one: &Value| {
        let (passed, failed) = (one["passed"].as_u64().unwrap_or(0), one["failed"].as_u64().unwrap_or(0));
        (passed, passed + failed)
    };
    let counts: Vec<BTreeMap<&str, (u64, u64)>> = runs
        .iter()
        .map(|(_, run)| list(run, "/scripts/folders").map(|one| (text(one, "folder"), count(one))).collect())
        .collect();
    let names: BTreeSet<&str> = counts.iter().flat_map(|run| run.keys().copied()).collect();
    let mut sums = vec![(0, 0); runs.len()];
    for folder in names {
        let _ = write!(out, "| [{folder}](../tests/conformance/{folder}) |");
        for (run, sum) in counts.iter().zip(&mut sums) {
            let (passed, all) = run.get(folder).copied().unwrap_or_default();
            let _ = write!(out, " {passed} of {all} |");
            (sum.0, sum.1) = (sum.0 + passed, sum.1 + all);
        }
        out.push('\n');
    }
    out.push_str("| all |");
    sums.iter().for_each(|(passed, all)| _ = write!(out, " {passed} of {all} |"));
    out.push('\n');
    out
}

/// What `bulkhead check` asks, of each module.
fn contract(modules: &[Value]) -> String {
    let shown = |one: &Value| match text(one, "finding") {
        "holds" => format!("yes {}", text(one, "text")),
        "not served" => "n/a".to_owned(),
        _ => format!("**no**: {}", text(one, "text")),
    };
    let mut out = "| asked |".to_owned();
    modules.iter().for_each(|module| _ = write!(out, " {} |", text(module, "module")));
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(modules.len()));
    let Some(first) = modules.first() else { return out };
    // How long it took to load is this machine's own affair.
    for (at, asked) in list(first, "/contract").enumerate().skip(1) {
        let _ = write!(out, "| {} |", text(asked, "name"));
        for module in modules {
            let _ = write!(out, " {} |", shown(&module["contract"][at]).trim());
        }
        out.push('\n');
    }
    out
}

/// The interop matrix: peers against loads, and every cell below.
pub(crate) fn matrix(results: &Value) -> String {
    let mut out = format!("{}, module in `{}`", text(results, "date"), text(results, "placement"));
    for (name, version) in results["versions"].as_object().into_iter().flatten() {
        let _ = write!(out, ", {name} {}", version.as_str().unwrap_or_default());
    }
    let mut counts: BTreeMap<(&str, &str), (u32, u32)> = BTreeMap::new();
    let mut loads: Vec<&str> = list(results, "/cells").map(|cell| text(cell, "load")).collect();
    loads.sort_unstable();
    loads.dedup();
    for cell in list(results, "/cells") {
        let count = counts.entry((text(cell, "peer"), text(cell, "load"))).or_default();
        count.0 += u32::from(cell["passed"] == true);
        count.1 += 1;
    }
    let sum = counts.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let _ = write!(out, ".\n\n{} of {} cells passed", sum.0, sum.1);
    if let Some(left_out @ 1..) = results["left_out"].as_u64() {
        let _ = write!(out, "; {left_out} more were left out, for want of lwIP");
    }
    out.push_str(".\n\n| |");
    loads.iter().for_each(|load| _ = write!(out, " {load} |"));
    out.push_str("\n|---|");
    loads.iter().for_each(|_| out.push_str("---|"));
    let mut peers: Vec<&str> = counts.keys().map(|(peer, _)| *peer).collect();
    peers.dedup();
    for peer in peers {
        let _ = write!(out, "\n| {peer} |");
        for load in &loads {
            let shown =
                counts.get(&(peer, load)).map_or("n/a".into(), |(passed, all)| format!("{passed}/{all}"));
            let _ = write!(out, " {shown} |");
        }
    }
    out.push_str(
        "\n\n| peer | opens | IP | load | fault | MTU | RTT, ms | options of the peer | | what came of it |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    list(results, "/cells").for_each(|cell| out.push_str(&row(cell)));
    out
}

fn row(cell: &Value) -> String {
    let options = cell["options"].as_object().into_iter().flatten();
    let options =
        options.map(|(name, is_on)| if *is_on == true { name.clone() } else { format!("no {name}") });
    let options = if ["smoltcp", "lwip"].contains(&text(cell, "peer")) {
        "its own".into()
    } else {
        options.collect::<Vec<_>>().join(", ")
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {options} | {} | {} |\n",
        text(cell, "peer"),
        if text(cell, "direction") == "in" { "the peer" } else { "the stack" },
        text(cell, "ip"),
        text(cell, "load"),
        text(cell, "fault"),
        cell["mtu"],
        cell["rtt_ms"],
        if cell["passed"] == true { "passed" } else { "**failed**" },
        text(cell, "said").replace('|', "/")
    )
}

/// Writes the matrix of a file of results beside it, for people.
///
/// # Errors
/// Where there are no such results.
pub(crate) fn show_matrix(json: &Path) -> anyhow::Result<()> {
    let results: Value = serde_json::from_str(&std::fs::read_to_string(json)?)?;
    let file = json.with_extension("md");
    std::fs::write(&file, format!("# Interop\n\n{}", matrix(&results)))?;
    say(format!("{} and {} have the results", json.display(), file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_matrix_counts_and_lists() {
        let cell = |passed: bool| {
            json!({ "peer": "itself", "direction": "in", "load": "echo", "fault": "loss", "mtu": 1500, "rtt_ms": 10,
                "ip": "ipv6", "options": { "sack": true, "ecn": false }, "passed": passed, "said": "a|b" })
        };
        let text = matrix(&json!({ "date": "today", "placement": "wasm", "versions": { "curl": "8" },
            "left_out": 3, "cells": [cell(true), cell(false)] }));
        for part in [
            "today, module in `wasm`, curl 8",
            "1 of 2 cells passed; 3 more were left out",
            "| itself | 1/2 |",
            "| ipv6 | echo |",
            "no ecn, sack",
            "a/b",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(body("# Title\n\ntext\n## Part\n"), "\ntext\n### Part\n");
    }

    #[test]
    fn each_run_and_each_module_is_a_column() {
        let run = |passed: u32| json!({ "scripts": { "folders": [{ "folder": "a", "passed": passed, "failed": 1 }] } });
        let text = folders(&[("one", run(2)), ("two", run(0))]);
        assert!(text.contains("| folder | one | two |\n|---|---|---|\n"), "{text}");
        assert!(text.contains(" 2 of 3 | 0 of 1 |\n| all | 2 of 3 | 0 of 1 |"), "{text}");
        let module = |finding: &str| json!({ "module": finding, "contract": [{}, { "name": "asked", "finding": finding, "text": "why" }] });
        let text = contract(&[module("holds"), module("not served"), module("does not hold")]);
        assert!(text.contains("| asked | yes why | n/a | **no**: why |"), "{text}");
    }
}
