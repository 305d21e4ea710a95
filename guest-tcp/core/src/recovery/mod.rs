//! Send-side recovery: everything between "an acceptable acknowledgement arrived" and "this range may be sent now,
//! and the next loss timer is then".
//!
//! The caller asks [`Recovery::next`] until it says [`Next::Wait`], tells [`Recovery::on_sent`] what it sent,
//! [`Recovery::on_ack`] what was acknowledged, and calls [`Recovery::on_timer`] at [`Recovery::next_deadline`].
//! SYN and FIN take an offset each and are sent, timed and retransmitted like bytes.
//! The persist timer, keepalive and the limit of retries are the caller's.

mod api;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bulkhead_wit::limits::SECOND;
use bulkhead_wit::registry::info;
use bulkhead_wit::types::Time;

pub use api::{
    Ack, Acked, Algorithm, Next, Parameters, Purpose, Reason, Span, Supply, TimerAction, Transmit,
};
use api::{put, take};

/// The most bytes that one [`Transmit`] covers.
pub const SUPER_SEGMENT: u64 = 65_535 - 120;
/// The retransmission timeout before the first sample (RFC 6298 2.1).
const RTO_INITIAL: Time = SECOND;
/// The largest retransmission timeout (RFC 6298 2.5 permits 60 s or more; Linux: 120 s).
const RTO_MAX: Time = 120 * SECOND;

/// A range in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    end: u64,
    sent_at: Time,
    again: bool,
}

/// The send-side recovery state of one connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    parameters: Parameters,
    una: u64,
    sent_end: u64,
    /// Offsets below this are to be retransmitted, from `resend_from` on.
    resend_to: u64,
    resend_from: u64,
    recover: u64,
    runs: VecDeque<Run>,
    cwnd: u64,
    ssthresh: u64,
    srtt: Time,
    rttvar: Time,
    rto: Time,
    timeouts: u32,
    duplicates: u32,
    timer: Option<Time>,
    progress_at: Time,
    retransmitted: u64,
}

