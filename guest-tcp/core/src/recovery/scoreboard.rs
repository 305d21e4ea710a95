//! The scoreboard: what is in flight, as runs of offsets that share a fate (RFC 6675 section 3).
//!
//! A super-segment is one run until an acknowledgement or a loss cuts it. `pipe` is the length of the flying runs.

use alloc::collections::VecDeque;

use bulkhead_wit::types::Time;

use crate::save::codec::{Writer, put, take};

use super::api::Span;
use super::limits::{HALVING, OUTSTANDING, RUNS, RUNS_BEYOND_SEGMENTS, RUNS_OF_SPAN};
use super::rate::Stamp;

/// What is believed of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// In the network, as a first transmission or a retransmission.
    Flying,
    /// Selectively acknowledged.
    Sacked,
    /// Taken for lost and not yet sent again.
    Lost,
}

/// A range that was sent together and has one fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) end: u64,
    /// When it was sent last.
    pub(super) sent_at: Time,
    /// What the delivery rate was measured against then.
    pub(super) stamp: Stamp,
    pub(super) fate: Fate,
    /// It was retransmitted at least once.
    pub(super) again: bool,
    /// Bytes of each segment that it went in, but for a shorter last one: options take their part of what the peer takes, so
    /// not every run has the same.
    pub(super) mss: u16,
}

impl Run {
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The same for the counters: what is outstanding is bounded by [`OUTSTANDING`].
    fn length(&self) -> u32 {
        self.len() as u32
    }

    /// Whether `next` can be one run with this one without a word lost: where its segments end can be told from
    /// where it begins.
    fn continues(&self, next: &Self) -> bool {
        let together = || {
            let (this, that) = ((self.again, self.mss, self.sent_at), (next.again, next.mss, next.sent_at));
            this == that && self.stamp == next.stamp && self.len().is_multiple_of(u64::from(self.mss.max(1)))
        };
        // The SYN stays alone: it cannot leave with data behind it.
        self.fate == next.fate
            && self.end == next.start
            && self.end != 1
            && (self.fate == Fate::Sacked || together())
    }
}

/// What stands beside the state and is no part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aside<T>(T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Aside<T> {}

/// Everything from SND.UNA to SND.NXT.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Scoreboard {
    una: u64,
    end: u64,
    /// Without gaps and in order, from `una` to `end`.
    runs: VecDeque<Run>,
    sacked: u32,
    lost: u32,
    resent: u32,
    /// An offset before which no run is lost, so that looking for the first one begins near it: what was sent again lies before
    /// it, and would be passed over for each segment. 0 is always true.
    none_lost: Aside<u64>,
    /// There is no memory for more runs.
    is_tight: Aside<bool>,
}

impl Scoreboard {
    /// Nothing in flight and everything below `at` acknowledged.
    pub(super) fn starting_at(at: u64) -> Self {
        Self { una: at, end: at, ..Self::default() }
    }
    pub(super) fn una(&self) -> u64 {
        self.una
    }
    pub(super) fn end(&self) -> u64 {
        self.end
    }
    pub(super) fn outstanding(&self) -> u64 {
        self.end - self.una
    }
    pub(super) fn sacked(&self) -> u64 {
        u64::from(self.sacked)
    }
    pub(super) fn lost(&self) -> u64 {
        u64::from(self.lost)
    }
    /// Offsets of retransmissions in flight.
    pub(super) fn resent(&self) -> u64 {
        u64::from(self.resent)
    }
    /// RFC 6675 SetPipe.
    pub(super) fn pipe(&self) -> u64 {
        self.outstanding() - self.sacked() - self.lost()
    }
    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> + ExactSizeIterator {
        self.runs.iter()
    }
    pub(super) fn front(&self) -> Option<&Run> {
        self.runs.front()
    }

    pub(super) fn tighten(&mut self, is_tight: bool) {
        self.is_tight.0 = is_tight;
    }
    /// Runs beyond which there are no more.
    fn most(&self) -> usize {
        if self.is_tight.0 { 0 } else { RUNS }
    }

    fn count(&mut self, run: &Run) {
        match run.fate {
            Fate::Sacked => self.sacked += run.length(),
            Fate::Lost => {
                self.lost += run.length();
                self.none_lost.0 = self.none_lost.0.min(run.start);
            }
            Fate::Flying if run.again => self.resent += run.length(),
            Fate::Flying => {}
        }
    }
    fn discount(&mut self, run: &Run) {
        match run.fate {
            Fate::Sacked => self.sacked -= run.length(),
            Fate::Lost => self.lost -= run.length(),
            Fate::Flying if run.again => self.resent -= run.length(),
            Fate::Flying => {}
        }
    }

