//! Fragments of IP datagrams (RFC 791 3.2, RFC 8200 4.5): their bytes wait in the host's hold slots, here are only the
//! ranges. A whole datagram is handed back to the host's split, like any frame.

use crate::entity::Entity;
use crate::header::ip::{Fragment, Ip};
use crate::limits::{HOLD_SPARED, HOLDS_EACH};
use crate::out::Context;
use crate::reassembly::Reassembly;
use crate::timer::Timers;
use alloc::vec::Vec;
use bulkhead_wit::limits::{HOLD_BYTES, HOLD_TIME, HOLDS, HOLDS_BYTES, ISLANDS};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Event, Hold, NEVER, Place, Segment, Source, Target, Time};

/// A datagram in the making.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub source: Address,
    pub destination: Address,
    pub protocol: u8,
    pub identification: u32,
    /// Its length, once the last fragment was seen.
    pub length: Option<u32>,
    /// Bytes that are there from the beginning without a hole, and what lies beyond.
    pub next: u64,
    pub reassembly: Reassembly,
    pub deadline: Time,
}

impl Slot {
    fn end(&self) -> usize {
        self.reassembly.end().unwrap_or(0).max(self.next) as usize
    }

    fn is_of(&self, ip: &Ip, fragment: &Fragment) -> bool {
        (self.source, self.destination) == (ip.source, ip.destination)
            && (self.protocol, self.identification) == (fragment.protocol, fragment.identification)
    }
}

/// All of them. A slot that was given back in a step is free for the host only after it, and so are its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Fragments {
    pub slots: Vec<Option<Slot>>,
    freed: u64,
    freed_bytes: usize,
}

/// What a fragment brought about.
enum Outcome {
    Waits,
    Whole(u32),
    /// The datagram cannot be right: overlapping or contradicting fragments (RFC 5722, RFC 3128).
    Broken,
}

impl Fragments {
    /// A fragment for one of our addresses.
    pub(crate) fn arrive(
        &mut self,
        timers: &mut Timers,
        header: &[u8],
        (index, segment): (u32, &Segment),
        cx: &mut Context<'_>,
    ) {
        let parsed = Ip::parse(header).zip(Fragment::parse(header));
        let Some((ip, fragment)) = parsed.filter(|(ip, fragment)| {
            cx.instance.is_ours(ip.destination)
                && ip.source.is_unicast()
                && is_sane(fragment, segment.payload)
        }) else {
            cx.instance.counters.dropped += 1;
            return;
        };
        let Some(number) = self.slot_for(&ip, &fragment, segment.payload, cx) else {
            cx.instance.counters.dropped += 1;
            self.make_way(timers, cx);
            return;
        };
        let Some(slot) = self.slots.get_mut(number as usize).and_then(Option::as_mut) else { return };
        timers.set(Entity::hold(number), slot.deadline);
        match slot.take(&fragment, index, segment.payload, number, cx) {
            Outcome::Waits => {}
            Outcome::Whole(length) => {
                self.free(timers, number);
                cx.out.event(Event::Resubmit(Hold { slot: number, length }));
            }
            Outcome::Broken => self.release(timers, number, cx),
        }
    }

