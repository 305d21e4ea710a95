//! The recovery table: a thousand faults of every kind under load, what is lost, and how long each recovery takes.

use bulkhead_tests::faults::{Arena, Load, Tally, hostile, hostile_factory};
use bulkhead_wit::limits::SECOND;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
recovery [--quick] [--json]

A server whose module, in the sandbox, fails over marked segments of honest clients; streams are compared byte by byte.
--quick   50 faults of each group in place of 1,000, and 100 connections in place of 1,000
--json    the table for programs
";

/// Kinds of faults by the hostile module's numbers, and whether they stop the module at once.
struct Group {
    name: &'static str,
    defects: &'static [u8],
    /// Of a thousand, how many are injected: those that use up a budget take its time, each of them several times.
    share: u64,
    stops_at_once: bool,
}

const GROUPS: &[Group] = &[
    Group { name: "panic, stack, wild read", defects: &[0, 3, 4], share: 1000, stops_at_once: true },
    Group {
        name: "broken rules, of 15 kinds",
        defects: &[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
        share: 1000,
        stops_at_once: true,
    },
    Group { name: "endless loop", defects: &[1], share: 50, stops_at_once: true },
    Group { name: "memory without end", defects: &[2], share: 50, stops_at_once: true },
    Group { name: "a bit of the state flipped", defects: &[23], share: 1000, stops_at_once: false },
];

/// Bytes that all connections together carry each way.
const BYTES: u64 = 60_000_000;

struct Row {
    group: &'static Group,
    tally: Tally,
}

fn measure(group: &'static Group, connections: usize, faults: u64) -> Row {
    let most = (faults * group.share / 1000).max(1);
    let bytes = BYTES * most.max(100) / 1000 / connections as u64;
    // Spread over all of the run; segments carry 1,448 bytes.
    let every = (bytes * connections as u64 / 1448 / (most + most / 4)).max(1);
    let load = Load { connections, bytes, every, most, defects: group.defects, rate: 20_000_000, seed: 7 };
    let instance = Box::new(hostile().fresh().expect("an instance"));
    let limit = if group.stops_at_once { 3600 * SECOND } else { 120 * SECOND };
    Row { group, tally: Arena::new(instance, hostile_factory(), load).run(limit) }
}

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

impl Row {
    fn line(&self) -> String {
        let Tally { injected, faults, recovered, connections, lost, .. } = self.tally;
        let detected = self
            .tally
            .detected
            .iter()
            .max()
            .map_or_else(String::new, |most| format!("{:.0} ms", us(*most) / 1e3));
        format!(
            "| {} | {connections} | {injected} | {faults} | {recovered} | {lost} | 0 | {:.0} | {:.0} | {detected} |",
            self.group.name,
            us(self.tally.quantile(0.5)),
            us(self.tally.quantile(0.99)),
        )
    }

    fn json(&self) -> Value {
        let tally = &self.tally;
        json!({
            "kind": self.group.name, "connections": tally.connections, "injected": tally.injected,
            "faults": tally.faults, "recovered": tally.recovered, "connections_lost": tally.lost,
            "bytes_read": tally.bytes, "recovery_p50_us": us(tally.quantile(0.5)),
            "recovery_p99_us": us(tally.quantile(0.99)),
            "detected_cpu_us_max": tally.detected.iter().max().map(|most| us(*most)),
        })
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (is_quick, is_json) =
        (words.iter().any(|word| word == "--quick"), words.iter().any(|word| word == "--json"));
    if words.iter().any(|word| word != "--quick" && word != "--json") {
        eprint!("{HELP}");
        return ExitCode::from(2);
    }
    let (faults, many) = if is_quick { (50, 100) } else { (1000, 1000) };
    let mut rows = Vec::new();
    if !is_json {
        println!(
            "| fault | connections | injected | faults | recovered | connections lost | bytes altered | p50, us | p99, us | CPU until found |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
    }
    for group in GROUPS {
        for connections in [10, many] {
            // A byte that is not the one that was written ends the program.
            let row = measure(group, connections, faults);
            if !is_json {
                println!("{}", row.line());
            }
            rows.push(row);
        }
    }
    if is_json {
        println!("{:#}", Value::Array(rows.iter().map(Row::json).collect()));
    }
    let is_lost = |row: &Row| row.group.stops_at_once && (row.tally.lost > 0 || !row.tally.is_done);
    if rows.iter().any(is_lost) {
        eprintln!("connections were lost to faults that stop at once");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
