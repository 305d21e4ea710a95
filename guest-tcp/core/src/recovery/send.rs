//! What may be sent now, and what was sent.

use bulkhead_wit::types::Time;

use super::api::{Next, Purpose, Reason, Span, Supply, Transmit};
use super::limits::{BURST_SHARE, OUTSTANDING, SUPER_SEGMENT, UNPACED_SEGMENTS};
use super::maybe::Maybe;
use super::pacing::Speed;
use super::tlp::Tlp;
use super::undo::Frto;
use super::{Fate, Phase, Recovery, usage};

impl Recovery {
    /// What may be sent now: a probe that is due, then retransmissions, then new data, as far as the peer's window,
    /// the congestion window and pacing allow. Until [`on_sent`](Self::on_sent) is told, it offers the same again.
    pub fn next(&mut self, now: Time, supply: &Supply) -> Next {
        let next = self.choose(now, supply);
        let reason = match next {
            Next::Wait(reason) => Some(reason),
            Next::Send(_) => None,
        };
        self.busy.blocked_by_window(now, reason == Some(Reason::Window));
        match reason {
            Some(Reason::Idle) if self.in_flight() < self.window.cwnd => {
                self.rate.app_limited(self.in_flight())
            }
            Some(Reason::Congestion) => self.note_usage(now, true),
            _ => {}
        }
        next
    }

    fn choose(&mut self, now: Time, supply: &Supply) -> Next {
        self.pacing.timer = Maybe::NONE;
        if self.board.end() == 0 {
            return match supply.end {
                0 => Next::Wait(Reason::Idle),
                _ => send(Span::new(0, 1), Purpose::New),
            };
        }
        if self.board.una() == 0 && self.board.lost() == 0 {
            return Next::Wait(Reason::Idle); // no data before the SYN is acknowledged
        }
        if self.tlp.pending {
            match self.probe(supply) {
                Some(span) => return send(span, Purpose::Probe),
                None => self.tlp.pending = false,
            }
        }
        if matches!(self.frto, Frto::Probing | Frto::Probed) {
            // RFC 5682 step 2b: new data, if there is any; its fate tells more than a retransmission's.
            let new = self.new_data(now, supply);
            if matches!(new, Next::Send(_) | Next::Wait(Reason::Pacing)) || self.frto == Frto::Probed {
                return new;
            }
            self.frto = Frto::Off;
        }
        match self.board.first_lost(SUPER_SEGMENT) {
            Some(span) => self.retransmission(now, span, supply),
            None => self.new_data(now, supply),
        }
    }

    /// The congestion window's room. With nothing in flight a segment may always leave.
    fn room(&self) -> u64 {
        let (pipe, mss) = (self.in_flight(), self.window.mss);
        let room = self.window.cwnd.saturating_sub(pipe);
        if pipe == 0 { room.max(mss) } else { room }
    }

    /// `length` held to `room` and to `most` in full segments, or the reason why nothing is left of it.
    fn fit(&mut self, now: Time, length: u64) -> Result<u64, Reason> {
        let mss = self.window.mss;
        let room = self.room();
        if room < mss.min(length) {
            return Err(Reason::Congestion);
        }
        let unpaced = self.board.end() <= UNPACED_SEGMENTS * mss && self.traits.max_pacing_rate == 0;
        let quota = match unpaced {
            true => SUPER_SEGMENT,
            false => self.pacing.quota(now, self.speed(), mss).ok_or(Reason::Pacing)?,
        };
        let most = room.min(quota).min(self.longest()).min(SUPER_SEGMENT);
        let steady = self.phase == Phase::Open && !self.window.in_slow_start();
        if length > most && steady && room < self.burst(quota) {
            return Err(Reason::Congestion);
        }
        Ok(if length > most { (most / mss).max(1) * mss } else { length })
    }

