//! One thread of a campaign: picks a case, changes it, runs it, and looks at what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::campaign::Common;
use super::case::Case;
use super::check::{Checker, Kept};
use super::corpus::Entry;
use super::coverage::{self, Coverage, News};
use super::execute::{Executor, Outcome};
use super::finding::{Finding, Kind};
use super::generate::Generator;
use super::mutate::Mutator;
use super::{corpus, execute, limits};

/// Changes that are tried of one case in a row: fewer of one that takes longer.
const ROW: std::ops::RangeInclusive<u32> = 4..=32;
/// What the runs of a row may take together, unless there would be too few: see [`corpus::cost`].
const ROW_COST: u32 = 400;
/// One case in so many is made of nothing, even when there is a corpus.
const FRESH: u64 = 64;
/// One run in so many is followed by fair peers, though it has shown nothing new.
const FAIR: u64 = 128;
/// Without coverage: cases that are kept to be changed, at random.
const BLIND: usize = 256;
/// One run in so many is compared in other instances, though it has shown nothing new.
const COMPARED: u64 = 512;

/// A thread's own.
pub(super) struct Worker<'c> {
    common: &'c Common,
    mutator: Mutator,
    executor: Executor,
    kept: Option<Kept>,
    uses: u32,
    coverage: Coverage,
    runs: u64,
    most: Option<u64>,
    blind: Vec<Case>,
}

impl<'c> Worker<'c> {
    /// The thread with this number, for so many runs at most.
    pub(super) fn new(common: &'c Common, number: u64, most: Option<u64>) -> Self {
        let options = &common.options;
        let seed = options.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let words = common.words();
        let generator = Generator::new(seed, words, options.tokens.clone());
        Self {
            common,
            mutator: Mutator::new(generator, options.structure),
            executor: Executor::default(),
            kept: None,
            uses: 0,
            coverage: Coverage::new(common.probes()),
            runs: 0,
            most,
            blind: Vec::new(),
        }
    }

    /// Until it is told to stop.
    pub(super) fn work(&mut self) {
        while self.goes_on() {
            let (case, other, row) = self.pick();
            for _ in 0..row {
                if !self.goes_on() {
                    return;
                }
                let is_fresh = self.mutator.generator.one_in(FRESH);
                let next = if is_fresh || case.events.is_empty() {
                    self.mutator.fresh()
                } else {
                    self.mutator.mutate(&case, &other)
                };
                self.try_case(next);
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.common.stop.load(Ordering::Relaxed) && self.most.is_none_or(|most| self.runs < most)
    }

    /// A case to change, one that may lend it a part, and how many changes are worth while.
    fn pick(&mut self) -> (Case, Case, u32) {
        let generator = &mut self.mutator.generator;
        if self.common.options.blind {
            let mut one = || self.blind.get(generator.below(self.blind.len())).cloned().unwrap_or_default();
            return (one(), one(), *ROW.end());
        }
        let state = self.common.state();
        let (Some(entry), Some(other)) = (state.corpus.pick(generator), state.corpus.pick(generator)) else {
            return (Case::default(), Case::default(), *ROW.end());
        };
        let row = (ROW_COST / entry.cost.max(1)).clamp(*ROW.start(), *ROW.end());
        (entry.case.clone(), other.case.clone(), row)
    }

    /// Runs a case; what it shows that is new goes into the corpus, what it breaks is looked into.
    pub(super) fn try_case(&mut self, case: Case) {
        let (outcome, news) = self.run(&case);
        if let Some(finding) = outcome.finding {
            self.found(case, finding);
            return;
        }
        let is_new = !self.common.options.blind && news.is_any() && self.keep(&case, news);
        if is_new || self.runs.is_multiple_of(FAIR) {
            let fair = Checker::with_fair_end(&case);
            if let Some(finding) = self.run(&fair).0.finding {
                self.found(fair, finding);
            }
        }
        if is_new || self.runs.is_multiple_of(COMPARED) {
            self.compare(&case, !outcome.firsts.is_empty());
        }
        if self.common.options.blind {
            let at = self.mutator.generator.below(BLIND);
            match self.blind.get_mut(at) {
                Some(slot) => *slot = case,
                None => self.blind.push(case),
            }
        }
    }

    /// What shows only beside other instances.
    fn compare(&mut self, case: &Case, has_firsts: bool) {
        let checker = &self.common.checker;
        let one_in = |generator: &mut Generator, times| generator.one_in(times);
        let generator = &mut self.mutator.generator;
        let kind = None
            .or_else(|| (has_firsts && one_in(generator, 4)).then(|| checker.foreseen(case)).flatten())
            .or_else(|| one_in(generator, 8).then(|| checker.state(case)).flatten())
            .or_else(|| checker.compares().then(|| checker.differs(case)).flatten());
        if let Some(kind) = kind {
            let event = case.events.len().saturating_sub(1);
            self.found(case.clone(), Finding { kind, event });
        }
    }

    fn run(&mut self, case: &Case) -> (Outcome, News) {
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
                Err(fault) => return (execute::not_made(fault), News::default()),
            },
        };
        self.uses += 1;
        let outcome = self.executor.run(instance, self.common.checker.world(), case, None);
        let coverage = &mut self.coverage;
        let seen = |kept: &Kept| kept.counters(|now| coverage.add(now));
        let news = self.kept.as_ref().map(seen).and_then(Result::ok);
        // An instance that has failed is not entered again, and shows nothing.
        if news.is_none() || outcome.finding.is_some() {
            self.kept = None;
        }
        (outcome, news.unwrap_or_default())
    }

