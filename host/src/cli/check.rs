//! `bulkhead check`: what a module can do.

use std::process::ExitCode;

use anyhow::Context as _;
use bulkhead::conformance::contract::{self, Check as Asked, Finding};
use bulkhead::conformance::{Failure, Ran, Suite, Verdict, run_basic, run_suite};
use bulkhead_wit::registry::protocol;
use serde_json::{Value, json};

use super::arguments::Check;
use super::configured::Configured;
use super::failure::usage;
use super::module::{self, Module};
use super::report::print;

/// Failures that are shown whole; the others are counted.
const SHOWN: usize = 20;

/// Everything that was found out.
struct Findings {
    placement: &'static str,
    name: String,
    asked: Vec<Asked>,
    /// Nothing where no script is about what the module serves.
    scripts: Option<Suite>,
    source: String,
}

/// Holds the module against the contract and the scripts, and prints what came of it.
///
/// # Errors
/// A line that says what is wrong with the file, the folder, or the command line.
pub(super) fn check(arguments: &Check) -> anyhow::Result<ExitCode> {
    if let Some(folder) = arguments.scripts.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(usage(format!("{}: --scripts needs a directory that exists", folder.display())));
    }
    let module = Module::of(arguments.placement, arguments.module.as_deref())?;
    let findings = Findings::of(&module, arguments)?;
    if let (Some(folder), Some(suite)) = (&arguments.pcap, &findings.scripts) {
        suite.write_captures(folder).with_context(|| format!("{}: --pcap", folder.display()))?;
    }
    if arguments.json {
        print(&format!("{:#}\n", findings.json()))?;
    } else {
        print(&findings.table())?;
    }
    Ok(if findings.all_hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Findings {
    fn of(module: &Module, arguments: &Check) -> anyhow::Result<Self> {
        let factory = || {
            let instance = module.instance().map_err(|fault| fault.to_string())?;
            Ok(match arguments.setting.as_slice() {
                [] => instance,
                settings => Box::new(Configured::new(instance, settings)),
            })
        };
        let description = factory().map_err(|error: String| anyhow::Error::msg(error))?.description().clone();
        let mut asked = vec![
            Asked { name: "loads", finding: Finding::Holds(module.about()) },
            Asked { name: "imports what its world allows", finding: Finding::Holds(module.imports()) },
        ];
        // Whatever imports anything else was refused above.
        asked.extend(contract::check_contract(&factory).map_err(anyhow::Error::msg)?);
        let (scripts, source) = match &arguments.scripts {
            Some(folder) => {
                let suite = run_suite(folder, &factory)
                    .with_context(|| format!("{}: the scripts cannot be read", folder.display()))?;
                if suite.scripts.is_empty() {
                    return Err(usage(format!("{}: there is no .pkt file below", folder.display())));
                }
                (Some(suite), folder.display().to_string())
            }
            None => {
                let is_for_it = contract::serves(&description, protocol::TCP);
                (is_for_it.then(|| run_basic(&factory)), "bundled".to_owned())
            }
        };
        Ok(Self { placement: module.placement(), name: module::name(&description), asked, scripts, source })
    }

    fn failed(&self) -> impl Iterator<Item = &Ran> {
        self.scripts.iter().flat_map(Suite::failed)
    }

    fn all_hold(&self) -> bool {
        !self.asked.iter().any(|asked| matches!(asked.finding, Finding::Fails(_)))
            && self.failed().next().is_none()
    }

    fn table(&self) -> String {
        let mut out = format!("{} ({})\n\nthe contract\n", self.name, self.placement);
        self.asked.iter().for_each(|asked| out.push_str(&format!("  {asked}\n")));
        out.push_str(&format!("\nscripts: {}\n", self.source));
        match &self.scripts {
            Some(suite) => suite.to_string().lines().for_each(|line| out.push_str(&format!("  {line}\n"))),
            None => out.push_str("  n/a: they are about TCP, which it does not serve\n"),
        }
        self.failed().take(SHOWN).for_each(|ran| out.push_str(&format!("\n{ran}")));
        let hidden = self.failed().count().saturating_sub(SHOWN);
        if hidden > 0 {
            out.push_str(&format!("\n{hidden} more do not hold\n"));
        }
        out
    }

    fn json(&self) -> Value {
        let asked: Vec<Value> = self.asked.iter().map(finding).collect();
        let folders: Vec<Value> = self.scripts.iter().flat_map(|suite| suite.folders()).map(folder).collect();
        json!({
            "module": self.name,
            "placement": self.placement,
            "contract": asked,
            "scripts": {
                "source": self.source,
                "folders": folders,
                "failed": self.failed().map(failed).collect::<Vec<_>>(),
            },
            "holds": self.all_hold(),
        })
    }
}

fn finding(asked: &Asked) -> Value {
    let (finding, text) = match &asked.finding {
        Finding::Holds(remark) => ("holds", remark.as_str()),
        Finding::Fails(why) => ("fails", why.as_str()),
        Finding::NotServed(protocol) => ("not served", *protocol),
    };
    json!({ "name": asked.name, "finding": finding, "text": text })
}

fn folder((name, (passed, failed)): (&str, (u32, u32))) -> Value {
    json!({ "folder": name, "passed": passed, "failed": failed })
}

fn failed(ran: &Ran) -> Value {
    match &ran.verdict {
        Verdict::Failed(failure) => {
            let Failure { line, text, expected, got, why, .. } = &**failure;
            json!({ "script": ran.name, "line": line, "text": text, "expected": expected, "got": got, "why": why })
        }
        Verdict::Passed => json!({ "script": ran.name }),
        Verdict::Broken(what) => json!({ "script": ran.name, "why": what }),
    }
}
