//! Every bound and constant of the core. Where an RFC leaves a value open or says SHOULD, it is Linux's.

use bulkhead_wit::Time;
use bulkhead_wit::limits::{MILLISECOND, SECOND};

/// The MSS where the peer names none, over IPv4 (RFC 9293 3.7.1, MUST-15).
pub(crate) const MSS_DEFAULT_V4: u16 = 536;
/// The same over IPv6 (RFC 9293 3.7.1).
pub(crate) const MSS_DEFAULT_V6: u16 = 1220;
/// The smallest MSS that we let a peer impose, against tiny-segment attacks (Linux: `TCP_MIN_SND_MSS` 48 with options).
pub(crate) const MSS_MIN: u16 = 48;
/// The smallest path MTU that an ICMP error can bring about, IPv4 (Linux: `min_pmtu`).
pub(crate) const PATH_MTU_MIN_V4: u32 = 552;
/// The same for IPv6: no link has less (RFC 8200 5).
pub(crate) const PATH_MTU_MIN_V6: u32 = 1280;
/// Timeouts in a row after which large segments are suspected not to get through (RFC 4821 7.7; Linux with
/// `tcp_mtu_probing`: `tcp_retries1`).
pub(crate) const BLACK_HOLE_TIMEOUTS: u32 = 3;
/// The path MTU that is tried then: what every IPv6 link takes, and practically every IPv4 link.
pub(crate) const BLACK_HOLE_MTU: u32 = 1280;
/// The largest window shift (RFC 7323 2.3).
pub(crate) const WINDOW_SCALE_MAX: u8 = 14;
/// The largest window without a scale.
pub(crate) const WINDOW_UNSCALED: u64 = 65_535;

/// One tick of the timestamp clock (RFC 7323 5.4 permits 1 ms to 1 s; Linux: 1 ms).
pub(crate) const TIMESTAMP_TICK: Time = MILLISECOND;
/// After this much idleness a timestamp is no longer compared (RFC 7323 5.5).
pub(crate) const PAWS_IDLE: Time = 24 * 24 * 3600 * SECOND;
/// A delayed acknowledgement waits this long (RFC 9293 3.8.6.3 permits 500 ms; Linux: `TCP_DELACK_MIN`).
pub(crate) const DELAYED_ACK: Time = 40 * MILLISECOND;
/// Acknowledgements sent at once at the start of a connection (Linux: `TCP_MAX_QUICKACKS`).
pub(crate) const QUICK_ACKS: u8 = 16;
/// How long a corked or "more is coming" tail waits (Linux: 200 ms).
pub(crate) const CORK: Time = 200 * MILLISECOND;

/// The first and the largest interval of an embryo's SYN-ACK and of window probes.
pub(crate) const RTO_INITIAL: Time = SECOND;
/// The largest interval between retransmissions or probes (Linux: `TCP_RTO_MAX`).
pub(crate) const RTO_MAX: Time = 120 * SECOND;
/// SYN retransmissions of an open (Linux: `tcp_syn_retries`).
pub(crate) const SYN_RETRIES: u8 = 6;
/// SYN-ACK retransmissions of an embryo (Linux: `tcp_synack_retries`).
pub(crate) const SYN_ACK_RETRIES: u8 = 5;
/// Retransmissions of data (Linux: `tcp_retries2`).
pub(crate) const RETRIES: u8 = 15;
/// Retransmissions and probes once nobody owns the connection (Linux: `tcp_orphan_retries`, which means 8).
pub(crate) const ORPHAN_RETRIES: u8 = 8;

/// Idleness before the first keepalive probe where only the interval is set (RFC 9293 3.8.4: two hours).
pub(crate) const KEEPALIVE_INTERVAL: Time = 75 * SECOND;
/// Unanswered keepalive probes (Linux: `tcp_keepalive_probes`).
pub(crate) const KEEPALIVE_COUNT: u8 = 9;
/// FIN-WAIT-2 without a reader (Linux: `tcp_fin_timeout`).
pub(crate) const FIN_WAIT_2: Time = 60 * SECOND;
/// How long after the last SYN cookie one may come back.
pub(crate) const COOKIE_LIFE: Time = 128 * SECOND;
/// Share of all half-open connections that one source may have before its SYNs are answered with cookies, and how many it
/// may have in any case. A source is an IPv4 address or the network of 64 bits that an IPv6 host is given.
pub(crate) const EMBRYO_SHARE: u32 = 4;
pub(crate) const EMBRYOS_EACH_MIN: u32 = 16;
/// Sources are told apart as far as this many counts do.
pub(crate) const SOURCES: usize = 256;
/// Hold slots that one source may have.
pub(crate) const HOLDS_EACH: usize = 16;
/// After so long a datagram that is not whole makes way for another one, if all slots are taken.
pub(crate) const HOLD_SPARED: Time = SECOND;
/// ICMP errors about what has no taker, in a second.
pub(crate) const ERRORS_PER_SECOND: u32 = 100;
/// How long an offer waits for the host's decision.
pub(crate) const OFFER: Time = 60 * SECOND;
/// TIME-WAIT: 2 MSL (Linux: `TCP_TIMEWAIT_LEN`).
pub(crate) const TIME_WAIT: Time = 60 * SECOND;
/// How long ends in TIME-WAIT rest before an active open of ours may take them (Linux: `tcp_twsk_unique`).
pub(crate) const REUSE_AFTER: Time = SECOND;
/// Pieces of what is outstanding and of what lies beyond holes, of all connections together: some 40 MB. Beyond it peers cut
/// nothing into more of them, so that whoever holds many connections cannot use up the memory of all.
pub(crate) const PIECES: u32 = 1 << 19;
/// Connections in TIME-WAIT; beyond it the oldest makes way.
pub(crate) const TIME_WAITS: usize = 1 << 16;

/// Challenge acknowledgements in a second, over all connections (RFC 5961 7).
pub(crate) const CHALLENGES_PER_SECOND: u32 = 1000;
/// Out-of-window segments without data are answered this often a connection (Linux: `tcp_invalid_ratelimit`).
pub(crate) const OUT_OF_WINDOW_INTERVAL: Time = 500 * MILLISECOND;
/// Echo replies in a second.
pub(crate) const ECHOES_PER_SECOND: u32 = 10_000;

/// Ends of records that are remembered; beyond it the newest are forgotten.
pub(crate) const RECORD_ENDS: usize = 64;
/// What one connection may send before the next one's turn, in bytes.
pub(crate) const QUANTUM: u64 = 64 * 1024;
/// Time to live or hop limit (Linux: 64).
pub(crate) const TTL: u8 = 64;
/// The initial congestion window in segments (RFC 6928).
pub(crate) const INITIAL_WINDOW: u32 = 10;
/// The smallest retransmission timeout (RFC 6298 2.4 says one second; Linux: `TCP_RTO_MIN`).
pub(crate) const RTO_MIN: Time = 200 * MILLISECOND;
/// Events that one segment, call or timer can bring about, at most.
pub(crate) const EVENTS_EACH: usize = 4;
/// Timers that may fire in one step.
pub(crate) const TIMERS_PER_STEP: u32 = 4096;
/// Port choices tried for an open before the range counts as full.
pub(crate) const PORT_TRIES: u32 = 65_536;
