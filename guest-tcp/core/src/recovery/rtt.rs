//! The round-trip time and the retransmission timeout (RFC 6298), and the smallest round-trip time seen lately.

use bulkhead_wit::limits::MICROSECOND;
use bulkhead_wit::types::Time;

use super::limits::{MIN_RTT_WINDOW, RTO_FALLBACK, RTO_INITIAL, RTO_MAX, RTT_MAX};
use super::maybe::Maybe;

/// The estimator. Estimates are in microseconds, SRTT scaled by 8 and the variations by 4, as their gains ask.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Rtt {
    srtt8: u32,
    /// The smoothed deviation, per sample.
    deviation4: u32,
    /// The largest deviation of this round trip.
    deviation4_max: u32,
    /// RTTVAR: follows a growing deviation at once, a falling one by a quarter a round trip, since with a sample per
    /// segment RFC 6298's gains forget within one (RFC 7323 appendix G has the same concern; Linux does it so).
    var4: u32,
    /// The round trip ends when this offset is acknowledged.
    round_end: u64,
    /// Doublings of the timeout (RFC 6298 5.5).
    backoff: u8,
    /// The SYN was retransmitted and not timed: the timeout starts at 3 s (RFC 6298 5.7).
    pub(super) fallback: bool,
    min: MinRtt,
}

impl Rtt {
    /// RFC 6298 2.2 and 2.3: a sample of `rtt` arrived, while `una` is acknowledged and `end` is sent.
    pub(super) fn sample(&mut self, rtt: Time, una: u64, end: u64) {
        let micros = (rtt.min(RTT_MAX) / MICROSECOND).max(1) as u32;
        if self.srtt8 == 0 {
            self.srtt8 = micros * 8;
            self.deviation4 = micros * 2;
            self.var4 = self.deviation4;
            self.deviation4_max = 0;
            self.round_end = end;
            return;
        }
        let error = (self.srtt8 / 8).abs_diff(micros);
        self.srtt8 = (self.srtt8 - self.srtt8 / 8 + micros).max(8);
        self.deviation4 = self.deviation4 - self.deviation4 / 4 + error;
        self.deviation4_max = self.deviation4_max.max(self.deviation4);
        self.var4 = self.var4.max(self.deviation4);
        if una > self.round_end {
            self.var4 -= (self.var4 - self.deviation4_max) / 4;
            self.deviation4_max = 0;
            self.round_end = end;
        }
    }

    /// A sample for the minimum alone: of the newest segment acknowledged, free of the receiver's delay.
    pub(super) fn sample_min(&mut self, now: Time, rtt: Time) {
        self.min.sample(now, (rtt.clamp(MICROSECOND, RTT_MAX) / MICROSECOND) as u32);
    }

    /// SRTT.
    pub(super) fn srtt(&self) -> Option<Time> {
        (self.srtt8 > 0).then_some(u64::from(self.srtt8) * MICROSECOND / 8)
    }
    /// RTTVAR.
    pub(super) fn var(&self) -> Time {
        u64::from(self.var4) * MICROSECOND / 4
    }
    /// The smallest round-trip time of the last minutes.
    pub(super) fn min(&self) -> Option<Time> {
        self.min.get()
    }

    /// RFC 6298 2.2, 2.4 and 2.5, backed off. The minimum is of the variation's term as in Linux, so that it
    /// leaves room above SRTT on every path.
    pub(super) fn rto(&self, rto_min: Time) -> Time {
        let base = match self.srtt() {
            Some(srtt) => srtt + (u64::from(self.var4) * MICROSECOND).max(rto_min),
            None if self.fallback => RTO_FALLBACK,
            None => RTO_INITIAL,
        };
        base.saturating_mul(1 << self.backoff.min(32)).min(RTO_MAX)
    }
    /// Doublings in force.
    pub(super) fn backoff(&self) -> u8 {
        self.backoff
    }
    /// RFC 6298 5.5.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }
    /// Forward progress ends the backing off. RFC 6298 5.7 would keep it until a new sample; Linux does not, since
    /// the cumulative acknowledgement shows that the path is back.
    pub(super) fn progress(&mut self) {
        self.backoff = 0;
    }
}

