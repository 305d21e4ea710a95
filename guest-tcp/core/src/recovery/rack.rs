//! RACK: a segment is lost when one sent sufficiently later has arrived (RFC 8985 section 6).

use bulkhead_wit::types::Time;

use super::limits::{DUP_THRESH, REORDER_PERSIST, REORDER_SLACK};
use super::maybe::Maybe;
use super::scoreboard::{Fate, Run, Scoreboard};

/// What RACK needs to know of the connection at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) now: Time,
    pub(super) min_rtt: Option<Time>,
    pub(super) srtt: Option<Time>,
    pub(super) mss: u64,
    /// In fast recovery, or after a timeout.
    pub(super) recovering: bool,
}

/// What a look at the scoreboard found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    /// Offsets newly taken for lost.
    pub(super) lost: u64,
    /// Retransmissions were among them.
    pub(super) again: bool,
}

/// The variables of RFC 8985 5.3.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rack {
    /// `RACK.xmit_ts` and `RACK.end_seq`: of the segment sent last among those delivered.
    sent_at: Time,
    end: u64,
    rtt: Time,
    /// `RACK.fack`.
    fack: u64,
    /// `RACK.dsack_round`.
    dsack_round: Maybe,
    /// When the reordering window of the last candidate ends.
    pub(super) timer: Maybe,
    /// `RACK.reo_wnd_mult`, in quarters of the minimum round-trip time; SRTT caps the product.
    steps: u8,
    /// `RACK.reo_wnd_persist`.
    persist: u8,
    /// Times that reordering was seen, and the widest, in bytes.
    seen: u16,
    degree: u32,
}

impl Default for Rack {
    fn default() -> Self {
        Self {
            sent_at: 0,
            end: 0,
            rtt: 0,
            fack: 0,
            dsack_round: Maybe::NONE,
            timer: Maybe::NONE,
            steps: 1,
            persist: REORDER_PERSIST,
            seen: 0,
            degree: 0,
        }
    }
}

impl Rack {
    /// `run` was newly delivered. `echoed` is when the segment was sent that the acknowledgement echoes. Whether it is
    /// an original that arrived below what had arrived: reordering, of which [`Self::late`] is to be told.
    pub(super) fn on_delivered(&mut self, run: &Run, now: Time, min_rtt: Option<Time>, echo: Echo) -> bool {
        // 6.2 step 3.
        let late = run.end <= self.fack && !run.again;
        self.fack = self.fack.max(run.end);
        // 6.2 step 2. A retransmission may be acknowledged by its original: its time is then not to be used.
        let rtt = now.saturating_sub(run.sent_at);
        if run.again && (echo.is_before(run.sent_at) || min_rtt.is_some_and(|min| rtt < min)) {
            return late;
        }
        self.rtt = rtt;
        if self.is_before(run.sent_at, run.end) {
            (self.sent_at, self.end) = (run.sent_at, run.end);
        }
        late
    }

    /// The lowest that arrived late with an acknowledgement: all of it is one event, over the widest distance (Linux:
    /// `tcp_check_sack_reordering`).
    pub(super) fn late(&mut self, lowest: u64) {
        self.reordered(self.fack.saturating_sub(lowest));
    }

    /// Reordering was seen, over a distance in bytes.
    pub(super) fn reordered(&mut self, distance: u64) {
        self.seen = self.seen.saturating_add(1);
        self.degree = self.degree.max(u32::try_from(distance).unwrap_or(u32::MAX));
    }

    /// `RACK_sent_after` of what was sent at `sent_at`, ending at `end`, against the newest delivered.
    fn is_before(&self, sent_at: Time, end: u64) -> bool {
        (self.sent_at, self.end) < (sent_at, end)
    }

    /// 6.2 step 4: a D-SACK shows a needless retransmission: the window grows by a quarter of an RTT, once a round.
    pub(super) fn on_dsack(&mut self, una: u64, end: u64) {
        if self.dsack_round.is_due(una) {
            self.dsack_round = Maybe::NONE;
        }
        if self.dsack_round.is_none() {
            self.dsack_round = Maybe::some(end);
            self.steps = self.steps.saturating_add(1);
            self.persist = REORDER_PERSIST;
        }
    }

