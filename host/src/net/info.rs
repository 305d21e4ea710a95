//! The module's figures, from the numbered registries into structures.

use bulkhead_wit::registry::{census, info};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

macro_rules! convert {
    (time, $value:expr) => {
        Duration::from_nanos($value)
    };
    (count, $value:expr) => {
        $value
    };
}

macro_rules! kind {
    (time) => {
        Duration
    };
    (count) => {
        u64
    };
}

macro_rules! figures {
    ($(#[$about:meta])* $name:ident from $registry:ident { $($(#[$doc:meta])* $field:ident: $number:ident, $kind:ident;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$doc])* pub $field: kind!($kind),)*
        }

        impl $name {
            /// From fields in registry order; those that the module does not know are zero.
            #[must_use]
            pub fn from_fields(fields: &[u64]) -> Self {
                let at = |number: u16| fields.get(usize::from(number)).copied().unwrap_or_default();
                Self { $($field: convert!($kind, at($registry::$number)),)* }
            }

            /// Both added up, figure by figure: counts and times of several of a kind.
            #[must_use]
            pub fn plus(self, other: Self) -> Self {
                Self { $($field: self.$field.saturating_add(other.$field),)* }
            }
        }
    };
}

figures! {
    /// What a connection's module knows of it (`TCP_INFO`): see [`registry::info`](bulkhead_wit::registry::info).
    TcpInfo from info {
        /// The state's number: see [`state`](Self::state).
        state_number: STATE, count;
        /// Recovery: 0 open, 1 disorder, 2 reduced by ECN, 3 recovery, 4 loss.
        ca_state: CA_STATE, count;
        /// Bytes of payload in a full segment that we send.
        snd_mss: SND_MSS, count;
        /// Bytes of payload in the peer's full segments, estimated.
        rcv_mss: RCV_MSS, count;
        /// The MSS that we announced, in bytes.
        advmss: ADVMSS, count;
        /// Path MTU in bytes.
        pmtu: PMTU, count;
        /// Retransmission timeout.
        rto: RTO, time;
        /// Smoothed round-trip time.
        rtt: RTT, time;
        /// Round-trip time variation.
        rttvar: RTTVAR, time;
        /// The smallest round-trip time seen lately.
        min_rtt: MIN_RTT, time;
        /// Congestion window in segments.
        cwnd: CWND, count;
        /// Slow start threshold in segments; `u64::MAX` while there is none.
        ssthresh: SSTHRESH, count;
        /// Segments sent and not acknowledged.
        unacked: UNACKED, count;
        /// Segments selectively acknowledged.
        sacked: SACKED, count;
        /// Segments taken for lost.
        lost: LOST, count;
        /// Retransmitted segments in flight.
        retrans: RETRANS, count;
        /// Retransmitted segments since the beginning.
        total_retrans: TOTAL_RETRANS, count;
        /// Reordering degree in segments.
        reordering: REORDERING, count;
        /// Reordering events seen.
        reord_seen: REORD_SEEN, count;
        /// Times the RTO was doubled.
        backoff: BACKOFF, count;
        /// Window or keepalive probes unanswered.
        probes: PROBES, count;
        /// Segments delivered.
        delivered: DELIVERED, count;
        /// Segments delivered with a CE mark.
        delivered_ce: DELIVERED_CE, count;
        /// Pacing rate, bytes per second.
        pacing_rate: PACING_RATE, count;
        /// Delivery rate, bytes per second.
        delivery_rate: DELIVERY_RATE, count;
        /// Time since data was sent last.
        last_data_sent: LAST_DATA_SENT, time;
        /// Time since data arrived last.
        last_data_recv: LAST_DATA_RECV, time;
        /// Time since an acknowledgement arrived last.
        last_ack_recv: LAST_ACK_RECV, time;
        /// Round-trip time as the receiver estimates it.
        rcv_rtt: RCV_RTT, time;
        /// Receive space in bytes that autotuning aims at.
        rcv_space: RCV_SPACE, count;
        /// Time with data outstanding.
        busy_time: BUSY_TIME, time;
        /// Time held back by the peer's window.
        rwnd_limited: RWND_LIMITED, time;
        /// Time held back by the send queue.
        sndbuf_limited: SNDBUF_LIMITED, time;
        /// Bit 0 timestamps, 1 SACK, 2 window scale, 3 ECN, 4 ECN seen, 5 SYN data.
        options: OPTIONS, count;
        /// Window scales: ours in bits 0 to 3, the peer's in bits 4 to 7.
        wscales: WSCALES, count;
        /// Segments that arrived out of order.
        ooo_packets: OOO_PACKETS, count;
        /// D-SACK blocks received.
        dsack_dups: DSACK_DUPS, count;
        /// Bytes sent, retransmissions included.
        bytes_sent: BYTES_SENT, count;
        /// Bytes acknowledged by the peer.
        bytes_acked: BYTES_ACKED, count;
        /// Bytes received in order.
        bytes_received: BYTES_RECEIVED, count;
        /// Segments sent.
        segs_out: SEGS_OUT, count;
        /// Segments received.
        segs_in: SEGS_IN, count;
        /// The peer's window in bytes.
        snd_wnd: SND_WND, count;
        /// Our window in bytes.
        rcv_wnd: RCV_WND, count;
        /// Undone reductions of the congestion window.
        undone: UNDONE, count;
    }
}

