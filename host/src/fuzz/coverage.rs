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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// Edges never seen before.
    pub(super) edges: u32,
    /// Edges seen before, but never so often or so seldom.
    pub(super) counts: u32,
}

impl News {
    pub(super) fn is_any(self) -> bool {
        self.edges + self.counts > 0
    }
}

/// The order of magnitude of a count, as one of eight bits; none for zero.
const fn magnitude(count: u8) -> u8 {
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

/// The same as a table.
static MAGNITUDES: [u8; 256] = {
    let mut table = [0; 256];
    let mut count = 0;
    while count < 256 {
        table[count] = magnitude(count as u8);
        count += 1;
    }
    table
};

/// Counters that are looked at at once.
const PART: usize = 32;

/// Calls for each edge that was passed with its number and its count's magnitude.
fn each_passed(counters: &[u8], mut call: impl FnMut(usize, u8)) {
    for (number, part) in counters.chunks(PART).enumerate() {
        // Most are zero.
        if part.iter().fold(0, |all, count| all | count) == 0 {
            continue;
        }
        for (at, count) in part.iter().enumerate().filter(|(_, count)| **count > 0) {
            call(PART * number + at, MAGNITUDES[usize::from(*count)]);
        }
    }
}

impl Coverage {
    /// For a module with so many counters.
    pub(super) fn new(probes: usize) -> Self {
        Self { seen: vec![0; probes], edges: 0 }
    }

    /// Takes over what a run has shown.
    pub(super) fn add(&mut self, counters: &[u8]) -> News {
        let mut news = News::default();
        each_passed(counters, |edge, magnitude| {
            if let Some(seen) = self.seen.get_mut(edge)
                && *seen & magnitude == 0
            {
                *if *seen == 0 { &mut news.edges } else { &mut news.counts } += 1;
                *seen |= magnitude;
            }
        });
        self.edges += news.edges;
        news
    }

    /// The same, of a run whose counts are magnitudes already.
    #[cfg(feature = "fuzz-many")]
    pub(super) fn add_magnitudes(&mut self, magnitudes: &[u8]) -> News {
        let mut news = News::default();
        for (seen, magnitude) in self.seen.iter_mut().zip(magnitudes) {
            if *seen & magnitude != *magnitude {
                *if *seen == 0 { &mut news.edges } else { &mut news.counts } += 1;
                *seen |= magnitude;
            }
        }
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
    let mut edges = Vec::new();
    each_passed(counters, |edge, _| edges.push(edge as u32));
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_edges_and_new_magnitudes_are_news_once() {
        let mut coverage = Coverage::new(11);
        let mut counters = [0u8; 11];
        (counters[1], counters[9]) = (1, 30);
        assert_eq!(coverage.add(&counters), News { edges: 2, counts: 0 });
        assert!(!coverage.add(&counters).is_any());
        (counters[9], counters[10]) = (31, 200);
        assert_eq!(coverage.add(&counters), News { edges: 1, counts: 0 });
        counters[9] = 32;
        assert_eq!(coverage.add(&counters), News { edges: 0, counts: 1 });
        assert_eq!((coverage.edges(), passed(&counters)), (3, vec![1, 9, 10]));
    }
}
