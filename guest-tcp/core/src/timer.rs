//! All deadlines in one structure: an indexed four-ary heap, O(log n) amortised, and exact.
//!
//! Every entity (a connection, an embryo, ...) has one deadline here, the earliest of its own timers. Most changes put
//! a deadline off (an acknowledgement restarts the retransmission timer), so an entry of the heap is only a bound: what is
//! wished for stands apart, and the entry is put right when it comes to the top. Putting off costs one memory access.

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

/// An entity's deadline, and where its entry stands.
#[derive(Clone, Copy)]
struct Wish {
    at: Time,
    place: u32,
}

const NO_WISH: Wish = Wish { at: NEVER, place: ABSENT };

/// The deadlines of all entities.
#[derive(Default)]
pub(crate) struct Timers {
    /// No entry is later than what is wished for.
    heap: Vec<Entry>,
    /// By kind and number.
    wishes: [Vec<Wish>; Entity::KINDS],
}

impl Timers {
    /// Room for the deadlines of so many more, before they come.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.heap.reserve(more);
    }

    /// The earliest deadline and whose it is.
    pub(crate) fn first(&mut self) -> Option<(Time, Entity)> {
        loop {
            let &Entry { at, entity } = self.heap.first()?;
            let wished = self.wish(entity).map_or(NEVER, |wish| wish.at);
            if wished == at {
                return Some((at, entity));
            }
            if wished == NEVER {
                self.remove_first();
            } else if let Some(first) = self.heap.first_mut() {
                first.at = wished;
                self.down(0);
            }
        }
    }

    /// Sets an entity's deadline, in place of the one before; [`NEVER`] takes it away.
    pub(crate) fn set(&mut self, entity: Entity, at: Time) {
        let Some(wish) = self.wish(entity) else { return };
        let before = core::mem::replace(&mut wish.at, at);
        let place = wish.place;
        if at >= before && place != ABSENT || at == NEVER {
            return;
        }
        if place == ABSENT {
            self.heap.push(Entry { at, entity });
            self.up(self.heap.len() - 1);
        } else if let Some(entry) = self.heap.get_mut(place as usize).filter(|entry| at < entry.at) {
            entry.at = at;
            self.up(place as usize);
        }
    }

    fn wish(&mut self, entity: Entity) -> Option<&mut Wish> {
        let wishes = self.wishes.get_mut(entity.kind())?;
        let number = entity.number() as usize;
        if wishes.len() <= number {
            wishes.resize(number + 1, NO_WISH);
        }
        wishes.get_mut(number)
    }

    fn note(&mut self, entity: Entity, place: u32) {
        if let Some(wish) = self.wish(entity) {
            wish.place = place;
        }
    }

    fn remove_first(&mut self) {
        let gone = self.heap.swap_remove(0);
        self.note(gone.entity, ABSENT);
        self.down(0);
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
