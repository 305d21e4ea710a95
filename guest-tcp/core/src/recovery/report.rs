//! What people see of recovery, and its saved form.

use alloc::boxed::Box;

use bulkhead_wit::registry::info;
use bulkhead_wit::types::Time;

use crate::save::codec::{self, Fixed, Writer};

use super::congestion::Control;
use super::limits::DUP_THRESH;
use super::maybe::Maybe;
use super::undo::Undo;
use super::{Phase, Recovery};

/// What is only counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Counters {
    pub(super) resent_segments: u64,
    pub(super) dsacks: u32,
    pub(super) undone: u32,
}

/// How long data was outstanding, and how long the peer's window was in the way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Busy {
    since: Maybe,
    blocked_since: Maybe,
    total: Time,
    blocked: Time,
}

impl Busy {
    pub(super) fn update(&mut self, now: Time, busy: bool) {
        switch(&mut self.since, &mut self.total, now, busy);
    }
    pub(super) fn blocked_by_window(&mut self, now: Time, blocked: bool) {
        switch(&mut self.blocked_since, &mut self.blocked, now, blocked);
    }
}

fn switch(since: &mut Maybe, total: &mut Time, now: Time, on: bool) {
    match since.get() {
        Some(began) if !on => {
            *total = total.saturating_add(now.saturating_sub(began));
            *since = Maybe::NONE;
        }
        None if on => *since = Maybe::some(now),
        _ => {}
    }
}

fn total(since: Maybe, total: Time, now: Time) -> Time {
    total.saturating_add(since.get().map_or(0, |since| now.saturating_sub(since)))
}

impl Recovery {
    /// Fills in the fields of [`bulkhead_wit::registry::info`] that are known here, at their own indices; fields
    /// beyond the slice are left out.
    pub fn info(&self, now: Time, fields: &mut [u64]) {
        let mss = self.window.mss;
        let mut set = |key: u16, value: u64| {
            if let Some(field) = fields.get_mut(usize::from(key)) {
                *field = value;
            }
        };
        set(info::CA_STATE, self.phase as u64);
        set(info::SND_MSS, mss);
        set(info::RTO, self.rto());
        set(info::RTT, self.rtt.srtt().unwrap_or(0));
        set(info::RTTVAR, self.rtt.var());
        set(info::MIN_RTT, self.rtt.min().unwrap_or(0));
        set(info::CWND, self.window.cwnd / mss);
        let threshold = self.window.ssthresh;
        set(info::SSTHRESH, if threshold == u64::MAX { u64::MAX } else { threshold / mss });
        set(info::UNACKED, self.board.outstanding().div_ceil(mss));
        set(info::SACKED, (self.board.sacked() + self.newreno.arrived()).div_ceil(mss));
        set(info::LOST, self.board.lost().div_ceil(mss));
        set(info::RETRANS, self.board.resent().div_ceil(mss));
        set(info::TOTAL_RETRANS, self.counters.resent_segments);
        set(info::REORDERING, self.rack.degree().div_ceil(mss).max(DUP_THRESH));
        set(info::REORD_SEEN, self.rack.reorderings());
        set(info::BACKOFF, u64::from(self.rtt.backoff()));
        set(info::DELIVERED, self.rate.delivered().div_ceil(mss));
        set(info::PACING_RATE, self.speed().bytes_per_second());
        set(info::DELIVERY_RATE, self.rate.bytes_per_second());
        set(info::BUSY_TIME, total(self.busy.since, self.busy.total, now));
        set(info::RWND_LIMITED, total(self.busy.blocked_since, self.busy.blocked, now));
        set(info::DSACK_DUPS, u64::from(self.counters.dsacks));
        set(info::BYTES_ACKED, self.board.una().saturating_sub(1));
        set(info::UNDONE, u64::from(self.counters.undone));
    }
}

/// Saving and loading: one block of the fields named here, then those that vary in length.
macro_rules! state {
    ($($field:ident),* $(,)?) => {
        impl Recovery {
            /// Appends the canonical encoding of the state.
            pub(crate) fn save(&self, out: &mut Writer) {
                const WIDTH: usize = 0 $(+ codec::width(|of: &Recovery| &of.$field))*;
                let Self { control, board, undo, $($field),* } = self;
                codec::append(WIDTH, out, |to| {
                    $($field.put(to);)*
                });
                control.save(out);
                board.save(out);
                codec::put(&undo.is_some(), out);
                if let Some(undo) = undo {
                    undo.save(out);
                }
            }

            /// Takes a state off the front of `from`, in the place of this one; `None` when it is not one that
            /// [`save`](Self::save) wrote, and then this one is none either.
            pub(crate) fn refill(&mut self, from: &mut &[u8]) -> Option<()> {
                const WIDTH: usize = 0 $(+ codec::width(|of: &Recovery| &of.$field))*;
                let mut block = codec::block(WIDTH, from)?;
                let Self { control, board, undo, $($field),* } = self;
                $(*$field = Fixed::take(&mut block)?;)*
                *control = Control::load(from)?;
                board.refill(from)?;
                *undo = if codec::take(from)? { Some(Box::new(Undo::load(from)?)) } else { None };
                Some(())
            }
        }
    };
}

#[cfg(test)]
impl Recovery {
    /// The canonical encoding of the state.
    pub(super) fn saved(&self) -> alloc::vec::Vec<u8> {
        let mut out = Writer::default();
        self.save(&mut out);
        out.finish()
    }

    /// A state out of its encoding, over one that has nothing to do with it.
    pub(super) fn loaded(mut from: &[u8]) -> Option<Self> {
        let mut recovery = Self::new(super::Parameters { mss: 77, ..super::Parameters::default() });
        recovery.on_sent(9, super::Span::new(0, 1));
        recovery.refill(&mut from)?;
        from.is_empty().then_some(recovery)
    }
}

state! {
    traits, window, rtt, rack, tlp, newreno, prr, frto, phase, pacing, rate, usage, recover, rto_at, reduced, timeouts,
    progress_at, idle_from, counters, busy,
}

codec::numbered! {
    Phase { 0 = Open, 1 = Disorder, 2 = Reduced, 3 = Recovery, 4 = Loss }
}

codec::fixed! {
    Counters { resent_segments, dsacks, undone }
    Busy { since, blocked_since, total, blocked }
}
