//! A campaign: threads that share a corpus and what was found, until time, runs or the user end it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_wit::Setting;

use super::case::Case;
use super::check::{Checker, Other};
use super::corpus::Corpus;
use super::coverage::Coverage;
use super::finding::Finding;
use super::mutate::Structure;
use super::store::Store;
use super::target::Target;
use super::worker::Worker;

/// How a campaign is run. The default is one thread without end.
#[derive(Clone, Default)]
pub struct Options {
    /// Of all randomness. With one thread the same seed and number of runs give the same campaign.
    pub seed: u64,
    /// Threads; 0 is one.
    pub jobs: usize,
    /// How long.
    pub time: Option<Duration>,
    /// How many runs, of all threads together.
    pub runs: Option<u64>,
    /// What mutators know.
    pub structure: Structure,
    /// Does without coverage: for comparison.
    pub blind: bool,
    /// Takes a fresh instance for each run rather than starting a kept one anew.
    pub fresh: bool,
    /// Ends with the first finding.
    pub until_found: bool,
    /// Settings of the instance.
    pub settings: Vec<Setting>,
    /// Numbers that the module may compare with, beside those that its code shows.
    pub words: Vec<u64>,
    /// Bytes for options.
    pub tokens: Vec<Vec<u8>>,
    /// Cases to begin with.
    pub seeds: Vec<Case>,
    /// A module to compare with.
    pub other: Option<Other>,
    /// Where corpus and findings are kept.
    pub store: Option<Store>,
}

/// Something found, once.
#[derive(Clone, Debug)]
pub struct Found {
    /// The name under which it is known.
    pub key: String,
    /// The smallest case that shows it.
    pub case: Case,
    /// What it is, in a fresh instance of the module as it was built.
    pub finding: Finding,
    /// When, counted from the beginning.
    pub after: Duration,
    /// After how many runs.
    pub runs: u64,
}

/// How far a campaign has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Since the beginning.
    pub elapsed: Duration,
    /// Runs.
    pub runs: u64,
    /// Edges seen.
    pub edges: u32,
    /// Edges that there are.
    pub probes: usize,
    /// Cases in the corpus.
    pub corpus: usize,
    /// Different findings, a line each: name and what it is.
    pub findings: Vec<(String, String)>,
    /// Runs that broke something, the same again included.
    pub broken: u64,
    /// Findings that did not come again in a fresh instance.
    pub unconfirmed: u64,
    /// How many of the cases that showed something new did so in a fresh instance too, in percent.
    pub stability: u64,
    /// Since the last case was added to the corpus.
    pub since_news: Option<Duration>,
    /// Since the last new edge.
    pub since_edge: Option<Duration>,
}

/// What all threads share.
pub(super) struct Common {
    pub(super) checker: Checker,
    pub(super) options: Options,
    pub(super) stop: AtomicBool,
    pub(super) runs: AtomicU64,
    begun: Instant,
    state: Mutex<State>,
}

/// What is changed by all threads.
#[derive(Default)]
pub(super) struct State {
    pub(super) corpus: Corpus,
    pub(super) coverage: Coverage,
    pub(super) found: Vec<Found>,
    /// Names that findings have before they are confirmed: each is looked into once.
    pub(super) quick: HashSet<String>,
    pub(super) crashes: u64,
    pub(super) unconfirmed: u64,
    pub(super) tried: u64,
    pub(super) stable: u64,
    pub(super) last_news: Option<Instant>,
    pub(super) last_edges: Option<Instant>,
}

impl Common {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn probes(&self) -> usize {
        self.checker.target().instrumented().probes.len()
    }

    pub(super) fn words(&self) -> Vec<u64> {
        let mut words = self.options.words.clone();
        words.extend(&self.checker.target().instrumented().constants);
        words
    }

    /// Something new was found.
    pub(super) fn report(&self, key: String, case: Case, finding: Finding) {
        let (after, runs) = (self.begun.elapsed(), self.runs.load(Ordering::Relaxed));
        let found = Found { key, case, finding, after, runs };
        if let Some(store) = &self.options.store {
            store.report(&found, &self.checker);
        }
        self.state().found.push(found);
        if self.options.until_found {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// A campaign against one module.
pub struct Campaign {
    common: Common,
}

/// How often the caller is told of the progress.
const TOLD: Duration = Duration::from_millis(100);

impl Campaign {
    /// Prepares one.
    #[must_use]
    pub fn new(target: Target, options: Options) -> Self {
        let probes = target.instrumented().probes.len();
        let checker = Checker::new(target, options.seed, options.settings.clone(), options.other.clone());
        let state =
            State { corpus: Corpus::new(probes), coverage: Coverage::new(probes), ..State::default() };
        let common = Common {
            checker,
            options,
            stop: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            begun: Instant::now(),
            state: Mutex::new(state),
        };
        Self { common }
    }

    /// Runs it to its end. `tell` is called now and then, on the caller's thread, and says whether to go on.
    pub fn run(&mut self, mut tell: impl FnMut(&Progress) -> bool) -> Progress {
        // Compiled before the clock starts; how it fails is found with the first finding.
        drop(self.common.checker.target().plain());
        self.common.begun = Instant::now();
        let common = &self.common;
        let jobs = common.options.jobs.max(1) as u64;
        let mut first = Worker::new(common, 0, None);
        for seed in &common.options.seeds {
            first.try_case(seed.clone());
        }
        drop(first);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs)
                .map(|number| {
                    let most = common.options.runs.map(|runs| runs.div_ceil(jobs));
                    scope.spawn(move || Worker::new(common, number, most).work())
                })
                .collect();
            while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                let is_late = common.options.time.is_some_and(|time| common.begun.elapsed() >= time);
                if is_late || !tell(&self.progress()) {
                    common.stop.store(true, Ordering::Relaxed);
                }
                std::thread::park_timeout(if is_late { TOLD / 10 } else { TOLD });
            }
        });
        self.progress()
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let common = &self.common;
        let state = common.state();
        Progress {
            elapsed: common.begun.elapsed(),
            runs: common.runs.load(Ordering::Relaxed),
            edges: state.coverage.edges(),
            probes: common.probes(),
            corpus: state.corpus.len(),
            findings: state
                .found
                .iter()
                .map(|found| (found.key.clone(), found.finding.to_string()))
                .collect(),
            broken: state.crashes,
            unconfirmed: state.unconfirmed,
            stability: (100 * state.stable).checked_div(state.tried).unwrap_or(100),
            since_news: state.last_news.map(|at| at.elapsed()),
            since_edge: state.last_edges.map(|at| at.elapsed()),
        }
    }

    /// What was found so far.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        self.common.state().found.clone()
    }

    /// Cases that showed something new, in the order in which they did.
    #[must_use]
    pub fn corpus(&self) -> Vec<Case> {
        self.common.state().corpus.entries().iter().map(|entry| entry.case.clone()).collect()
    }

    /// The fewest of them that pass the same edges, about.
    #[must_use]
    pub fn cover(&self) -> Vec<Case> {
        self.common.state().corpus.cover().iter().map(|entry| entry.case.clone()).collect()
    }
}
