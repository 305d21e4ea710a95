//! `bulkhead fuzz`: a campaign against a module, told as it goes on and summed up at the end.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead::fuzz::{Campaign, Found, Options, Other, Progress, Store, Structure, Target};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use serde_json::json;

use super::failure::one_line;
use super::fuzz_arguments::{Fuzz, FuzzCompared, FuzzModule, FuzzStart};
use super::report::print;
use super::{fuzz_dictionary, fuzz_many, fuzz_seeds, fuzz_tools, signals::Signals};

/// Runs of `--ci`, where neither time nor runs are said.
const CI_RUNS: u64 = 100_000;
/// How often the line on a terminal is written anew.
const REDRAWN: Duration = Duration::from_millis(250);
/// How often a line is written where there is no terminal.
const LOGGED: Duration = Duration::from_secs(10);

/// Runs what is asked for. Exit codes are those of the help: also errors have their own.
pub(super) fn fuzz(arguments: &Fuzz) -> ExitCode {
    let result = match &arguments.tool {
        Some(tool) => fuzz_tools::tool(tool),
        None => campaign(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("bulkhead: {}", one_line(&error));
        ExitCode::from(2)
    })
}

/// The module that is asked for.
pub(super) fn target(file: Option<&Path>, start: &FuzzStart) -> anyhow::Result<Target> {
    Ok(match file {
        Some(path) => Target::from_file(path)?,
        None if start.udp => Target::bundled_udp()?,
        None => Target::bundled()?,
    })
}

fn campaign(arguments: &Fuzz) -> anyhow::Result<ExitCode> {
    let FuzzModule { file, start } = &arguments.module;
    let target = target(file.as_deref(), start)?;
    let folder = arguments.corpus.clone().unwrap_or_else(temporary);
    let store = Store::open(&folder).with_context(|| folder.display().to_string())?;
    let store = store.replayed_with(replay_options(arguments));
    let mut options = options(arguments, store.clone())?;
    let (kept, others) = store.corpus()?;
    let resumed = kept.len();
    options.seeds.splice(0..0, kept);
    if !arguments.ci {
        greet(arguments, &target, &folder, resumed, others);
    }
    let meeting = fuzz_many::meeting(arguments)?;
    let stop = stop_on_signal()?;
    let mut campaign = Campaign::new(target, options);
    let mut status = Status::new(arguments.ci);
    let tell = |progress: &Progress| {
        status.tell(progress);
        !stop.load(Ordering::Relaxed)
    };
    let progress = match meeting {
        Some(meeting) => campaign.run_many(&meeting, tell)?,
        None => campaign.run(tell),
    };
    status.end();
    let found = campaign.found();
    if let Some(trouble) = store.trouble() {
        eprintln!("bulkhead: not everything could be kept: {trouble}");
    }
    if arguments.ci {
        print(&format!("{:#}\n", summary_json(&progress, &found, &folder)))?;
    } else {
        print(&summary(&progress, &found, &folder, arguments))?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("bulkhead-fuzz-{}", std::process::id()))
}

fn options(arguments: &Fuzz, store: Store) -> anyhow::Result<Options> {
    let start = &arguments.module.start;
    let dictionary = match &arguments.dict {
        Some(path) => fuzz_dictionary::read(path)?,
        None => fuzz_dictionary::Dictionary::default(),
    };
    let mut seeds = Vec::new();
    for path in &arguments.seeds {
        seeds.extend(fuzz_seeds::read(path, arguments.module.file.as_deref())?);
    }
    let is_bounded = arguments.execs.is_some() || arguments.time.is_some();
    Ok(Options {
        seed: start.seed,
        jobs: usize::from(arguments.jobs),
        time: arguments.time,
        runs: arguments.execs.or_else(|| (arguments.ci && !is_bounded).then_some(CI_RUNS)),
        structure: if arguments.bytes { Structure::Bytes } else { Structure::Protocol },
        blind: arguments.blind,
        fresh: arguments.fresh,
        until_found: arguments.first,
        settings: start.setting.clone(),
        words: dictionary.words,
        tokens: dictionary.tokens,
        seeds,
        other: other(&arguments.compared)?,
        store: Some(store),
    })
}

