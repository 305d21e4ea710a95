//! How much of the congestion window was used: it does not grow while the application or the peer's window is what
//! holds the sender back, and decays when it is not used (RFC 7661's aim, RFC 2861's means, as Linux).

use bulkhead_wit::types::Time;

use super::congestion::Window;

/// The use of the window.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    /// The largest flight of this round; [`FULL`] if the window was full at some time of it.
    peak: u32,
    /// The round ends when this offset is acknowledged.
    round_end: u64,
    /// The largest flight since `since`, the last time that the window was full or was adjusted.
    used: u32,
    since: Time,
}

/// No flight is this large.
const FULL: u32 = u32::MAX;

impl Usage {
    /// Something was sent, or could not be since the window was full (`full`).
    pub(super) fn note(&mut self, now: Time, flight: u64, full: bool, round: (u64, u64)) {
        let flight = u32::try_from(flight).unwrap_or(FULL).min(FULL - 1);
        let (una, end) = round;
        if una >= self.round_end || full || flight > self.peak {
            self.peak = if full { FULL } else { flight };
            self.round_end = end;
        }
        if full {
            (self.used, self.since) = (0, now);
        } else {
            self.used = self.used.max(flight);
        }
    }

    /// Whether the window held the sender back, so that it may grow. In slow start it may be twice what was used.
    pub(super) fn is_limited(&self, window: &Window) -> bool {
        self.peak == FULL || (window.in_slow_start() && window.cwnd < 2 * u64::from(self.peak))
    }

    /// RFC 2861 section 3.1: for a whole RTO the window was not used: half way down to what was.
    pub(super) fn decay(&mut self, now: Time, rto: Time, initial: u64, window: &mut Window) {
        if now.saturating_sub(self.since) < rto {
            return;
        }
        let used = u64::from(self.used).max(initial);
        if used < window.cwnd && !self.is_limited(window) {
            keep_three_quarters(window);
            window.cwnd = (window.cwnd + used) / 2;
        }
        (self.used, self.since) = (0, now);
    }

    /// The window was adjusted for idleness already.
    pub(super) fn restarted(&mut self, now: Time) {
        (self.used, self.since) = (0, now);
    }
}

/// RFC 2861 section 3.1: the threshold remembers what the window was.
fn keep_three_quarters(window: &mut Window) {
    window.ssthresh = window.ssthresh.max(window.cwnd / 4 * 3);
}

/// RFC 5681 4.1, in RFC 2861's gentler form: halved for each RTO without sending, down to the initial window.
pub(super) fn restart(window: &mut Window, idle: Time, rto: Time, initial: u64) {
    let floor = initial.min(window.cwnd);
    keep_three_quarters(window);
    let periods = (idle / rto.max(1)).min(32);
    window.cwnd = (window.cwnd >> periods).max(floor);
}

crate::save::codec::fixed! {
    Usage { peak, round_end, used, since }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::limits::SECOND;

    #[test]
    fn an_unused_window_does_not_grow_and_decays() {
        let mut window = Window { cwnd: 100_000, ssthresh: 50_000, mss: 1000 };
        let mut usage = Usage::default();
        usage.note(0, 100_000, true, (1, 100_001));
        assert!(usage.is_limited(&window));
        usage.note(SECOND, 5000, false, (100_001, 105_001));
        assert!(!usage.is_limited(&window));
        usage.decay(2 * SECOND, SECOND, 10_000, &mut window);
        assert_eq!((window.cwnd, window.ssthresh), (55_000, 75_000));
    }

    #[test]
    fn slow_start_may_be_twice_what_was_used() {
        let window = Window { cwnd: 10_000, ssthresh: u64::MAX, mss: 1000 };
        let mut usage = Usage::default();
        usage.note(0, 5000, false, (1, 5001));
        assert!(!usage.is_limited(&window));
        usage.note(0, 6000, false, (1, 6001));
        assert!(usage.is_limited(&window));
    }

    #[test]
    fn rfc2861_3_1_halves_for_each_idle_timeout() {
        let start = Window { cwnd: 80_000, ssthresh: 20_000, mss: 1000 };
        let mut window = start;
        restart(&mut window, 2 * SECOND, SECOND, 10_000);
        assert_eq!((window.cwnd, window.ssthresh), (20_000, 60_000));
        let mut window = start;
        restart(&mut window, 2000 * SECOND, SECOND, 10_000);
        assert_eq!(window.cwnd, 10_000);
    }
}
