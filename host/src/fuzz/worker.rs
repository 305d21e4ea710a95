//! One thread of a campaign: picks a case, changes it, runs it, and looks at what came of it.

use super::bench::Bench;
use super::campaign::Common;
use super::case::Case;
use super::coverage::Coverage;
use super::mutate::Mutator;

/// Changes that are tried of one case in a row: fewer of one that takes longer.
const ROW: std::ops::RangeInclusive<u32> = 4..=32;
/// What the runs of a row may take together, unless there would be too few: see [`cost`](super::corpus::cost).
const ROW_COST: u32 = 400;
/// One case in so many is made of nothing, even when there is a corpus.
const FRESH: u64 = 64;
/// Without coverage: cases that are kept to be changed, at random.
const BLIND: usize = 256;
/// A thread's own.
pub(super) struct Worker<'c> {
    bench: Bench<'c>,
    mutator: Mutator,
    coverage: Coverage,
    blind: Vec<Case>,
}

impl<'c> Worker<'c> {
    /// The thread with this number, for so many runs at most.
    pub(super) fn new(common: &'c Common, number: u64, most: Option<u64>) -> Self {
        Self {
            bench: Bench::new(common, most),
            mutator: common.mutator(number),
            // What the seeds have shown is nothing new.
            coverage: common.state().coverage.clone(),
            blind: Vec::new(),
        }
    }

    /// Until it is told to stop.
    pub(super) fn work(&mut self) {
        while self.bench.goes_on() {
            let (case, other, row) = self.pick();
            for _ in 0..row {
                if !self.bench.goes_on() {
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

    /// A case to change, one that may lend it a part, and how many changes are worth while.
    fn pick(&mut self) -> (Case, Case, u32) {
        let generator = &mut self.mutator.generator;
        if self.bench.common.options.blind {
            let mut one = || self.blind.get(generator.below(self.blind.len())).cloned().unwrap_or_default();
            return (one(), one(), *ROW.end());
        }
        let state = self.bench.common.state();
        let (Some(entry), Some(other)) = (state.corpus.pick(generator), state.corpus.pick(generator)) else {
            return (Case::default(), Case::default(), *ROW.end());
        };
        let row = (ROW_COST / entry.cost.max(1)).clamp(*ROW.start(), *ROW.end());
        (entry.case.clone(), other.case.clone(), row)
    }

    /// Runs a case; what it shows that is new goes into the corpus, what it breaks is looked into.
    pub(super) fn try_case(&mut self, case: Case) {
        let Self { bench, mutator, coverage, blind } = self;
        let (outcome, news) = bench.run(&case, |counters| coverage.add(counters));
        if let Some(finding) = outcome.finding {
            bench.common.found(case, finding);
            return;
        }
        let is_blind = bench.common.options.blind;
        let news = news.unwrap_or_default();
        let is_new = !is_blind && news.is_any() && bench.keep(&case, &news);
        let see = |counters: &[u8]| _ = coverage.add(counters);
        bench.ask(&mut mutator.generator, &case, (!outcome.firsts.is_empty(), is_new), see);
        if is_blind {
            let at = mutator.generator.below(BLIND);
            match blind.get_mut(at) {
                Some(slot) => *slot = case,
                None => blind.push(case),
            }
        }
    }
}
