//! Send-side recovery: everything between "an acceptable acknowledgement arrived" and "this range may be sent now,
//! and the next loss timer is then".
//!
//! The caller asks [`Recovery::next`] until it says [`Next::Wait`], tells [`Recovery::on_sent`] what it sent,
//! [`Recovery::on_ack`] what was acknowledged, and calls [`Recovery::on_timer`] at [`Recovery::next_deadline`].
//! SYN and FIN take an offset each and are sent, timed and retransmitted like bytes.
//! The persist timer, keepalive, Nagle and the limit of retries are the caller's.
//!
//! The rooms, in the order in which an acknowledgement passes them:
//! `arrive` (the order of things), `scoreboard` (what is in flight), `rate` and `rtt` (measured), `rack`, `newreno` and
//! `tlp` (what is lost), `undo` (what was not), `prr` and `congestion` (the window), `usage` (whether it is needed);
//! then `send` with `pacing` (what may leave) and `timer`.

mod api;
mod arrive;
mod congestion;
pub mod limits;
mod maybe;
mod newreno;
mod pacing;
mod prr;
mod rack;
mod rate;
mod report;
mod rtt;
mod scoreboard;
mod send;
#[cfg(test)]
mod tests;
mod timer;
mod tlp;
mod traits;
mod undo;
mod usage;

use alloc::boxed::Box;

use bulkhead_wit::types::Time;

pub use api::{
    Ack, Acked, Algorithm, Next, Parameters, Purpose, Reason, Span, Supply, TimerAction, Transmit,
};
pub use limits::SUPER_SEGMENT;

use congestion::{Control, Window};
pub(crate) use maybe::Maybe;
use newreno::NewReno;
use pacing::{Pacing, Speed};
use prr::Prr;
use rack::{Echo, Path, Rack};
use rate::Rate;
use report::{Busy, Counters};
use rtt::Rtt;
use scoreboard::{Fate, Scoreboard};
use tlp::Tlp;
use traits::Traits;
use undo::{Frto, Undo};
use usage::Usage;

/// What the sender is doing about congestion; the numbers are those of `ca-state` in the registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug, Default)]
enum Phase {
    /// Nothing is wrong.
    #[default]
    Open = 0,
    /// Something arrived out of order, or a duplicate acknowledgement came.
    Disorder = 1,
    /// The window is being reduced since the network said so (ECN).
    Reduced = 2,
    /// Fast recovery.
    Recovery = 3,
    /// After a retransmission timeout.
    Loss = 4,
}

/// The send-side recovery state of one connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    traits: Traits,
    window: Window,
    control: Control,
    board: Scoreboard,
    rtt: Rtt,
    rack: Rack,
    tlp: Tlp,
    newreno: NewReno,
    prr: Prr,
    undo: Option<Box<Undo>>,
    frto: Frto,
    phase: Phase,
    pacing: Pacing,
    rate: Rate,
    usage: Usage,
    /// The phase ends when this offset is acknowledged (RFC 6675 `RecoveryPoint`).
    recover: u64,
    /// When the retransmission timer is due.
    rto_at: Maybe,
    /// The window was reduced since the last acknowledgement.
    reduced: bool,
    /// Retransmission timeouts in a row.
    timeouts: u32,
    /// When the oldest data was sent, or SND.UNA advanced last.
    progress_at: Time,
    /// Idleness is counted from here.
    idle_from: Time,
    counters: Counters,
    busy: Busy,
}

impl Recovery {
    /// Pieces of what is outstanding, as they differ in what is believed of them.
    pub fn pieces(&self) -> usize {
        self.board.runs().len()
    }

    /// Something of each part of it.
    #[inline]
    pub fn glance(&self) -> u64 {
        self.board.una()
            ^ u64::from(self.traits.rto_min_us)
            ^ self.window.cwnd
            ^ self.recover
            ^ self.progress_at
            ^ u64::from(self.timeouts)
            ^ u64::from(self.rack.timer.is_some())
            ^ u64::from(self.pacing.timer.is_some())
    }

    /// Whether memory for more pieces is short from now on: then what is sent goes with what was sent last, and no acknowledgement
    /// cuts it. No part of the state.
    pub fn tighten(&mut self, is_tight: bool) {
        self.board.tighten(is_tight);
    }