    /// Puts a case into the corpus if it is new to all threads; says whether it was.
    fn keep(&mut self, case: &Case, news: News) -> bool {
        let Ok(fresh) = self.common.checker.target().kept() else { return false };
        let world = self.common.checker.world();
        let outcome = self.executor.run(fresh.again(), world, case, None);
        let look = |counters: &[u8]| (coverage::passed(counters), counters.to_vec());
        let Ok((edges, counters)) = fresh.counters(look) else { return false };
        let mut state = self.common.state();
        let is_stable = state.coverage.add(&counters).is_any();
        state.tried += 1;
        state.stable += u64::from(is_stable);
        if !is_stable || outcome.finding.is_some() {
            // Another thread was first, or it was something that the kept instance remembered.
            return false;
        }
        state.last_news = Some(std::time::Instant::now());
        state.last_edges = if news.edges > 0 { state.last_news } else { state.last_edges };
        let cost = corpus::cost(case, &outcome);
        let entry = Arc::new(Entry { case: case.clone(), edges, cost });
        if let Some(store) = &self.common.options.store {
            store.keep(case);
        }
        state.corpus.add(entry);
        true
    }

    /// Something is wrong: confirmed in the module as it was built, made small, named, and reported once.
    fn found(&mut self, case: Case, finding: Finding) {
        let common = self.common;
        let quick = finding.key();
        {
            let mut state = common.state();
            state.crashes += 1;
            if state.quick.contains(&quick) || state.quick.len() >= limits::FINDINGS {
                return;
            }
            state.quick.insert(quick);
        }
        let Some(confirmed) = common.checker.again(&case, &finding.kind) else {
            common.state().unconfirmed += 1;
            return;
        };
        let key = confirmed.key();
        if common.state().found.iter().any(|found| found.key == key) {
            return;
        }
        let same = |kind: &Kind, small: &Case| {
            common.checker.again(small, kind).is_some_and(|finding| finding.key() == key)
        };
        let small = super::minimise(&case, limits::MINIMISE, |small| same(&confirmed.kind, small));
        let finding = common.checker.again(&small, &confirmed.kind).unwrap_or(confirmed);
        common.report(key, small, finding);
    }
}