figures! {
    /// An instance's own figures: see [`registry::census`](bulkhead_wit::registry::census).
    Census from census {
        /// Connections in SYN-SENT.
        syn_sent: SYN_SENT, count;
        /// Connections in SYN-RECEIVED, embryos included.
        syn_received: SYN_RECEIVED, count;
        /// Connections in ESTABLISHED.
        established: ESTABLISHED, count;
        /// Connections on their way to the end.
        closing: CLOSING, count;
        /// Connections in TIME-WAIT.
        time_wait: TIME_WAIT, count;
        /// Listeners.
        listeners: LISTENERS, count;
        /// Segments that arrived.
        segs_in: SEGS_IN, count;
        /// Segments that were sent.
        segs_out: SEGS_OUT, count;
        /// Segments that were sent again.
        retrans: RETRANS, count;
        /// Segments dropped: malformed, out of window, no taker.
        dropped: DROPPED, count;
        /// Resets sent.
        resets_out: RESETS_OUT, count;
        /// Resets received and accepted.
        resets_in: RESETS_IN, count;
        /// Challenge acknowledgements sent (RFC 5961).
        challenges: CHALLENGES, count;
        /// SYN cookies sent.
        cookies_sent: COOKIES_SENT, count;
        /// SYN cookies that came back valid.
        cookies_received: COOKIES_RECEIVED, count;
        /// SYNs dropped because the backlog was full.
        backlog_drops: BACKLOG_DROPS, count;
        /// Bytes of state in the module, estimated.
        state_bytes: STATE_BYTES, count;
        /// Echo requests answered.
        echoes: ECHOES, count;
    }
}

/// A connection as the host and the module know it: see [`Net::connection_infos`](super::Net::connection_infos).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Bytes that the application has not read.
    pub unread: u64,
    /// Bytes that the application wrote and the peer has not acknowledged.
    pub unacknowledged: u64,
    /// What the module knows.
    pub tcp: TcpInfo,
}

impl TcpInfo {
    /// The connection's state, for people: the host itself never looks at it.
    #[must_use]
    pub fn state(&self) -> TcpState {
        TcpState(self.state_number)
    }
}

/// A state of RFC 9293 3.3.2 by its number in the information registry; shown by its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TcpState(pub u64);

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "CLOSED",
            1 => "LISTEN",
            2 => "SYN-SENT",
            3 => "SYN-RECEIVED",
            4 => "ESTABLISHED",
            5 => "FIN-WAIT-1",
            6 => "FIN-WAIT-2",
            7 => "CLOSE-WAIT",
            8 => "CLOSING",
            9 => "LAST-ACK",
            10 => "TIME-WAIT",
            _ => "UNKNOWN",
        })
    }
}