impl Recovery {
    /// State for a connection of which nothing was sent; offset 0 is its SYN.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        let cwnd = u64::from(parameters.mss) * u64::from(parameters.initial_window);
        Self {
            parameters,
            una: 0,
            sent_end: 0,
            resend_to: 0,
            resend_from: 0,
            recover: 0,
            runs: VecDeque::new(),
            cwnd,
            ssthresh: u64::MAX,
            srtt: 0,
            rttvar: 0,
            rto: RTO_INITIAL,
            timeouts: 0,
            duplicates: 0,
            timer: None,
            progress_at: 0,
            retransmitted: 0,
        }
    }

    /// The handshake agreed on these: to be called before the SYN's acknowledgement is given to
    /// [`on_ack`](Self::on_ack).
    pub fn negotiated(&mut self, mss: u32, sack: bool, timestamps: bool) {
        self.parameters.sack = sack;
        self.parameters.timestamps = timestamps;
        self.parameters.mss = mss.max(1);
        self.cwnd = u64::from(self.parameters.mss) * u64::from(self.parameters.initial_window);
    }

    /// Segments are cut at this size from now on: path MTU discovery (RFC 1191, RFC 8201) or `maxseg`.
    pub fn mss_changed(&mut self, mss: u32) {
        self.parameters.mss = mss.max(1);
    }

    /// What is in flight was too big for the path (ICMP: fragmentation needed): it is sent again at the new size,
    /// without a reduction of the congestion window. To be called after [`mss_changed`](Self::mss_changed).
    pub fn too_big(&mut self, now: Time) {
        let _ = now;
        self.resend_from = self.una;
        self.resend_to = self.sent_end;
    }

    /// `span` was handed to the device at `now`: a prefix of what [`next`](Self::next) offered (or of any such
    /// range: the SYN, a FIN). New data starts at [`sent_end`](Self::sent_end).
    pub fn on_sent(&mut self, now: Time, span: Span) {
        if span.start < self.sent_end {
            self.retransmitted += 1;
            self.resend_from = self.resend_from.max(span.end);
            for run in &mut self.runs {
                run.again = true;
            }
        } else {
            if self.una == self.sent_end {
                self.progress_at = now;
            }
            self.sent_end = span.end;
            self.runs.push_back(Run { end: span.end, sent_at: now, again: false });
        }
        self.timer.get_or_insert(now.saturating_add(self.rto));
    }

    /// An acceptable acknowledgement arrived.
    pub fn on_ack(&mut self, now: Time, ack: &Ack<'_>) -> Acked {
        let mut acked = Acked::default();
        if ack.to <= self.una {
            self.on_duplicate(now, ack, &mut acked);
            return acked;
        }
        let to = ack.to.min(self.sent_end);
        acked.advanced = to - self.una;
        acked.delivered = acked.advanced;
        self.una = to;
        self.progress_at = now;
        while let Some(run) = self.runs.front().filter(|run| run.end <= to) {
            if !run.again {
                acked.rtt = Some(now.saturating_sub(run.sent_at));
            }
            self.runs.pop_front();
        }
        if let Some(sample) = acked.rtt {
            self.sample(sample);
        }
        self.duplicates = 0;
        self.timeouts = 0;
        self.resend_from = self.resend_from.max(to);
        let mss = u64::from(self.parameters.mss);
        if to < self.recover {
            // RFC 6582 3.2 step 3: a partial acknowledgement means that the next hole is lost too.
            self.resend_from = to;
            self.resend_to = self.resend_to.max((to + mss).min(self.sent_end));
        } else if self.cwnd < self.ssthresh {
            self.cwnd += acked.advanced.min(mss); // RFC 5681 3.1
        } else {
            self.cwnd += (mss * mss / self.cwnd.max(1)).max(1);
        }
        self.timer = (self.una < self.sent_end).then(|| now.saturating_add(self.rto));
        acked
    }

    fn on_duplicate(&mut self, now: Time, ack: &Ack<'_>, acked: &mut Acked) {
        if ack.to < self.una || ack.carries || ack.window_changed || self.una == self.sent_end {
            return;
        }
        self.duplicates += 1;
        if self.duplicates == 3 && self.una >= self.recover {
            self.reduce();
            self.cwnd = self.ssthresh;
            acked.reduced = true;
            acked.lost = u64::from(self.parameters.mss).min(self.sent_end - self.una);
            self.resend_from = self.una;
            self.resend_to = self.una + acked.lost;
            self.timer = Some(now.saturating_add(self.rto));
        }
    }

    fn reduce(&mut self) {
        let mss = u64::from(self.parameters.mss);
        self.ssthresh = ((self.sent_end - self.una) / 2).max(2 * mss); // RFC 5681 (4)
        self.recover = self.sent_end;
    }

    /// RFC 6298 2.2 to 2.4.
    fn sample(&mut self, rtt: Time) {
        if self.srtt == 0 {
            self.srtt = rtt.max(1);
            self.rttvar = rtt / 2;
        } else {
            self.rttvar = self.rttvar / 4 * 3 + self.srtt.abs_diff(rtt) / 4;
            self.srtt = (self.srtt / 8 * 7 + rtt / 8).max(1);
        }
        self.rto = (self.srtt + (4 * self.rttvar).max(self.parameters.rto_min)).min(RTO_MAX);
    }

    /// The time came that [`next_deadline`](Self::next_deadline) named.
    pub fn on_timer(&mut self, now: Time) -> TimerAction {
        if self.timer.is_none_or(|at| at > now) {
            return TimerAction::Nothing;
        }
        self.timeouts += 1;
        self.rto = (self.rto * 2).min(RTO_MAX); // RFC 6298 5.5
        if self.timeouts == 1 {
            self.reduce();
        }
        self.cwnd = u64::from(self.parameters.mss);
        self.resend_from = self.una;
        self.resend_to = self.sent_end;
        self.timer = Some(now.saturating_add(self.rto));
        TimerAction::Timeout
    }

    /// When [`on_timer`](Self::on_timer) is to be called: the earliest of the reordering timer, the loss probe, the
    /// retransmission timeout and pacing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timer
    }

    /// What may be sent now: retransmissions first. Told nothing, it offers the same again.
    pub fn next(&mut self, now: Time, supply: &Supply) -> Next {
        let _ = now;
        let mss = u64::from(self.parameters.mss);
        let in_flight = self.in_flight();
        let room = if in_flight == 0 { self.cwnd.max(mss) } else { self.cwnd.saturating_sub(in_flight) };
        if self.resend_from < self.resend_to {
            if room < mss {
                return Next::Wait(Reason::Congestion);
            }
            let end = if self.resend_from == 0 { 1 } else { self.resend_to };
            let most = (room.min(SUPER_SEGMENT) / mss).max(1) * mss;
            let span = Span::new(self.resend_from, end.min(self.resend_from + most));
            return Next::Send(Transmit { span, purpose: Purpose::Retransmission });
        }
        if supply.end <= self.sent_end {
            return Next::Wait(Reason::Idle);
        }
        let mut length = supply.end.min(supply.window_end).saturating_sub(self.sent_end).min(SUPER_SEGMENT);
        if length == 0 {
            return Next::Wait(Reason::Window);
        }
        if length > room {
            length = room / mss * mss;
            if length == 0 {
                return Next::Wait(Reason::Congestion);
            }
        }
        if self.sent_end == 0 {
            length = 1;
        } else if length > mss && (!supply.small || self.sent_end + length < supply.end) {
            length = length / mss * mss;
        } else if length < mss && !supply.small {
            return Next::Wait(Reason::Idle);
        }
        let span = Span::new(self.sent_end, self.sent_end + length);
        Next::Send(Transmit { span, purpose: Purpose::New })
    }

    /// SND.UNA as an offset.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.una
    }
    /// SND.NXT as an offset: one past the last offset ever sent.
    #[must_use]
    pub fn sent_end(&self) -> u64 {
        self.sent_end
    }
    /// Bytes that are in the network, estimated (the `pipe` of RFC 6675).
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let lost = self.resend_to.saturating_sub(self.resend_from.max(self.una));
        (self.sent_end - self.una).saturating_sub(lost)
    }
    /// Bytes of payload in a full segment.
    #[must_use]
    pub fn mss(&self) -> u32 {
        self.parameters.mss
    }
    /// The congestion window in bytes.
    #[must_use]
    pub fn cwnd(&self) -> u64 {
        self.cwnd
    }
    /// The retransmission timeout, backed off.
    #[must_use]
    pub fn rto(&self) -> Time {
        self.rto
    }
    /// The smoothed round-trip time, once there is one.
    #[must_use]
    pub fn srtt(&self) -> Option<Time> {
        (self.srtt > 0).then_some(self.srtt)
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
        (self.una < self.sent_end).then_some(self.progress_at)
    }

    /// Fills in the fields of [`bulkhead_wit::registry::info`] that are known here, at their own indices; fields
    /// beyond the slice are left out.
    pub fn info(&self, now: Time, fields: &mut [u64]) {
        let _ = now;
        let mss = u64::from(self.parameters.mss);
        let mut set = |key: u16, value: u64| {
            if let Some(field) = fields.get_mut(usize::from(key)) {
                *field = value;
            }
        };
        set(info::SND_MSS, mss);
        set(info::RTO, self.rto);
        set(info::RTT, self.srtt);
        set(info::RTTVAR, self.rttvar);
        set(info::CWND, self.cwnd / mss);
        set(info::SSTHRESH, if self.ssthresh == u64::MAX { u64::MAX } else { self.ssthresh / mss });
        set(info::UNACKED, (self.sent_end - self.una).div_ceil(mss));
        set(info::BACKOFF, u64::from(self.timeouts));
        set(info::TOTAL_RETRANS, self.retransmitted);
    }

    /// Appends the canonical encoding of the state.
    pub fn save(&self, out: &mut Vec<u8>) {
        let p = &self.parameters;
        put(out, u64::from(p.mss));
        put(out, u64::from(p.initial_window));
        put(out, u64::from(p.algorithm == Algorithm::Reno));
        put(out, u64::from(p.sack) | u64::from(p.timestamps) << 1);
        for number in [p.rto_min, p.timestamp_tick, p.max_pacing_rate] {
            put(out, number);
        }
        for number in [self.una, self.sent_end, self.resend_from, self.resend_to, self.recover] {
            put(out, number);
        }
        for number in [self.cwnd, self.ssthresh, self.srtt, self.rttvar, self.rto] {
            put(out, number);
        }
        for number in [u64::from(self.timeouts), u64::from(self.duplicates), self.timer.unwrap_or(u64::MAX)] {
            put(out, number);
        }
        put(out, self.progress_at);
        put(out, self.retransmitted);
        put(out, self.runs.len() as u64);
        for run in &self.runs {
            put(out, run.end);
            put(out, run.sent_at);
            put(out, u64::from(run.again));
        }
    }

    /// Takes a state off the front of `from`; None when it is not one that [`save`](Self::save) wrote.
    #[must_use]
    pub fn load(from: &mut &[u8]) -> Option<Self> {
        let mss = u32::try_from(take(from)?).ok().filter(|&mss| mss > 0)?;
        let initial_window = u32::try_from(take(from)?).ok()?;
        let algorithm = if take(from)? == 1 { Algorithm::Reno } else { Algorithm::Cubic };
        let flags = take(from)?;
        let mut recovery = Self::new(Parameters {
            mss,
            initial_window,
            algorithm,
            sack: flags & 1 != 0,
            timestamps: flags & 2 != 0,
            rto_min: take(from)?,
            timestamp_tick: take(from)?,
            max_pacing_rate: take(from)?,
        });
        recovery.una = take(from)?;
        recovery.sent_end = take(from)?;
        recovery.resend_from = take(from)?;
        recovery.resend_to = take(from)?;
        recovery.recover = take(from)?;
        recovery.cwnd = take(from)?;
        recovery.ssthresh = take(from)?;
        recovery.srtt = take(from)?;
        recovery.rttvar = take(from)?;
        recovery.rto = take(from)?;
        recovery.timeouts = u32::try_from(take(from)?).ok()?;
        recovery.duplicates = u32::try_from(take(from)?).ok()?;
        recovery.timer = Some(take(from)?).filter(|&at| at != u64::MAX);
        recovery.progress_at = take(from)?;
        recovery.retransmitted = take(from)?;
        for _ in 0..take(from)? {
            recovery.runs.push_back(Run { end: take(from)?, sent_at: take(from)?, again: take(from)? != 0 });
        }
        (recovery.una <= recovery.sent_end).then_some(recovery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::limits::MILLISECOND;

    #[test]
    fn a_lost_segment_is_sent_again_after_the_timeout() {
        let mut recovery = Recovery::new(Parameters { mss: 1000, ..Parameters::default() });
        let supply = Supply { end: 3001, window_end: 60_000, small: true };
        assert_eq!(
            recovery.next(0, &supply),
            Next::Send(Transmit { span: Span::new(0, 1), purpose: Purpose::New })
        );
        recovery.on_sent(0, Span::new(0, 1));
        let acked = recovery.on_ack(10 * MILLISECOND, &Ack { to: 1, ..Ack::default() });
        assert_eq!(acked.rtt, Some(10 * MILLISECOND));
        let now = 20 * MILLISECOND;
        let Next::Send(transmit) = recovery.next(now, &supply) else { panic!("may send") };
        assert_eq!(transmit.span, Span::new(1, 3001));
        recovery.on_sent(now, transmit.span);
        assert_eq!(recovery.next(now, &supply), Next::Wait(Reason::Idle));
        let later = recovery.next_deadline().expect("armed");
        assert_eq!(recovery.on_timer(later), TimerAction::Timeout);
        let Next::Send(transmit) = recovery.next(later, &supply) else { panic!("may send again") };
        assert_eq!(transmit.purpose, Purpose::Retransmission);
        assert_eq!(transmit.span.start, 1);
        let mut saved = Vec::new();
        recovery.save(&mut saved);
        assert_eq!(Recovery::load(&mut saved.as_slice()), Some(recovery));
    }
}