    /// The slot that a fragment belongs to, or a new one within all bounds.
    fn slot_for(&mut self, ip: &Ip, fragment: &Fragment, length: u32, cx: &Context<'_>) -> Option<u32> {
        let end = fragment.offset as usize + length as usize;
        let held: usize = self.slots.iter().flatten().map(Slot::end).sum();
        if end > HOLD_BYTES || held + self.freed_bytes + end > HOLDS_BYTES {
            return None;
        }
        let is_of = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.is_of(ip, fragment));
        if let Some(found) = self.slots.iter().position(is_of) {
            return u32::try_from(found).ok();
        }
        let of_source = self.slots.iter().flatten().filter(|slot| slot.source == ip.source).count();
        if of_source >= HOLDS_EACH {
            return None;
        }
        let most = usize::from(cx.instance.holds).min(HOLDS);
        let free = (0..most).find(|&number| {
            self.freed >> number & 1 == 0 && self.slots.get(number).is_none_or(Option::is_none)
        })?;
        if self.slots.len() <= free {
            self.slots.resize(free + 1, None);
        }
        *self.slots.get_mut(free)? = Some(Slot {
            source: ip.source,
            destination: ip.destination,
            protocol: fragment.protocol,
            identification: fragment.identification,
            length: None,
            next: 0,
            reassembly: Reassembly::default(),
            deadline: cx.now.saturating_add(HOLD_TIME),
        });
        u32::try_from(free).ok()
    }

    /// Where all slots are taken, the oldest datagram that has had its time makes way: whoever hoards slots holds up others
    /// for a moment and not for half a minute. The host gives the slot again only in the next step.
    fn make_way(&mut self, timers: &mut Timers, cx: &mut Context<'_>) {
        let most = usize::from(cx.instance.holds).min(HOLDS);
        if self.slots.iter().flatten().count() < most {
            return;
        }
        let slots = (0_u32..).zip(&self.slots);
        let oldest = slots.filter_map(|(number, slot)| Some((slot.as_ref()?.deadline, number))).min();
        if let Some((deadline, number)) = oldest
            && deadline.saturating_add(HOLD_SPARED) <= cx.now.saturating_add(HOLD_TIME)
        {
            self.release(timers, number, cx);
        }
    }

    fn free(&mut self, timers: &mut Timers, number: u32) {
        timers.set(Entity::hold(number), NEVER);
        if let Some(slot) = self.slots.get_mut(number as usize) {
            self.freed_bytes += slot.take().map_or(0, |slot| slot.end());
            self.freed |= 1 << (number & 63);
        }
    }

    /// Gives up a datagram: it is broken, or its time is over.
    pub(crate) fn release(&mut self, timers: &mut Timers, number: u32, cx: &mut Context<'_>) {
        let held =
            self.slots.get(number as usize).and_then(Option::as_ref).is_some_and(|slot| slot.end() > 0);
        self.free(timers, number);
        if held {
            cx.out.event(Event::Release(number));
        }
    }

    /// The end of a step: what was given back in it is free.
    pub(crate) fn end_step(&mut self) {
        (self.freed, self.freed_bytes) = (0, 0);
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
    }
}

impl Slot {
    /// Places a fragment's bytes.
    fn take(
        &mut self,
        fragment: &Fragment,
        index: u32,
        length: u32,
        number: u32,
        cx: &mut Context<'_>,
    ) -> Outcome {
        let start = u64::from(fragment.offset);
        let end = start + u64::from(length);
        let contradicts = match self.length {
            Some(whole) => end > u64::from(whole) || (!fragment.more && end != u64::from(whole)),
            None => !fragment.more && (self.end() as u64) > end,
        };
        if contradicts {
            return Outcome::Broken;
        }
        let here = self.next >= end || self.reassembly.duplicate(start, end) == Some((start, end));
        if here {
            return Outcome::Waits;
        }
        if start < self.next || self.reassembly.duplicate(start, end).is_some() {
            return Outcome::Broken;
        }
        let places = &mut cx.out.outputs.places;
        let before = places.len();
        self.next = self.reassembly.take(self.next, (start, end), ISLANDS - 1, |from, to| {
            places.push(Place {
                of: u64::from(number),
                at: from,
                segment: index,
                skip: (from - start) as u32,
                length: (to - from) as u32,
                source: Source::Segment,
                target: Target::Hold,
            });
        });
        if !fragment.more && places.len() > before {
            self.length = Some(end as u32);
        }
        match self.length {
            Some(whole) if self.next == u64::from(whole) => Outcome::Whole(whole),
            _ => Outcome::Waits,
        }
    }
}

/// RFC 8200 4.5: all but the last are multiples of eight. RFC 3128: the first one holds the whole transport header,
/// and none begins inside of it.
fn is_sane(fragment: &Fragment, length: u32) -> bool {
    let whole_units = !fragment.more || length.is_multiple_of(8);
    let tcp = fragment.protocol == protocol::TCP;
    let header = if tcp { u32::from(crate::header::tcp::HEADER) } else { 8 };
    let first = fragment.offset > 0 || length >= header;
    let later = fragment.offset == 0 || fragment.offset >= header;
    length > 0 && whole_units && first && later
}
