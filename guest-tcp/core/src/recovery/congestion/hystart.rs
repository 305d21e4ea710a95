//! `HyStart++` (RFC 9406): leaves the first slow start when the round-trip time grows, through a time of
//! conservative slow start that finds out whether it meant it.

use bulkhead_wit::limits::MICROSECOND;
use bulkhead_wit::types::Time;

// RFC 9406 4.3; times in microseconds.
const MIN_RTT_THRESH: u32 = 4000;
const MAX_RTT_THRESH: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u8 = 8;
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u8 = 5;

const INFINITE: u32 = u32::MAX;

/// What slow start is to do with an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Advice {
    /// Grow by this share of what was delivered: 1 is all.
    Divide(u64),
    /// Leave slow start: the threshold is the window.
    Leave,
}

/// A round of slow start and the one before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HyStart {
    /// The round ends when this offset is acknowledged.
    window_end: u64,
    last_min: u32,
    current_min: u32,
    samples: u8,
    /// Rounds left of conservative slow start; 0 outside of it.
    css_rounds: u8,
    css_baseline: u32,
}

impl Default for HyStart {
    fn default() -> Self {
        Self {
            window_end: 0,
            last_min: INFINITE,
            current_min: INFINITE,
            samples: 0,
            css_rounds: 0,
            css_baseline: INFINITE,
        }
    }
}

impl HyStart {
    /// An acknowledgement in slow start, `una` acknowledged and `end` sent.
    pub(super) fn on_ack(&mut self, rtt: Option<Time>, una: u64, end: u64) -> Advice {
        if una > self.window_end {
            // 4.2: a round ends.
            self.last_min = self.current_min;
            self.current_min = INFINITE;
            self.samples = 0;
            self.window_end = end;
            if self.css_rounds > 0 {
                self.css_rounds -= 1;
                if self.css_rounds == 0 {
                    return Advice::Leave;
                }
            }
        }
        if let Some(rtt) = rtt {
            let micros = u32::try_from(rtt / MICROSECOND).unwrap_or(INFINITE - 1);
            self.current_min = self.current_min.min(micros);
            self.samples = self.samples.saturating_add(1);
        }
        if self.samples >= N_RTT_SAMPLE && self.current_min != INFINITE {
            if self.css_rounds > 0 {
                if self.current_min < self.css_baseline {
                    // It was spurious: back to slow start.
                    self.css_baseline = INFINITE;
                    self.css_rounds = 0;
                }
            } else if self.last_min != INFINITE {
                let threshold = (self.last_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if self.current_min >= self.last_min.saturating_add(threshold) {
                    self.css_baseline = self.current_min;
                    self.css_rounds = CSS_ROUNDS;
                }
            }
        }
        Advice::Divide(if self.css_rounds > 0 { CSS_GROWTH_DIVISOR } else { 1 })
    }
}

crate::save::codec::fixed! {
    HyStart { window_end, last_min, current_min, samples, css_rounds, css_baseline }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::limits::MILLISECOND;

    fn round(hystart: &mut HyStart, number: u64, rtt: Time) -> Advice {
        let mut advice = Advice::Divide(1);
        for _ in 0..N_RTT_SAMPLE {
            advice = hystart.on_ack(Some(rtt), number * 1000 + 1, (number + 1) * 1000);
        }
        advice
    }

    #[test]
    fn rfc9406_4_2_growing_delay_leaves_slow_start_after_five_rounds() {
        let mut hystart = HyStart::default();
        assert_eq!(round(&mut hystart, 0, 20 * MILLISECOND), Advice::Divide(1));
        assert_eq!(round(&mut hystart, 1, 23 * MILLISECOND), Advice::Divide(1));
        assert_eq!(round(&mut hystart, 2, 30 * MILLISECOND), Advice::Divide(4));
        for number in 3..7 {
            assert_eq!(round(&mut hystart, number, 31 * MILLISECOND), Advice::Divide(4));
        }
        assert_eq!(hystart.on_ack(None, 7001, 8000), Advice::Leave);
    }

    #[test]
    fn rfc9406_4_2_delay_that_falls_again_was_spurious() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 0, 20 * MILLISECOND);
        assert_eq!(round(&mut hystart, 1, 30 * MILLISECOND), Advice::Divide(4));
        assert_eq!(round(&mut hystart, 2, 21 * MILLISECOND), Advice::Divide(1));
    }

    #[test]
    fn rfc9406_4_2_too_few_samples_say_nothing() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 0, 20 * MILLISECOND);
        for _ in 0..N_RTT_SAMPLE - 1 {
            assert_eq!(hystart.on_ack(Some(90 * MILLISECOND), 1001, 2000), Advice::Divide(1));
        }
    }
}
