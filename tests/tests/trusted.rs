//! How large the trusted part is: what must be right for the wall to hold, wasmtime apart.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines that may be trusted, comments, blank lines and tests not counted.
const LINES_MAX: usize = 4000;

/// What every frame and every output passes.
const TRUSTED: &[&str] = &[
    "device/mod.rs",
    "device/tun.rs",
    "device/offload.rs",
    "device/vnet.rs",
    "device/error.rs",
    "frame.rs",
    "checksum.rs",
    "split",
    "turn.rs",
    "inspect",
    "streams",
    "join",
];

/// What payload passes through beside these on its way to a module with payload access; no other module's does.
const SECOND_WORLD: &[&str] = &["payload.rs", "placement/wasm/payload.rs"];

/// Lines that these may have.
const SECOND_WORLD_MAX: usize = 300;

/// What the frames of a virtual machine pass beside these; no other device's do.
const MACHINES: &[&str] = &["device/ethernet"];

/// Lines that these may have.
const MACHINES_MAX: usize = 600;

/// Compiled into tests only.
const OF_TESTS: &[&str] = &["tests.rs", "split/build.rs"];

fn sources(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| !path.ends_with("tests")).for_each(|path| sources(&path, into));
    } else if path.extension().is_some_and(|kind| kind == "rs")
        && !OF_TESTS.iter().any(|of| path.ends_with(of))
    {
        into.push(path.to_path_buf());
    }
}

fn lines(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    // A module of tests within a file is its last item.
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Lines of all of these together.
fn count(parts: &[&str]) -> usize {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src");
    let mut total = 0;
    for part in parts {
        let mut files = Vec::new();
        sources(&host.join(part), &mut files);
        assert!(!files.is_empty(), "{part} has moved: this list must name what every frame passes");
        let count: usize = files.iter().map(|file| lines(file)).sum();
        println!("{count:6}  {part}");
        total += count;
    }
    total
}

#[test]
fn the_trusted_part_stays_small() {
    let total = count(TRUSTED);
    println!("{total:6}  in all, {LINES_MAX} allowed");
    assert!(total <= LINES_MAX, "the trusted part has {total} lines");
}

#[test]
fn the_desk_of_the_second_world_stays_small() {
    let total = count(SECOND_WORLD);
    println!("{total:6}  in all, {SECOND_WORLD_MAX} allowed");
    assert!(total <= SECOND_WORLD_MAX, "the desk has {total} lines");
}

#[test]
fn the_link_of_virtual_machines_stays_small() {
    let total = count(MACHINES);
    println!("{total:6}  in all, {MACHINES_MAX} allowed");
    assert!(total <= MACHINES_MAX, "the link has {total} lines");
}

/// The TCP to learn from is one that can be read in an evening.
#[test]
fn the_tcp_to_learn_from_stays_small() {
    let total = count(&["../../examples/tiny-tcp/core/src", "../../examples/tiny-tcp/src"]);
    assert!(total < 800, "tiny-tcp has {total} lines");
}
