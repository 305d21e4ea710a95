//! What people see of recovery, and its saved form.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulkhead_wit::registry::info;
use bulkhead_wit::types::Time;

use super::codec::{put, take, take_bool, take_u32};
use super::congestion::{Control, Window};
use super::limits::DUP_THRESH;
use super::maybe::Maybe;
use super::newreno::NewReno;
use super::pacing::Pacing;
use super::prr::Prr;
use super::rack::Rack;
use super::rate::Rate;
use super::rtt::Rtt;
use super::scoreboard::Scoreboard;
use super::tlp::Tlp;
use super::traits::Traits;
use super::undo::{Frto, Undo};
use super::usage::Usage;
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

    /// Appends the canonical encoding of the state.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.traits.save(out);
        self.window.save(out);
        self.control.save(out);
        self.board.save(out);
        self.rtt.save(out);
        self.rack.save(out);
        self.tlp.save(out);
        self.newreno.save(out);
        self.prr.save(out);
        self.pacing.save(out);
        self.rate.save(out);
        self.usage.save(out);
        put(out, u64::from(self.undo.is_some()));
        if let Some(undo) = &self.undo {
            undo.save(out);
        }
        put(out, self.frto as u64);
        put(out, self.phase as u64);
        put(out, self.recover);
        self.rto_at.save(out);
        put(out, u64::from(self.reduced));
        put(out, u64::from(self.timeouts));
        put(out, self.progress_at);
        put(out, self.idle_from);
        let counters = &self.counters;
        put(out, counters.resent_segments);
        put(out, u64::from(counters.dsacks));
        put(out, u64::from(counters.undone));
        self.busy.since.save(out);
        self.busy.blocked_since.save(out);
        put(out, self.busy.total);
        put(out, self.busy.blocked);
    }

    /// Takes a state off the front of `from`; None when it is not one that [`save`](Self::save) wrote.
    #[must_use]
    pub fn load(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            traits: Traits::load(from)?,
            window: Window::load(from)?,
            control: Control::load(from)?,
            board: Scoreboard::load(from)?,
            rtt: Rtt::load(from)?,
            rack: Rack::load(from)?,
            tlp: Tlp::load(from)?,
            newreno: NewReno::load(from)?,
            prr: Prr::load(from)?,
            pacing: Pacing::load(from)?,
            rate: Rate::load(from)?,
            usage: Usage::load(from)?,
            undo: if take_bool(from)? { Some(Box::new(Undo::load(from)?)) } else { None },
            frto: Frto::load(from)?,
            phase: load_phase(from)?,
            recover: take(from)?,
            rto_at: Maybe::load(from)?,
            reduced: take_bool(from)?,
            timeouts: take_u32(from)?,
            progress_at: take(from)?,
            idle_from: take(from)?,
            counters: Counters {
                resent_segments: take(from)?,
                dsacks: take_u32(from)?,
                undone: take_u32(from)?,
            },
            busy: Busy {
                since: Maybe::load(from)?,
                blocked_since: Maybe::load(from)?,
                total: take(from)?,
                blocked: take(from)?,
            },
        })
    }
}

fn load_phase(from: &mut &[u8]) -> Option<Phase> {
    Some(match take(from)? {
        0 => Phase::Open,
        1 => Phase::Disorder,
        2 => Phase::Reduced,
        3 => Phase::Recovery,
        4 => Phase::Loss,
        _ => return None,
    })
}
