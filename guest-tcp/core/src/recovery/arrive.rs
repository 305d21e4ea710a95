//! An acknowledgement arrives: what was delivered, what is lost, what the window becomes, in this order.

use alloc::boxed::Box;

use bulkhead_wit::types::Time;

use super::api::{Ack, Acked, Span};
use super::congestion::{Growth, Heard};
use super::limits::{DUP_THRESH, RENEGE_DELAY};
use super::maybe::Maybe;
use super::prr::{Delivery, Prr};
use super::rack::Found;
use super::rate::{Newest, Sample};
use super::scoreboard::Run;
use super::tlp::Evidence;
use super::undo::{AfterTimeout, Undo, Verdict};
use super::{Fate, Phase, Recovery};

/// SACK blocks that an acknowledgement can carry (RFC 2018 section 3).
const BLOCKS: usize = 4;

/// What an acknowledgement delivered.
#[derive(Default)]
struct Arrived {
    advanced: u64,
    /// Cumulatively and selectively.
    bytes: u64,
    sacked: u64,
    /// Send times of the oldest and newest never retransmitted data, cumulatively and selectively acknowledged.
    oldest: Option<Time>,
    newest: Option<Time>,
    oldest_sacked: Option<Time>,
    /// Retransmitted data was acknowledged: send times say nothing (Karn's rule, RFC 6298 section 3).
    again: bool,
    /// Never retransmitted data from below the recovery point.
    original: bool,
    duplicate: bool,
    /// The lowest original that arrived after something sent later.
    late: Option<u64>,
    sample: Option<Newest>,
    rate: Option<Sample>,
}

impl Arrived {
    fn see(&mut self, run: &Run, recover: u64) {
        self.bytes += run.len();
        self.sample = Newest::with(self.sample, run);
        self.original |= !run.again && run.end <= recover;
    }
    fn acknowledged(&mut self, run: &Run, recover: u64) {
        self.see(run, recover);
        if run.again {
            self.again = true;
        } else {
            self.oldest = Some(self.oldest.map_or(run.sent_at, |oldest| oldest.min(run.sent_at)));
            self.newest = self.newest.max(Some(run.sent_at));
        }
    }
    fn note_late(&mut self, late: bool, run: &Run) {
        if late {
            self.late = Some(self.late.map_or(run.start, |lowest| lowest.min(run.start)));
        }
    }
    fn sacked(&mut self, run: &Run, recover: u64) {
        self.see(run, recover);
        self.sacked += run.len();
        if !run.again {
            let oldest = self.oldest_sacked.map_or(run.sent_at, |oldest| oldest.min(run.sent_at));
            self.oldest_sacked = Some(oldest);
            self.newest = self.newest.max(Some(run.sent_at));
        }
    }
}

impl Recovery {
    /// An acceptable acknowledgement arrived (RFC 9293 3.10.7.4, fifth: SND.UNA =< SEG.ACK =< SND.NXT; an older one
    /// may be given too, for its SACK blocks).
    #[inline]
    pub fn on_ack(&mut self, now: Time, ack: &Ack<'_>) -> Acked {
        let before = self.board.una();
        if before > 0 && ack.is_only_carried(before) {
            return Acked::default(); // data from a peer that has nothing new to say about ours
        }
        self.heed(now, ack)
    }

    fn heed(&mut self, now: Time, ack: &Ack<'_>) -> Acked {
        let before = self.board.una();
        let reducing = matches!(self.phase, Phase::Reduced | Phase::Recovery);
        // What ends a reduction counts for that alone.
        let limited = self.usage.is_limited(&self.window) && !reducing;
        let arrived = self.deliver(now, ack);
        let mut acked = Acked { advanced: arrived.advanced, delivered: arrived.bytes, ..Acked::default() };
        acked.rtt = self.measure(now, ack, &arrived);
        if before == 0 {
            self.syn_acknowledged(now, &acked);
            return acked;
        }
        if let Some(span) = ack.dsack {
            self.on_dsack(span);
        }
        self.judge_probe(ack, &arrived);
        if ack.ecn_echo {
            self.on_ecn_echo(arrived.bytes > 0);
        }
        acked.undone = self.judge_undo(ack, &arrived);
        self.end_phase();
        let found = self.detect(now, arrived.advanced > 0);
        acked.lost = found.lost;
        self.answer_loss(found);
        acked.reduced = core::mem::take(&mut self.reduced);
        self.adjust_window(now, limited, &arrived, &acked);
        self.settle_phase();
        self.rearm(now, arrived.advanced > 0);
        acked
    }

