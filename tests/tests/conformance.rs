//! The conformance scripts, natively, in the sandbox, and in a process of its own.

use bulkhead::artifact::Artifact;
use bulkhead::conformance::contract::{Check, Finding, check_contract};
use bulkhead::conformance::{Factory, Suite, Verdict, run_suite};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::placement::process::{Launch, Process};
use bulkhead_wit::{Config, Description, Inputs, Module, Outputs, Setting, Summary, Time};
use hostile_core::Defect;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Scripts that do not hold yet, each with its reason.
fn expected_failures() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join("expected-failures.txt")).expect("the list");
    let entries = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (name, reason) = line.split_once(": ").expect("name, colon, reason");
        (name.to_owned(), reason.to_owned())
    };
    entries.map(entry).collect()
}

/// Runs everything, prints the table, and holds the failures against the list.
fn check(placement: &str, factory: &Factory<'_>) {
    let suite = run_suite(&folder(), factory).expect("scripts that can be read");
    println!("{placement}:\n{suite}");
    let wrong = surprises(&suite);
    if !wrong.is_empty() {
        let captures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance").join(placement);
        suite.write_captures(&captures).expect("captures");
        panic!("{placement}: {}\ncaptures are in {}", wrong.join("\n"), captures.display());
    }
}

/// What fails and is not listed, what is listed and does not fail, and what is listed and not there.
fn surprises(suite: &Suite) -> Vec<String> {
    let mut expected = expected_failures();
    let mut wrong = Vec::new();
    for ran in &suite.scripts {
        match (&ran.verdict, expected.remove(&ran.name)) {
            (Verdict::Passed, None) | (Verdict::Failed(_), Some(_)) => {}
            (Verdict::Passed, Some(reason)) => {
                wrong.push(format!("{} holds now, and is still listed: {reason}", ran.name));
            }
            (Verdict::Failed(_) | Verdict::Broken(_), _) => wrong.push(ran.to_string()),
        }
    }
    wrong.extend(expected.into_keys().map(|name| format!("{name} is listed, and there is no such script")));
    wrong
}

#[test]
fn scripts_hold_natively() {
    check("native", &|| Ok(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))) as Box<dyn Instance>));
}

/// The same in the sandbox, with the component that the library carries.
#[test]
fn scripts_hold_in_the_sandbox() {
    let artifact = Artifact::bundled().expect("a component that loads");
    check("wasm", &|| match artifact.instance() {
        Ok(instance) => Ok(Box::new(instance) as Box<dyn Instance>),
        Err(error) => Err(error.to_string()),
    });
}

/// The TCP core with one of its defects.
struct Defective(hostile_core::Tcp, Setting);

impl Module for Defective {
    fn describe(&self) -> Description {
        self.0.describe()
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        let mut config = config.clone();
        config.settings.push(self.1);
        self.0.start(&config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        self.0.step(inputs, outputs);
    }

    fn save(&self) -> Vec<u8> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.0.load(config, now, state)
    }
}

/// Which checks of the contract do not hold, natively.
fn unkept(module: impl Fn() -> Box<dyn Module + Send>) -> Vec<Check> {
    let checks = check_contract(&|| Ok(Box::new(Native::new(module())) as Box<dyn Instance>));
    let checks = checks.expect("an instance").into_iter();
    checks.filter(|check| matches!(check.finding, Finding::Fails(_))).collect()
}

#[test]
fn the_contract_is_kept_and_every_defect_is_found() {
    assert_eq!(unkept(|| Box::new(bulkhead_tcp::Tcp::new())), []);
    assert_eq!(unkept(|| Box::new(bulkhead_udp::Udp::new())), []);
    assert_eq!(unkept(|| Box::new(bulkhead_tiny_tcp::Tcp::default())), []);
    // Without a wall around them these would take this test along.
    let walled = [Defect::Loop, Defect::Memory, Defect::Stack, Defect::WildRead, Defect::OverRead];
    let walled = walled.into_iter().chain([Defect::OverWrite, Defect::WildWrite]).collect::<Vec<_>>();
    // A flipped bit may lie where nothing looks any more; what it comes to under load, the ladder's tests count.
    let loud = Defect::ALL.iter().filter(|defect| !walled.contains(defect) && **defect != Defect::BitFlip);
    for defect in loud {
        let setting = Setting { key: hostile_core::SETTING, value: defect.after(3) };
        let found = unkept(|| Box::new(Defective(hostile_core::Tcp::new(), setting)));
        assert!(!found.is_empty(), "{defect:?} is not noticed");
    }
}

/// The same in a server process, one for each script.
#[test]
fn scripts_hold_in_a_process() {
    let launch = Launch::new(env!("CARGO_BIN_EXE_module-server"), ["tcp"]);
    check("process", &|| match Process::new(&launch) {
        Ok(instance) => Ok(Box::new(instance) as Box<dyn Instance>),
        Err(fault) => Err(fault.to_string()),
    });
}

/// Where the links of a page lead to within the repository, and the number in parentheses behind each, if there is one.
fn links(page: &str) -> Vec<(&str, Option<usize>)> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let here = targets.filter(|(target, _)| !target.starts_with("http") && !target.starts_with('#'));
    here.map(|(target, rest)| {
        let number = rest.strip_prefix(" (").and_then(|rest| rest.split_once(')')).map(|(number, _)| number);
        (target.split('#').next().unwrap_or(target), number.and_then(|number| number.parse().ok()))
    })
    .collect()
}

/// Documents lead somewhere, and the numbers of scripts that they tell are right.
#[test]
fn documents_lead_to_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut counted = 0;
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "docs/features.md",
        "docs/conformance.md",
        "docs/packetdrill.md",
        "docs/world.md",
        "tests/conformance/README.md",
    ] {
        let page = root.join(name);
        let text = std::fs::read_to_string(&page).expect(name);
        for (target, number) in links(&text) {
            let path = page.parent().expect("a folder").join(target);
            assert!(path.exists(), "{name}: {target} is not there");
            if let Some(number) = number {
                let scripts = std::fs::read_dir(&path).expect(target).filter_map(Result::ok);
                let scripts =
                    scripts.filter(|entry| entry.path().extension().is_some_and(|end| end == "pkt"));
                assert_eq!(scripts.count(), number, "{name}: scripts in {target}");
                counted += usize::from(name == "docs/features.md");
            }
        }
    }
    let folders = std::fs::read_dir(folder()).expect("folders").filter_map(Result::ok);
    let folders = folders.filter(|entry| entry.path().is_dir()).count();
    assert_eq!(counted, folders, "docs/features.md tells of every folder of scripts");
}