    /// The longest super-segment, as Linux makes them: a millisecond's worth on a path that is long enough to be paced,
    /// at least two segments (`tcp_tso_autosize`); and half the window, so that the first half is acknowledged while
    /// the second is on its way (`tcp_cwnd_test`).
    fn longest(&self) -> u64 {
        let mss = self.window.mss;
        let half = (self.window.cwnd / 2 / mss).max(1) * mss;
        let least = u64::from(self.traits.super_segment_min) * mss;
        let quantum = Speed::new(&self.window, self.rtt.srtt(), self.rtt.min(), 0).quantum(mss);
        quantum.max(least).min(half)
    }

    /// What is worth a send while acknowledgements for the rest of the window are on their way: a part of the window
    /// small enough that holding it back costs nothing, so that an acknowledgement clock of two segments still makes
    /// super-segments (as Linux's `tcp_tso_should_defer`). Not in slow start, where bursts fill queues too soon.
    fn burst(&self, quota: u64) -> u64 {
        (self.window.cwnd / BURST_SHARE).min(quota).min(SUPER_SEGMENT / self.window.mss * self.window.mss)
    }

    /// Lost data again; RFC 9293 3.8.6.2.1 keeps a sender off what a shrunken window no longer admits, all but the
    /// first segment.
    fn retransmission(&mut self, now: Time, mut span: Span, supply: &Supply) -> Next {
        if span.start == 0 {
            return send(Span::new(0, 1), Purpose::Retransmission);
        }
        if span.end > supply.window_end {
            if supply.window_end > span.start {
                span.end = supply.window_end;
            } else if span.start == self.board.una() {
                span.end = span.end.min(span.start + self.window.mss);
            } else {
                return Next::Wait(Reason::Window);
            }
        }
        match self.fit(now, span.len()) {
            Ok(length) => send(Span::new(span.start, span.start + length), Purpose::Retransmission),
            Err(reason) => Next::Wait(reason),
        }
    }

    /// Data never sent before. Full segments, but for a last one that the caller allows.
    fn new_data(&mut self, now: Time, supply: &Supply) -> Next {
        let (from, mss) = (self.board.end(), self.window.mss);
        if supply.end <= from {
            return Next::Wait(Reason::Idle);
        }
        let windowed = supply.window_end < supply.end;
        let most = self.board.una().saturating_add(OUTSTANDING);
        let usable = supply.end.min(supply.window_end).min(most).saturating_sub(from);
        if usable == 0 {
            return Next::Wait(Reason::Window);
        }
        let whole = if supply.small && (!windowed || usable < mss) { usable } else { usable / mss * mss };
        if whole == 0 {
            return Next::Wait(if windowed { Reason::Window } else { Reason::Idle });
        }
        if supply.fin && from + 1 == supply.end {
            // A FIN alone carries nothing that could congest, and may save the peer a wait (as Linux).
            return send(Span::new(from, supply.end), Purpose::New);
        }
        self.restart_after_idle(now);
        match self.fit(now, whole) {
            Ok(length) => send(Span::new(from, from + length), Purpose::New),
            Err(reason) => Next::Wait(reason),
        }
    }

    /// RFC 8985 7.3: a segment of new data if there is one, else the last segment again.
    fn probe(&self, supply: &Supply) -> Option<Span> {
        let (end, mss) = (self.board.end(), self.window.mss);
        let most = self.board.una().saturating_add(OUTSTANDING);
        let fresh = Span::new(end, supply.end.min(supply.window_end).min(end + mss).min(most));
        if !fresh.is_empty() {
            return Some(fresh);
        }
        let last = self.board.runs().rev().find(|run| run.fate != Fate::Sacked)?;
        Some(Span::new(last.start.max(last.end.saturating_sub(mss)), last.end))
    }

    /// RFC 5681 4.1: after an RTO without sending, the window is no longer backed by acknowledgements.
    fn restart_after_idle(&mut self, now: Time) {
        if self.board.outstanding() > 0 {
            return;
        }
        let (idle, rto) = (now.saturating_sub(self.idle_from), self.rto());
        if idle > rto {
            let initial = self.initial_window();
            if !self.control.is_by_model() {
                usage::restart(&mut self.window, idle, rto, initial);
            }
            self.control.restart(idle);
            self.usage.restarted(now);
            self.idle_from = now;
        }
    }

