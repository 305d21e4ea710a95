//! Linux's `HyStart` (`tcp_cubic.c`, after Ha and Rhee 2011), for the profile that is compared with Linux: slow start is
//! left at once when the round trips of a round are longer than the shortest one by an eighth, or when a train of
//! acknowledgements lasts as long as half the shortest round trip.

use bulkhead_wit::limits::MICROSECOND;

use super::{Growth, Window};

/// Below this many segments nothing is watched (`hystart_low_window`).
const LOW_WINDOW: u64 = 16;
/// Samples of a round before its minimum counts (`HYSTART_MIN_SAMPLES`).
const MIN_SAMPLES: u8 = 8;
// In microseconds: `HYSTART_DELAY_MIN`, `HYSTART_DELAY_MAX`, and the gap that ends a train (`hystart_ack_delta_us`).
const DELAY_MIN: u32 = 4000;
const DELAY_MAX: u32 = 16_000;
const TRAIN_GAP: u64 = 2000;
/// Bytes that the sender's own batching may delay (`hystart_ack_delay`): four of the largest super-segments.
const BATCH: u64 = 4 << 16;

/// The round that is being watched; times in microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct HyStartLinux {
    /// The round ends when this offset is acknowledged.
    end: u64,
    began_at: u64,
    /// The last acknowledgement of the train.
    train_at: u64,
    /// The shortest round trip of the connection, 0 before the first, and of this round.
    shortest: u32,
    current: u32,
    samples: u8,
    /// Slow start has been left.
    is_over: bool,
}

impl HyStartLinux {
    /// An acknowledgement in slow start; whether slow start is to be left.
    pub(super) fn on_ack(&mut self, window: &Window, growth: &Growth) -> bool {
        let Some(rtt) = growth.rtt else { return false };
        let delay = u32::try_from(rtt / MICROSECOND).unwrap_or(u32::MAX).max(1);
        self.shortest = if self.shortest == 0 { delay } else { self.shortest.min(delay) };
        if self.is_over {
            return false;
        }
        let now = growth.now / MICROSECOND;
        if growth.una > self.end {
            (self.end, self.began_at, self.train_at) = (growth.end, now, now);
            (self.current, self.samples) = (u32::MAX, 0);
        }
        if window.cwnd < LOW_WINDOW * window.mss {
            return false;
        }
        self.is_over = self.is_train_long(now, window, growth) | self.is_delay_grown(delay);
        self.is_over
    }

    fn is_train_long(&mut self, now: u64, window: &Window, growth: &Growth) -> bool {
        if now.saturating_sub(self.train_at) > TRAIN_GAP {
            return false;
        }
        self.train_at = now;
        // The rate is what Linux would pace at: twice the window in a round trip.
        let batching = (BATCH * (growth.srtt / MICROSECOND) / (2 * window.cwnd.max(1))).min(1000);
        now.saturating_sub(self.began_at) > (u64::from(self.shortest) + batching) / 2
    }

    fn is_delay_grown(&mut self, delay: u32) -> bool {
        self.current = self.current.min(delay);
        if self.samples < MIN_SAMPLES {
            self.samples += 1;
            return false;
        }
        let threshold = (self.shortest / 8).clamp(DELAY_MIN, DELAY_MAX);
        self.current > self.shortest.saturating_add(threshold)
    }
}

crate::save::codec::fixed! {
    HyStartLinux { end, began_at, train_at, shortest, current, samples, is_over }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::Time;
    use bulkhead_wit::limits::MILLISECOND;

    const WINDOW: Window = Window { cwnd: 20_000, ssthresh: u64::MAX, mss: 1000 };

    /// `number` acknowledgements of one round, `apart`; how many came before slow start was left.
    fn round(hystart: &mut HyStartLinux, from: Time, number: u64, apart: Time, rtt: Time) -> Option<u64> {
        let una = hystart.end + 1;
        (0..number).find(|&at| {
            let growth = Growth {
                now: from + at * apart,
                delivered: 1000,
                una,
                end: una + 100_000,
                srtt: rtt,
                rtt: Some(rtt),
                limited: true,
            };
            hystart.on_ack(&WINDOW, &growth)
        })
    }

    #[test]
    fn delay_that_has_grown_by_an_eighth_ends_slow_start_at_the_ninth_sample() {
        let mut hystart = HyStartLinux::default();
        let first = 200 * MILLISECOND;
        assert_eq!(round(&mut hystart, first, 12, MILLISECOND, first), None);
        assert_eq!(round(&mut hystart, 2 * first, 12, MILLISECOND, 215 * MILLISECOND), None);
        assert_eq!(round(&mut hystart, 3 * first, 12, MILLISECOND, 240 * MILLISECOND), Some(8));
        assert_eq!(round(&mut hystart, 4 * first, 12, MILLISECOND, 240 * MILLISECOND), None, "only once");
    }

    #[test]
    fn a_train_of_half_a_round_trip_ends_slow_start() {
        let mut hystart = HyStartLinux::default();
        let rtt = 20 * MILLISECOND;
        assert_eq!(round(&mut hystart, rtt, 20, 3 * MILLISECOND, rtt), None, "no train");
        assert_eq!(round(&mut hystart, 10 * rtt, 20, MILLISECOND, rtt), Some(11));
    }
}
