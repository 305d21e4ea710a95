//! The receive sequence space: what is in order, what was announced, what is still owed to the peer.

use super::Tuning;
use crate::limits::{QUICK_ACKS, WINDOW_SCALE_MAX, WINDOW_UNSCALED};
use crate::reassembly::Reassembly;
use crate::recovery::Maybe;
use crate::seq::{Seq, number_of, position_of};
use bulkhead_wit::Time;

/// Offsets here are the receive stream's: 0 is the first byte of data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Receive {
    /// The number of the first byte of data: IRS + 1.
    pub base: Seq,
    /// RCV.NXT without SYN and FIN: bytes in order.
    pub next: u64,
    /// The host grants room up to here.
    pub limit: u64,
    /// Bytes that the application has read.
    pub consumed: u64,
    /// RCV.NXT + RCV.WND: the right edge of the largest window that was announced.
    pub edge: u64,
    /// Where the peer's stream ends, once its FIN was seen.
    pub fin: Maybe,
    /// The FIN is in order: RCV.NXT is one past it.
    pub fin_taken: bool,
    /// Our window shift.
    pub scale: u8,
    /// Acknowledgements still to be sent at once (quick acknowledgements at the start).
    pub quick: u8,
    /// The peer's full segment, estimated.
    pub mss: u16,
    /// Up to here was acknowledged (offset, FIN counted): Last.ACK.sent.
    pub acked: u64,
    /// TS.Recent (RFC 7323 4.3) and when it was taken.
    pub timestamp: u32,
    pub timestamp_at: Time,
    /// A duplicate to report in the next acknowledgement (RFC 2883).
    pub duplicate: Option<(u32, u32)>,
    /// The end of urgent data that was told last.
    pub urgent_at: u64,
    /// Congestion was experienced and the sender has not said CWR yet (RFC 3168 6.1.3).
    pub ecn_echo: bool,
    /// The largest window that the host may grant.
    pub max: u32,
    pub tuning: Tuning,
    /// What lies beyond a hole.
    pub reassembly: Reassembly,
}

impl Receive {
    pub(crate) fn new(first: u32, max: u32, scaled: bool) -> Self {
        let limit = u64::from(first).min(bulkhead_wit::limits::WINDOW);
        Self {
            base: Seq(0),
            next: 0,
            limit,
            consumed: 0,
            edge: 0,
            fin: Maybe::NONE,
            fin_taken: false,
            scale: if scaled { scale_for(first, max) } else { 0 },
            quick: QUICK_ACKS,
            mss: 536,
            acked: 0,
            timestamp: 0,
            timestamp_at: 0,
            duplicate: None,
            urgent_at: 0,
            ecn_echo: false,
            max: max.max(first),
            tuning: Tuning::default(),
            reassembly: Reassembly::default(),
        }
    }

    /// RCV.NXT as an offset, the FIN counted.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next + u64::from(self.fin_taken)
    }

    /// RCV.NXT.
    pub(crate) fn next_number(&self) -> Seq {
        number_of(self.next_offset(), self.base)
    }

    /// The number of an offset.
    pub(crate) fn number(&self, at: u64) -> Seq {
        number_of(at, self.base)
    }

    /// The offset of a number.
    pub(crate) fn offset(&self, seq: Seq) -> i64 {
        position_of(seq, self.base, self.next_offset())
    }

    /// RCV.WND: what is left of the window that was announced.
    pub(crate) fn window(&self) -> u64 {
        self.edge.saturating_sub(self.next_offset())
    }

    /// Where the window's right edge could be: the host's limit, the window field's reach, the clamp.
    fn reach(&self, clamp: u32) -> u64 {
        let mut window = self.limit.saturating_sub(self.next).min(WINDOW_UNSCALED << self.scale);
        if clamp > 0 {
            window = window.min(u64::from(clamp));
        }
        self.next + window
    }

    /// RFC 9293 3.8.6.2.2: the edge moves only by a full segment or half the buffer.
    pub(crate) fn may_move_edge(&self, clamp: u32) -> bool {
        let reach = self.reach(clamp);
        let least = u64::from(self.mss).min(self.limit.saturating_sub(self.consumed) / 2).max(1);
        reach >= self.edge + least
    }

    /// Whether an open window is news enough for an acknowledgement of its own: it was (nearly) closed, or doubles
    /// (Linux: `tcp_cleanup_rbuf`).
    pub(crate) fn opens_widely(&self, clamp: u32) -> bool {
        let window = self.edge.saturating_sub(self.next);
        self.may_move_edge(clamp) && self.reach(clamp).saturating_sub(self.next) >= 2 * window
    }

    /// Chooses the window to announce and gives the header's field. The right edge never goes back (RFC 9293 3.8.6)
    /// but for the rounding that a scale forces where the host's limit leaves no room (RFC 7323 2.4).
    pub(crate) fn announce(&mut self, clamp: u32) -> u16 {
        let edge = if self.may_move_edge(clamp) { self.reach(clamp) } else { self.edge };
        let window = edge.max(self.edge).saturating_sub(self.next_offset());
        let unit = 1_u64 << self.scale;
        let up = window.div_ceil(unit) * unit;
        let rounded = if self.next + up <= self.limit { up } else { window / unit * unit };
        let rounded = rounded.min(WINDOW_UNSCALED << self.scale);
        self.edge = self.edge.max(self.next_offset() + rounded);
        (rounded >> self.scale) as u16
    }

    /// The window of a SYN, which is never scaled (RFC 7323 2.2).
    pub(crate) fn announce_unscaled(&mut self, clamp: u32) -> u16 {
        let edge = self.reach(clamp).min(self.next + WINDOW_UNSCALED);
        self.edge = self.edge.max(edge);
        (edge - self.next) as u16
    }
}

/// The smallest shift with which a window of `max` bytes can be announced (RFC 7323 2.3); but for none with which the
/// `first` one could not: a window below the shift's unit would stay shut for good.
pub(crate) fn scale_for(first: u32, max: u32) -> u8 {
    let most = first.max(1).ilog2() as u8;
    (0..WINDOW_SCALE_MAX)
        .find(|&shift| u64::from(max.max(first)) >> shift <= WINDOW_UNSCALED)
        .unwrap_or(WINDOW_SCALE_MAX)
        .min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_first_window_can_be_announced() {
        for (first, max, scale) in [(1, 100_000, 0), (100, 6 << 20, 6), (65_535, 6 << 20, 7), (2, 2, 0)] {
            assert_eq!(scale_for(first, max), scale);
        }
    }

    #[test]
    fn the_edge_never_goes_back_and_never_passes_the_limit() {
        let mut receive = Receive::new(100_000, 6 << 20, true);
        assert_eq!(receive.scale, 7);
        receive.mss = 1460;
        let mut edge = 0;
        for step in 0..2000_u64 {
            let field = u64::from(receive.announce(0)) << receive.scale;
            assert!(receive.next + field <= receive.limit);
            assert!(receive.edge >= edge);
            edge = receive.edge;
            receive.next = (receive.next + 37).min(edge);
            if step % 50 == 0 {
                receive.limit += 1000;
                receive.consumed += 1000;
            }
        }
    }
}
