//! The timers of recovery: reordering, loss probe, retransmission, pacing. Each is a time, and the earliest counts.

use alloc::boxed::Box;

use bulkhead_wit::types::Time;

use super::api::TimerAction;
use super::maybe::Maybe;
use super::undo::Undo;
use super::{Fate, Frto, Phase, Recovery};

impl Recovery {
    /// When [`on_timer`](Self::on_timer) is to be called: the earliest of the reordering timer, the loss probe, the
    /// retransmission timeout and pacing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let timers = [self.rack.timer, self.tlp.deadline, self.rto_at, self.pacing.timer];
        timers.into_iter().filter_map(Maybe::get).min()
    }

    /// The time came that [`next_deadline`](Self::next_deadline) named. One timer acts at a time; another that is due
    /// is the next deadline.
    pub fn on_timer(&mut self, now: Time) -> TimerAction {
        if self.pacing.timer.is_due(now) {
            self.pacing.timer = Maybe::NONE;
            return TimerAction::Send;
        }
        if self.rack.timer.is_due(now) {
            return self.on_reordering_timer(now);
        }
        if self.tlp.deadline.is_due(now) {
            self.tlp.deadline = Maybe::NONE;
            self.tlp.pending = true;
            // RFC 8985 7.3: whatever becomes of the probe, the retransmission timer follows.
            self.rto_at = self.rto_from(now);
            return TimerAction::Send;
        }
        if self.rto_at.is_due(now) {
            self.on_timeout(now);
            return TimerAction::Timeout;
        }
        TimerAction::Nothing
    }

    /// RFC 8985 6.3: the reordering window of a candidate ended.
    fn on_reordering_timer(&mut self, now: Time) -> TimerAction {
        self.rack.timer = Maybe::NONE;
        let found = self.detect(now, false);
        if found.lost == 0 {
            return TimerAction::Nothing;
        }
        self.control.on_lost(found.lost);
        if self.answer_loss(found) || self.phase == Phase::Recovery {
            self.proportional(0, false);
        }
        TimerAction::Send
    }

    /// RFC 6298 5.4 to 5.6, RFC 5681 (4) and 3.1, RFC 8985 6.3, RFC 5682 step 1.
    fn on_timeout(&mut self, now: Time) {
        self.timeouts = self.timeouts.saturating_add(1);
        self.rtt.back_off();
        self.rto_at = self.rto_from(now);
        if self.board.una() == 0 {
            self.board.mark_lost(|_| true); // the SYN: no window to reduce yet
            return;
        }
        let (una, end) = (self.board.una(), self.board.end());
        let first = self.phase < Phase::Recovery;
        // RFC 5681 (4): reduced once for what was lost together; held when a retransmission is lost.
        if self.phase <= Phase::Disorder || una >= self.recover {
            self.undo = Some(Box::new(Undo::new(self.window, &self.control, &self.board)));
            self.reduce();
            self.control.timed_out();
        }
        if self.board.front().is_some_and(|run| run.fate == Fate::Sacked) {
            self.board.renege(); // RFC 2018 section 8
        }
        if self.traits.sack {
            let path = self.path(now);
            self.rack.mark_on_timeout(&mut self.board, &path);
        } else {
            self.board.mark_lost(|_| true);
        }
        self.newreno.reset(end);
        self.tlp.cancel();
        self.rack.timer = Maybe::NONE;
        self.window.cwnd = self.board.pipe() + self.window.mss;
        self.frto = if first || self.timeouts > 1 { Frto::Asking } else { Frto::Off };
        self.phase = Phase::Loss;
        self.recover = end;
    }
}
