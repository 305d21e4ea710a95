//! The recovery table: a thousand faults of every kind under load, what is lost, and how long each recovery takes.

use bulkhead::supervise::Reporter;
use bulkhead_tests::faults::{Arena, Load, Tally, hostile, hostile_factory, quantile};
use bulkhead_wit::limits::SECOND;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const HELP: &str = "\
recovery [--quick] [--json]

A server whose module, in the sandbox, fails over marked segments of honest clients; streams are compared byte by byte, and
each fault is reported in files.
--quick   50 faults of each kind in place of 1,000, and 100 connections in place of 1,000
--json    the table for programs
";

/// Kinds of faults by the hostile module's numbers, and whether they stop the module at once.
struct Group {
    name: &'static str,
    defects: &'static [u8],
    /// Of a thousand, how many are injected.
    share: u64,
    stops_at_once: bool,
}

/// Those that use up a budget take all of it, several times each: fewer of them keep the whole run below ten minutes.
const GROUPS: &[Group] = &[
    Group { name: "panic", defects: &[0], share: 1000, stops_at_once: true },
    Group { name: "recursion without end", defects: &[3], share: 1000, stops_at_once: true },
    Group { name: "read or write outside", defects: &[4, 20, 21, 22], share: 1000, stops_at_once: true },
    Group {
        name: "broken rules, of 15 kinds",
        defects: &[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
        share: 1000,
        stops_at_once: true,
    },
    Group { name: "endless loop", defects: &[1], share: 500, stops_at_once: true },
    Group { name: "memory without end", defects: &[2], share: 500, stops_at_once: true },
    Group { name: "a bit of the state flipped", defects: &[23], share: 1000, stops_at_once: false },
];

/// Bytes that all connections together carry each way.
const BYTES: u64 = 60_000_000;
/// Bits per second of the link, in virtual time: with it less than fifty faults a second, after which a module is restarted.
const RATE: u64 = 18_000_000;
/// Virtual time between two faults of one connection: eight in a second are the end of it.
const APART: u64 = SECOND / 4;
/// How long, in virtual time, connections may go on that a silent corruption has stalled.
const STALLED: u64 = 60 * SECOND;
/// How often progress is told.
const TOLD: Duration = Duration::from_secs(2);

struct Row {
    group: &'static Group,
    tally: Tally,
    reports: u64,
}

fn measure(group: &'static Group, connections: usize, faults: u64) -> Row {
    let most = (faults * group.share / 1000).max(1);
    // Few connections have faults apart: they need more segments for as many.
    let times = if connections < 100 { 2 } else { 1 };
    let bytes = times * BYTES * most.max(100) / 1000 / connections as u64;
    // Spread over all of the run; segments carry 1,448 bytes.
    let every = (bytes * connections as u64 / 1448 / (most + most / 4)).max(1);
    let load =
        Load { connections, bytes, every, most, defects: group.defects, rate: RATE, apart: APART, seed: 7 };
    let instance = Box::new(hostile().fresh().expect("an instance"));
    let mut arena = Arena::new(instance, hostile_factory(), load);
    let folder = std::env::temp_dir().join(format!("bulkhead-recovery-{}", std::process::id()));
    let reporter = Reporter::new(&folder).expect("a folder for reports");
    let reports = reporter.written();
    arena.server.report_to(reporter);
    let limit = if group.stops_at_once { 3600 * SECOND } else { STALLED };
    let mut told = Instant::now();
    let tally = arena.run_and_tell(limit, &mut |tally| {
        if told.elapsed() >= TOLD {
            told = Instant::now();
            progress(group, connections, &format!("{} of {most} injected", tally.injected));
        }
    });
    // What waited for the disk has been written: the stack is gone, and its reporter with it.
    let reports = reports.load(Ordering::Relaxed);
    let _ = std::fs::remove_dir_all(&folder);
    progress(group, connections, "done");
    Row { group, tally, reports }
}

/// A line on the standard error, which the table is not on.
fn progress(group: &Group, connections: usize, what: &str) {
    eprintln!("recovery: {}, {connections} connections: {what}", group.name);
}

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

const HEAD: &str = "\
| fault | connections | injected | faults | recovered | reported | connections lost | bytes lost | bytes altered | found after p50, us | p99, us | recovery p50, us | p99, us |
|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl Row {
    fn line(&self) -> String {
        let Tally { injected, faults, recovered, connections, lost, missing, altered, .. } = self.tally;
        let times = [&self.tally.found_after, &self.tally.took]
            .into_iter()
            .flat_map(|times| [0.5, 0.99].map(|share| format!("{:.0}", us(quantile(times, share)))))
            .collect::<Vec<_>>();
        format!(
            "| {} | {connections} | {injected} | {faults} | {recovered} | {} | {lost} | {missing} | {altered} | {} |",
            self.group.name,
            self.reports,
            times.join(" | "),
        )
    }

    fn json(&self) -> Value {
        let tally = &self.tally;
        let at = |times: &[Duration], share: f64| us(quantile(times, share));
        json!({
            "kind": self.group.name, "connections": tally.connections, "injected": tally.injected,
            "faults": tally.faults, "recovered": tally.recovered, "reported": self.reports,
            "connections_lost": tally.lost, "bytes_read": tally.bytes, "bytes_lost": tally.missing,
            "bytes_altered": tally.altered,
            "found_after_p50_us": at(&tally.found_after, 0.5), "found_after_p99_us": at(&tally.found_after, 0.99),
            "recovery_p50_us": at(&tally.took, 0.5), "recovery_p99_us": at(&tally.took, 0.99),
            "budget_cpu_us_max": tally.used.iter().max().map(|most| us(*most)),
        })
    }

    /// What must not be: a byte altered by anything, and a byte or a connection lost by what stops at once.
    fn is_good(&self) -> bool {
        let Tally { altered, missing, .. } = self.tally;
        (altered, missing) == (0, 0) && (!self.group.stops_at_once || self.tally.is_whole())
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
        println!("{HEAD}");
    }
    for group in GROUPS {
        for connections in [10, many] {
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
    if !rows.iter().all(Row::is_good) {
        eprintln!("bytes were altered, or something was lost to faults that stop at once");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
