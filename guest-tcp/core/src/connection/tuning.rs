//! How large the receive window should be: Linux's dynamic right-sizing (`tcp_rcv_space_adjust`), after Fisk and Feng.

use crate::limits::INITIAL_WINDOW;
use bulkhead_wit::Time;

/// The receiver's own round trip, and how much is read in one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tuning {
    /// The round-trip time as the receiver sees it, 0 before the first sample.
    pub rtt: Time,
    /// Without timestamps: a round trip is over when this offset arrives that began at `rtt_at`.
    pub rtt_seq: u64,
    pub rtt_at: Time,
    /// Bytes read in the best round trip so far.
    pub space: u32,
    /// Where and when the present round trip began.
    pub from: u64,
    pub from_at: Time,
    /// What is wished for, in bytes; 0 nothing.
    pub want: u32,
}

impl Tuning {
    /// Data arrived; `sample` is a round trip by timestamps. Otherwise one is the time that a whole window takes.
    pub(crate) fn arrived(&mut self, now: Time, next: u64, window: u64, sample: Option<Time>) {
        if let Some(sample) = sample {
            let sample = sample.max(1);
            self.rtt = if self.rtt == 0 { sample } else { self.rtt - self.rtt / 8 + sample / 8 };
        } else if next >= self.rtt_seq {
            if self.rtt_at > 0 {
                let sample = now.saturating_sub(self.rtt_at).max(1);
                self.rtt = if self.rtt == 0 { sample } else { self.rtt.min(sample) };
            }
            self.rtt_seq = next.saturating_add(window);
            self.rtt_at = now;
        }
    }

    /// The application has read up to `consumed`. Whether the wish has grown.
    pub(crate) fn consumed(&mut self, now: Time, consumed: u64, mss: u16, most: u32) -> bool {
        if self.rtt == 0 || now.saturating_sub(self.from_at) < self.rtt {
            return false;
        }
        let read = consumed.saturating_sub(self.from);
        (self.from, self.from_at) = (consumed, now);
        let initial = u64::from(INITIAL_WINDOW) * u64::from(mss);
        let space = u64::from(self.space).max(initial);
        if read <= space {
            return false;
        }
        // Twice what was read, for the sender doubles in slow start; and in proportion to the growth, for we are late.
        let window = (2 * read).saturating_add(16 * u64::from(mss));
        let grow = window.saturating_mul(read - space) / space.max(1);
        let window = window.saturating_add(grow.saturating_mul(2)).min(u64::from(most));
        self.space = u32::try_from(read).unwrap_or(u32::MAX);
        let larger = window > u64::from(self.want);
        if larger {
            self.want = window as u32;
        }
        larger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_reader_is_given_more_and_a_slow_one_is_not() {
        let mut tuning = Tuning { rtt: 1000, ..Tuning::default() };
        assert!(!tuning.consumed(1000, 10_000, 1460, 1 << 20));
        assert!(tuning.consumed(2000, 50_000, 1460, 1 << 20));
        assert!(tuning.want > 80_000);
        assert!(!tuning.consumed(2500, 900_000, 1460, 1 << 20), "not a round trip yet");
        assert!(tuning.consumed(3500, 900_000, 1460, 1 << 20));
        assert_eq!(tuning.want, 1 << 20);
    }
}