/// The module of `--against`.
pub(super) fn other(compared: &FuzzCompared) -> anyhow::Result<Option<Other>> {
    let Some(name) = &compared.against else { return Ok(None) };
    if name == "native" {
        let native = || Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))) as Box<dyn Instance>;
        return Ok(Some(Arc::new(move || Ok(native()))));
    }
    let target = Target::from_file(Path::new(name))?;
    Ok(Some(Arc::new(move || target.plain().map(|instance| Box::new(instance) as Box<dyn Instance>))))
}

/// Ctrl-C ends a campaign in kind; a second one ends the program.
fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new().name("bulkhead-signals".into()).spawn(move || {
        runtime.block_on(async {
            let Ok(mut signals) = Signals::new() else { return };
            signals.next().await;
            told.store(true, Ordering::Relaxed);
            signals.next().await;
            std::process::exit(130);
        });
    })?;
    Ok(stop)
}

/// What is about to happen, for whoever does this for the first time.
fn greet(arguments: &Fuzz, target: &Target, folder: &Path, resumed: usize, others: usize) {
    let instrumented = target.instrumented();
    eprintln!(
        "fuzzing   {}: {} edges, {} constants that it compares with",
        target.name(),
        instrumented.probes.len(),
        instrumented.constants.len()
    );
    let going_on = if resumed > 0 { format!(", going on from {resumed} cases") } else { String::new() };
    eprintln!("directory {}{going_on}", folder.display());
    if others > 0 {
        eprintln!("          {others} files in its corpus are no cases, and left out");
    }
    if arguments.time.is_none() && arguments.execs.is_none() && !arguments.first {
        eprintln!("until     Ctrl-C (or give --time or --execs)");
    }
}

/// The line that tells how it goes.
struct Status {
    is_quiet: bool,
    is_terminal: bool,
    last: Option<Instant>,
    recent: Rate,
    recent_of_all: Rate,
    told: usize,
    trouble: Option<String>,
}

/// Runs a second, smoothed.
#[derive(Default)]
struct Rate {
    at: Duration,
    runs: u64,
    rate: f64,
}

impl Rate {
    fn measure(&mut self, at: Duration, runs: u64) -> f64 {
        let seconds = at.saturating_sub(self.at).as_secs_f64();
        if seconds > 0.0 {
            let now = runs.saturating_sub(self.runs) as f64 / seconds;
            let rate = if self.rate == 0.0 { now } else { 0.7 * self.rate + 0.3 * now };
            *self = Self { at, runs, rate };
        }
        self.rate
    }
}

impl Status {
    fn new(is_quiet: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal() && !is_quiet;
        let (recent, recent_of_all) = (Rate::default(), Rate::default());
        Self { is_quiet, is_terminal, last: None, recent, recent_of_all, told: 0, trouble: None }
    }

