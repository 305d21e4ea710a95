//! Cases that have shown something new, and which of them is tried next.

use std::sync::Arc;

use super::case::Case;
use super::execute::Outcome;
use super::generate::Generator;

/// A case that has shown something new.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) case: Case,
    /// Edges that it passes.
    pub(super) edges: Vec<u32>,
    /// What a run of it takes.
    pub(super) cost: u32,
}

/// What a run takes, in about microseconds. Told by what happens in it rather than by a clock, so that a campaign does the same
/// wherever it is run.
pub(super) fn cost(case: &Case, outcome: &Outcome) -> u32 {
    let frames = (outcome.arrived + outcome.frames) / 2;
    (case.events.len() as u32 + frames).saturating_add(2 * outcome.steps as u32)
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    entries: Vec<Arc<Entry>>,
    /// For each edge the cheapest entry that passes it.
    best: Vec<Option<u32>>,
    /// For how many edges an entry is the cheapest.
    owns: Vec<u32>,
}

/// How often an entry that is the best for nothing is tried nevertheless: once in so many times.
const OTHERS: u64 = 8;

impl Corpus {
    pub(super) fn new(probes: usize) -> Self {
        Self { entries: Vec::new(), best: vec![None; probes], owns: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    pub(super) fn add(&mut self, entry: Arc<Entry>) {
        let number = self.entries.len() as u32;
        self.owns.push(0);
        for edge in &entry.edges {
            let Some(best) = self.best.get_mut(*edge as usize) else { continue };
            let before = best.and_then(|best| self.entries.get(best as usize));
            if before.is_some_and(|before| before.cost <= entry.cost) {
                continue;
            }
            if let Some(owns) = best.and_then(|best| self.owns.get_mut(best as usize)) {
                *owns -= 1;
            }
            *best = Some(number);
            if let Some(owns) = self.owns.last_mut() {
                *owns += 1;
            }
        }
        self.entries.push(entry);
    }

    /// An entry to change: mostly one of those that are the cheapest way to some edge, and rather a late one, since what
    /// was found late was hard to reach.
    pub(super) fn pick(&self, generator: &mut Generator) -> Option<Arc<Entry>> {
        for _ in 0..16 {
            let (one, other) = (generator.below(self.entries.len()), generator.below(self.entries.len()));
            let at = if generator.one_in(2) { one.max(other) } else { one };
            if self.owns.get(at).is_some_and(|owns| *owns > 0) || generator.one_in(OTHERS) {
                return self.entries.get(at).cloned();
            }
        }
        self.entries.last().cloned()
    }

    /// The smallest part of it that passes the same edges, greedily: whoever adds the most comes first.
    pub(super) fn cover(&self) -> Vec<Arc<Entry>> {
        let mut left: Vec<bool> = self.best.iter().map(Option::is_some).collect();
        let mut chosen = Vec::new();
        let adds = |entry: &Entry, left: &[bool]| {
            entry.edges.iter().filter(|edge| left.get(**edge as usize) == Some(&true)).count()
        };
        while let Some(best) = self
            .entries
            .iter()
            .map(|entry| (adds(entry, &left), entry))
            .filter(|(adds, _)| *adds > 0)
            .max_by_key(|(adds, entry)| (*adds, std::cmp::Reverse(entry.case.events.len())))
            .map(|(_, entry)| Arc::clone(entry))
        {
            for edge in &best.edges {
                if let Some(left) = left.get_mut(*edge as usize) {
                    *left = false;
                }
            }
            chosen.push(best);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::case::Event;

    #[test]
    fn the_cover_passes_every_edge_with_few_and_short_cases() {
        let mut corpus = Corpus::new(10);
        for (events, edges) in [(1, vec![1, 2]), (5, vec![1, 2, 3, 4]), (2, vec![3, 4]), (9, vec![7])] {
            let case = Case { events: vec![Event::Wait { us: 1 }; events] };
            corpus.add(Arc::new(Entry { case, edges, cost: events as u32 }));
        }
        let chosen: Vec<usize> = corpus.cover().iter().map(|entry| entry.case.events.len()).collect();
        assert_eq!(chosen, [5, 9]);
        assert_eq!(corpus.owns, [2, 0, 2, 1]);
    }
}
