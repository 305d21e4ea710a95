//! What goes in and comes out of [`Recovery`](super::Recovery).

use bulkhead_wit::limits::MILLISECOND;
use bulkhead_wit::types::Time;

/// A half-open range of the send stream, `start..end`, in offsets counted from the initial sequence number: the SYN
/// is `0..1`, the first byte of data is at 1, and the FIN takes one offset after the last byte. 64 bits: no wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// The first offset.
    pub start: u64,
    /// One past the last offset; never below `start`.
    pub end: u64,
}

impl Span {
    /// A span; an end below the start makes it empty.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end: if end < start { start } else { end } }
    }
    /// Offsets in it.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// Which congestion control runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// RFC 9438, with `HyStart++` (RFC 9406).
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
    /// draft-ietf-ccwg-bbr (version 3).
    Bbr,
}

/// What a connection starts with. `Default` is bulkhead's own profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Bytes of payload in a full segment, options already taken off; at least 1.
    pub mss: u32,
    /// The initial congestion window in segments (RFC 6928: 10).
    pub initial_window: u32,
    /// The congestion control.
    pub algorithm: Algorithm,
    /// The peer sends SACK blocks (RFC 2018).
    pub sack: bool,
    /// The peer echoes timestamps (RFC 7323).
    pub timestamps: bool,
    /// The smallest retransmission timeout.
    pub rto_min: Time,
    /// Nanoseconds a tick of our timestamp clock lasts.
    pub timestamp_tick: Time,
    /// Whether a window is spread over its round trip; the rule is in `pacing.rs`.
    pub pacing: bool,
    /// As Linux does it where that differs: slow start is left by Linux's `HyStart` instead of RFC 9406's.
    pub linux: bool,
    /// Segments that a super-segment has at least, where it is sized by the rate; 0 is two.
    pub super_segment_min: u8,
    /// Bytes per second never to be exceeded; 0 is no limit.
    pub max_pacing_rate: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            mss: 536,
            initial_window: 10,
            algorithm: Algorithm::Cubic,
            sack: false,
            timestamps: false,
            rto_min: super::limits::RTO_MIN,
            timestamp_tick: MILLISECOND,
            pacing: true,
            linux: false,
            super_segment_min: 0,
            max_pacing_rate: 0,
        }
    }
}

/// An acknowledgement that passed the acceptability test: `to` is not beyond what was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ack<'a> {
    /// SEG.ACK as an offset; at or below what was already acknowledged it is a duplicate or old.
    pub to: u64,
    /// SACK blocks as offsets, not empty, not beyond what was sent; the D-SACK block not among them.
    pub sacks: &'a [Span],
    /// The first block, when RFC 2883 section 4 makes it a D-SACK: below `to`, or inside the second block.
    pub dsack: Option<Span>,
    /// When the segment that this ACK echoes was sent, by our own timestamp clock: the start of that tick
    /// (RFC 7323 3.2 TSecr, turned back into our time). None without timestamps.
    pub echoed: Option<Time>,
    /// The segment announced a window other than the one before (RFC 5681 section 2: not a duplicate).
    pub window_changed: bool,
    /// It carried data, a SYN or a FIN (not a duplicate either).
    pub carries: bool,
    /// It carried ECE, and ECN is in use (RFC 3168).
    pub ecn_echo: bool,
}

impl Ack<'_> {
    /// Whether it says nothing and came only since text needs an ACK field.
    pub(super) fn is_only_carried(&self, una: u64) -> bool {
        let silent = self.sacks.is_empty() && self.dsack.is_none() && !self.ecn_echo;
        self.carries && self.to <= una && silent
    }
}

/// What an acknowledgement did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Acked {
    /// Offsets newly acknowledged cumulatively.
    pub advanced: u64,
    /// Offsets newly known to have arrived: cumulatively or selectively.
    pub delivered: u64,
    /// Offsets newly taken for lost.
    pub lost: u64,
    /// The round-trip time sampled.
    pub rtt: Option<Time>,
    /// A reduction of the congestion window turned out spurious and was taken back.
    pub undone: bool,
    /// The congestion window was reduced, now or by a timer since the last acknowledgement: with ECN, set CWR on the
    /// next new data (RFC 3168 6.1.2).
    pub reduced: bool,
}

/// What is there to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Supply {
    /// One past the last offset that the application has given (a FIN included).
    pub end: u64,
    /// One past the last offset that the peer's window admits: SND.UNA + SND.WND.
    pub window_end: u64,
    /// Whether new data may end in a segment shorter than the MSS: Nagle, cork and silly window avoidance, which
    /// the caller decides.
    pub small: bool,
    /// Whether the last offset is a FIN.
    pub fin: bool,
}

/// Why a range is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Data never sent before.
    New,
    /// Data taken for lost.
    Retransmission,
    /// A tail loss probe (RFC 8985 section 7): new data, or the last segment again.
    Probe,
}

/// A range to send now: at most [`SUPER_SEGMENT`](super::SUPER_SEGMENT) bytes, and full segments but for its end.
/// Sending less of it (from its start) is allowed; tell [`on_sent`](super::Recovery::on_sent) what was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The range.
    pub span: Span,
    /// Why.
    pub purpose: Purpose,
}

/// The answer to "what may be sent now".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// This; then ask again.
    Send(Transmit),
    /// Nothing, for this reason.
    Wait(Reason),
}

/// Why nothing may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Everything was sent, or the rest is too small for now.
    Idle,
    /// The peer's window is full.
    Window,
    /// The congestion window is full.
    Congestion,
    /// Too early; [`next_deadline`](super::Recovery::next_deadline) says when.
    Pacing,
}

/// What a timer did. Ask [`next`](super::Recovery::next) afterwards in any case but `Nothing`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum TimerAction {
    /// No timer was due.
    Nothing,
    /// Segments were marked lost, a probe is due, or pacing allows more.
    Send,
    /// The retransmission timeout: the caller compares
    /// [`timeouts`](super::Recovery::timeouts) with its limit of retries.
    Timeout,
}