    /// New data was sent: from `end` on, in segments of `mss` and a shorter last one.
    pub(super) fn push(&mut self, now: Time, to: u64, mss: u16, stamp: Stamp) {
        let run =
            Run { start: self.end, end: to, sent_at: now, stamp, fate: Fate::Flying, again: false, mss };
        if to <= self.end || to - self.una > OUTSTANDING {
            return;
        }
        self.make_room(Span::new(self.end, to), 0);
        self.end = to;
        let is_full = self.runs.len() >= self.most();
        match self.runs.back_mut() {
            Some(last) if last.continues(&run) => last.end = to,
            // Only where a peer has cut every second segment out: the last run flies, whatever was believed of it, and the later
            // time makes losses seen later.
            Some(last) if is_full => {
                let (before, again) = (*last, last.again);
                *last = Run { start: last.start, again, ..run };
                let after = *last;
                self.discount(&before);
                self.count(&after);
            }
            _ => self.runs.push_back(run),
        }
    }

    /// Room for a run and so many cuts, where `span` is sent and there is none. Looking for it costs a pass over all runs and may
    /// find none, so it is not done for every few bytes.
    fn make_room(&mut self, span: Span, cuts: usize) {
        if self.runs.len() + cuts >= RUNS && span.start / HALVING != span.end / HALVING {
            self.halve();
        }
    }

    /// Merges pairs of neighbours that differ in time only; each takes the later time, so that nothing is taken for
    /// lost too early.
    fn halve(&mut self) {
        let mut kept: VecDeque<Run> = VecDeque::with_capacity(self.runs.len() / 2 + 1);
        let mut paired = true;
        for run in self.runs.drain(..) {
            match kept.back_mut() {
                Some(last)
                    if !paired && last.fate == run.fate && last.again == run.again && last.end != 1 =>
                {
                    last.end = run.end;
                    if run.sent_at >= last.sent_at {
                        (last.sent_at, last.stamp) = (run.sent_at, run.stamp);
                    }
                    paired = true;
                }
                _ => {
                    kept.push_back(run);
                    paired = false;
                }
            }
        }
        self.runs = kept;
    }

    /// The index of the run that holds `at`, or of the first behind it.
    fn find(&self, at: u64) -> usize {
        self.runs.partition_point(|run| run.end <= at)
    }

    /// Cuts the run at `index` in two at `at`, unless there are `most` already. True when a run ends at `at`.
    fn cut(&mut self, index: usize, at: u64, most: usize) -> bool {
        let full = self.runs.len() >= most;
        let Some(run) = self.runs.get_mut(index) else { return false };
        if at <= run.start || at >= run.end {
            return true;
        }
        if full {
            return false;
        }
        let tail = Run { start: at, ..*run };
        run.end = at;
        self.runs.insert(index + 1, tail);
        true
    }

    /// Makes each of the runs from `from` to `to` one with the run before it, where they are alike. In one pass: a peer can make
    /// thousands of them alike with one acknowledgement.
    fn merge(&mut self, from: usize, to: usize) {
        let begin = from.max(1);
        let end = self.runs.len().min(to.saturating_add(1));
        let mut last = begin - 1;
        for index in begin..end {
            let Some(&run) = self.runs.get(index) else { break };
            let Some(before) = self.runs.get_mut(last) else { break };
            if before.continues(&run) {
                before.end = run.end;
                continue;
            }
            last += 1;
            if let Some(place) = self.runs.get_mut(last) {
                *place = run;
            }
        }
        if last + 1 < end {
            drop(self.runs.drain(last + 1..end));
        }
    }

    /// Everything below `to` is acknowledged; `visit` sees each piece as it was.
    pub(super) fn acknowledge(&mut self, to: u64, mut visit: impl FnMut(&Run)) {
        let to = to.min(self.end);
        while let Some(front) = self.runs.front_mut().filter(|front| front.start < to) {
            let piece = Run { end: front.end.min(to), ..*front };
            if front.end <= to {
                self.runs.pop_front();
            } else {
                front.start = to;
            }
            self.discount(&piece);
            visit(&piece);
        }
        self.una = self.una.max(to);
        if self.runs.is_empty() {
            self.runs = VecDeque::new(); // an idle connection holds no memory
        }
    }

