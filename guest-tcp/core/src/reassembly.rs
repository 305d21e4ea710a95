//! What has arrived beyond RCV.NXT: ranges only, the bytes are in the host's stream already (RFC 9293 3.10.7.4, RFC 2018).

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A run of placed bytes, `start..end`, in offsets of the receive stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Island {
    pub start: u64,
    pub end: u64,
    /// When it last grew: larger is later (RFC 2018 4 wants the latest first).
    pub stamp: u64,
}

/// At most this many pieces of one segment are placed, by the contract.
pub(crate) const PIECES: usize = bulkhead_wit::limits::PLACES_PER_SEGMENT;

/// The parts of a range that were missing, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Missing {
    pieces: [(u64, u64); PIECES],
    count: usize,
}

impl Missing {
    fn push(&mut self, start: u64, end: u64) -> bool {
        let Some(piece) = self.pieces.get_mut(self.count) else { return false };
        *piece = (start, end);
        self.count += 1;
        true
    }

    fn pieces(&self) -> &[(u64, u64)] {
        self.pieces.get(..self.count).unwrap_or(&[])
    }
}

/// The islands of a connection, sorted, never touching each other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reassembly {
    /// Absent where there are none.
    #[expect(clippy::box_collection, reason = "eight bytes in a connection without holes")]
    pub islands: Option<Box<Vec<Island>>>,
}

impl Reassembly {
    pub(crate) fn is_empty(&self) -> bool {
        self.islands.is_none()
    }

    /// All of them, in order.
    pub(crate) fn islands(&self) -> &[Island] {
        self.islands.as_ref().map_or(&[], |islands| islands.as_slice())
    }

    /// The end of the highest island.
    pub(crate) fn end(&self) -> Option<u64> {
        self.islands().last().map(|island| island.end)
    }

    /// The first part of `start..end` that is here already, if any: what a D-SACK reports (RFC 2883 4).
    pub(crate) fn duplicate(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        self.islands()
            .iter()
            .map(|island| (island.start.max(start), island.end.min(end)))
            .find(|(from, to)| from < to)
    }

    /// Takes in `start..end` (all of it at or beyond `next`, the first byte not yet in order), tells `each` part that was
    /// missing and gives the byte that is next in order now. What would need more than `most` islands or more than
    /// [`PIECES`] pieces is left out: the peer sends it again.
    #[inline]
    pub(crate) fn take(
        &mut self,
        next: u64,
        (start, end): (u64, u64),
        most: usize,
        mut each: impl FnMut(u64, u64),
    ) -> u64 {
        if start >= end {
            return next;
        }
        if start == next && self.islands.is_none() {
            // The ordinary case: nothing is missing before or behind it.
            each(start, end);
            return end;
        }
        let (missing, next) = self.fit(next, start, end, most);
        missing.pieces().iter().for_each(|&(from, to)| each(from, to));
        next
    }

    /// The same among islands.
    fn fit(&mut self, next: u64, start: u64, end: u64, most: usize) -> (Missing, u64) {
        let mut missing = Missing::default();
        let mut from = start;
        let mut to = start;
        for island in self.islands() {
            if island.end <= from {
                continue;
            }
            if island.start >= end {
                break;
            }
            if island.start > from && !missing.push(from, island.start) {
                break;
            }
            from = island.end;
            to = from.min(end);
        }
        if from < end && missing.push(from, end) {
            to = end;
        }
        if start > next && self.needs_an_island(start, to) && self.islands().len() >= most {
            return (Missing::default(), next);
        }
        self.join(start, to);
        (missing, self.advance(next))
    }

    fn needs_an_island(&self, start: u64, end: u64) -> bool {
        !self.islands().iter().any(|island| island.start <= end && start <= island.end)
    }

    /// Merges `start..end` with every island that it touches.
    fn join(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let islands = self.islands.get_or_insert_default();
        let stamp = islands.iter().map(|island| island.stamp).max().unwrap_or(0) + 1;
        let first = islands.partition_point(|island| island.end < start);
        let last = islands.partition_point(|island| island.start <= end);
        let mut joined = Island { start, end, stamp };
        for island in islands.get(first..last).unwrap_or(&[]) {
            joined.start = joined.start.min(island.start);
            joined.end = joined.end.max(island.end);
        }
        islands.splice(first..last, core::iter::once(joined));
    }

    /// Takes away the first island if it begins at `next`, and gives the next byte in order.
    fn advance(&mut self, next: u64) -> u64 {
        let Some(islands) = &mut self.islands else { return next };
        let Some(first) = islands.first().copied().filter(|island| island.start <= next) else { return next };
        islands.remove(0);
        // An idle connection holds no memory for what it does not need.
        self.islands.take_if(|islands| islands.is_empty());
        first.end.max(next)
    }

    /// Up to `most` islands, the latest first (RFC 2018 4).
    pub(crate) fn latest(&self, most: usize, mut each: impl FnMut(u64, u64)) {
        let mut below = u64::MAX;
        for _ in 0..most {
            let latest = self.islands().iter().filter(|island| island.stamp < below).max_by_key(|i| i.stamp);
            let Some(island) = latest else { break };
            below = island.stamp;
            each(island.start, island.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_taken() {
        let mut r = Reassembly::default();
        assert_eq!(r.take(0, (3, 3), 64, |_, _| panic!("nothing")), 0);
        let mut seen = Vec::new();
        assert_eq!(r.take(0, (0, 3), 64, |start, end| seen.push((start, end))), 3);
        assert_eq!(r.take(0, (10, 20), 64, |start, end| seen.push((start, end))), 0);
        assert_eq!(seen, [(0, 3), (10, 20)]);
        assert_eq!(r.fit(0, 30, 40, 64).0.pieces(), [(30, 40)]);
        let (missing, next) = r.fit(0, 5, 45, 64);
        assert_eq!(missing.pieces(), [(5, 10), (20, 30), (40, 45)]);
        assert_eq!(next, 0);
        assert_eq!(r.islands().len(), 1);
        assert_eq!(r.fit(0, 0, 5, 64), (Missing { pieces: [(0, 5), (0, 0), (0, 0), (0, 0)], count: 1 }, 45));
        assert!(r.is_empty());
    }

    #[test]
    fn islands_are_bounded_and_duplicates_named() {
        let mut r = Reassembly::default();
        for at in 0..10_u64 {
            let (missing, _) = r.fit(0, 10 + at * 10, 15 + at * 10, 4);
            assert_eq!(missing.pieces().len(), usize::from(at < 4));
        }
        assert_eq!(r.duplicate(12, 23), Some((12, 15)));
        assert_eq!(r.duplicate(15, 20), None);
        let mut seen = Vec::new();
        r.latest(2, |start, _| seen.push(start));
        assert_eq!(seen, [40, 30]);
    }

    #[test]
    fn more_pieces_than_allowed_leave_the_rest() {
        let mut r = Reassembly::default();
        for at in 1..8_u64 {
            let _ = r.fit(0, at * 10, at * 10 + 5, 64);
        }
        let (missing, next) = r.fit(0, 0, 100, 64);
        assert_eq!(missing.pieces(), [(0, 10), (15, 20), (25, 30), (35, 40)]);
        assert_eq!(next, 45);
        assert_eq!(r.islands().len(), 3);
    }
}