    /// What the acknowledgement says about data, into the scoreboard.
    fn deliver(&mut self, now: Time, ack: &Ack<'_>) -> Arrived {
        let to = ack.to.min(self.board.end());
        let una = self.board.una();
        let (echo, min, recover) = (self.echo(ack.echoed), self.rtt.min(), self.recover);
        let mut arrived = Arrived { advanced: to.saturating_sub(una), ..Arrived::default() };
        let rack = &mut self.rack;
        self.board.acknowledge(to, |run| {
            if run.fate != Fate::Sacked {
                arrived.acknowledged(run, recover);
                let late = rack.on_delivered(run, now, min, echo);
                arrived.note_late(late, run);
            }
        });
        // An acknowledgement of something out of order echoes the segment before the hole (RFC 7323 4.3): that says
        // nothing about what is selectively acknowledged. RFC 8985 6.2 step 2 overlooks it; Linux does not ask either.
        let no_echo = self.echo(None);
        let mss = self.window.mss;
        let rack = &mut self.rack;
        if self.traits.sack {
            for span in sorted(ack.sacks) {
                self.board.sack(span, mss, |run| {
                    arrived.sacked(run, recover);
                    let late = rack.on_delivered(run, now, min, no_echo);
                    arrived.note_late(late, run);
                });
            }
        }
        if let Some(lowest) = arrived.late {
            self.rack.late(lowest);
        }
        if arrived.advanced > 0 {
            self.timeouts = 0;
            self.rtt.progress();
            self.progress_at = now;
        }
        let outstanding = self.board.outstanding();
        let duplicate = ack.to == una && !ack.carries && !ack.window_changed && outstanding > 0;
        arrived.duplicate = duplicate && arrived.advanced == 0;
        if !self.traits.sack {
            self.deliver_without_sack(&mut arrived);
        }
        let pipe = self.in_flight();
        arrived.rate = self.rate.on_ack(now, arrived.bytes, arrived.sample, self.rtt.min());
        self.busy.update(now, outstanding > 0);
        if outstanding > 0 && pipe == 0 && self.board.lost() == 0 {
            self.tlp.pending = false;
        }
        arrived
    }

    fn deliver_without_sack(&mut self, arrived: &mut Arrived) {
        let mss = self.window.mss;
        if arrived.advanced > 0 {
            arrived.bytes = self.newreno.on_advance(arrived.advanced, mss);
            self.newreno.reset_count();
        } else if arrived.duplicate {
            arrived.bytes = self.newreno.on_duplicate(mss, self.board.outstanding() - self.board.lost());
        }
    }

    /// RFC 6298 section 3 (Karn), RFC 7323 4.1; the sample that SRTT took.
    fn measure(&mut self, now: Time, ack: &Ack<'_>, arrived: &Arrived) -> Option<Time> {
        if let Some(newest) = arrived.newest.filter(|_| !arrived.again) {
            self.rtt.sample_min(now, now.saturating_sub(newest));
        }
        let timed = arrived.oldest.filter(|_| !arrived.again).or(arrived.oldest_sacked);
        let echoed = || self.echo(ack.echoed).at.filter(|_| arrived.advanced > 0);
        let rtt = now.saturating_sub(timed.or_else(echoed)?);
        self.rtt.sample(rtt, self.board.una(), self.board.end());
        if timed.is_none() && self.rtt.min().is_none() {
            self.rtt.sample_min(now, rtt);
        }
        Some(rtt)
    }

    /// The connection begins: RFC 6298 5.7, RFC 5681 3.1.
    fn syn_acknowledged(&mut self, now: Time, acked: &Acked) {
        if acked.advanced == 0 {
            return;
        }
        let resent = self.counters.resent_segments;
        self.rtt.fallback = resent > 0;
        // RFC 5681 3.1: one segment, if the SYN was lost. One retransmission may as well have been a first timeout
        // of 1 s on a long path, so as in Linux it takes two.
        self.window.cwnd = if resent > 1 { self.window.mss } else { self.initial_window() };
        self.idle_from = now;
        self.recover = 0;
        self.rearm(now, true);
    }

    fn on_dsack(&mut self, span: Span) {
        self.counters.dsacks = self.counters.dsacks.saturating_add(1);
        self.rack.on_dsack(self.board.una(), self.board.end());
        if let Some(undo) = &mut self.undo {
            undo.on_dsack(span);
        }
    }

