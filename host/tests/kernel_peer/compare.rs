//! The comparison of placements: that it comes to its end, and leaves nothing behind when it is interrupted.

use rustix::process::{Pid, Signal, kill_process};
use std::io::Read as _;
use std::process::{Command, Stdio};

fn compare(repetitions: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.args(["compare", "--quick", "--no-tun", "--repetitions", repetitions]);
    command
}

/// Processes that are children of this one.
fn children(parent: u32) -> Vec<u32> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
            == Some(parent)
    })
    .collect()
}

#[test]
#[ignore = "takes a minute on a busy machine"]
fn slow_placements_are_compared_in_memory() {
    let page = std::env::temp_dir().join(format!("bulkhead-compare-{}.html", std::process::id()));
    let output = compare("1").args(["--json", "--html"]).arg(&page).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let sections = found["sections"].as_array().unwrap();
    assert_eq!(sections.len(), 3);
    for section in &sections[1..] {
        let figures = section["results"]["figures"].as_array().unwrap();
        for stack in ["native", "wasm", "process, same CPU"] {
            let speaks = |figure: &&serde_json::Value| figure["stacks"][stack]["median"].is_number();
            assert!(figures.iter().filter(speaks).count() >= 4, "{stack}: {section}");
        }
    }
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    assert!(html.matches("<svg").count() > 15 && html.contains("A model, not a measurement"));
    assert!(!html.contains("src=") && !html.contains("<link"), "self-contained");
}

#[test]
fn an_interrupted_comparison_leaves_nothing_behind() {
    let mut command = compare("1");
    let mut comparing = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut shown = comparing.stderr.take().unwrap();
    let mut text = Vec::new();
    // Its subjects are up when the first of them is measured.
    while !String::from_utf8_lossy(&text).contains("in memory") {
        let mut byte = [0];
        shown.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let servers = children(comparing.id());
    assert!(!servers.is_empty());
    kill_process(Pid::from_raw(comparing.id() as i32).unwrap(), Signal::INT).unwrap();
    comparing.wait().unwrap();
    for server in servers {
        while std::fs::read(format!("/proc/{server}/cmdline")).is_ok_and(|name| !name.is_empty()) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
