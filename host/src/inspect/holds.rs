//! Rule 11: hold slots, in which fragments of a datagram wait for each other.
//!
//! The first fragment placed into a slot binds it to its addresses, protocol and identification; no other datagram's
//! bytes may come in. Here are the numbers; the bytes are with the streams.

use super::Step;
use super::rule::{Broken, Rule, check, violation};
use crate::split::{Facts, FragmentKey};
use bulkhead_wit::{Hold, Kind, Place, limits};

const RULE: Rule = Rule::Hold;

/// One slot in numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) key: Option<FragmentKey>,
    /// Runs of placed bytes, ordered, apart from each other.
    pub(crate) runs: Vec<(u32, u32)>,
}

impl Slot {
    fn end(&self) -> usize {
        self.runs.last().map_or(0, |run| run.1 as usize)
    }
}

/// All hold slots in numbers.
#[derive(Debug, Default)]
pub struct Holds {
    pub(crate) slots: Vec<Slot>,
    former: Vec<(usize, Slot)>,
}

impl Holds {
    pub(super) fn begin(&mut self) {
        self.former.clear();
    }

    pub(super) fn take_back(&mut self) {
        while let Some((index, slot)) = self.former.pop() {
            if let Some(entry) = self.slots.get_mut(index) {
                *entry = slot;
            }
        }
    }

    fn touch(&mut self, slot: u64, most: usize) -> Result<&mut Slot, Broken> {
        let index = usize::try_from(slot).ok().filter(|index| *index < most);
        let index = index.ok_or_else(|| violation(RULE, format!("there is no hold slot {slot}")))?;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        self.former.push((index, self.slots[index].clone()));
        Ok(&mut self.slots[index])
    }

    /// Bytes of a fragment come into a slot.
    pub(super) fn place(&mut self, step: &Step<'_>, place: &Place) -> Result<(), Broken> {
        let arrived = step.arrived(place.segment, RULE)?;
        let is_fragment =
            step.inputs.segments.get(place.segment as usize).is_some_and(|s| s.kind == Kind::Fragment);
        let key = arrived.fragment_key().filter(|_| is_fragment);
        let key = key.ok_or_else(|| violation(RULE, format!("segment {} is no fragment", place.segment)))?;
        let at = if let Facts::Fragment(facts) = arrived.facts { u64::from(facts.offset) } else { 0 };
        check(place.at == at + u64::from(place.skip), RULE, || {
            format!("bytes of a fragment at {at} placed at {} after {}", place.at, place.skip)
        })?;
        let end = place.at.saturating_add(u64::from(place.length));
        check(end <= limits::HOLD_BYTES as u64, RULE, || format!("bytes up to {end} in a hold slot"))?;
        let others: usize = self.slots.iter().map(Slot::end).sum();
        let slot = self.touch(place.of, step.grants.holds)?;
        let all = others - slot.end() + slot.end().max(end as usize);
        check(all <= limits::HOLDS_BYTES, RULE, || format!("{all} bytes in all hold slots"))?;
        check(slot.key.is_none_or(|bound| bound == key), RULE, || {
            format!("hold slot {} is bound to another datagram", place.of)
        })?;
        slot.key = Some(key);
        let (at, end) = (place.at as u32, end as u32);
        let next = slot.runs.partition_point(|run| run.1 <= at);
        let free = slot.runs.get(next).is_none_or(|run| run.0 >= end);
        check(free, RULE, || format!("bytes {at}..{end} of hold slot {} are there already", place.of))?;
        slot.runs.insert(next, (at, end));
        slot.runs.dedup_by(|later, earlier| {
            let joins = earlier.1 == later.0;
            if joins {
                earlier.1 = later.1;
            }
            joins
        });
        check(slot.runs.len() <= limits::ISLANDS, RULE, || {
            format!("{} islands in a hold slot", slot.runs.len())
        })
    }

    /// A slot is complete: all of its bytes must be there.
    pub(super) fn resubmit(&mut self, hold: &Hold) -> Result<(), Broken> {
        let slot = self.touch(u64::from(hold.slot), limits::HOLDS)?;
        let complete = matches!(slot.runs.as_slice(), [(0, end)] if hold.length > 0 && hold.length <= *end);
        check(slot.key.is_some() && complete, RULE, || {
            format!("hold slot {} resubmitted with {} bytes, not all placed", hold.slot, hold.length)
        })?;
        *slot = Slot::default();
        Ok(())
    }

    /// A slot is free again.
    pub(super) fn release(&mut self, slot: u32) -> Result<(), Broken> {
        let entry = self.touch(u64::from(slot), limits::HOLDS)?;
        check(entry.key.is_some(), RULE, || format!("hold slot {slot} is free already"))?;
        *entry = Slot::default();
        Ok(())
    }
}