    /// 6.2 step 4: after 16 recoveries without a D-SACK the window is small again.
    pub(super) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.steps = 1;
        }
    }

    /// 6.2 step 4: the reordering window.
    fn window(&self, path: &Path, sacked: u64) -> Time {
        if self.seen == 0 && (path.recovering || sacked >= DUP_THRESH * path.mss) {
            return 0;
        }
        let min = path.min_rtt.unwrap_or(0);
        (min / 4).saturating_mul(u64::from(self.steps)).min(path.srtt.unwrap_or(min))
    }

    /// 6.2 step 5: takes for lost what was sent long enough before the newest delivered, and sets the timer for the
    /// rest.
    pub(super) fn detect(&mut self, board: &mut Scoreboard, path: &Path) -> Found {
        self.timer = Maybe::NONE;
        let mut found = Found::default();
        let plain = board.sacked() == 0 && board.resent() == 0 && board.lost() == 0;
        if plain && board.front().is_none_or(|first| self.is_before(first.sent_at, first.end)) {
            return found; // in order, all sent later: the way of an undisturbed transfer
        }
        let limit = self.rtt.saturating_add(self.window(path, board.sacked()));
        let mut timer = None;
        let late = |run: &Run| run.sent_at.saturating_add(limit);
        let candidates =
            board.runs().any(|run| run.fate == Fate::Flying && !self.is_before(run.sent_at, run.end));
        if !candidates {
            return found;
        }
        found.lost = board.mark_lost(|run| {
            if self.is_before(run.sent_at, run.end) {
                return false;
            }
            let at = late(run);
            if at <= path.now {
                found.again |= run.again;
                return true;
            }
            timer = timer.max(Some(at));
            false
        });
        // As Linux, a little later: what is on its way may still show that nothing was lost.
        self.timer = timer.map(|at: Time| at.saturating_add(REORDER_SLACK)).into();
        found
    }

    /// 6.3: on a timeout, the first segment and what was sent long enough ago are lost, not what was just sent.
    pub(super) fn mark_on_timeout(&self, board: &mut Scoreboard, path: &Path) {
        let limit = self.rtt.saturating_add(self.window(path, board.sacked()));
        let una = board.una();
        board.mark_lost(|run| run.start == una || run.sent_at.saturating_add(limit) <= path.now);
    }

    /// Times that reordering was seen.
    pub(super) fn reorderings(&self) -> u64 {
        u64::from(self.seen)
    }
    /// The widest reordering, in bytes.
    pub(super) fn degree(&self) -> u64 {
        u64::from(self.degree)
    }
}

/// The echoed timestamp of an acknowledgement, as a time of ours, exact to a tick (RFC 7323).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Echo {
    pub(super) at: Option<Time>,
    pub(super) tick: Time,
}

impl Echo {
    /// Whether the segment that is echoed was surely sent before one sent at `sent_at` (RFC 3522 section 3).
    pub(super) fn is_before(self, sent_at: Time) -> bool {
        let tick = self.tick.max(1);
        self.at.is_some_and(|at| at / tick < sent_at / tick)
    }
}

crate::save::codec::fixed! {
    Rack { sent_at, end, rtt, fack, dsack_round, timer, steps, persist, seen, degree }
}

#[cfg(test)]
mod tests {
    use super::super::api::Span;
    use super::super::rate::Stamp;
    use super::*;
    use bulkhead_wit::limits::MILLISECOND;

    const MSS: u64 = 1000;
    const RTT: Time = 100 * MILLISECOND;
    const NO_ECHO: Echo = Echo { at: None, tick: MILLISECOND };

    fn path(now: Time) -> Path {
        Path { now, min_rtt: Some(RTT), srtt: Some(RTT), mss: MSS, recovering: false }
    }

    fn flight(segments: u64, apart: Time) -> Scoreboard {
        let mut board = Scoreboard::starting_at(0);
        for segment in 1..=segments {
            board.push(segment * apart, segment * MSS, MSS as u16, Stamp::default());
        }
        board
    }

    fn sack(rack: &mut Rack, board: &mut Scoreboard, now: Time, span: Span) {
        let mut late = None;
        board.sack(span, MSS, |run| {
            if rack.on_delivered(run, now, Some(RTT), NO_ECHO) {
                late.get_or_insert(run.start);
            }
        });
        late.into_iter().for_each(|lowest| rack.late(lowest));
    }

