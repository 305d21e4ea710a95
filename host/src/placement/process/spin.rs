//! How long to look before one sleeps.

use std::time::{Duration, Instant};

/// Looks between two looks at the clock.
const LOOKS: u32 = 32;
/// After so many vain attempts in a row the pause between attempts grows no more: 2^6 - 1 waits.
const FAILURES: u32 = 6;

/// Looks for a while, and less and less often when it is in vain: waits that are longer than a wake-up takes, as those
/// of an idle server or of one that shares a processor with its host, should not be spent looking.
#[derive(Debug)]
pub(super) struct Spin {
    most: Duration,
    failures: u32,
    /// Waits without looking before the next attempt.
    skip: u32,
}

impl Spin {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, failures: 0, skip: 0 }
    }

    /// Looks until `is_there` says so, or it takes too long. Says whether it was there.
    pub(super) fn look(&mut self, is_there: impl Fn() -> bool) -> bool {
        if is_there() {
            return true;
        }
        if self.most.is_zero() {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let begun = Instant::now();
        while begun.elapsed() < self.most {
            for _ in 0..LOOKS {
                if is_there() {
                    self.failures = 0;
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        self.failures = (self.failures + 1).min(FAILURES);
        self.skip = (1 << self.failures) - 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_in_vain_is_tried_less_often() {
        let mut spin = Spin::new(Duration::from_nanos(1));
        let looked = Cell::new(0u32);
        let mut attempts = Vec::new();
        for wait in 0..200 {
            looked.set(0);
            let never = || {
                looked.set(looked.get() + 1);
                false
            };
            assert!(!spin.look(never));
            // One look is free.
            if looked.get() > 1 {
                attempts.push(wait);
            }
        }
        // A look that takes longer than a nanosecond may not come to look again; what counts is who tries.
        assert!(attempts.len() <= 8, "{attempts:?}");
        assert!(spin.look(|| true));
    }

    #[test]
    fn without_time_nobody_spins() {
        let mut spin = Spin::new(Duration::ZERO);
        let looked = Cell::new(0);
        for _ in 0..100 {
            looked.set(0);
            assert!(!spin.look(|| {
                looked.set(looked.get() + 1);
                false
            }));
            assert_eq!(looked.get(), 1);
        }
    }
}
