//! Short campaigns with fixed seeds and numbers of runs: the bundled modules withstand them, and twice is the same.

use std::path::Path;

use bulkhead::fuzz::{Campaign, Case, Checker, Found, Options, Progress, Target};
use bulkhead_tests::faults::path_of;

fn campaign(target: &Target, seed: u64, runs: u64) -> (Progress, Vec<Found>, usize) {
    let options = Options { seed, runs: Some(runs), ..Options::default() };
    let mut campaign = Campaign::new(target.clone(), options);
    let progress = campaign.run(|_| true);
    (progress, campaign.found(), campaign.cover().len())
}

fn told(found: &[Found]) -> String {
    found.iter().map(|found| format!("{}: {}\n{}", found.key, found.finding, found.case)).collect()
}

#[test]
fn the_tcp_module_withstands_a_short_campaign() {
    let target = Target::bundled().expect("the bundled module");
    let (progress, found, _) = campaign(&target, 1, 4000);
    println!("{progress:?}");
    assert!(found.is_empty(), "{}", told(&found));
    assert!(progress.edges > 2000 && progress.corpus > 100, "{progress:?}");
    assert_eq!(progress.unconfirmed, 0, "{progress:?}");
}

#[test]
fn the_udp_module_withstands_a_short_campaign() {
    let target = Target::bundled_udp().expect("the bundled module");
    let (progress, found, _) = campaign(&target, 1, 2000);
    assert!(found.is_empty(), "{}", told(&found));
    assert!(progress.edges > 500 && progress.unconfirmed == 0, "{progress:?}");
}

/// The same seed and number of runs are the same campaign, whatever the clock says.
#[test]
fn twice_is_the_same() {
    let target = Target::bundled().expect("the bundled module");
    let once = || {
        let mut campaign =
            Campaign::new(target.clone(), Options { seed: 9, runs: Some(400), ..Options::default() });
        let progress = campaign.run(|_| true);
        (progress.runs, progress.edges, campaign.corpus())
    };
    assert_eq!(once(), once());
}

/// What another thread has found first is no case that did not come again: `stable` is what it is with one thread.
#[test]
fn threads_do_not_take_each_other_for_unstable() {
    let target = Target::bundled().expect("the bundled module");
    let stability = |jobs| {
        let options = Options { seed: 5, runs: Some(3000), jobs, ..Options::default() };
        let progress = Campaign::new(target.clone(), options).run(|_| true);
        assert_eq!(progress.unconfirmed, 0, "{progress:?}");
        progress.stability
    };
    let (one, four) = (stability(1), stability(4));
    println!("{one} % of one thread, {four} % of four");
    // Each thread has an instance of its own, whose memory shows it something once: so four are a little below one.
    assert!(one > 80 && four > 75, "{one} % of one thread, {four} % of four");
}

/// Whatever was once found in the modules of this repository stays found, and mended.
#[test]
fn what_was_found_once_is_mended() {
    let smoltcp = Target::from_file(&path_of("smoltcp-module"));
    for (folder, target) in [("tcp", Target::bundled()), ("udp", Target::bundled_udp()), ("smoltcp", smoltcp)]
    {
        let checker = Checker::new(target.expect("a module"), 1, Vec::new(), None);
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
        for entry in std::fs::read_dir(&cases).into_iter().flatten() {
            let path = entry.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("a text");
            let case: Case = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let finding = checker.whole(&case).map(|finding| finding.to_string());
            assert_eq!(finding, None, "{}", path.display());
        }
    }
}

/// What smoltcp 0.13.1 does wrong by itself, found by longer campaigns: docs/fuzzing.md says what each one is.
const STANDING: [&str; 5] = [
    "panic-enqueue-unallocated",
    "rule-8-acknowledged",
    "rule-9-finished",
    "wire-acks-unsent",
    "wire-outside-window",
];

/// A module with payload access is fuzzed as any other, at its desk; what it stages is held against what its peers have sent.
#[test]
fn a_module_with_payload_access_is_fuzzed_too() {
    let target = Target::from_file(&path_of("smoltcp-module")).expect("run `cargo xtask guests` first");
    assert!(!target.facts().payload_blind);
    let (progress, mut found, _) = campaign(&target, 1, 1000);
    found.retain(|one| !STANDING.iter().any(|standing| one.key.starts_with(standing)));
    assert!(found.is_empty(), "{}", told(&found));
    assert!(progress.edges > 1000 && progress.unconfirmed == 0, "{progress:?}");
}