    #[test]
    fn rfc8985_6_2_one_sack_waits_for_the_reordering_window() {
        let (mut rack, mut board) = (Rack::default(), flight(4, MILLISECOND));
        let now = 2 * MILLISECOND + RTT;
        sack(&mut rack, &mut board, now, Span::new(MSS, 2 * MSS));
        assert_eq!(rack.detect(&mut board, &path(now)), Found::default());
        // Sent at 1 ms, a quarter of the RTT more, and the slack.
        assert_eq!(rack.timer.get(), Some(MILLISECOND + RTT + RTT / 4 + REORDER_SLACK));
        let later = rack.timer.get().unwrap_or(0);
        assert_eq!(rack.detect(&mut board, &path(later)), Found { lost: MSS, again: false });
        assert_eq!(board.first_lost(MSS), Some(Span::new(0, MSS)));
    }

    #[test]
    fn rfc8985_6_2_three_sacks_without_reordering_are_a_loss_at_once() {
        let (mut rack, mut board) = (Rack::default(), flight(4, MILLISECOND));
        let now = 4 * MILLISECOND + RTT;
        sack(&mut rack, &mut board, now, Span::new(MSS, 4 * MSS));
        assert_eq!(rack.detect(&mut board, &path(now)).lost, MSS);
    }

    #[test]
    fn a_super_segment_is_cut_where_it_was_lost() {
        let mut rack = Rack::default();
        let mut board = Scoreboard::starting_at(0);
        board.push(MILLISECOND, 40 * MSS, MSS as u16, Stamp::default());
        let now = MILLISECOND + RTT;
        sack(&mut rack, &mut board, now, Span::new(11 * MSS, 40 * MSS));
        assert_eq!(rack.detect(&mut board, &path(now)).lost, 11 * MSS);
        // A hole in the middle, with what lies below it delivered, is what remains.
        sack(&mut rack, &mut board, now, Span::new(0, 10 * MSS));
        assert_eq!(board.first_lost(u64::MAX), Some(Span::new(10 * MSS, 11 * MSS)));
        assert!(board.is_consistent());
    }

    #[test]
    fn rfc8985_6_2_reordering_is_noticed_and_the_window_adapts() {
        let (mut rack, mut board) = (Rack::default(), flight(9, MILLISECOND));
        let now = 9 * MILLISECOND + RTT;
        sack(&mut rack, &mut board, now, Span::new(MSS, 2 * MSS));
        sack(&mut rack, &mut board, now, Span::new(0, MSS));
        assert_eq!((rack.reorderings(), rack.degree()), (1, 2 * MSS));
        // Three SACKs are no longer enough.
        sack(&mut rack, &mut board, now, Span::new(4 * MSS, 8 * MSS));
        assert_eq!(rack.window(&path(now), board.sacked()), RTT / 4);
        rack.on_dsack(0, 9 * MSS);
        rack.on_dsack(5 * MSS, 9 * MSS); // once a round
        assert_eq!(rack.window(&path(now), 0), RTT / 2);
        rack.on_dsack(9 * MSS, 10 * MSS);
        assert_eq!(rack.window(&path(now), 0), RTT / 4 * 3);
        for _ in 0..REORDER_PERSIST {
            rack.on_recovered();
        }
        assert_eq!(rack.window(&path(now), 0), RTT / 4);
    }

    #[test]
    fn rfc8985_6_2_a_retransmission_acknowledged_too_soon_is_not_used() {
        let mut rack = Rack::default();
        let run = Run {
            start: 0,
            end: MSS,
            sent_at: 10 * RTT,
            stamp: Stamp::default(),
            fate: Fate::Flying,
            again: true,
            mss: MSS as u16,
        };
        let _ = rack.on_delivered(&run, 10 * RTT + MILLISECOND, Some(RTT), NO_ECHO);
        assert_eq!(rack.sent_at, 0);
        let echo = Echo { at: Some(9 * RTT), tick: MILLISECOND };
        let _ = rack.on_delivered(&run, 12 * RTT, Some(RTT), echo);
        assert_eq!(rack.sent_at, 0);
        let _ = rack.on_delivered(&run, 12 * RTT, Some(RTT), NO_ECHO);
        assert_eq!(rack.sent_at, 10 * RTT);
    }

    #[test]
    fn rfc8985_6_3_a_timeout_spares_what_was_just_sent() {
        let rack = Rack { rtt: RTT, ..Rack::default() };
        let mut board = flight(2, MILLISECOND);
        board.push(10 * RTT, 3 * MSS, MSS as u16, Stamp::default());
        rack.mark_on_timeout(&mut board, &path(10 * RTT + MILLISECOND));
        assert_eq!((board.lost(), board.pipe()), (2 * MSS, MSS));
    }
}
