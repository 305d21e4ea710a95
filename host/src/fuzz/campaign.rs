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
use super::finding::{Finding, Kind};
use super::generate::Generator;
use super::limits;
use super::mutate::{Mutator, Structure};
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
    /// With the other machines: only where there may be some.
    #[cfg(feature = "fuzz-many")]
    pub reach: Option<super::many::Reach>,
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

    /// What makes cases for the thread with this number.
    pub(super) fn mutator(&self, number: u64) -> Mutator {
        let seed = self.options.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut words = self.options.words.clone();
        words.extend(&self.checker.target().instrumented().constants);
        let generator = Generator::new(seed, words, self.options.tokens.clone());
        Mutator::new(generator, self.options.structure)
    }

    /// Something is wrong: confirmed in the module as it was built, made small, named, and reported once. Says whether it is
    /// the first of its kind.
    pub(super) fn found(&self, case: Case, finding: Finding) -> bool {
        let quick = finding.key();
        {
            let mut state = self.state();
            state.crashes += 1;
            if state.quick.contains(&quick) || state.quick.len() >= limits::FINDINGS {
                return false;
            }
            state.quick.insert(quick);
        }
        let Some(confirmed) = self.checker.again(&case, &finding.kind) else {
            self.state().unconfirmed += 1;
            return false;
        };
        let key = confirmed.key();
        if self.state().found.iter().any(|found| found.key == key) {
            return false;
        }
        let same = |kind: &Kind, small: &Case| {
            self.checker.again(small, kind).is_some_and(|finding| finding.key() == key)
        };
        let small = super::minimise(&case, limits::MINIMISE, |small| same(&confirmed.kind, small));
        let finding = self.checker.again(&small, &confirmed.kind).unwrap_or(confirmed);
        self.report(key, small, finding);
        true
    }

    /// Something new was found.
    fn report(&self, key: String, case: Case, finding: Finding) {
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
    pub(super) common: Common,
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
        self.begin();
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
            let is_over = || threads.iter().all(std::thread::ScopedJoinHandle::is_finished);
            self.watch(is_over, || tell(&self.progress()));
        });
        self.progress()
    }

    /// The clock starts once everything is compiled; how that fails is found with the first finding.
    pub(super) fn begin(&mut self) {
        drop(self.common.checker.target().plain());
        self.common.begun = Instant::now();
    }

    /// Waits for the threads, and stops them when time is up or the caller wants no more.
    pub(super) fn watch(&self, is_over: impl Fn() -> bool, mut goes_on: impl FnMut() -> bool) {
        let common = &self.common;
        while !is_over() {
            let is_late = common.options.time.is_some_and(|time| common.begun.elapsed() >= time);
            if is_late || !goes_on() {
                common.stop.store(true, Ordering::Relaxed);
            }
            std::thread::park_timeout(if is_late { TOLD / 10 } else { TOLD });
        }
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
            #[cfg(feature = "fuzz-many")]
            reach: None,
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