    /// RFC 8985 7.4: a probe that repaired a loss hid congestion.
    fn judge_probe(&mut self, ack: &Ack<'_>, arrived: &Arrived) {
        let plain_duplicate = arrived.duplicate && ack.sacks.is_empty();
        let evidence = Evidence { to: ack.to, dsack: ack.dsack, plain_duplicate };
        if self.tlp.on_ack(&evidence) && self.phase <= Phase::Disorder {
            self.reduce();
            self.window.cwnd = self.window.cwnd.min(self.window.ssthresh);
        }
    }

    /// RFC 3168 6.1.2: react as to a loss, at most once a round trip, and nothing is retransmitted.
    fn on_ecn_echo(&mut self, delivered: bool) {
        self.undo = None; // the congestion was real, whatever the retransmissions were
        let outstanding = self.board.outstanding();
        if self.phase > Phase::Disorder || (outstanding == 0 && !delivered) {
            return;
        }
        self.control.on_lost(self.window.mss);
        self.reduce();
        if outstanding == 0 {
            // All of it has arrived: what is told counts for what is sent next.
            self.window.cwnd = self.window.cwnd.min(self.window.ssthresh);
            return;
        }
        self.prr = Prr::begin(self.board.outstanding());
        self.phase = Phase::Reduced;
        self.recover = self.board.end();
    }

    /// Was the reduction spurious?
    fn judge_undo(&mut self, ack: &Ack<'_>, arrived: &Arrived) -> bool {
        let recovering = self.phase >= Phase::Recovery;
        let echo = self.echo(ack.echoed);
        let Some(undo) = &self.undo else { return false };
        let eifel = recovering && arrived.advanced > 0 && undo.is_eifel(echo);
        let mut spurious = eifel || undo.is_all_needless();
        if self.phase == Phase::Loss && !spurious {
            let verdict = self.frto.on_ack(&AfterTimeout {
                original: arrived.original,
                partial: arrived.advanced > 0 && self.board.una() < self.recover,
                duplicate: arrived.sacked > 0 || arrived.duplicate,
                beyond: self.board.end() > self.recover,
            });
            spurious = verdict == Verdict::Spurious;
            if verdict == Verdict::TryNew {
                self.recover = self.board.end();
            }
        }
        if spurious {
            if eifel && self.phase == Phase::Recovery {
                self.rack.reordered(arrived.advanced);
            }
            self.take_back();
        }
        spurious
    }

    fn take_back(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        undo.restore(&mut self.window, &mut self.control);
        self.reduced = false;
        self.counters.undone = self.counters.undone.saturating_add(1);
        self.board.unmark_lost();
        self.newreno.reset(self.recover);
        self.frto = super::Frto::Off;
        self.phase = Phase::Open;
    }

    /// RFC 6675 section 5: the recovery ends when the recovery point is acknowledged.
    fn end_phase(&mut self) {
        let una = self.board.una();
        if self.phase >= Phase::Reduced && una >= self.recover {
            if self.phase < Phase::Loss {
                self.window.cwnd = self.window.ssthresh.max(self.window.mss); // RFC 9937: at the end
            }
            if self.phase == Phase::Recovery {
                self.rack.on_recovered();
            }
            self.newreno.reset(self.recover);
            self.frto = super::Frto::Off;
            self.phase = Phase::Open;
        }
        if self.phase <= Phase::Disorder
            && self.undo.as_ref().is_some_and(|undo| undo.is_over(una, self.recover))
        {
            self.undo = None;
        }
    }

    /// What is lost by now.
    pub(super) fn detect(&mut self, now: Time, advanced: bool) -> Found {
        if self.traits.sack {
            let path = self.path(now);
            return self.rack.detect(&mut self.board, &path);
        }
        // RFC 6582 3.2: step 2, three duplicates; step 3, a partial acknowledgement shows the next hole.
        let fresh = self.phase <= Phase::Reduced && self.newreno.is_loss(self.board.una());
        let partial = self.phase == Phase::Recovery && advanced;
        let lost = if fresh || partial { self.board.mark_head_lost(self.window.mss) } else { 0 };
        Found { lost, again: false }
    }