    /// `span` was handed to the device at `now`: a prefix of what [`next`](Self::next) offered. New data starts at
    /// [`sent_end`](Self::sent_end).
    pub fn on_sent(&mut self, now: Time, span: Span) {
        self.on_sent_in(now, span, u16::try_from(self.window.mss).unwrap_or(u16::MAX));
    }

    /// The same, in segments of `mss` bytes, where options have left less room than usual.
    pub fn on_sent_in(&mut self, now: Time, span: Span, mss: u16) {
        if span.is_empty() {
            return;
        }
        let bytes = span.len();
        self.idle_from = now;
        let again = span.start < self.board.end();
        let probe = core::mem::take(&mut self.tlp.pending);
        let (was_idle, speed) = (self.board.outstanding() == 0, self.speed());
        self.pacing.on_sent(now, bytes, speed);
        if was_idle {
            self.rate.app_limited(0);
        }
        let stamp = self.rate.stamp(now, self.board.pipe());
        if again {
            self.on_resent(now, span);
            self.board.resend(now, span, mss, stamp);
        } else {
            if was_idle {
                self.progress_at = now;
                self.busy.update(now, span.start > 0);
            }
            self.board.push(now, span.end, mss, stamp);
            if self.frto == Frto::Probing {
                self.frto = Frto::Probed;
            }
        }
        if matches!(self.phase, Phase::Reduced | Phase::Recovery) {
            self.prr.on_sent(bytes);
        }
        self.note_usage(now, self.in_flight() + self.window.mss > self.window.cwnd);
        self.arm_after_sending(now, again, span, probe);
    }

    fn on_resent(&mut self, now: Time, span: Span) {
        let segments = span.len().div_ceil(self.window.mss);
        self.counters.resent_segments = self.counters.resent_segments.saturating_add(segments);
        if let Some(undo) = &mut self.undo {
            undo.on_resent(now, span.len());
        }
    }

    /// RFC 6298 5.1, and the head's retransmission restarts the timer as Linux does; RFC 8985 7.2 and 7.3.
    fn arm_after_sending(&mut self, now: Time, again: bool, span: Span, probe: bool) {
        let rto_at = self.rto_from(now);
        let head_again = again && self.traits.sack && span.start == self.board.una();
        if self.rto_at.is_none() || head_again {
            self.rto_at = rto_at;
        }
        if probe {
            self.tlp.sent(self.board.end(), again);
            self.rto_at = rto_at;
        } else if !again && self.may_probe() {
            self.schedule_probe(now);
        }
    }

    /// RFC 8985 7.2: with SACK, outside of recovery, with nothing known to be missing and no probe open.
    pub(super) fn may_probe(&self) -> bool {
        self.traits.sack
            && matches!(self.phase, Phase::Open | Phase::Reduced)
            && self.board.una() > 0
            && self.board.outstanding() > 0
            && self.board.sacked() == 0
            && self.board.lost() == 0
            && !self.tlp.is_open()
    }

    /// RFC 8985 7.2: in two round trips, or when the retransmission timer is due if that is sooner.
    pub(super) fn schedule_probe(&mut self, now: Time) {
        let lone = self.board.outstanding() <= self.window.mss;
        let at = now.saturating_add(Tlp::timeout(self.rtt.srtt(), lone));
        self.tlp.deadline = Maybe::some(self.rto_at.get().map_or(at, |rto_at| at.min(rto_at)));
    }

    fn note_usage(&mut self, now: Time, full: bool) {
        if self.phase > Phase::Disorder {
            return; // the window is not used as it would be
        }
        let round = (self.board.una(), self.board.end());
        self.usage.note(now, self.board.outstanding(), full, round);
        if !full && !self.control.is_by_model() {
            let (rto, initial) = (self.rto(), self.initial_window());
            self.usage.decay(now, rto, initial, &mut self.window);
        }
    }
}

fn send(span: Span, purpose: Purpose) -> Next {
    Next::Send(Transmit { span, purpose })
}