    /// Changes the runs within `span` for which `change` says so; `change` sees and edits each run, cut to the span.
    fn change(&mut self, span: Span, most: usize, mut change: impl FnMut(&mut Run) -> bool) -> u64 {
        let (mut at, stop) = (span.start.max(self.una), span.end.min(self.end));
        let first = self.find(at);
        let mut index = first;
        let mut changed = 0;
        while at < stop {
            let Some(&run) = self.runs.get(index) else { break };
            let mut probe = Run { start: at, end: run.end.min(stop), ..run };
            let wanted = change(&mut probe);
            if !wanted {
                at = run.end;
                index += 1;
                continue;
            }
            if at > run.start {
                if !self.cut(index, at, most) {
                    break;
                }
                index += 1;
            }
            if !self.cut(index, stop, most) {
                break;
            }
            let Some(slot) = self.runs.get_mut(index) else { break };
            let before = core::mem::replace(slot, Run { start: slot.start, end: slot.end, ..probe });
            let after = *slot;
            self.discount(&before);
            self.count(&after);
            changed += after.len();
            at = after.end;
            index += 1;
        }
        self.merge(first, index);
        changed
    }

    /// The whole segments of `span`, as they were sent: RFC 2018 8 speaks of segments that are acknowledged. A peer
    /// that acknowledges single bytes would cut what is in flight into more pieces than there are segments.
    fn whole_segments(&self, span: Span) -> Span {
        let at = |offset: u64| self.runs.get(self.find(offset)).filter(|run| run.start < offset);
        let start = at(span.start).map_or(span.start, |run| {
            run.end.min(run.start + (span.start - run.start).next_multiple_of(run.mss.max(1).into()))
        });
        let end = at(span.end).map_or(span.end, |run| {
            let mss = u64::from(run.mss.max(1));
            run.start + (span.end - run.start) / mss * mss
        });
        Span::new(start, end)
    }

    /// `span` is selectively acknowledged, where segments are of `mss` bytes; `visit` sees each piece that was not before, as it was.
    pub(super) fn sack(&mut self, span: Span, mss: u64, mut visit: impl FnMut(&Run)) {
        let span = self.whole_segments(span);
        if span.is_empty() {
            return;
        }
        // A piece that cannot be cut out is not visited: room for both cuts is looked for first.
        let most = usize::try_from(self.outstanding() / mss.max(1)).unwrap_or(RUNS);
        let most = most.saturating_add(RUNS_BEYOND_SEGMENTS).min(self.most());
        if self.runs.len() + 2 > most && !self.is_cut_at(span) {
            return;
        }
        self.change(span, RUNS, |run| {
            let fresh = run.fate != Fate::Sacked;
            if fresh {
                visit(run);
                run.fate = Fate::Sacked;
            }
            fresh
        });
    }

    /// Whether marking `span` needs no cut.
    fn is_cut_at(&self, span: Span) -> bool {
        let starts = self.runs.get(self.find(span.start)).is_none_or(|run| run.start >= span.start);
        let ends = self.runs.get(self.find(span.end)).is_none_or(|run| run.start >= span.end);
        starts && ends
    }

    /// `span` was sent again, in segments of `mss` and a shorter last one.
    pub(super) fn resend(&mut self, now: Time, span: Span, mss: u16, stamp: Stamp) {
        let (start, end) = (span.start, span.end);
        let sent = Run { start, end, sent_at: now, stamp, fate: Fate::Flying, again: true, mss };
        if self.resend_beside(span, &sent) {
            return;
        }
        let renew = |run: &mut Run| {
            let wanted = run.fate != Fate::Sacked;
            if wanted {
                *run = Run { start: run.start, end: run.end, ..sent };
            }
            wanted
        };
        self.make_room(span, 1);
        // With no room to cut, the whole run counts as sent again: RACK finds the rest later.
        let done = self.change(span, self.most(), renew);
        if done == 0 && !span.is_empty() {
            let whole = self.runs.get(self.find(span.start)).map(|run| Span::new(run.start, run.end));
            self.change(whole.unwrap_or_default(), RUNS, renew);
        }
    }

    /// What is sent again is mostly the beginning of a run, and goes on where the last one ended: then the place where they meet
    /// moves, and no run behind it. Says whether it was so.
    fn resend_beside(&mut self, span: Span, sent: &Run) -> bool {
        let index = self.find(span.start);
        let found = (
            self.runs.get(index).copied(),
            index.checked_sub(1).and_then(|last| self.runs.get(last).copied()),
        );
        let (Some(run), Some(last)) = found else { return false };
        let is_beginning = run.start == span.start && !span.is_empty() && span.end < run.end;
        if !is_beginning || run.fate == Fate::Sacked || !last.continues(sent) {
            return false;
        }
        for (place, before, after) in
            [(index, run, Run { start: span.end, ..run }), (index - 1, last, Run { end: span.end, ..last })]
        {
            self.discount(&before);
            self.count(&after);
            if let Some(slot) = self.runs.get_mut(place) {
                *slot = after;
            }
        }
        true
    }

