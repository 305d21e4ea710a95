//! What a thread runs cases with: an instance that is kept, and the questions that are asked of a case beside its run.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::campaign::Common;
use super::case::Case;
use super::check::{Checker, Kept};
use super::corpus::{self, Entry};
use super::coverage::{self, News};
use super::execute::{self, Executor, Outcome};
use super::finding::Finding;
use super::generate::Generator;
use super::limits;

/// One run in so many is followed by fair peers, though it has shown nothing new.
const FAIR: u64 = 128;
/// One run in so many is compared in other instances, though it has shown nothing new.
const COMPARED: u64 = 512;

/// A thread's means to run cases.
pub(super) struct Bench<'c> {
    pub(super) common: &'c Common,
    executor: Executor,
    kept: Option<Kept>,
    uses: u32,
    runs: u64,
    most: Option<u64>,
}

impl<'c> Bench<'c> {
    /// For so many runs at most.
    pub(super) fn new(common: &'c Common, most: Option<u64>) -> Self {
        Self { common, executor: Executor::default(), kept: None, uses: 0, runs: 0, most }
    }

    /// Whether there is anything left to do.
    pub(super) fn goes_on(&self) -> bool {
        !self.common.stop.load(Ordering::Relaxed) && self.most.is_none_or(|most| self.runs < most)
    }

    /// Runs a case in the kept instance and shows its counters, unless the run has broken something: an instance that has
    /// failed is not entered again.
    pub(super) fn run<T>(&mut self, case: &Case, see: impl FnOnce(&[u8]) -> T) -> (Outcome, Option<T>) {
        self.runs += 1;
        self.common.runs.fetch_add(1, Ordering::Relaxed);
        if self.common.options.fresh || self.uses >= limits::ROTATE {
            self.kept = None;
        }
        let instance = match &self.kept {
            Some(kept) => kept.again(),
            None => match self.common.checker.target().kept() {
                Ok(kept) => {
                    self.uses = 0;
                    self.kept.insert(kept).again()
                }
                Err(fault) => return (execute::not_made(fault), None),
            },
        };
        self.uses += 1;
        let outcome = self.executor.run(instance, self.common.checker.world(), case, None);
        let seen = self.kept.as_ref().and_then(|kept| kept.counters(see).ok());
        if seen.is_none() || outcome.finding.is_some() {
            self.kept = None;
        }
        (outcome, seen)
    }

    /// Puts a case, whose run has shown `news` to its thread, into the corpus if a fresh instance shows something that is new to
    /// all threads; says whether it does.
    pub(super) fn keep(&mut self, case: &Case, news: &News) -> bool {
        let Ok(fresh) = self.common.checker.target().kept() else { return false };
        let world = self.common.checker.world();
        let outcome = self.executor.run(fresh.again(), world, case, None);
        let look = |counters: &[u8]| (coverage::passed(counters), counters.to_vec());
        let Ok((edges, counters)) = fresh.counters(look) else { return false };
        let mut state = self.common.state();
        let is_first = state.coverage.is_news(news);
        let again = state.coverage.add(&counters);
        // Where another thread was first, nothing is said of what comes again.
        state.tried += u64::from(is_first || again.is_any());
        state.stable += u64::from(again.is_any());
        if !again.is_any() || outcome.finding.is_some() {
            // Another thread was first, or it was something that the kept instance remembered.
            return false;
        }
        state.last_news = Some(std::time::Instant::now());
        state.last_edges = if again.edges > 0 { state.last_news } else { state.last_edges };
        let cost = corpus::cost(case, &outcome);
        let entry = Arc::new(Entry { case: case.clone(), edges, cost });
        if let Some(store) = &self.common.options.store {
            store.keep(case);
        }
        state.corpus.add(entry);
        true
    }

    /// What a run does not show by itself: whether fair peers get on after it, and what shows only beside other instances.
    /// Asked of each case that is new, and of some others.
    pub(super) fn ask(
        &mut self,
        generator: &mut Generator,
        case: &Case,
        (has_firsts, is_new): (bool, bool),
        see: impl FnOnce(&[u8]),
    ) {
        if is_new || self.runs.is_multiple_of(FAIR) {
            let fair = Checker::with_fair_end(case);
            if let Some(finding) = self.run(&fair, see).0.finding {
                self.common.found(fair, finding);
            }
        }
        if is_new || self.runs.is_multiple_of(COMPARED) {
            self.compare(generator, case, has_firsts);
        }
    }

    fn compare(&self, generator: &mut Generator, case: &Case, has_firsts: bool) {
        let checker = &self.common.checker;
        let one_in = |generator: &mut Generator, times| generator.one_in(times);
        let kind = None
            .or_else(|| (has_firsts && one_in(generator, 4)).then(|| checker.foreseen(case)).flatten())
            .or_else(|| one_in(generator, 8).then(|| checker.state(case)).flatten())
            .or_else(|| checker.compares().then(|| checker.differs(case)).flatten());
        if let Some(kind) = kind {
            let event = case.events.len().saturating_sub(1);
            self.common.found(case.clone(), Finding { kind, event });
        }
    }
}
