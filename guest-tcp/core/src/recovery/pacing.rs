//! Pacing by deadline: a window is spread over its round trip instead of leaving at once.
//!
//! The rule: paced when the smallest round-trip time is a millisecond or more, the initial window has left, and SRTT
//! is known; or whenever the application set a rate. A deadline is kept to some 100 us, so on a shorter path pacing
//! would cost throughput and save no queue. What leaves at once is a millisecond's worth, at least two segments, so
//! that super-segments survive at high rates. After a pause it is as much as an initial window, the burst that a network
//! must bear from any new connection (RFC 6928; RFC 9002 7.7 says the same of QUIC). The rate is 200 % of cwnd / SRTT in
//! slow start and 120 % after (Linux).

use bulkhead_wit::limits::SECOND;
use bulkhead_wit::types::Time;

use super::congestion::Window;
use super::limits::{
    PACING_AVOIDANCE, PACING_QUANTUM, PACING_RTT_MIN, PACING_SLACK, PACING_SLOW_START, SUPER_SEGMENT,
    UNPACED_SEGMENTS,
};
use super::maybe::Maybe;

/// How fast may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Speed {
    /// The window times the percentage, per `srtt`; 0 is no such limit.
    window: u64,
    srtt: Time,
    /// Bytes per second; 0 is no such limit.
    most: u64,
    /// Bytes that may leave at once after a pause; none where the application set a rate.
    burst: u64,
}

impl Speed {
    /// The speed of a window, by the rule of this module; `most` is what the application set.
    pub(super) fn new(window: &Window, srtt: Option<Time>, min_rtt: Option<Time>, most: u64) -> Self {
        let paced = min_rtt.is_some_and(|min| min >= PACING_RTT_MIN);
        // As Linux: above half the threshold, slow start is about to end.
        let percent = if window.cwnd < window.ssthresh / 2 { PACING_SLOW_START } else { PACING_AVOIDANCE };
        let burst = if most == 0 { UNPACED_SEGMENTS * window.mss } else { 0 };
        match srtt {
            Some(srtt) if paced => Self { window: window.cwnd.max(window.mss) * percent, srtt, most, burst },
            _ => Self { window: 0, srtt: 0, most, burst },
        }
    }

    /// So many bytes per second.
    pub(super) const fn at(rate: u64) -> Self {
        Self { window: 0, srtt: 0, most: rate, burst: 0 }
    }

    fn is_unlimited(self) -> bool {
        self.window == 0 && self.most == 0
    }

    /// A quantum's worth of bytes in full segments, at least two: the longest super-segment at this speed.
    pub(super) fn quantum(self, mss: u64) -> u64 {
        if self.is_unlimited() {
            return SUPER_SEGMENT;
        }
        let quantum = self.bytes_per_second().min(1 << 40) / (SECOND / PACING_QUANTUM);
        (quantum / mss).max(2).saturating_mul(mss).min(SUPER_SEGMENT.max(mss))
    }

    /// Bytes per second; `u64::MAX` without a limit.
    pub(super) fn bytes_per_second(self) -> u64 {
        let by_window = match self.window {
            0 => u64::MAX,
            window => window.saturating_mul(SECOND / 100) / self.srtt.max(1),
        };
        if self.most == 0 { by_window } else { by_window.min(self.most) }
    }

    /// How long `bytes` take.
    fn time(self, bytes: u64) -> Time {
        let by_window = match self.window {
            0 => 0,
            window => bytes * 100 * self.srtt / window,
        };
        let by_most = (bytes * SECOND).checked_div(self.most).unwrap_or(0);
        by_window.max(by_most)
    }
}

/// When the next range may leave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Pacing {
    release: Time,
    /// Somebody waits for it.
    pub(super) timer: Maybe,
}

impl Pacing {
    /// How many bytes may leave now in full segments of `mss`; none, and the timer is set, if it is too early.
    pub(super) fn quota(&mut self, now: Time, speed: Speed, mss: u64) -> Option<u64> {
        self.timer = Maybe::NONE;
        if speed.is_unlimited() {
            return Some(SUPER_SEGMENT);
        }
        if self.release > now.saturating_add(PACING_SLACK) {
            self.timer = Maybe::some(self.release);
            return None;
        }
        let rested = now.saturating_sub(self.release) >= speed.time(speed.burst);
        Some(speed.quantum(mss).max(if rested { speed.burst } else { 0 }))
    }

    /// `bytes` left. A late release is made up for, but for no more than a burst.
    pub(super) fn on_sent(&mut self, now: Time, bytes: u64, speed: Speed) {
        if !speed.is_unlimited() {
            let from = self.release.max(now.saturating_sub(speed.time(speed.burst).max(PACING_QUANTUM)));
            self.release = from.saturating_add(speed.time(bytes));
        }
    }
}

crate::save::codec::fixed! {
    Pacing { release, timer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::limits::{MICROSECOND, MILLISECOND};

    const WINDOW: Window = Window { cwnd: 100_000, ssthresh: 50_000, mss: 1000 };

    #[test]
    fn a_short_path_is_never_paced() {
        let speed = Speed::new(&WINDOW, Some(2 * MILLISECOND), Some(999 * MICROSECOND), 0);
        assert_eq!(speed.bytes_per_second(), u64::MAX);
        let mut pacing = Pacing::default();
        for _ in 0..1000 {
            assert_eq!(pacing.quota(7, speed, 1000), Some(SUPER_SEGMENT));
            pacing.on_sent(7, SUPER_SEGMENT, speed);
        }
    }

    #[test]
    fn a_window_is_spread_over_its_round_trip() {
        let speed = Speed::new(&WINDOW, Some(100 * MILLISECOND), Some(100 * MILLISECOND), 0);
        assert_eq!(speed.bytes_per_second(), 1_200_000);
        let slow_start = Window { ssthresh: u64::MAX, ..WINDOW };
        let faster = Speed::new(&slow_start, Some(100 * MILLISECOND), Some(100 * MILLISECOND), 0);
        assert_eq!(faster.bytes_per_second(), 2_000_000);
        let mut pacing = Pacing::default();
        let (mut now, mut sent) = (SECOND, 0);
        let end = now + 100 * MILLISECOND;
        while now < end {
            match pacing.quota(now, speed, 1000) {
                Some(quota) => {
                    assert_eq!(quota, if sent == 0 { 10_000 } else { 2000 });
                    pacing.on_sent(now, quota, speed);
                    sent += quota;
                }
                None => now = pacing.timer.get().expect("waits").max(now + 1),
            }
        }
        assert!((128_000..=134_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_set_rate_holds_on_any_path() {
        let speed = Speed::new(&WINDOW, None, None, 1_000_000);
        assert_eq!(speed.bytes_per_second(), 1_000_000);
        let mut pacing = Pacing::default();
        let now = SECOND;
        pacing.on_sent(now, 10_000, speed);
        assert_eq!(pacing.quota(now, speed, 1000), None);
        assert_eq!(pacing.timer.get(), Some(now + 9 * MILLISECOND));
    }
}
