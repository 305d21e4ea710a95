//! Fragments of datagrams (RFC 791 3.2, RFC 8200 4.5): their bytes wait in the host's hold slots, here are the ranges. A
//! whole datagram is handed back to the host's split, like any frame.

use crate::ip;
use alloc::vec::Vec;
use bulkhead_wit::ip::Fragment;
use bulkhead_wit::limits::{HOLD_BYTES, HOLD_TIME, HOLDS, HOLDS_BYTES, ISLANDS};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Event, Hold, NEVER, Outputs, Place, Segment, Source, Target, Time};

/// A datagram in the making.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) identification: u32,
    /// Its length, once the last fragment was seen; else 0.
    pub(crate) length: u32,
    pub(crate) deadline: Time,
    /// Runs of bytes that are there, ordered, apart from each other.
    pub(crate) runs: Vec<(u32, u32)>,
}

impl Slot {
    fn end(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.1)
    }
}

/// All of them. A slot that was given back in a step is free for the host only after it, and so are its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Fragments {
    pub(crate) slots: Vec<Option<Slot>>,
    freed: u64,
    freed_bytes: u64,
}

impl Fragments {
    /// A fragment for one of our addresses; says whether it was of use.
    pub(crate) fn arrive(
        &mut self,
        header: &[u8],
        (index, segment): (u32, &Segment),
        (now, holds): (Time, u16),
        outputs: &mut Outputs,
    ) -> bool {
        let Some(((source, destination), fragment)) = ip::addresses(header).zip(Fragment::parse(header))
        else {
            return false;
        };
        // RFC 791 3.2: the protocol is part of an IPv4 datagram's name, and others' fragments are none of ours. IPv6's
        // identification stands alone, and what comes first in the datagram need not be UDP.
        if source.is_v4() && fragment.protocol != protocol::UDP {
            return false;
        }
        // RFC 8200 4.5: all but the last are multiples of eight. The first one holds the whole UDP header.
        let length = segment.payload;
        let is_sane = length > 0
            && (!fragment.more || length.is_multiple_of(8))
            && (fragment.offset > 0 || length >= 8)
            && outputs.places.len() < bulkhead_wit::limits::PLACES;
        let end = fragment.offset.saturating_add(length);
        if !is_sane || end as usize > HOLD_BYTES {
            return false;
        }
        let name = (source, destination, fragment.identification);
        let Some(number) = self.slot_for(name, end, now, holds) else { return false };
        let Some(slot) = self.slots.get_mut(number).and_then(Option::as_mut) else { return false };
        match slot.take(&fragment, end) {
            Taken::Again => true,
            Taken::Contradicts => {
                self.release(number, outputs);
                false
            }
            Taken::New => {
                outputs.places.push(Place {
                    of: number as u64,
                    at: u64::from(fragment.offset),
                    segment: index,
                    skip: 0,
                    length,
                    source: Source::Segment,
                    target: Target::Hold,
                });
                let whole =
                    (slot.length > 0 && slot.runs.as_slice() == [(0, slot.length)]).then_some(slot.length);
                if let Some(length) = whole {
                    self.free(number);
                    outputs.events.push(Event::Resubmit(Hold { slot: number as u32, length }));
                }
                true
            }
        }
    }

    /// The slot that a fragment belongs to, or a new one within all bounds.
    fn slot_for(&mut self, name: (Address, Address, u32), end: u32, now: Time, holds: u16) -> Option<usize> {
        let held: u64 = self.slots.iter().flatten().map(|slot| u64::from(slot.end())).sum();
        if held + self.freed_bytes + u64::from(end) > HOLDS_BYTES as u64 {
            return None;
        }
        let is_of = |slot: &Slot| (slot.source, slot.destination, slot.identification) == name;
        if let Some(found) = self.slots.iter().position(|slot| slot.as_ref().is_some_and(is_of)) {
            return Some(found);
        }
        let most = usize::from(holds).min(HOLDS);
        let free = (0..most).find(|&number| {
            self.freed >> number & 1 == 0 && self.slots.get(number).is_none_or(Option::is_none)
        })?;
        if self.slots.len() <= free {
            self.slots.resize(free + 1, None);
        }
        let (source, destination, identification) = name;
        let deadline = now.saturating_add(HOLD_TIME);
        let slot = Slot { source, destination, identification, length: 0, deadline, runs: Vec::new() };
        *self.slots.get_mut(free)? = Some(slot);
        Some(free)
    }

    fn free(&mut self, number: usize) {
        if let Some(slot) = self.slots.get_mut(number) {
            self.freed_bytes += slot.take().map_or(0, |slot| u64::from(slot.end()));
            self.freed |= 1 << (number & 63);
        }
    }

    fn release(&mut self, number: usize, outputs: &mut Outputs) {
        let has_bytes = self.slots.get(number).and_then(Option::as_ref).is_some_and(|slot| slot.end() > 0);
        self.free(number);
        if has_bytes {
            outputs.events.push(Event::Release(number as u32));
        }
    }

    /// Gives up what has waited too long.
    pub(crate) fn expire(&mut self, now: Time, outputs: &mut Outputs) {
        for number in 0..self.slots.len() {
            if self.slots.get(number).and_then(Option::as_ref).is_some_and(|slot| slot.deadline <= now) {
                self.release(number, outputs);
            }
        }
    }

    /// When the next one has waited too long.
    pub(crate) fn deadline(&self) -> Time {
        self.slots.iter().flatten().map(|slot| slot.deadline).min().unwrap_or(NEVER)
    }

    /// The end of a step: what was given back in it is free.
    pub(crate) fn end_step(&mut self) {
        (self.freed, self.freed_bytes) = (0, 0);
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
    }
}

/// What a fragment was to its datagram.
enum Taken {
    New,
    /// Exactly what is there already.
    Again,
    /// It overlaps, or contradicts the length (RFC 5722): the datagram cannot be right.
    Contradicts,
}

impl Slot {
    fn take(&mut self, fragment: &Fragment, end: u32) -> Taken {
        let start = fragment.offset;
        let too_long = self.length > 0 && (end > self.length || (!fragment.more && end != self.length));
        if too_long || (!fragment.more && self.end() > end) {
            return Taken::Contradicts;
        }
        let next = self.runs.partition_point(|run| run.1 <= start);
        match self.runs.get(next) {
            Some(run) if run.0 <= start && run.1 >= end => return Taken::Again,
            Some(run) if run.0 < end => return Taken::Contradicts,
            _ => {}
        }
        if self.runs.len() >= ISLANDS {
            return Taken::Contradicts;
        }
        self.runs.insert(next, (start, end));
        self.runs.dedup_by(|later, earlier| {
            let joins = earlier.1 == later.0;
            if joins {
                earlier.1 = later.1;
            }
            joins
        });
        if !fragment.more {
            self.length = end;
        }
        Taken::New
    }
}
