//! What was seen of a module's edges so far, and whether a run has shown something new.
//!
//! Counts matter by their order of magnitude: a loop that runs 40 times instead of 30 is nothing new, one that runs 200
//! times is. A count modulo 256 that happens to be zero is missed; it comes again in another run.

/// For each edge the orders of magnitude of its counts that were seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    seen: Vec<u8>,
    edges: u32,
}

/// What was new in a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// Edges never seen before, or never so often or so seldom: with the magnitude of their count.
    counts: Vec<(usize, u8)>,
    /// How many of them were never seen before.
    pub(super) edges: u32,
}

impl News {
    pub(super) fn is_any(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Takes what was never seen of edges from this one on, and marks it as seen.
    fn take(&mut self, from: usize, magnitudes: impl Iterator<Item = u8>, seen: &mut [u8]) {
        for (edge, (seen, magnitude)) in (from..).zip(seen.iter_mut().zip(magnitudes)) {
            if magnitude & !*seen != 0 {
                self.counts.push((edge, magnitude));
                self.edges += u32::from(*seen == 0);
                *seen |= magnitude;
            }
        }
    }
}

/// The order of magnitude of a count, as one of eight bits; none for zero.
fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    }
}

/// Counters that are looked at at once.
const PART: usize = 256;

/// What of these counts was never seen, all together: none for nearly every part of nearly every run, and without a branch
/// the compiler looks at a register of them at once.
fn unseen(counters: &[u8], seen: &[u8]) -> u8 {
    counters.iter().zip(seen).fold(0, |all, (count, seen)| all | (magnitude(*count) & !seen))
}

impl Coverage {
    /// For a module with so many counters.
    pub(super) fn new(probes: usize) -> Self {
        Self { seen: vec![0; probes], edges: 0 }
    }

    /// Whether what was new elsewhere is new here, or a part of it.
    pub(super) fn is_news(&self, news: &News) -> bool {
        let is_unseen =
            |(edge, magnitude): &(usize, u8)| self.seen.get(*edge).is_some_and(|seen| magnitude & !seen != 0);
        news.counts.iter().any(is_unseen)
    }

    /// Takes over what a run has shown.
    pub(super) fn add(&mut self, counters: &[u8]) -> News {
        let mut news = News::default();
        let parts = counters.chunks(PART).zip(self.seen.chunks_mut(PART));
        for (from, (counters, seen)) in (0..).step_by(PART).zip(parts) {
            if unseen(counters, seen) != 0 {
                news.take(from, counters.iter().map(|count| magnitude(*count)), seen);
            }
        }
        self.edges += news.edges;
        news
    }

    /// The same, of a run whose counts are magnitudes already.
    #[cfg(feature = "fuzz-many")]
    pub(super) fn add_magnitudes(&mut self, magnitudes: &[u8]) -> News {
        let mut news = News::default();
        news.take(0, magnitudes.iter().copied(), &mut self.seen);
        self.edges += news.edges;
        news
    }

    /// Edges seen.
    pub(super) fn edges(&self) -> u32 {
        self.edges
    }
}

/// The edges that a run has passed, in order.
pub(super) fn passed(counters: &[u8]) -> Vec<u32> {
    (0..).zip(counters).filter(|(_, count)| **count > 0).map(|(edge, _)| edge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_edges_and_new_magnitudes_are_news_once() {
        let mut coverage = Coverage::new(11);
        let mut counters = [0u8; 11];
        (counters[1], counters[9]) = (1, 30);
        assert_eq!(coverage.add(&counters), News { counts: vec![(1, 1), (9, 32)], edges: 2 });
        assert!(!coverage.add(&counters).is_any());
        (counters[9], counters[10]) = (31, 200);
        assert_eq!(coverage.add(&counters), News { counts: vec![(10, 128)], edges: 1 });
        counters[9] = 32;
        assert_eq!(coverage.add(&counters), News { counts: vec![(9, 64)], edges: 0 });
        assert_eq!((coverage.edges(), passed(&counters)), (3, vec![1, 9, 10]));
    }

    #[test]
    fn all_parts_are_looked_at() {
        let mut coverage = Coverage::new(2 * PART + 3);
        for end in [0, PART - 1, PART, 2 * PART - 1, 2 * PART, 2 * PART + 2] {
            let mut counters = vec![0u8; 2 * PART + 3];
            counters[end] = 255;
            assert_eq!(coverage.add(&counters), News { counts: vec![(end, 128)], edges: 1 });
            assert!(!coverage.add(&counters).is_any());
        }
        assert_eq!(coverage.edges(), 6);
    }

    /// A thread may know less than the others, and what only its instance has shown is known to itself alone.
    #[test]
    fn what_is_new_to_one_may_be_known_to_another() {
        let [mut one, mut all] = [Coverage::new(4), Coverage::new(4)];
        one.add(&[1, 0, 0, 0]);
        all.add(&[0, 1, 0, 0]);
        let news = one.add(&[1, 1, 0, 0]);
        assert!(news.is_any() && !all.is_news(&news));
        let news = one.add(&[1, 1, 7, 0]);
        assert!(all.is_news(&news));
        all.add(&[0, 1, 7, 0]);
        assert!(!all.is_news(&news));
    }
}