    /// Gives the runs in `span` with one fate another one, if `wanted` says so; the bytes.
    fn turn(&mut self, span: Span, (from, to): (Fate, Fate), mut wanted: impl FnMut(&Run) -> bool) -> u64 {
        self.change(span, RUNS, |run| {
            let turns = run.fate == from && wanted(run);
            if turns {
                run.fate = to;
            }
            turns
        })
    }

    fn all(&self) -> Span {
        Span::new(self.una, self.end)
    }

    /// Takes those flying runs for lost of which `lost` says so; the bytes.
    pub(super) fn mark_lost(&mut self, lost: impl FnMut(&Run) -> bool) -> u64 {
        self.turn(self.all(), (Fate::Flying, Fate::Lost), lost)
    }

    /// Takes the first `length` offsets for lost, as far as they fly; the bytes.
    pub(super) fn mark_head_lost(&mut self, length: u64) -> u64 {
        let head = Span::new(self.una, self.una.saturating_add(length));
        self.turn(head, (Fate::Flying, Fate::Lost), |_| true)
    }

    /// Nothing is lost after all: a recovery was spurious.
    pub(super) fn unmark_lost(&mut self) {
        self.turn(self.all(), (Fate::Lost, Fate::Flying), |_| true);
    }

    /// RFC 2018 section 8: the receiver threw away what it had selectively acknowledged.
    pub(super) fn renege(&mut self) {
        self.turn(self.all(), (Fate::Sacked, Fate::Lost), |_| true);
    }

    /// The first lost offsets, as long a span as is lost without a gap, `most` at the most. The SYN comes alone. A span of many
    /// small runs is shorter: what is sent may be one of them, and the others would be looked at again for each.
    pub(super) fn first_lost(&mut self, most: u64) -> Option<Span> {
        if self.lost == 0 {
            return None;
        }
        let from = self.find(self.none_lost.0).min(self.runs.len());
        let mut lost = self.runs.range(from..).skip_while(|run| run.fate != Fate::Lost);
        let first = lost.next()?;
        self.none_lost.0 = first.start;
        let mut span = Span::new(first.start, first.end);
        for run in lost.take(RUNS_OF_SPAN) {
            if run.fate != Fate::Lost || span.len() >= most || span.end == 1 {
                break;
            }
            span.end = run.end;
        }
        span.end = span.end.min(span.start.saturating_add(most));
        Some(span)
    }

    /// Whether the counters and the order of the runs agree with the runs themselves.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let mut recount = Self { una: self.una, end: self.una, ..Self::default() };
        for run in &self.runs {
            if run.start != recount.end || run.end <= run.start {
                return false;
            }
            recount.end = run.end;
            recount.count(run);
        }
        self.runs.len() <= RUNS
            && (recount.end, recount.sacked, recount.lost, recount.resent)
                == (self.end, self.sacked, self.lost, self.resent)
    }

    pub(super) fn save(&self, out: &mut Writer) {
        put(&(self.una, self.runs.len() as u16), out);
        for run in &self.runs {
            put(&((run.length(), run.sent_at), (run.stamp, (run.mss, (run.fate, run.again)))), out);
        }
    }
    pub(super) fn refill(&mut self, from: &mut &[u8]) -> Option<()> {
        let (una, runs) = take::<(u64, u16)>(from)?;
        let mut memory = core::mem::take(&mut self.runs);
        memory.clear();
        let board = self;
        *board = Self { runs: memory, ..Self::starting_at(una) };
        if usize::from(runs) > RUNS {
            return None;
        }
        if runs == 0 {
            board.runs = VecDeque::new(); // as after an acknowledgement of all
        }
        for _ in 0..runs {
            let ((length, sent_at), (stamp, (mss, (fate, again)))) = take::<SavedRun>(from)?;
            let (start, end) = (board.end, board.end.checked_add(length.into())?);
            if length == 0 || end - board.una > OUTSTANDING {
                return None;
            }
            let run = Run { start, end, sent_at, stamp, fate, again, mss };
            board.end = end;
            board.count(&run);
            board.runs.push_back(run);
        }
        Some(())
    }
}

/// A run without its place, which follows from those before it.
type SavedRun = ((u32, Time), (Stamp, (u16, (Fate, bool))));

crate::save::codec::numbered! {
    Fate { 0 = Flying, 1 = Sacked, 2 = Lost }
}

#[cfg(test)]
mod tests;
