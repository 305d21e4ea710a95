//! Whoever reads a number of the contract has to know what it counts: every numeric field and every bound says so.

use std::fs;
use std::path::{Path, PathBuf};

/// Words by which a comment says what a number is: a unit, a thing that is counted, or a name that is no quantity.
const WORDS: [&str; 42] = [
    "byte",
    "nanosecond",
    "second",
    "number",
    "how many",
    "bit",
    "port",
    "offset",
    "version",
    "code",
    "kind",
    "type",
    "protocol",
    "handle",
    "segment",
    "slot",
    "queue",
    "random",
    "hop",
    "time to live",
    "dscp",
    "traffic class",
    "ecn",
    "setting",
    "listener",
    "at most",
    "milli",
    "messages",
    "calls",
    "sends",
    "places",
    "positions",
    "marks",
    "events",
    "notes",
    "fields",
    "frames",
    "headers",
    "connections",
    "addresses",
    "services",
    "level",
];

/// Names that a number of the contract goes by without a word: what they hold is no quantity.
const NO_QUANTITY: [&str; 2] = ["value", "reason"];

fn sources() -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let entries = fs::read_dir(source.join("types")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    all.push(source.join("limits.rs"));
    all
}

/// The name of the public number that a line declares, if it does.
fn number(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix("pub ")?;
    let (name, kind) = rest.strip_prefix("const ").unwrap_or(rest).split_once(": ")?;
    let kind = kind.split([',', ' ', '=']).next()?.trim_start_matches("Option<").trim_end_matches('>');
    ["u8", "u16", "u32", "u64", "usize", "Time"].contains(&kind).then_some(name)
}

/// Numbers whose comment does not say what they are, as `file: name`; and how many numbers there are.
fn mute(files: &[(String, String)]) -> (Vec<String>, usize) {
    let (mut found, mut count) = (Vec::new(), 0);
    for (file, text) in files {
        let mut comment = String::new();
        for line in text.lines() {
            if let Some(more) = line.trim().strip_prefix("///") {
                comment.push_str(&more.to_lowercase());
            } else if !line.trim().starts_with("#[") {
                if let Some(name) = number(line) {
                    count += 1;
                    let says = WORDS.iter().any(|word| comment.contains(word));
                    if !says && !NO_QUANTITY.contains(&name) {
                        found.push(format!("{file}: {name}"));
                    }
                }
                comment.clear();
            }
        }
    }
    (found, count)
}

#[test]
fn every_number_says_what_it_counts() {
    let read = |path: PathBuf| (path.display().to_string(), fs::read_to_string(path).unwrap());
    let files: Vec<_> = sources().into_iter().map(read).collect();
    let (found, count) = mute(&files);
    assert!(found.is_empty(), "what are these, in which unit?\n{}", found.join("\n"));
    assert!(count > 60, "only {count} numbers were found");
}

#[test]
fn a_number_that_says_nothing_is_found() {
    let text =
        "/// Bytes of it.\npub one: u32,\n/// How it is.\npub two: u64,\n/// Whether.\npub three: bool,\n";
    let (found, count) = mute(&[("file".into(), text.into())]);
    assert_eq!((found, count), (vec!["file: two".to_owned()], 2));
}
