//! BBR version 3 (draft-ietf-ccwg-bbr-02): a model of the path from what was delivered, in place of a window that loss
//! cuts. How fast: the highest delivery rate of the last two cycles, less where losses said so. How much: as fits the
//! path at that rate and the smallest round trip, less where losses or a probe said so.
//!
//! `model` has the estimates, `cycle` the states and what they ask for; here is the order of things. Numbers are integers:
//! gains in percent, rates in bytes a second.
//!
//! Departures, each for want of something in this core: loss is looked at once a round trip and not per segment (the
//! scoreboard merges runs); times between probes come from the state's own numbers, since the core has no randomness.

mod cycle;
mod model;

use bulkhead_wit::limits::MILLISECOND;
use bulkhead_wit::types::Time;

use self::cycle::{Cycle, State};
use self::model::Model;
use super::super::limits::CWND;
use super::super::rate::Sample;
use super::Window;

/// BBR.MinPipeCwnd: segments that keep the acknowledgements coming.
const PIPE_MIN: u64 = 4;
/// The pacing rate before anything was measured is for a round trip of this length.
const RTT_UNKNOWN: Time = MILLISECOND;
/// Bytes paced in a time, of which this share in percent is used, so that a full queue drains (BBR.PacingMargin).
const MARGIN: u64 = 99;

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Heard {
    pub(in super::super) now: Time,
    /// Offsets newly delivered, and newly taken for lost.
    pub(in super::super) delivered: u64,
    pub(in super::super) lost: u64,
    /// Offsets delivered in all.
    pub(in super::super) total: u64,
    /// In flight, after it.
    pub(in super::super) in_flight: u64,
    /// The round trip that it sampled.
    pub(in super::super) rtt: Option<Time>,
    /// The delivery rate that it sampled.
    pub(in super::super) rate: Option<Sample>,
    /// Fast recovery or the time after a timeout.
    pub(in super::super) recovering: bool,
}

/// The state of one connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct Bbr {
    model: Model,
    cycle: Cycle,
    /// Bytes per second; 0 before anything was measured.
    pacing_rate: u64,
    /// The initial window, for the first rate.
    initial: u64,
}

impl Bbr {
    /// An acknowledgement arrived, in whatever phase of recovery.
    pub(in super::super) fn on_ack(&mut self, window: &mut Window, heard: &Heard) {
        if self.initial == 0 {
            self.initial = window.cwnd;
        }
        let is_round = self.model.hear(heard, window);
        self.cycle.advance(&mut self.model, window, heard, is_round);
        if is_round {
            self.model.begin_round(heard.total);
        }
        self.pace(heard);
        self.set_window(window, heard);
    }

    /// Data was taken for lost outside of an acknowledgement.
    pub(in super::super) fn on_lost(&mut self, bytes: u64) {
        self.model.lose(bytes);
    }

    /// Bytes per second to be paced at; `None` before the first round trip.
    pub(in super::super) fn pacing_rate(&self) -> Option<u64> {
        (self.pacing_rate > 0).then_some(self.pacing_rate)
    }

    /// BBR does not answer losses with a window of its own choice; the window before them comes back when they are repaired.
    pub(super) fn reduce(&self, window: &Window) -> u64 {
        window.cwnd.max(PIPE_MIN * window.mss)
    }

    /// Sending begins again after idleness: at the rate of the path, not faster (BBRHandleRestartFromIdle).
    pub(super) fn restart(&mut self) {
        if self.cycle.is_probing_bandwidth() {
            self.pacing_rate = self.model.bandwidth() * MARGIN / 100;
        }
    }

    /// BBRSetPacingRate: until the pipe was full once the rate only grows.
    fn pace(&mut self, heard: &Heard) {
        let gain = self.cycle.pacing_gain();
        let bandwidth = match self.model.bandwidth() {
            0 => {
                let rtt = heard.rtt.unwrap_or(RTT_UNKNOWN).max(RTT_UNKNOWN);
                self.initial.saturating_mul(bulkhead_wit::limits::SECOND) / rtt
            }
            bandwidth => bandwidth,
        };
        let rate = bandwidth.saturating_mul(gain) / 100 * MARGIN / 100;
        if self.cycle.was_full() || rate > self.pacing_rate {
            self.pacing_rate = rate.max(1);
        }
    }

    /// BBRSetCwnd.
    fn set_window(&mut self, window: &mut Window, heard: &Heard) {
        let least = PIPE_MIN * window.mss;
        let most = self.model.inflight(self.cycle.window_gain(), window.mss)
            + self.model.extra_acked()
            + 3 * self.quantum(window.mss);
        let grown = window.cwnd.saturating_add(heard.delivered);
        if self.cycle.was_full() {
            window.cwnd = grown.min(most);
        } else if window.cwnd < most || heard.total < self.initial {
            window.cwnd = grown;
        }
        if heard.recovering && heard.lost > 0 {
            window.cwnd = window.cwnd.saturating_sub(heard.lost).max(heard.in_flight + heard.delivered);
        }
        if self.cycle.state() == State::ProbeRtt {
            let half = self.model.inflight(50, window.mss).max(least);
            window.cwnd = window.cwnd.min(half);
        }
        window.cwnd = window.cwnd.min(self.cycle.cap(&self.model, window.mss).max(least)).clamp(least, CWND);
    }

    /// BBR.send_quantum: a millisecond's worth, two segments at the least.
    fn quantum(&self, mss: u64) -> u64 {
        (self.pacing_rate / 1000).clamp(2 * mss, super::super::limits::SUPER_SEGMENT.max(2 * mss))
    }
}

crate::save::codec::fixed! {
    Bbr { model, cycle, pacing_rate, initial }
}

#[cfg(test)]
mod tests;
