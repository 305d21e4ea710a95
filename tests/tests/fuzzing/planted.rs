//! Classic bugs are found from an empty corpus, in few runs with a fixed seed: each kind by the eyes that are made for it.

use std::path::Path;

use bulkhead::fuzz::{Campaign, Options, Store, Target};
use bulkhead_wit::Setting;
use planted_core::{Bug, SETTING};

/// Runs until the first finding, and its name.
fn find(target: &Target, bug: Bug, runs: u64) -> Option<(u64, String)> {
    let options = Options {
        seed: 1,
        runs: Some(runs),
        until_found: true,
        settings: vec![Setting { key: SETTING, value: bug as u64 + 1 }],
        ..Options::default()
    };
    let mut campaign = Campaign::new(target.clone(), options);
    campaign.run(|_| true);
    campaign.found().first().map(|found| (found.runs, found.key.clone()))
}

fn target() -> Target {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/planted-guest.wasm");
    Target::from_file(&path).expect("`cargo xtask guests` builds it")
}

#[test]
fn bugs_that_need_little_are_found_quickly() {
    let target = target();
    for (bug, name) in [
        (Bug::OptionLength, "panic-"),
        (Bug::UrgentPointer, "panic-"),
        (Bug::ZeroLength, "hang-endless-options"),
        (Bug::MssZero, "panic-"),
        (Bug::PredictableIsn, "predictable-isn"),
        (Bug::DoubleFree, "panic-"),
        (Bug::SackUnderflow, "panic-"),
    ] {
        let (_, key) = find(&target, bug, 3000).unwrap_or_else(|| panic!("{} is not found", bug.name()));
        assert!(key.starts_with(name), "{}: {key}", bug.name());
    }
}

#[test]
fn a_finding_is_written_down_with_the_way_to_see_it_again() {
    let folder = std::env::temp_dir().join(format!("bulkhead-store-{}", std::process::id()));
    let setting = Setting { key: SETTING, value: Bug::OptionLength as u64 + 1 };
    let how = format!(" --module planted-guest.wasm --setting {}={}", setting.key, setting.value);
    let options = Options {
        seed: 1,
        runs: Some(3000),
        until_found: true,
        settings: vec![setting],
        store: Some(Store::open(&folder).expect("a folder").replayed_with(how.clone())),
        ..Options::default()
    };
    let mut campaign = Campaign::new(target(), options);
    campaign.run(|_| true);
    let found = campaign.found();
    let finding = folder.join("findings").join(&found[0].key);
    let read = |name: &str| std::fs::read(finding.join(name)).expect("it is written");
    let report = String::from_utf8(read("report.txt")).expect("a text");
    let command = format!("bulkhead fuzz replay {}{how}\n", finding.join("case.txt").display());
    assert!(report.contains(&command), "{report}");
    assert_eq!(read("case.txt"), found[0].case.to_string().as_bytes());
    assert!(read("wire.pcap").len() > 24, "more than a header");
    std::fs::remove_dir_all(folder).expect("it was there");
}

#[test]
#[ignore = "takes a minute or two"]
fn slow_bugs_that_need_much_are_found() {
    let target = target();
    for bug in [Bug::FragmentOverlap, Bug::WindowScale, Bug::OutOfOrder, Bug::NoTimer] {
        let found = find(&target, bug, 100_000);
        println!("{}: {found:?}", bug.name());
        assert!(found.is_some(), "{} is not found", bug.name());
    }
}
