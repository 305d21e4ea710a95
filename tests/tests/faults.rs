//! What a defect of the module does to the application around it: behind either wall the application lives, its memory
//! is as it was, its connections are told, and the fault has a name.

use std::path::{Path, PathBuf};
use std::process::Command;

fn module() -> PathBuf {
    // `cargo xtask guests` puts guests beside cargo's own folder for tests.
    let guests = std::env::var_os("BULKHEAD_GUESTS").map(PathBuf::from);
    let guests = guests.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guests"));
    guests.join("hostile-guest.wasm")
}

/// The lines that a case tells, as pairs.
fn case(placement: &str, defect: &str) -> Vec<(String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    let output = command.args([placement, defect]).arg(module()).output().expect("the program");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{placement}, {defect}: {}: {text}", output.status);
    let line = |line: &str| line.split_once(' ').map(|(what, text)| (what.to_owned(), text.to_owned()));
    text.lines().filter_map(line).collect()
}

fn behind_a_wall(placement: &str) {
    let listed = Command::new(env!("CARGO_BIN_EXE_faulty")).arg("list").output().expect("the program");
    let listed = String::from_utf8(listed.stdout).expect("text");
    let defects: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("defect ")).collect();
    assert_eq!(defects.len(), 10);
    for defect in defects {
        let lines = case(placement, defect);
        let said = |what: &str| lines.iter().find(|(name, _)| name == what).map(|(_, text)| text.as_str());
        assert_eq!(said("memory"), Some("intact"), "{placement}, {defect}: {lines:?}");
        assert_eq!(said("leak"), None, "{placement}, {defect}");
        assert!(said("fault").is_some_and(|fault| fault.len() > 20), "{placement}, {defect}: {lines:?}");
        assert!(said("back").is_some_and(|back| back != "never"), "{placement}, {defect}: {lines:?}");
        let connections = said("connections").unwrap_or_default();
        assert!(connections.contains("0 silent, 0 with wrong bytes"), "{placement}, {defect}: {connections}");
    }
}

#[test]
fn the_sandbox_holds_every_defect() {
    behind_a_wall("wasm");
}

#[test]
fn a_process_of_its_own_holds_every_defect() {
    behind_a_wall("process");
}
