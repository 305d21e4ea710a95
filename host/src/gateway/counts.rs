//! Who has how many of what there are not enough of.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// How many each has, and who has most.
pub(super) struct Counts<K> {
    /// With the time of its last change.
    of: HashMap<K, (usize, u64)>,
    by_count: BTreeSet<(usize, Reverse<u64>, K)>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { of: HashMap::new(), by_count: BTreeSet::new() }
    }
}

impl<K: Copy + Ord + Hash> Counts<K> {
    pub(super) fn get(&self, who: K) -> usize {
        self.of.get(&who).map_or(0, |(count, _)| *count)
    }

    /// Of several, the one that has been so for longest.
    pub(super) fn most(&self) -> Option<K> {
        self.by_count.last().map(|(_, _, who)| *who)
    }

    /// So many more, or less, at a time that never goes back, in any unit. Returns how many it has now.
    pub(super) fn change(&mut self, who: K, by: isize, now: u64) -> usize {
        let count = self.get(who).saturating_add_signed(by);
        let before = if count == 0 { self.of.remove(&who) } else { self.of.insert(who, (count, now)) };
        if let Some((count, since)) = before {
            self.by_count.remove(&(count, Reverse(since), who));
        }
        if count > 0 {
            self.by_count.insert((count, Reverse(now), who));
        }
        count
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.by_count.is_empty()
    }
}
