//! Reno: RFC 5681 3.1, counting bytes (RFC 3465).

use super::Window;

/// Bytes acknowledged since the window grew last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct Reno {
    acked: u64,
}

impl Reno {
    pub(super) fn grow(&mut self, window: &mut Window, delivered: u64) {
        let left = if window.in_slow_start() { window.slow_start(delivered) } else { delivered };
        if window.in_slow_start() || left == 0 {
            return;
        }
        // RFC 5681 3.1: about a full segment per round trip.
        self.acked += left;
        if self.acked >= window.cwnd {
            self.acked -= window.cwnd;
            window.add(window.mss);
        }
    }

    /// RFC 5681 (4). Of the window as in Linux, not of the flight: the window is held to what was used.
    pub(super) fn reduce(&mut self, window: &Window) -> u64 {
        self.acked = 0;
        (window.cwnd / 2).max(2 * window.mss)
    }
}

impl Reno {
    /// Whether it can be one of ours.
    fn is_sound(&self) -> bool {
        self.acked <= super::CWND
    }
}

crate::save::codec::fixed! {
    Reno { acked } (Reno::is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5681_3_1_one_segment_per_window() {
        let mut window = Window { cwnd: 10_000, ssthresh: 10_000, mss: 1000 };
        let mut reno = Reno::default();
        for _ in 0..9 {
            reno.grow(&mut window, 1000);
        }
        assert_eq!(window.cwnd, 10_000);
        reno.grow(&mut window, 1000);
        assert_eq!(window.cwnd, 11_000);
    }

    #[test]
    fn rfc5681_4_halves_and_keeps_two_segments() {
        let window = Window { cwnd: 10_000, ssthresh: u64::MAX, mss: 1000 };
        assert_eq!(Reno::default().reduce(&window), 5000);
        assert_eq!(Reno::default().reduce(&Window { cwnd: 1000, ..window }), 2000);
    }
}
