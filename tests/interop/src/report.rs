//! What came of all cells: a summary, and JSON; `cargo xtask interop` makes Markdown of it.

use std::process::Command;

use serde_json::{Value, json};

use crate::Arguments;
use crate::cell::Outcome;
use crate::factor::Cell;

/// Everything that there is to say.
pub(crate) struct Report {
    results: Vec<(Cell, Outcome)>,
    date: String,
    versions: Vec<(&'static str, String)>,
    placement: String,
    /// The file of another module than the bundled one.
    module: Option<String>,
    /// Cells whose peer was not there.
    left_out: usize,
}

/// What the workspace was locked to.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// The version of a crate.
fn locked(name: &str) -> String {
    let mut lines = LOCK.lines().skip_while(|line| *line != format!("name = \"{name}\"")).skip(1);
    let version = lines.next().and_then(|line| line.split('"').nth(1));
    version.unwrap_or("unknown").to_owned()
}

/// The first line of what a program says, or nothing.
fn says(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

/// The word of a line that begins with a digit.
fn number(line: &str) -> String {
    let words = line.split([' ', '/', '=', '_', ',']);
    let is_number = |word: &&str| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    words.into_iter().find(is_number).unwrap_or("unknown").to_owned()
}

impl Report {
    pub(crate) fn new(arguments: &Arguments, results: Vec<(Cell, Outcome)>, left_out: usize) -> Self {
        let bulkhead = says(&arguments.program.to_string_lossy(), &["--version"]);
        let version = |program: &str, words: &[&str]| number(&says(program, words));
        let mut versions = vec![
            ("bulkhead", number(&bulkhead)),
            ("Linux", says("uname", &["-r"])),
            ("curl", version("curl", &["--version"])),
            ("nginx", version("nginx", &["-v"])),
            ("iperf3", version("iperf3", &["--version"])),
            ("redis", version("redis-server", &["--version"])),
            ("OpenSSH", number(&says("ssh", &["-V"]).replace('_', " "))),
            ("dropbear", version("dropbear", &["-V"])),
            ("wrk", version("wrk", &["-v"])),
            ("smoltcp", locked("smoltcp")),
        ];
        let lwip = arguments.lwip.as_ref().map(|program| says(&program.to_string_lossy(), &["version"]));
        versions.extend(lwip.map(|version| ("lwIP", version)));
        let date = says("date", &["-u", "+%Y-%m-%d"]);
        let module = arguments.module.as_ref().and_then(|file| file.file_stem());
        let module = module.map(|name| name.to_string_lossy().into_owned());
        Self { results, date, versions, placement: arguments.placement.clone(), module, left_out }
    }

    pub(crate) fn all_passed(&self) -> bool {
        self.results.iter().all(|(_, outcome)| outcome.result.is_ok())
    }

    pub(crate) fn summary(&self) -> String {
        let passed = self.results.iter().filter(|(_, outcome)| outcome.result.is_ok()).count();
        let mut text = format!("{passed} of {} cells passed\n", self.results.len());
        if self.left_out > 0 {
            text.push_str(&format!("{} cells were left out: there is no lwIP\n", self.left_out));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let versions: serde_json::Map<String, Value> = self
            .versions
            .iter()
            .map(|(name, version)| ((*name).to_owned(), version.clone().into()))
            .collect();
        let cells: Vec<Value> = self.results.iter().map(|(cell, outcome)| one(cell, outcome)).collect();
        json!({
            "date": self.date, "placement": self.placement, "module": self.module, "versions": versions,
            "left_out": self.left_out, "cells": cells,
        })
    }
}

fn one(cell: &Cell, outcome: &Outcome) -> Value {
    let (passed, said) = match &outcome.result {
        Ok(said) => (true, said),
        Err(why) => (false, why),
    };
    let options: serde_json::Map<String, Value> =
        cell.options().map(|(name, is_on)| (name.to_owned(), is_on.into())).into_iter().collect();
    json!({
        "peer": cell.peer.name(), "direction": cell.direction.name(), "load": cell.load.name(),
        "fault": cell.fault.name(), "mtu": cell.mtu, "rtt_ms": cell.rtt.as_millis() as u64,
        "ip": cell.ip.name(), "options": options, "large": cell.is_large,
        "passed": passed, "said": said, "seconds": outcome.took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        assert!(locked("smoltcp").starts_with(|c: char| c.is_ascii_digit()), "{}", locked("smoltcp"));
        assert_eq!(locked("no such crate"), "unknown");
        assert_eq!(number("nginx version: nginx/1.22.1"), "1.22.1");
    }
}
