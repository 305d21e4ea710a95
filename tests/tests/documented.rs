//! What the documentation of the sockets has to say, item by item.

use std::fs;
use std::path::Path;

/// A function of the public interface, with the documentation above it.
struct Function {
    place: String,
    signature: String,
    documentation: String,
}

/// The public functions of one file; tests and what is hidden from the documentation are left out.
fn functions(path: &Path) -> Vec<Function> {
    let text = fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    let mut documentation = String::new();
    let mut lines = text.lines().map(str::trim).enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(said) = line.strip_prefix("///") {
            documentation += said.trim_start();
            documentation.push('\n');
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        if ["pub fn ", "pub async fn ", "pub const fn "].iter().any(|start| line.starts_with(start)) {
            let mut signature = line.to_owned();
            while !signature.ends_with('{') && !signature.ends_with(';') {
                signature += lines.next().expect("a signature has an end").1;
            }
            let place = format!("{}:{}", path.display(), number + 1);
            found.push(Function { place, signature, documentation: documentation.clone() });
        }
        documentation.clear();
    }
    found
}

fn sources(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_function_of_the_sockets_says_its_errors_and_what_a_dropped_future_leaves() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src/net"), &mut files);
    let functions: Vec<Function> = files.iter().flat_map(|path| functions(path)).collect();
    assert!(functions.len() > 100, "the sockets have moved: {} functions", functions.len());
    let lacks = |function: &&Function| {
        let (said, signature) = (&function.documentation, &function.signature);
        let fails = signature.split("->").last().is_some_and(|what| what.contains("Result<"));
        said.is_empty()
            || (fails && !said.contains("# Errors"))
            || (signature.contains("async fn") && !said.contains("# Cancellation"))
    };
    let lacking: Vec<String> =
        functions.iter().filter(lacks).map(|one| format!("{} {}", one.place, one.signature)).collect();
    assert!(lacking.is_empty(), "without its documentation:\n{}", lacking.join("\n"));
}
