//! The delivery rate, estimated per acknowledgement (draft-ietf-ccwg-bbr section 4.1, as Linux's `tcp_rate.c`): the
//! slower of the rates of sending and of acknowledgement over the flight of the newest data delivered.

use bulkhead_wit::limits::SECOND;
use bulkhead_wit::types::Time;

use super::limits::CWND;
use super::scoreboard::Run;

/// The state of [`Rate`] when a run was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Stamp {
    delivered: u64,
    delivered_at: Time,
    first_sent_at: Time,
    app_limited: bool,
}

impl Stamp {}

/// The estimator.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Rate {
    delivered: u64,
    delivered_at: Time,
    first_sent_at: Time,
    /// Data sent until this much is delivered met an application that had no more; 0 is none.
    limited_until: u64,
    bytes_per_second: u64,
}

/// What an acknowledgement says about the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    pub(super) bytes_per_second: u64,
    /// The application had nothing more to send when it was sent.
    pub(super) app_limited: bool,
    /// Offsets delivered in all when it was sent: a round trip is over when this has come to what was then.
    pub(super) prior_delivered: u64,
}

/// The newest run of an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Newest {
    sent_at: Time,
    stamp: Stamp,
}

impl Newest {
    /// The newer of what was seen and `run`.
    pub(super) fn with(seen: Option<Self>, run: &Run) -> Option<Self> {
        let new = Self { sent_at: run.sent_at, stamp: run.stamp };
        match seen {
            Some(old) if (old.stamp.delivered, old.sent_at) > (new.stamp.delivered, new.sent_at) => seen,
            _ => Some(new),
        }
    }
}

impl Rate {
    /// Offsets delivered in all.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }
    /// The last estimate, bytes per second; 0 is none yet.
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }
    /// The application has nothing more to send, and the congestion window has room.
    pub(super) fn app_limited(&mut self, pipe: u64) {
        self.limited_until = (self.delivered + pipe).max(1);
    }

    /// The stamp of what is sent now, with `pipe` in flight before.
    pub(super) fn stamp(&mut self, now: Time, pipe: u64) -> Stamp {
        if pipe == 0 {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        Stamp {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.limited_until > 0,
        }
    }

    /// An acknowledgement delivered `delivered` offsets, `newest` among them.
    pub(super) fn on_ack(
        &mut self,
        now: Time,
        delivered: u64,
        newest: Option<Newest>,
        min_rtt: Option<Time>,
    ) -> Option<Sample> {
        if delivered == 0 {
            return None;
        }
        self.delivered += delivered;
        self.delivered_at = now;
        if self.limited_until > 0 && self.delivered > self.limited_until {
            self.limited_until = 0;
        }
        let Newest { sent_at, stamp } = newest?;
        self.first_sent_at = sent_at;
        let sending = sent_at.saturating_sub(stamp.first_sent_at);
        let acking = now.saturating_sub(stamp.delivered_at);
        let interval = sending.max(acking);
        // Shorter than a round trip means acknowledgements compressed on their way: no measure.
        if interval == 0 || min_rtt.is_some_and(|min| interval < min) {
            return None;
        }
        // At most a window was delivered, so 64 bits are enough; more is a damaged state.
        let bytes = (self.delivered - stamp.delivered.min(self.delivered)).min(2 * CWND);
        let rate = bytes * SECOND / interval;
        if !stamp.app_limited || rate > self.bytes_per_second {
            self.bytes_per_second = rate;
        }
        let (app_limited, prior_delivered) = (stamp.app_limited, stamp.delivered);
        Some(Sample { bytes_per_second: rate, app_limited, prior_delivered })
    }
}

crate::save::codec::fixed! {
    Stamp { delivered, delivered_at, first_sent_at, app_limited }
    Rate { delivered, delivered_at, first_sent_at, limited_until, bytes_per_second }
}

#[cfg(test)]
mod tests {
    use super::super::scoreboard::Fate;
    use super::*;
    use bulkhead_wit::limits::MILLISECOND;

    fn run(sent_at: Time, stamp: Stamp) -> Run {
        Run { start: 1, end: 1001, sent_at, stamp, fate: Fate::Flying, again: false, mss: 1000 }
    }

    #[test]
    fn ten_segments_a_round_trip_are_their_rate() {
        let mut rate = Rate::default();
        let first = run(0, rate.stamp(0, 0));
        let _ = rate.on_ack(10 * MILLISECOND, 10_000, Newest::with(None, &first), Some(10 * MILLISECOND));
        assert_eq!(rate.bytes_per_second(), 1_000_000);
        assert_eq!(rate.delivered(), 10_000);
    }

    #[test]
    fn an_application_limited_sample_never_lowers_the_estimate() {
        let mut rate = Rate::default();
        let first = run(0, rate.stamp(0, 0));
        let _ = rate.on_ack(10 * MILLISECOND, 10_000, Newest::with(None, &first), None);
        rate.app_limited(0);
        assert!(rate.limited_until > 0);
        let second = run(20 * MILLISECOND, rate.stamp(20 * MILLISECOND, 0));
        let _ = rate.on_ack(30 * MILLISECOND, 100, Newest::with(None, &second), None);
        assert_eq!(rate.bytes_per_second(), 1_000_000);
    }

    #[test]
    fn compressed_acknowledgements_are_no_sample() {
        let mut rate = Rate::default();
        let first = run(0, rate.stamp(0, 0));
        let _ = rate.on_ack(MILLISECOND, 10_000, Newest::with(None, &first), Some(10 * MILLISECOND));
        assert_eq!(rate.bytes_per_second(), 0);
    }
}
