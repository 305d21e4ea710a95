//! Congestion control: how the window grows with what is delivered, and how far it falls on congestion. What counts
//! as congestion, and how the reduction is spread over a round trip, is decided outside (PRR).

mod bbr;
mod cubic;
mod hystart;
mod hystart_linux;
mod reno;

use alloc::boxed::Box;

use bulkhead_wit::types::Time;

pub(super) use self::bbr::Heard;

use self::bbr::Bbr;
use self::cubic::Cubic;
use self::reno::Reno;
use super::api::Algorithm;
use super::limits::CWND;
use crate::save::codec::{Writer, put, take};

/// The congestion window and its threshold, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub(super) cwnd: u64,
    /// `u64::MAX` until the first congestion.
    pub(super) ssthresh: u64,
    pub(super) mss: u64,
}

impl Window {
    pub(super) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// RFC 5681 3.1 slow start: the window grows by what arrived, up to the threshold; what is left of `acked`.
    /// RFC 5681 allows at most an SMSS per acknowledgement as a guard against bursts and against acknowledgements
    /// split by the receiver. Counting bytes guards against the second (RFC 3465), pacing against the first.
    fn slow_start(&mut self, acked: u64) -> u64 {
        let grown = self.cwnd.saturating_add(acked).min(self.ssthresh).min(CWND);
        let left = acked - (grown - self.cwnd.min(grown)).min(acked);
        self.cwnd = self.cwnd.max(grown);
        left
    }

    fn add(&mut self, bytes: u64) {
        self.cwnd = self.cwnd.saturating_add(bytes).min(CWND);
    }

    /// Whether it can be one of ours.
    fn is_sound(&self) -> bool {
        self.mss > 0 && self.mss <= 0xffff && self.cwnd <= CWND.max(self.mss)
    }
}

/// What an acknowledgement outside of recovery tells the control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) now: Time,
    /// Offsets newly delivered.
    pub(super) delivered: u64,
    /// SND.UNA and SND.NXT, after it.
    pub(super) una: u64,
    pub(super) end: u64,
    /// SRTT, or 0 before the first sample.
    pub(super) srtt: Time,
    /// The sample of this acknowledgement.
    pub(super) rtt: Option<Time>,
    /// Whether the window was what held the sender back (RFC 7661); without, it does not grow.
    pub(super) limited: bool,
}

/// The congestion controls. BBR, which sets window and rate by a model of the path, is told of every acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Control {
    Cubic(Cubic),
    Reno(Reno),
    Bbr(Box<Bbr>),
}

impl Control {
    /// `linux`: with Linux's `HyStart`.
    pub(super) fn new(algorithm: Algorithm, linux: bool) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(linux)),
            Algorithm::Reno => Self::Reno(Reno::default()),
            Algorithm::Bbr => Self::Bbr(Box::default()),
        }
    }

    /// Data was delivered outside of recovery.
    pub(super) fn grow(&mut self, window: &mut Window, growth: &Growth) {
        match self {
            Self::Cubic(cubic) => cubic.grow(window, growth),
            Self::Reno(reno) if growth.limited => reno.grow(window, growth.delivered),
            Self::Reno(_) | Self::Bbr(_) => {}
        }
    }

    /// Whether the window is the control's own affair, in recovery and after idleness too; else the common rules hold.
    pub(super) fn is_by_model(&self) -> bool {
        matches!(self, Self::Bbr(_))
    }

    /// An acknowledgement arrived, in whatever phase.
    pub(super) fn hear(&mut self, window: &mut Window, heard: &Heard) {
        if let Self::Bbr(bbr) = self {
            bbr.on_ack(window, heard);
        }
    }

    /// A timer took data for lost.
    pub(super) fn on_lost(&mut self, bytes: u64) {
        if let Self::Bbr(bbr) = self {
            bbr.on_lost(bytes);
        }
    }

    /// Bytes per second to be paced at, where the control says so.
    pub(super) fn pacing_rate(&self) -> Option<u64> {
        if let Self::Bbr(bbr) = self { bbr.pacing_rate() } else { None }
    }

    /// Congestion: the new slow start threshold.
    pub(super) fn reduce(&mut self, window: &Window) -> u64 {
        match self {
            Self::Cubic(cubic) => cubic.reduce(window),
            Self::Reno(reno) => reno.reduce(window),
            Self::Bbr(bbr) => bbr.reduce(window),
        }
    }

    /// The retransmission timer expired, after [`reduce`](Self::reduce).
    pub(super) fn timed_out(&mut self) {
        match self {
            Self::Cubic(cubic) => cubic.timed_out(),
            Self::Reno(_) | Self::Bbr(_) => {}
        }
    }

    /// Nothing was in flight for `idle`; sending starts again.
    pub(super) fn restart(&mut self, idle: Time) {
        match self {
            Self::Cubic(cubic) => cubic.restart(idle),
            Self::Reno(_) => {}
            Self::Bbr(bbr) => bbr.restart(),
        }
    }

    pub(super) fn save(&self, out: &mut Writer) {
        match self {
            Self::Cubic(cubic) => {
                put(&0_u8, out);
                cubic.save(out);
            }
            Self::Reno(reno) => {
                put(&1_u8, out);
                put(reno, out);
            }
            Self::Bbr(bbr) => {
                put(&2_u8, out);
                put(&**bbr, out);
            }
        }
    }
    pub(super) fn load(from: &mut &[u8]) -> Option<Self> {
        match take::<u8>(from)? {
            0 => Cubic::load(from).map(Self::Cubic),
            1 => take(from).map(Self::Reno),
            2 => take(from).map(|bbr| Self::Bbr(Box::new(bbr))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5681_3_1_slow_start_ends_at_the_threshold() {
        let mut window = Window { cwnd: 10_000, ssthresh: 12_000, mss: 1000 };
        assert_eq!(window.slow_start(1000), 0);
        assert_eq!(window.cwnd, 11_000);
        assert_eq!(window.slow_start(3000), 2000);
        assert_eq!(window.cwnd, 12_000);
        assert!(!window.in_slow_start());
    }
}

crate::save::codec::fixed! {
    Window { cwnd, ssthresh, mss } (Window::is_sound)
}