/// The minimum over the last half to whole window, in microseconds: two halves are enough, and smaller than a list
/// of samples.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct MinRtt {
    since: Maybe,
    current: u32,
    before: u32,
}

impl MinRtt {
    fn sample(&mut self, now: Time, rtt: u32) {
        let half = MIN_RTT_WINDOW / 2;
        match self.since.get() {
            Some(since) if now.saturating_sub(since) < half => self.current = self.current.min(rtt),
            Some(since) => {
                let stale = now.saturating_sub(since) >= 2 * half;
                self.before = if stale { rtt } else { self.current };
                self.current = rtt;
                self.since = Maybe::some(now);
            }
            None => (self.since, self.current, self.before) = (Maybe::some(now), rtt, rtt),
        }
    }

    fn get(&self) -> Option<Time> {
        self.since.is_some().then(|| u64::from(self.current.min(self.before)) * MICROSECOND)
    }
}

impl Rtt {
    /// Whether it can be one of ours.
    fn is_sound(&self) -> bool {
        let most = (RTT_MAX / MICROSECOND) as u32 * 8;
        let estimates = [self.srtt8, self.deviation4, self.deviation4_max, self.var4];
        estimates.iter().all(|&micros| micros <= most) && self.deviation4_max <= self.var4
    }
}

crate::save::codec::fixed! {
    MinRtt { since, current, before }
    Rtt { srtt8, deviation4, deviation4_max, var4, round_end, backoff, fallback, min } (Rtt::is_sound)
}

#[cfg(test)]
mod tests {
    use super::super::limits::RTO_MIN;
    use super::*;
    use bulkhead_wit::limits::{MILLISECOND, SECOND};

    #[test]
    fn rfc6298_2_the_timeout_before_and_after_the_first_sample() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.rto(RTO_MIN), SECOND);
        rtt.fallback = true;
        assert_eq!(rtt.rto(RTO_MIN), 3 * SECOND);
        rtt.sample(100 * MILLISECOND, 1, 1000);
        assert_eq!(rtt.srtt(), Some(100 * MILLISECOND));
        assert_eq!(rtt.var(), 50 * MILLISECOND); // 2.2: R/2
        assert_eq!(rtt.rto(RTO_MIN), 300 * MILLISECOND); // SRTT + 4 RTTVAR
        assert_eq!(rtt.rto(RTO_MIN), rtt.rto(0));
    }

    #[test]
    fn rfc6298_2_3_gains_of_an_eighth_and_a_quarter() {
        let mut rtt = Rtt::default();
        rtt.sample(80 * MILLISECOND, 1, 1000);
        rtt.sample(160 * MILLISECOND, 500, 1000);
        assert_eq!(rtt.srtt(), Some(90 * MILLISECOND)); // 7/8 80 + 1/8 160
        assert_eq!(rtt.var(), 50 * MILLISECOND); // 3/4 40 + 1/4 80
    }

    #[test]
    fn a_steady_path_ends_at_the_minimum_above_srtt() {
        let mut rtt = Rtt::default();
        for round in 0..60_u64 {
            rtt.sample(10 * MILLISECOND, round * 1000 + 1, round * 1000 + 500);
        }
        assert_eq!(rtt.rto(RTO_MIN), 210 * MILLISECOND);
    }

    #[test]
    fn rfc6298_5_5_backs_off_up_to_the_maximum() {
        let mut rtt = Rtt::default();
        rtt.back_off();
        assert_eq!(rtt.rto(RTO_MIN), 2 * SECOND);
        for _ in 0..300 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(RTO_MIN), RTO_MAX);
        rtt.progress();
        assert_eq!(rtt.rto(RTO_MIN), SECOND);
    }

    #[test]
    fn the_minimum_forgets_what_is_older_than_its_window() {
        let mut rtt = Rtt::default();
        rtt.sample_min(0, 5 * MILLISECOND);
        rtt.sample_min(SECOND, 50 * MILLISECOND);
        assert_eq!(rtt.min(), Some(5 * MILLISECOND));
        rtt.sample_min(151 * SECOND, 50 * MILLISECOND);
        assert_eq!(rtt.min(), Some(5 * MILLISECOND));
        rtt.sample_min(302 * SECOND, 40 * MILLISECOND);
        assert_eq!(rtt.min(), Some(40 * MILLISECOND));
    }
}
