//! `bulkhead fuzz replay`, `min`, `cmin` and `cover`: what is done with what a campaign has left behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulkhead::fuzz::cover::Cover;
use bulkhead::fuzz::{Campaign, Case, Checker, Options, Store, Target, Trace, minimise, trace};

use super::failure::usage;
use super::fuzz;
use super::fuzz_arguments::{FuzzCompared, FuzzOther, Tool};
use super::report::print;

/// Runs that making a case small may take.
const BUDGET: usize = 20_000;
/// Functions that a table shows.
const FUNCTIONS: usize = 40;

pub(super) fn tool(tool: &Tool) -> anyhow::Result<ExitCode> {
    match tool {
        Tool::Replay { case, pcap, module, compared } => {
            replay(case, pcap.as_deref(), &checker(module, compared)?)
        }
        Tool::Min { case, output, module, compared } => {
            min(case, output.as_deref(), &checker(module, compared)?)
        }
        Tool::Cmin { corpus, module } => cmin(corpus, module),
        Tool::Cover { corpus, lcov, html, sources, module } => {
            let cover = cover(corpus, module)?;
            if let Some(path) = lcov {
                write(path, cover.lcov().as_bytes())?;
            }
            if let Some(path) = html {
                write(path, cover.html(&format!("What {} reaches", corpus.display()), sources).as_bytes())?;
            }
            print(&cover.table(FUNCTIONS))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn checker(module: &FuzzOther, compared: &FuzzCompared) -> anyhow::Result<Checker> {
    let target = fuzz::target(module.file.as_deref(), &module.start)?;
    Ok(Checker::new(target, module.start.seed, module.start.setting.clone(), fuzz::other(compared)?))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// A case from its file, or from a finding's directory.
fn read(path: &Path) -> anyhow::Result<Case> {
    let path: PathBuf = if path.is_dir() { path.join("case.txt") } else { path.to_owned() };
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(&path).with_context(name)?;
    text.parse().map_err(|error| usage(format!("{}, {error}", name())))
}

fn replay(path: &Path, pcap: Option<&Path>, checker: &Checker) -> anyhow::Result<ExitCode> {
    let case = read(path)?;
    let mut shown = Trace::default();
    checker.plain(&case, Some(&mut shown));
    print(shown.text())?;
    if let Some(path) = pcap {
        write(path, &shown.pcap())?;
    }
    match checker.whole(&case) {
        None => {
            // Of a finding that is not seen again it is the first question which module was asked.
            print(&format!("\nnothing is wrong with {}\n", checker.target().name()))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(finding) => {
            print(&format!("\n{}\n{finding}\n{}", finding.key(), trace::backtrace(&finding)))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn min(path: &Path, output: Option<&Path>, checker: &Checker) -> anyhow::Result<ExitCode> {
    let case = read(path)?;
    let Some(finding) = checker.whole(&case) else {
        let name = checker.target().name();
        bail!("{}: nothing is wrong with {name}, so there is nothing to keep", path.display());
    };
    let key = finding.key();
    let same = |small: &Case| checker.again(small, &finding.kind).is_some_and(|found| found.key() == key);
    let small = minimise(&case, BUDGET, same);
    eprintln!("{key}: {} events, {} before", small.events.len(), case.events.len());
    match output {
        Some(path) => write(path, small.to_string().as_bytes())?,
        None => print(&small.to_string())?,
    }
    Ok(ExitCode::FAILURE)
}

/// The corpus of a campaign's directory.
fn corpus(folder: &Path) -> anyhow::Result<(Store, Vec<Case>)> {
    if !folder.join("corpus").is_dir() {
        return Err(usage(format!("{}: there is no corpus in it", folder.display())));
    }
    let store = Store::open(folder).with_context(|| folder.display().to_string())?;
    let (cases, _) = store.corpus()?;
    Ok((store, cases))
}

fn target(module: &FuzzOther) -> anyhow::Result<Target> {
    fuzz::target(module.file.as_deref(), &module.start)
}

fn cmin(folder: &Path, module: &FuzzOther) -> anyhow::Result<ExitCode> {
    let (store, cases) = corpus(folder)?;
    let before = cases.len();
    let options = Options {
        seed: module.start.seed,
        settings: module.start.setting.clone(),
        seeds: cases,
        runs: Some(0),
        ..Options::default()
    };
    let mut campaign = Campaign::new(target(module)?, options);
    let progress = campaign.run(|_| true);
    let kept = campaign.cover();
    let gone = store.replace(&kept)?;
    print(&format!(
        "{} cases of {before} reach the same {} edges; {gone} are gone\n",
        kept.len(),
        progress.edges
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn cover(folder: &Path, module: &FuzzOther) -> anyhow::Result<Cover> {
    let (_, cases) = corpus(folder)?;
    Ok(Cover::of(&target(module)?, module.start.seed, &module.start.setting, &cases)?)
}
