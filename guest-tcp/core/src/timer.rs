//! All deadlines in one structure: an indexed four-ary heap, O(log n) to set, change or take away, and exact.
//!
//! Every entity (a connection, an embryo, ...) has one deadline here, the earliest of its own timers.

use crate::entity::Entity;
use alloc::vec::Vec;
use bulkhead_wit::{NEVER, Time};

const ARITY: usize = 4;
const ABSENT: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    at: Time,
    entity: Entity,
}

impl Entry {
    /// Equal deadlines go by entity, so that the order never depends on the heap's history.
    fn is_before(self, other: Self) -> bool {
        (self.at, self.entity) < (other.at, other.entity)
    }
}

/// The deadlines of all entities.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Vec<Entry>,
    /// Where in the heap an entity stands, by kind and number.
    places: [Vec<u32>; Entity::KINDS],
}

impl Timers {
    /// The earliest deadline and whose it is.
    pub(crate) fn first(&self) -> Option<(Time, Entity)> {
        self.heap.first().map(|entry| (entry.at, entry.entity))
    }

    /// Sets an entity's deadline, in place of the one before; [`NEVER`] takes it away.
    pub(crate) fn set(&mut self, entity: Entity, at: Time) {
        match (self.place(entity), at) {
            (None, NEVER) => {}
            (None, _) => {
                self.heap.push(Entry { at, entity });
                self.up(self.heap.len() - 1);
            }
            (Some(place), NEVER) => self.remove(place),
            (Some(place), _) => {
                let Some(entry) = self.heap.get_mut(place) else { return };
                let before = core::mem::replace(&mut entry.at, at);
                if at < before {
                    self.up(place);
                } else if at > before {
                    self.down(place);
                }
            }
        }
    }

    fn place(&self, entity: Entity) -> Option<usize> {
        let place = *self.places.get(entity.kind())?.get(entity.number() as usize)?;
        (place != ABSENT).then_some(place as usize)
    }

    fn note(&mut self, entity: Entity, place: u32) {
        let Some(places) = self.places.get_mut(entity.kind()) else { return };
        let number = entity.number() as usize;
        if places.len() <= number {
            places.resize(number + 1, ABSENT);
        }
        if let Some(slot) = places.get_mut(number) {
            *slot = place;
        }
    }

    fn remove(&mut self, place: usize) {
        let gone = self.heap.swap_remove(place);
        self.note(gone.entity, ABSENT);
        if place < self.heap.len() {
            self.up(place);
            self.down(place);
        }
    }

    /// Moves the entry at `place` towards the root as far as it belongs, and notes where it stands.
    fn up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            let (Some(&child_entry), Some(&parent_entry)) = (self.heap.get(place), self.heap.get(parent))
            else {
                return;
            };
            if !child_entry.is_before(parent_entry) {
                break;
            }
            self.heap.swap(place, parent);
            self.note(parent_entry.entity, place as u32);
            place = parent;
        }
        if let Some(&entry) = self.heap.get(place) {
            self.note(entry.entity, place as u32);
        }
    }

    fn down(&mut self, mut place: usize) {
        loop {
            let first = place * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            let Some(&entry) = self.heap.get(place) else { return };
            let mut least = (place, entry);
            for child in first..last {
                if let Some(&candidate) = self.heap.get(child)
                    && candidate.is_before(least.1)
                {
                    least = (child, candidate);
                }
            }
            if least.0 == place {
                self.note(entry.entity, place as u32);
                return;
            }
            self.heap.swap(place, least.0);
            self.note(least.1.entity, place as u32);
            place = least.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_whatever_was_changed() {
        let mut timers = Timers::default();
        let mut state = 1_u64;
        let mut model = alloc::collections::BTreeMap::new();
        for _ in 0..5000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (state >> 33) as u32 % 300;
            let at = if state >> 60 == 0 { NEVER } else { (state >> 40) % 1000 };
            let entity =
                if number.is_multiple_of(2) { Entity::connection(number) } else { Entity::embryo(number) };
            timers.set(entity, at);
            if at == NEVER {
                model.remove(&entity);
            } else {
                model.insert(entity, at);
            }
            let first = model.iter().map(|(&entity, &at)| (at, entity)).min();
            assert_eq!(timers.first(), first);
        }
        while let Some((at, entity)) = timers.first() {
            assert_eq!(model.iter().map(|(&e, &t)| (t, e)).min(), Some((at, entity)));
            timers.set(entity, NEVER);
            model.remove(&entity);
        }
        assert!(model.is_empty());
    }
}