    /// State for a connection of which nothing was sent; offset 0 is its SYN.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        let mss = u64::from(parameters.mss.clamp(1, 0xffff));
        let mut recovery = Self {
            traits: Traits::new(&parameters),
            window: Window { cwnd: mss, ssthresh: u64::MAX, mss },
            control: Control::new(parameters.algorithm, parameters.linux),
            board: Scoreboard::default(),
            rtt: Rtt::default(),
            rack: Rack::default(),
            tlp: Tlp::default(),
            newreno: NewReno::default(),
            prr: Prr::default(),
            undo: None,
            frto: Frto::Off,
            phase: Phase::Open,
            pacing: Pacing::default(),
            rate: Rate::default(),
            usage: Usage::default(),
            recover: 0,
            rto_at: Maybe::NONE,
            reduced: false,
            timeouts: 0,
            progress_at: 0,
            idle_from: 0,
            counters: Counters::default(),
            busy: Busy::default(),
        };
        recovery.window.cwnd = recovery.initial_window();
        recovery
    }

    /// The handshake agreed on these: to be called before the SYN's acknowledgement is given to
    /// [`on_ack`](Self::on_ack).
    pub fn negotiated(&mut self, mss: u32, sack: bool, timestamps: bool) {
        self.traits.sack = sack;
        self.traits.timestamps = timestamps;
        self.mss_changed(mss);
        self.window.cwnd = self.initial_window();
    }

    /// The SYN was sent and acknowledged without being timed: a connection out of a SYN cookie. Only at the start,
    /// after [`negotiated`](Self::negotiated).
    pub fn established(&mut self, now: Time) {
        if self.board.end() == 0 {
            self.board = Scoreboard::starting_at(1);
            (self.progress_at, self.idle_from) = (now, now);
        }
    }

    /// Segments are cut at this size from now on: path MTU discovery (RFC 1191, RFC 8201) or `maxseg`.
    pub fn mss_changed(&mut self, mss: u32) {
        self.window.mss = u64::from(mss.clamp(1, 0xffff));
    }

    /// Takes over what may change while a connection lives: the congestion control, the smallest retransmission
    /// timeout (from the next arming of the timer on), pacing and its limit. The window stays.
    pub fn reconfigure(&mut self, parameters: &Parameters) {
        if parameters.algorithm != self.traits.algorithm {
            self.control = Control::new(parameters.algorithm, parameters.linux);
            self.undo = None;
        }
        let Traits { initial_window, sack, timestamps, .. } = self.traits;
        self.traits = Traits { initial_window, sack, timestamps, ..Traits::new(parameters) };
    }

    /// What was sent first is to be sent again soon, unless that was tried already.
    pub fn hasten(&mut self, now: Time) {
        if self.timeouts == 0 && self.rto_at.is_some() {
            self.rto_at = Maybe::some(now.saturating_add(limits::PROBE_SLACK));
        }
    }

    /// What is in flight was too big for the path (ICMP: fragmentation needed): it is sent again at the new size,
    /// without a reduction of the congestion window, since nothing was lost to congestion (RFC 1191 section 6.5).
    /// To be called after [`mss_changed`](Self::mss_changed).
    pub fn too_big(&mut self, now: Time) {
        if self.board.outstanding() == 0 || self.board.una() == 0 {
            return;
        }
        self.board.mark_lost(|_| true);
        self.tlp.cancel();
        self.rack.timer = Maybe::NONE;
        if self.phase < Phase::Recovery {
            // A recovery without a reduction: the window stays what it is until all of it is acknowledged.
            self.phase = Phase::Loss;
            self.recover = self.board.end();
            self.undo = None;
            self.frto = Frto::Off;
        }
        self.newreno.reset(self.board.end());
        self.rto_at = self.rto_from(now);
    }

    /// IW of RFC 6928: 10 segments whatever their size, as Linux.
    fn initial_window(&self) -> u64 {
        (self.window.mss * u64::from(self.traits.initial_window.max(1))).min(limits::CWND)
    }

    /// When the retransmission timer is due that is started now.
    fn rto_from(&self, now: Time) -> Maybe {
        Maybe::some(now.saturating_add(self.rto()))
    }

    /// Congestion: a new threshold.
    fn reduce(&mut self) {
        self.window.ssthresh = self.control.reduce(&self.window);
        self.reduced = true;
    }

    /// What RACK looks at.
    fn path(&self, now: Time) -> Path {
        Path {
            now,
            min_rtt: self.rtt.min(),
            srtt: self.rtt.srtt(),
            mss: self.window.mss,
            recovering: self.phase >= Phase::Recovery,
        }
    }

    fn speed(&self) -> Speed {
        let most = self.traits.max_pacing_rate;
        if let Some(rate) = self.control.pacing_rate() {
            return Speed::at(if most == 0 { rate } else { rate.min(most) });
        }
        let srtt = self.rtt.srtt().filter(|_| self.traits.pacing);
        Speed::new(&self.window, srtt, self.rtt.min(), self.traits.max_pacing_rate)
    }

    fn echo(&self, at: Option<Time>) -> Echo {
        Echo { at: at.filter(|_| self.traits.timestamps), tick: self.traits.tick() }
    }

    /// Whether there is something to send that the caller does not know of: lost data, or a probe that is due.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.board.lost() > 0 || self.tlp.pending
    }

    /// SND.UNA as an offset.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.board.una()
    }
    /// SND.NXT as an offset: one past the last offset ever sent.
    #[must_use]
    pub fn sent_end(&self) -> u64 {
        self.board.end()
    }
    /// Bytes that are in the network, estimated (the `pipe` of RFC 6675).
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.board.pipe().saturating_sub(self.newreno.arrived())
    }
    /// Bytes of payload in a full segment.
    #[must_use]
    pub fn mss(&self) -> u32 {
        self.window.mss as u32
    }
    /// The congestion window in bytes.
    #[must_use]
    pub fn cwnd(&self) -> u64 {
        self.window.cwnd
    }
    /// The slow start threshold in bytes; `u64::MAX` before the first congestion.
    #[must_use]
    pub fn ssthresh(&self) -> u64 {
        self.window.ssthresh
    }
    /// The retransmission timeout, backed off.
    #[must_use]
    pub fn rto(&self) -> Time {
        self.rtt.rto(self.traits.rto_min())
    }
    /// The smoothed round-trip time, once there is one.
    #[must_use]
    pub fn srtt(&self) -> Option<Time> {
        self.rtt.srtt()
    }
    /// The smallest round-trip time of the last minutes, once there is one.
    #[must_use]
    pub fn min_rtt(&self) -> Option<Time> {
        self.rtt.min()
    }
    /// Retransmission timeouts in a row without progress.
    #[must_use]
    pub fn timeouts(&self) -> u32 {
        self.timeouts
    }
    /// Since when the oldest data waits: its first transmission, or the last progress if that was later
    /// (for the user timeout). None with nothing in flight.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Time> {
        (self.board.outstanding() > 0).then_some(self.progress_at)
    }
}
