//! What the fuzzer is worth: how long it takes to find planted bugs, with and without what it knows, and how fast it is.
//!
//! ```sh
//! cargo run --release --bin fuzzing -- planted [runs] [seconds]     # the table of time to find
//! cargo run --release --bin fuzzing -- speed [seconds] [way]        # executions per second, of one way alone to profile it
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead::fuzz::{Campaign, Case, Executor, Meeting, Options, Structure, Target, World};
use bulkhead_wit::Setting;

/// The setting that chooses a bug, and their names: `planted-core`'s own.
use planted_core::{Bug, SETTING};

/// How a campaign searches.
const WAYS: [(&str, Structure, bool); 3] = [
    ("coverage and structure", Structure::Protocol, false),
    ("without coverage", Structure::Protocol, true),
    ("bytes only", Structure::Bytes, false),
];

/// A handshake, data, and an end, in six packets of the peer's: what a speed is measured with.
const SIX: &str = include_str!("../../libfuzzer/six.txt");

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, otherwise: u64| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(otherwise);
    match words.first().map(String::as_str) {
        Some("planted") => planted(number(1, 5), Duration::from_secs(number(2, 120))),
        Some("speed") => speed(Duration::from_secs(number(1, 5)), words.get(2).map_or("", String::as_str)),
        _ => eprintln!("planted [runs] [seconds], or speed [seconds] [fresh|kept|loop|loop-fresh|beside]"),
    }
}

fn target() -> Target {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/planted-guest.wasm");
    Target::from_file(&path).expect("`cargo xtask guests` has built it")
}

/// Seconds and runs until the first finding, and its name.
fn find(
    target: &Target,
    bug: Bug,
    way: (Structure, bool),
    seed: u64,
    limit: Duration,
) -> Option<(f64, u64, String)> {
    let options = Options {
        seed,
        time: Some(limit),
        structure: way.0,
        blind: way.1,
        until_found: true,
        settings: vec![Setting { key: SETTING, value: bug as u64 + 1 }],
        ..Options::default()
    };
    let mut campaign = Campaign::new(target.clone(), options);
    campaign.run(|_| true);
    let found = campaign.found();
    found.first().map(|found| (found.after.as_secs_f64(), found.runs, found.key.clone()))
}

fn planted(runs: u64, limit: Duration) {
    let target = target();
    println!("Median of {runs} runs from an empty corpus, at most {} s each, one thread.\n", limit.as_secs());
    println!("| planted bug | {} | found as |", WAYS.map(|(name, ..)| name).join(" | "));
    println!("|---|---|---|---|---|");
    for bug in Bug::ALL {
        let mut name = String::from("-");
        let mut cells = Vec::new();
        for (_, structure, blind) in WAYS {
            let mut found: Vec<(f64, u64, String)> =
                (1..=runs).filter_map(|seed| find(&target, *bug, (structure, blind), seed, limit)).collect();
            // By runs, which are the same each time; seconds go with them.
            found.sort_by_key(|one| one.1);
            // The median of all runs, with those that found nothing at the end.
            let median = found.get((runs as usize - 1) / 2);
            cells.push(match median {
                Some((seconds, runs, _)) => format!("{seconds:.2} s, {runs} runs"),
                None => format!("{} of {runs} in {} s", found.len(), limit.as_secs()),
            });
            if let (Some((.., key)), "-") = (found.first(), name.as_str()) {
                name.clone_from(key);
            }
        }
        println!("| {} | {} | {name} |", bug.name(), cells.join(" | "));
    }
}

fn speed(time: Duration, only: &str) {
    let is_asked = |way: &str| only.is_empty() || only == way;
    let target = Target::bundled().expect("the bundled module");
    let case: Case = SIX.parse().expect("a case");
    let world = World::new(1, &[]);
    let mut executor = Executor::default();
    if is_asked("fresh") {
        let rate = measure(time, || {
            let instance = target.counted().expect("an instance");
            let outcome = executor.run(Box::new(instance), &world, &case, None);
            assert_eq!(outcome.finding, None);
        });
        println!("executor, a fresh instance each   {rate:>8.0} runs/s");
    }
    if is_asked("kept") {
        let kept = target.kept().expect("an instance");
        let rate = measure(time, || {
            let outcome = executor.run(kept.again(), &world, &case, None);
            assert_eq!(outcome.finding, None);
            kept.counters(|counters| std::hint::black_box(counters.len())).expect("counters");
        });
        println!("executor, a kept instance         {rate:>8.0} runs/s");
    }
    let ways = [("a kept instance", "loop", false), ("a fresh instance each", "loop-fresh", true)];
    for (name, _, fresh) in ways.into_iter().filter(|(_, way, _)| is_asked(way)) {
        let options = Options { seed: 1, time: Some(time), fresh, ..Options::default() };
        let mut campaign = Campaign::new(target.clone(), options);
        let progress = campaign.run(|_| true);
        let rate = progress.runs as f64 / progress.elapsed.as_secs_f64();
        println!(
            "whole loop, {name:<21} {rate:>8.0} runs/s, {} of {} edges",
            progress.edges, progress.probes
        );
    }
    if is_asked("beside") {
        beside(&target, BESIDE * time.as_secs());
    }
}

/// Runs of each loop for each second that is asked for.
const BESIDE: u64 = 20_000;

/// The small loop and LibAFL's, each with one worker and the same number of runs. LibAFL's has its broker beside it, as with
/// `--broker`.
fn beside(target: &Target, runs: u64) {
    println!("\n| one worker, {runs} runs from nothing | runs a second | edges | corpus |");
    println!("|---|---|---|---|");
    for name in ["the small loop", "LibAFL's loop"] {
        let options = Options { seed: 1, runs: Some(runs), ..Options::default() };
        let mut campaign = Campaign::new(target.clone(), options);
        let progress = match name {
            "the small loop" => campaign.run(|_| true),
            _ => campaign.run_many(&Meeting::default(), |_| true).expect("a broker"),
        };
        let rate = progress.runs as f64 / progress.elapsed.as_secs_f64();
        println!("| {name} | {rate:.0} | {} of {} | {} |", progress.edges, progress.probes, progress.corpus);
    }
}

/// How often a second something can be done.
fn measure(time: Duration, mut once: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut count = 0u64;
    while begin.elapsed() < time {
        (0..32).for_each(|_| once());
        count += 32;
    }
    count as f64 / begin.elapsed().as_secs_f64()
}
