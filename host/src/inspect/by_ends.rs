//! Connections by their ends: indices only, since the ends stand in the ledgers. A table of both would cost each
//! connection as much again as its stream.

use super::ledger::Ledger;
use bulkhead_wit::Endpoint;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Both ends of a connection, ours first.
pub(super) type Ends = (Endpoint, Endpoint);

/// Indices of ledgers. A ledger's ends do not change while it is in here.
#[derive(Debug, Default)]
pub(super) struct ByEnds {
    table: HashTable<u32>,
    /// Keyed, so that a stranger cannot aim for one bucket.
    keys: RandomState,
}

fn ends_of(entries: &[Ledger], index: u32) -> Ends {
    entries.get(index as usize).map(|ledger| (ledger.local, ledger.remote)).unwrap_or_default()
}

impl ByEnds {
    pub(super) fn get(&self, entries: &[Ledger], ends: Ends) -> Option<u32> {
        let is_it = |index: &u32| ends_of(entries, *index) == ends;
        self.table.find(self.keys.hash_one(ends), is_it).copied()
    }

    pub(super) fn insert(&mut self, entries: &[Ledger], ends: Ends, index: u32) {
        let keys = &self.keys;
        self.table.insert_unique(keys.hash_one(ends), index, |other| keys.hash_one(ends_of(entries, *other)));
    }

    /// Says whether it was in here.
    pub(super) fn remove(&mut self, ends: Ends, index: u32) -> bool {
        let found = self.table.find_entry(self.keys.hash_one(ends), |other| *other == index);
        found.map(hashbrown::hash_table::OccupiedEntry::remove).is_ok()
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
    }
}
