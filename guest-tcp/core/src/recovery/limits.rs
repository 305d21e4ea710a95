//! Every constant and bound of recovery. Where an RFC leaves a value open or says SHOULD, Linux's is taken, since it
//! is what the other end has been tuned against.

use bulkhead_wit::limits::{MICROSECOND, MILLISECOND, SECOND};
use bulkhead_wit::types::Time;

/// The most bytes that one range to send covers: a datagram of 65,535 bytes with the largest headers that we write.
pub const SUPER_SEGMENT: u64 = 65_535 - 120;
/// A window is refilled in parts of at least this share of it, while it is full otherwise.
pub const BURST_SHARE: u64 = 8;
/// The most runs in a scoreboard; beyond it neighbours are merged, and RACK sees the later send time of both.
/// Super-segments make few runs; it takes a queue that drops every second segment of 12 MB to come here.
pub const RUNS: usize = 8192;
/// The most runs that a peer's SACK blocks may cut a scoreboard into: as many as there are segments in flight, and
/// this many more. So the memory is a small share of the data that it is about, whatever the peer says; further blocks
/// are ignored, which costs at most a retransmission.
pub const RUNS_BEYOND_SEGMENTS: usize = 16;
/// Runs that one span to send again is made of, at most: more than a super-segment has segments of 536 bytes.
pub const RUNS_OF_SPAN: usize = 128;
/// Bytes between two attempts to merge the runs of a full scoreboard.
pub const HALVING: u64 = 1 << 16;
/// The largest congestion window in bytes: the most that the contract lets be in flight.
pub const CWND: u64 = bulkhead_wit::limits::WINDOW;

/// The most that can be outstanding: a window, a probe and a FIN, far below what 32 bits count. Nothing beyond it is
/// offered.
pub const OUTSTANDING: u64 = 2 * CWND;

/// The retransmission timeout before the first sample (RFC 6298 2.1).
pub const RTO_INITIAL: Time = SECOND;
/// The same, if the SYN had to be retransmitted (RFC 6298 5.7).
pub const RTO_FALLBACK: Time = 3 * SECOND;
/// The smallest retransmission timeout by default. RFC 6298 2.4 says 1 s SHOULD be the minimum; Linux and all others
/// use less, and 200 ms is above every delayed acknowledgement in use.
pub const RTO_MIN: Time = 200 * MILLISECOND;
/// The largest retransmission timeout (RFC 6298 2.5 permits 60 s or more; Linux: 120 s).
pub const RTO_MAX: Time = 120 * SECOND;
/// The longest round-trip time that is believed.
pub const RTT_MAX: Time = 300 * SECOND;
/// How long a minimum of the round-trip time is believed (Linux: `tcp_min_rtt_wlen`, 300 s).
pub const MIN_RTT_WINDOW: Time = 300 * SECOND;

/// Duplicate acknowledgements that mean a loss (RFC 5681 3.2, RFC 6675 section 2).
pub const DUP_THRESH: u64 = 3;
/// Recoveries without D-SACK after which RACK's reordering window shrinks again (RFC 8985 section 6.2 step 4).
pub const REORDER_PERSIST: u8 = 16;
/// How late a delayed acknowledgement may be, which a probe of a single segment has to wait for (RFC 8985 section
/// 7.2; Linux uses its RTO minimum).
pub const ACK_DELAY_MAX: Time = 200 * MILLISECOND;
/// Slack of a probe for the granularity of the timers of both ends (Linux: `TCP_TIMEOUT_MIN`, 2 ms).
pub const PROBE_SLACK: Time = 2 * MILLISECOND;
/// How soon reneging is assumed once SND.UNA stands before selectively acknowledged data (Linux: the greater of this
/// and half an SRTT), so that an acknowledgement on its way is not mistaken for it.
pub const RENEGE_DELAY: Time = 10 * MILLISECOND;

/// Segments that leave unpaced at the start of a connection and after a pause: the initial window (Linux: `fq`, 10).
pub const UNPACED_SEGMENTS: u64 = 10;
/// Below this minimum round-trip time nothing is paced: a deadline is kept to 100 us, so that pacing would cost more
/// than the queue that it avoids.
pub const PACING_RTT_MIN: Time = MILLISECOND;
/// How much time's worth of data may leave at once when paced (Linux: `sk_pacing_shift` 10).
pub const PACING_QUANTUM: Time = MILLISECOND;
/// Pacing that is this near is due: the contract's deadlines are no finer.
pub const PACING_SLACK: Time = 50 * MICROSECOND;
/// Pacing rate in slow start, in percent of cwnd / SRTT (Linux: `tcp_pacing_ss_ratio`).
pub const PACING_SLOW_START: u64 = 200;
/// Pacing rate in congestion avoidance, in percent of cwnd / SRTT (Linux: `tcp_pacing_ca_ratio`).
pub const PACING_AVOIDANCE: u64 = 120;
/// How much later than its end the timer of a reordering window fires (Linux: `TCP_TIMEOUT_MIN_US`).
pub(super) const REORDER_SLACK: Time = 2 * MILLISECOND;
