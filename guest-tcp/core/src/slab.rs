//! Numbered places with generations.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by number. The lowest free number is used first, so that what a number becomes depends on nothing but which
/// ones are taken.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: BinaryHeap<Reverse<u32>>,
    /// Empty, and free from the next step on.
    leaving: Vec<u32>,
    taken: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: BinaryHeap::new(), leaving: Vec::new(), taken: 0 }
    }
}

impl<T> Slab<T> {
    /// Places taken.
    pub(crate) fn len(&self) -> u32 {
        self.taken
    }

    /// Takes a place: its number and a generation that it has not had. `None` beyond `most`.
    pub(crate) fn reserve(&mut self, most: u32) -> Option<(u32, u32)> {
        if self.taken >= most {
            return None;
        }
        let number = match self.free.pop() {
            Some(Reverse(number)) => number,
            None => {
                let number = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot { generation: 0, value: None });
                number
            }
        };
        self.taken += 1;
        let slot = self.slots.get_mut(number as usize)?;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        Some((number, slot.generation))
    }

    /// Fills a place that was taken.
    pub(crate) fn fill(&mut self, number: u32, value: T) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.value = Some(value);
        }
    }

    /// Takes a place and fills it.
    pub(crate) fn insert(&mut self, most: u32, value: T) -> Option<u32> {
        let (number, _) = self.reserve(most)?;
        self.fill(number, value);
        Some(number)
    }

    /// Gives a place back.
    pub(crate) fn release(&mut self, number: u32) -> Option<T> {
        let slot = self.slots.get_mut(number as usize)?;
        self.taken -= 1;
        self.free.push(Reverse(number));
        slot.value.take()
    }

    /// Gives a place back that is not to be taken again in this step: the host deals with openings before endings, so it
    /// would find the place taken.
    pub(crate) fn release_later(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.value = None;
            self.leaving.push(number);
        }
    }

    /// The step is over.
    pub(crate) fn end_step(&mut self) {
        for number in self.leaving.drain(..) {
            self.taken -= 1;
            self.free.push(Reverse(number));
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.value.as_mut()
    }

    /// All values, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(n, slot)| Some((n as u32, slot.value.as_ref()?)))
    }

    /// The values alone, in no order that matters.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        // The last first: whoever takes them from the end has the first one first.
        self.slots.into_iter().rev().filter_map(|slot| slot.value)
    }

    /// All generations, by number.
    pub(crate) fn generations(&self) -> impl ExactSizeIterator<Item = u32> {
        self.slots.iter().map(|slot| slot.generation)
    }

    /// Rebuilt from generations; every place is free until [`Slab::occupy`] takes it.
    pub(crate) fn from_generations(generations: Vec<u32>) -> Self {
        let slots: Vec<_> =
            generations.into_iter().map(|generation| Slot { generation, value: None }).collect();
        Self { slots, free: BinaryHeap::new(), leaving: Vec::new(), taken: 0 }
    }

    /// Makes places up to `number`, within what a state can hold.
    pub(crate) fn grow_to(&mut self, number: u32) {
        let most = number.min(bulkhead_wit::limits::CONNECTIONS);
        while self.slots.len() <= most as usize {
            self.slots.push(Slot { generation: 0, value: None });
        }
    }

    /// Puts a value back where it was; false if that place is taken or does not exist.
    pub(crate) fn occupy(&mut self, number: u32, value: T) -> bool {
        match self.slots.get_mut(number as usize) {
            Some(slot) if slot.value.is_none() => {
                slot.value = Some(value);
                self.taken += 1;
                true
            }
            _ => false,
        }
    }

    /// After all [`Slab::occupy`]: the rest is free, but for `reserved`.
    pub(crate) fn free_the_rest(&mut self, reserved: &[u32]) {
        let free = |(number, slot): (usize, &Slot<T>)| {
            let number = number as u32;
            (slot.value.is_none() && !reserved.contains(&number)).then_some(Reverse(number))
        };
        self.free = self.slots.iter().enumerate().filter_map(free).collect();
        self.taken = (self.slots.len() - self.free.len()) as u32;
    }
}