    fn tell(&mut self, progress: &Progress) {
        for (key, text) in progress.findings.iter().skip(self.told) {
            self.clear();
            eprintln!("found     {key}\n          {text}");
        }
        self.told = progress.findings.len();
        if let Some(trouble) = progress.reach.as_ref().and_then(|reach| reach.trouble.clone())
            && self.trouble.as_ref() != Some(&trouble)
        {
            self.clear();
            eprintln!("broker    {trouble}");
            self.trouble = Some(trouble);
        }
        let pause = if self.is_terminal { REDRAWN } else { LOGGED };
        if self.last.is_some_and(|last| last.elapsed() < pause) || (self.is_quiet && self.last.is_none()) {
            self.last = self.last.or(Some(Instant::now()));
            return;
        }
        self.last = Some(Instant::now());
        let mut text = line(progress, self.recent.measure(progress.elapsed, progress.runs));
        if let Some(reach) = &progress.reach {
            text += &fuzz_many::line(reach, self.recent_of_all.measure(progress.elapsed, reach.runs));
        }
        if self.is_terminal {
            eprint!("\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{text}");
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[2K");
        }
    }

    fn end(&self) {
        self.clear();
    }
}

fn line(progress: &Progress, rate: f64) -> String {
    let since = |since: Option<Duration>| {
        since.map_or("-".to_owned(), |since| format!("{:.0} s ago", since.as_secs_f64()))
    };
    format!(
        "{}  {} runs, {rate:.0}/s  edges {}/{} ({:.1} %), new {}  corpus {}  findings {}  stable {} %",
        clock(progress.elapsed),
        progress.runs,
        progress.edges,
        progress.probes,
        share(progress),
        since(progress.since_edge),
        progress.corpus,
        progress.findings.len(),
        progress.stability,
    )
}

fn share(progress: &Progress) -> f64 {
    100.0 * f64::from(progress.edges) / progress.probes.max(1) as f64
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn rate(progress: &Progress) -> f64 {
    progress.runs as f64 / progress.elapsed.as_secs_f64().max(1e-3)
}

/// What a campaign has come to, and what can be done next.
fn summary(progress: &Progress, found: &[Found], folder: &Path, arguments: &Fuzz) -> String {
    let mut text = format!(
        "\ntime      {}\nruns      {}, {:.0} a second\nedges     {} of {} ({:.1} %)\ncorpus    {} cases in {}\n\
         stable    {} % of what was new came again in a fresh instance\nfindings  {}",
        clock(progress.elapsed),
        progress.runs,
        rate(progress),
        progress.edges,
        progress.probes,
        share(progress),
        progress.corpus,
        folder.join("corpus").display(),
        progress.stability,
        found.len(),
    );
    if progress.unconfirmed > 0 {
        text.push_str(&format!(", and {} that did not come again", progress.unconfirmed));
    }
    text.push('\n');
    if let Some(reach) = &progress.reach {
        text += &fuzz_many::summary(reach);
    }
    let replay = replay_options(arguments);
    for one in found {
        let place = folder.join("findings").join(&one.key);
        text.push_str(&format!(
            "\n  {}\n    {}\n    after {} runs, {:.1} s; {} events\n    bulkhead fuzz replay {}{replay}\n",
            one.key,
            one.finding,
            one.runs,
            one.after.as_secs_f64(),
            one.case.events.len(),
            place.display(),
        ));
    }
    if found.is_empty() {
        text.push_str(&format!(
            "\nWhat was reached: bulkhead fuzz cover --corpus {}{}\n",
            folder.display(),
            module_options(arguments)
        ));
    }
    text
}

/// The same module, and what it is compared with, for a command that is suggested.
fn replay_options(arguments: &Fuzz) -> String {
    let mut text = module_options(arguments);
    if let Some(other) = &arguments.compared.against {
        text.push_str(&format!(" --against {other}"));
    }
    text
}

/// The same module for a command that is suggested.
fn module_options(arguments: &Fuzz) -> String {
    let FuzzModule { file, start } = &arguments.module;
    let mut text = String::new();
    if let Some(file) = file {
        text.push_str(&format!(" --module {}", file.display()));
    }
    if start.udp {
        text.push_str(" --udp");
    }
    if start.seed != 1 {
        text.push_str(&format!(" --seed {}", start.seed));
    }
    start.setting.iter().for_each(|one| text.push_str(&format!(" --setting {}={}", one.key, one.value)));
    text
}

fn summary_json(progress: &Progress, found: &[Found], folder: &Path) -> serde_json::Value {
    let findings: Vec<_> = found
        .iter()
        .map(|one| {
            json!({
                "key": one.key,
                "what": one.finding.to_string(),
                "runs": one.runs,
                "seconds": one.after.as_secs_f64(),
                "case": one.case.to_string(),
                "directory": folder.join("findings").join(&one.key),
            })
        })
        .collect();
    json!({
        "seconds": progress.elapsed.as_secs_f64(),
        "runs": progress.runs,
        "runs_per_second": rate(progress),
        "edges": progress.edges,
        "edges_in_all": progress.probes,
        "corpus": progress.corpus,
        "stability_percent": progress.stability,
        "unconfirmed": progress.unconfirmed,
        "all_machines": progress.reach.as_ref().map(fuzz_many::summary_json),
        "findings": findings,
    })
}