    /// Enters fast recovery if something is lost; whether the window was reduced.
    pub(super) fn answer_loss(&mut self, found: Found) -> bool {
        // A lost retransmission after a timeout is congestion anew (RFC 5681 4.3).
        let anew = self.phase == Phase::Loss && found.again;
        if self.board.lost() == 0 || (self.phase >= Phase::Recovery && !anew) {
            return false;
        }
        let reduce = self.phase != Phase::Reduced;
        if reduce {
            self.undo = Some(Box::new(Undo::new(self.window, &self.control, &self.board)));
            self.reduce();
            // RecoverFS without what was selectively acknowledged before (RFC 9937 section 6.1).
            self.prr = Prr::begin(self.board.outstanding() - self.board.sacked());
        }
        self.tlp.cancel();
        self.phase = Phase::Recovery;
        self.recover = self.board.end();
        reduce
    }

    fn adjust_window(&mut self, now: Time, limited: bool, arrived: &Arrived, acked: &Acked) {
        if self.control.is_by_model() {
            let heard = Heard {
                now,
                delivered: arrived.bytes,
                lost: acked.lost,
                total: self.rate.delivered(),
                in_flight: self.in_flight(),
                rtt: acked.rtt,
                rate: arrived.rate,
                recovering: self.phase >= Phase::Recovery,
            };
            return self.control.hear(&mut self.window, &heard);
        }
        if matches!(self.phase, Phase::Reduced | Phase::Recovery) {
            if arrived.bytes > 0 || acked.reduced {
                self.proportional(arrived.bytes, arrived.advanced > 0 && acked.lost == 0);
            }
            if !self.traits.sack && acked.lost > 0 {
                // RFC 6582 3.2 step 3: the next hole is sent again whatever the window says.
                self.window.cwnd = self.window.cwnd.max(self.in_flight() + self.window.mss);
            }
        } else if arrived.advanced > 0
            || (arrived.sacked > 0 && self.rack.degree() > DUP_THRESH * self.window.mss)
        {
            // On a path that is known to reorder, what is selectively acknowledged is progress too (Linux:
            // `tcp_may_raise_cwnd`); elsewhere it is the first sign of a loss.
            self.control.grow(
                &mut self.window,
                &Growth {
                    now,
                    delivered: arrived.bytes,
                    una: self.board.una(),
                    end: self.board.end(),
                    srtt: self.rtt.srtt().unwrap_or(0),
                    rtt: acked.rtt,
                    limited,
                },
            );
        }
    }

    /// RFC 9937: the window during a reduction.
    pub(super) fn proportional(&mut self, delivered: u64, safe: bool) {
        if self.control.is_by_model() {
            return; // what is lost is no longer in flight: there is room for it
        }
        self.window.cwnd = self.prr.on_ack(&Delivery {
            delivered,
            safe,
            pipe: self.in_flight(),
            ssthresh: self.window.ssthresh,
            mss: self.window.mss,
        });
    }

    fn settle_phase(&mut self) {
        if self.phase <= Phase::Disorder {
            let odd = self.board.sacked() > 0 || self.newreno.duplicates() > 0;
            self.phase = if odd { Phase::Disorder } else { Phase::Open };
        }
    }

    /// The timers after an acknowledgement: RFC 6298 5.2 and 5.3, RFC 8985 7.2.
    fn rearm(&mut self, now: Time, advanced: bool) {
        if self.board.outstanding() == 0 {
            (self.rto_at, self.rack.timer, self.tlp.deadline) = (Maybe::NONE, Maybe::NONE, Maybe::NONE);
            self.tlp.pending = false;
            return;
        }
        if advanced {
            self.tlp.pending = false;
            let partial = !self.traits.sack && self.phase == Phase::Recovery;
            if !partial || self.newreno.on_partial() {
                self.rto_at = self.rto_from(now);
            }
            // RFC 2018 section 8: SND.UNA stands before data that had been selectively acknowledged.
            if self.board.front().is_some_and(|run| run.fate == Fate::Sacked) {
                let soon = (self.rtt.srtt().unwrap_or(0) / 2).max(RENEGE_DELAY);
                self.rto_at = Maybe::some(now.saturating_add(soon));
            }
        }
        if self.may_probe() {
            if advanced {
                self.schedule_probe(now);
            }
        } else {
            self.tlp.deadline = Maybe::NONE;
            self.tlp.pending = false;
        }
    }
}

/// The blocks in ascending order, so that what is delivered together does not look reordered.
fn sorted(blocks: &[Span]) -> impl Iterator<Item = Span> {
    let mut sorted = [Span::default(); BLOCKS];
    for (slot, block) in sorted.iter_mut().zip(blocks) {
        *slot = *block;
    }
    sorted.sort_unstable_by_key(|block| block.start);
    sorted.into_iter().filter(|block| !block.is_empty())
}
