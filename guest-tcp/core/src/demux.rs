//! Finding things in O(1): an open-addressing table of numbers under a keyed hash. What the numbers stand for, and
//! whether two keys are the same, is the caller's knowledge, so a table costs eight bytes an entry.

use alloc::vec;
use alloc::vec::Vec;

/// An entry: the number, and the hash's upper half to tell most strangers apart without asking.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    hash: u32,
    number: u32,
}

const FREE: u32 = u32::MAX;
const EMPTY: Entry = Entry { hash: 0, number: FREE };
const CAPACITY_MIN: usize = 16;

/// A hash table of numbers below `u32::MAX`. Nothing depends on the order of its entries.
#[derive(Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    count: usize,
}

impl Table {
    /// Entries in it.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.count
    }

    fn mask(&self) -> usize {
        self.entries.len().wrapping_sub(1)
    }

    fn entry(&self, at: usize) -> Entry {
        self.entries.get(at).copied().unwrap_or(EMPTY)
    }

    /// The number under `hash` that `is` says yes to.
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = fold(hash);
        let mut at = hash as usize & self.mask();
        for _ in 0..self.entries.len() {
            let entry = self.entry(at);
            if entry.number == FREE {
                return None;
            }
            if entry.hash == hash && is(entry.number) {
                return Some(entry.number);
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    /// Adds a number, which must not be there yet.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        // Linear probing stays short up to three quarters.
        if (self.count + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        self.put(Entry { hash: fold(hash), number });
        self.count += 1;
    }

    /// Room for so many more, before they come.
    pub(crate) fn reserve(&mut self, more: usize) {
        let needed = (self.count + more) * 4 / 3 + 1;
        if needed > self.entries.len() {
            self.resize(needed.next_power_of_two());
        }
    }

    fn grow(&mut self) {
        self.resize(self.entries.len() * 2);
    }

    fn resize(&mut self, capacity: usize) {
        let capacity = capacity.max(CAPACITY_MIN);
        let old = core::mem::replace(&mut self.entries, vec![EMPTY; capacity]);
        for entry in old {
            if entry.number != FREE {
                self.put(entry);
            }
        }
    }

    fn put(&mut self, entry: Entry) {
        let mask = self.mask();
        let mut at = entry.hash as usize & mask;
        while let Some(slot) = self.entries.get_mut(at) {
            if slot.number == FREE {
                *slot = entry;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Removes a number.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        let wanted = Entry { hash: fold(hash), number };
        let mut at = wanted.hash as usize & self.mask();
        for _ in 0..self.entries.len() {
            let entry = self.entry(at);
            if entry == wanted {
                self.close_gap(at);
                self.count -= 1;
                return;
            }
            if entry.number == FREE {
                return;
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Moves later entries of the probe sequence back, so that no tombstones are needed.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.mask();
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let entry = self.entry(at);
            if entry.number == FREE {
                break;
            }
            let home = entry.hash as usize & mask;
            // It may move if its home is not in (gap, at], seen circularly.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                if let Some(slot) = self.entries.get_mut(gap) {
                    *slot = entry;
                }
                gap = at;
            }
        }
        if let Some(slot) = self.entries.get_mut(gap) {
            *slot = EMPTY;
        }
    }
}

const fn fold(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(number: u32) -> u64 {
        // Many collisions on purpose.
        u64::from(number % 97)
    }

    #[test]
    fn finds_what_is_there_through_growth_and_removal() {
        let mut table = Table::default();
        for number in 0..2000 {
            table.insert(hash_of(number), number);
        }
        for number in (0..2000).step_by(3) {
            table.remove(hash_of(number), number);
        }
        for number in 0..2000 {
            let found = table.find(hash_of(number), |n| n == number);
            assert_eq!(found.is_some(), number % 3 != 0, "{number}");
        }
        assert_eq!(table.len(), 2000 - 667);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let mut table = Table::default();
        assert_eq!(table.find(1, |_| true), None);
        table.remove(1, 1);
    }
}
