//! The numbered registries. Variants of a WIT type are closed, so what will grow is a number with a name here.
//!
//! Numbers are never used again for something else. A module ignores a setting that it does not know, and says
//! which ones it does know in its description.

macro_rules! registry {
    ($(#[$about:meta])* $module:ident: $kind:ty { $($(#[$doc:meta])* $name:ident = $value:expr, $text:expr;)* }) => {
        $(#[$about])*
        pub mod $module {
            $($(#[$doc])* pub const $name: $kind = $value;)*
            /// Every number of this registry with its name, in order.
            pub const ALL: &[($kind, &str)] = &[$(($value, $text),)*];
            /// The name of a number, as people and scripts see it.
            #[must_use]
            pub fn name(number: $kind) -> Option<&'static str> {
                ALL.iter().find(|entry| entry.0 == number).map(|entry| entry.1)
            }
        }
    };
}

registry! {
    /// What a service's `value` counts.
    service: u8 {
        /// An IP protocol number.
        IP_PROTOCOL = 0, "ip-protocol";
        /// An Ethernet type.
        ETHERTYPE = 1, "ethertype";
        /// A UDP port.
        UDP_PORT = 2, "udp-port";
        /// An `ICMPv6` type.
        ICMPV6_TYPE = 3, "icmpv6-type";
    }
}

registry! {
    /// Why a connection ended, a call failed, or what a connection was warned of.
    reason: u16 {
        /// Both directions ended in order.
        NORMAL = 0, "closed";
        /// The peer reset the connection.
        RESET = 1, "connection reset by peer";
        /// The peer refused the connection: a reset in answer to the SYN.
        REFUSED = 2, "connection refused";
        /// No answer in time: retransmissions, or the user timeout (RFC 9293 3.8.3).
        TIMED_OUT = 3, "timed out";
        /// Keepalive probes went unanswered (RFC 9293 3.8.4).
        KEEPALIVE = 4, "keepalive timed out";
        /// The application aborted it.
        ABORTED = 5, "aborted";
        /// No route to the host, from ICMP; `value` is the ICMP type and code.
        HOST_UNREACHABLE = 6, "host unreachable";
        /// No route to the network, from ICMP.
        NETWORK_UNREACHABLE = 7, "network unreachable";
        /// Prohibited by an administrator, from ICMP.
        PROHIBITED = 8, "prohibited";
        /// The path MTU changed; `value` is the new one in bytes.
        PATH_MTU = 9, "path MTU";
        /// The address or port is in use.
        IN_USE = 10, "address in use";
        /// The address is not ours.
        NOT_AVAILABLE = 11, "address not available";
        /// All slots, ports or memory are taken.
        EXHAUSTED = 12, "out of resources";
        /// The module does not serve this call or setting.
        UNSUPPORTED = 13, "not supported";
        /// No such connection, listener or socket.
        UNKNOWN = 14, "no such handle";
        /// The call is not valid in this state.
        INVALID = 15, "invalid in this state";
        /// The protocol port is unreachable, from ICMP.
        PORT_UNREACHABLE = 16, "port unreachable";
        /// Data arrived after the application had closed (RFC 2525 2.17): reset by us.
        DATA_AFTER_CLOSE = 17, "data after close";
        /// FIN-WAIT-2 lasted too long.
        LINGER = 18, "peer did not close in time";
    }
}

registry! {
    /// Settings: of an instance (in `config` or `set` of 0), of a listener's future connections, or of a connection.
    setting: u16 {
        /// 1 sends small segments at once (no Nagle, RFC 9293 3.7.4).
        NODELAY = 1, "nodelay";
        /// 1 holds back all but full segments, at most 200 ms.
        CORK = 2, "cork";
        /// 1 acknowledges every segment at once.
        QUICKACK = 3, "quickack";
        /// Nanoseconds of idleness before the first keepalive probe; 0 is off.
        KEEPALIVE_IDLE = 4, "keepalive-idle";
        /// Nanoseconds between keepalive probes.
        KEEPALIVE_INTERVAL = 5, "keepalive-interval";
        /// How many keepalive probes may go unanswered before the connection ends.
        KEEPALIVE_COUNT = 6, "keepalive-count";
        /// Nanoseconds that data may stay unacknowledged (RFC 5482, local); 0 is the default.
        USER_TIMEOUT = 7, "user-timeout";
        /// Nanoseconds in FIN-WAIT-2 once nobody reads.
        LINGER2 = 8, "linger2";
        /// Nanoseconds that an accept waits for the first data; 0 is off.
        DEFER_ACCEPT = 9, "defer-accept";
        /// The largest segment to send and to announce, in bytes; 0 is by the MTU.
        MAXSEG = 10, "maxseg";
        /// Congestion control: up to eight ASCII bytes, little endian (`reno`, `cubic`, `bbr`).
        CONGESTION = 11, "congestion";
        /// Time to live or hop limit of what is sent.
        TTL = 12, "ttl";
        /// Traffic class (DSCP; the ECN bits are the module's own).
        TRAFFIC_CLASS = 13, "traffic-class";
        /// Path MTU discovery: 0 never sets DF, 1 always does (RFC 1191).
        PMTU_DISCOVER = 14, "pmtu-discover";
        /// The largest window to announce, in bytes; 0 is no clamp.
        WINDOW_CLAMP = 15, "window-clamp";
        /// The highest pacing rate in bytes per second; 0 is no limit.
        MAX_PACING_RATE = 16, "max-pacing-rate";
        /// ECN: 0 off, 1 asks for it and answers it, 2 answers only (RFC 3168).
        ECN = 17, "ecn";
        /// 0 switches timestamps off (RFC 7323).
        TIMESTAMPS = 18, "timestamps";
        /// 0 switches selective acknowledgement off (RFC 2018).
        SACK = 19, "sack";
        /// 0 switches window scaling off (RFC 7323).
        WINDOW_SCALE = 20, "window-scale";
        /// A named set of defaults: 0 bulkhead's own, 1 `linux`.
        PROFILE = 21, "profile";
        /// 1: urgent data is told by its mark and stays in line (always so here); kept for completeness.
        URGENT_INLINE = 22, "urgent-inline";
        /// Unsent bytes below which a writer is told that there is space (`TCP_NOTSENT_LOWAT`).
        NOTSENT_LOWAT = 23, "notsent-lowat";
        /// How many times a SYN is sent again before an open fails.
        SYN_RETRIES = 24, "syn-retries";
        /// How many times data is sent again before the connection fails, where no user timeout is set.
        RETRIES = 25, "retries";
        /// The initial congestion window in segments; 0 is the default.
        INITIAL_WINDOW = 26, "initial-window";
        /// The smallest retransmission timeout in nanoseconds.
        RTO_MIN = 27, "rto-min";
        /// Segments that a super-segment has at least where it is sized by the rate; 0 is two.
        SUPER_SEGMENT_MIN = 28, "super-segment-min";
        /// Of a module that serves frames: our own link address, six bytes as a number, the first one the highest.
        LINK_ADDRESS = 29, "link-address";
        /// The IPv4 address that is given to the one guest of the link, as a number; 0 is none.
        LEASE = 30, "lease";
        /// The IPv4 address of the name server that guests are told of, as a number; 0 is none.
        NAME_SERVER = 31, "name-server";
    }
}

registry! {
    /// Fields of `info` for a connection, in the order in which they are listed; times in nanoseconds.
    info: u16 {
        /// RFC 9293 state: 1 LISTEN, 2 SYN-SENT, 3 SYN-RECEIVED, 4 ESTABLISHED, 5 FIN-WAIT-1, 6 FIN-WAIT-2,
        /// 7 CLOSE-WAIT, 8 CLOSING, 9 LAST-ACK, 10 TIME-WAIT, 0 CLOSED.
        STATE = 0, "state";
        /// Recovery: 0 open, 1 disorder, 2 reduced by ECN, 3 recovery, 4 loss.
        CA_STATE = 1, "ca-state";
        /// Bytes of payload in a full segment that we send.
        SND_MSS = 2, "snd-mss";
        /// Bytes of payload in the peer's full segments, estimated.
        RCV_MSS = 3, "rcv-mss";
        /// The MSS that we announced.
        ADVMSS = 4, "advmss";
        /// Path MTU in bytes.
        PMTU = 5, "pmtu";
        /// Retransmission timeout.
        RTO = 6, "rto";
        /// Smoothed round-trip time.
        RTT = 7, "rtt";
        /// Round-trip time variation.
        RTTVAR = 8, "rttvar";
        /// The smallest round-trip time seen lately.
        MIN_RTT = 9, "min-rtt";
        /// Congestion window in segments.
        CWND = 10, "cwnd";
        /// Slow start threshold in segments; `u64::MAX` while there is none.
        SSTHRESH = 11, "ssthresh";
        /// Segments sent and not acknowledged.
        UNACKED = 12, "unacked";
        /// Segments selectively acknowledged.
        SACKED = 13, "sacked";
        /// Segments taken for lost.
        LOST = 14, "lost";
        /// Retransmitted segments in flight.
        RETRANS = 15, "retrans";
        /// Retransmitted segments since the beginning.
        TOTAL_RETRANS = 16, "total-retrans";
        /// Reordering degree in segments.
        REORDERING = 17, "reordering";
        /// Reordering events seen.
        REORD_SEEN = 18, "reord-seen";
        /// Times the RTO was doubled.
        BACKOFF = 19, "backoff";
        /// Window or keepalive probes unanswered.
        PROBES = 20, "probes";
        /// Segments delivered.
        DELIVERED = 21, "delivered";
        /// Segments delivered with a CE mark.
        DELIVERED_CE = 22, "delivered-ce";
        /// Pacing rate, bytes per second.
        PACING_RATE = 23, "pacing-rate";
        /// Delivery rate, bytes per second.
        DELIVERY_RATE = 24, "delivery-rate";
        /// Time since data was sent last.
        LAST_DATA_SENT = 25, "last-data-sent";
        /// Time since data arrived last.
        LAST_DATA_RECV = 26, "last-data-recv";
        /// Time since an acknowledgement arrived last.
        LAST_ACK_RECV = 27, "last-ack-recv";
        /// Round-trip time as the receiver estimates it.
        RCV_RTT = 28, "rcv-rtt";
        /// Receive space in bytes that autotuning aims at.
        RCV_SPACE = 29, "rcv-space";
        /// Time with data outstanding.
        BUSY_TIME = 30, "busy-time";
        /// Time held back by the peer's window.
        RWND_LIMITED = 31, "rwnd-limited";
        /// Time held back by the send queue.
        SNDBUF_LIMITED = 32, "sndbuf-limited";
        /// Bit 0 timestamps, 1 SACK, 2 window scale, 3 ECN, 4 ECN seen, 5 SYN data.
        OPTIONS = 33, "options";
        /// Window scales: ours in bits 0 to 3, the peer's in bits 4 to 7.
        WSCALES = 34, "wscales";
        /// Segments that arrived out of order.
        OOO_PACKETS = 35, "ooo-packets";
        /// D-SACK blocks received.
        DSACK_DUPS = 36, "dsack-dups";
        /// Bytes sent, retransmissions included.
        BYTES_SENT = 37, "bytes-sent";
        /// Bytes acknowledged by the peer.
        BYTES_ACKED = 38, "bytes-acked";
        /// Bytes received in order.
        BYTES_RECEIVED = 39, "bytes-received";
        /// Segments sent.
        SEGS_OUT = 40, "segs-out";
        /// Segments received.
        SEGS_IN = 41, "segs-in";
        /// The peer's window in bytes.
        SND_WND = 42, "snd-wnd";
        /// Our window in bytes.
        RCV_WND = 43, "rcv-wnd";
        /// Undone reductions of the congestion window.
        UNDONE = 44, "undone";
    }
}

registry! {
    /// Fields of `info` for handle 0: the census of an instance.
    census: u16 {
        /// Connections in SYN-SENT.
        SYN_SENT = 0, "syn-sent";
        /// Connections in SYN-RECEIVED, embryos included.
        SYN_RECEIVED = 1, "syn-received";
        /// Connections in ESTABLISHED.
        ESTABLISHED = 2, "established";
        /// Connections in FIN-WAIT-1, FIN-WAIT-2, CLOSING, CLOSE-WAIT or LAST-ACK.
        CLOSING = 3, "closing";
        /// Connections in TIME-WAIT.
        TIME_WAIT = 4, "time-wait";
        /// Listeners.
        LISTENERS = 5, "listeners";
        /// Segments that arrived.
        SEGS_IN = 6, "segs-in";
        /// Segments that were sent.
        SEGS_OUT = 7, "segs-out";
        /// Segments that were sent again.
        RETRANS = 8, "retrans";
        /// Segments dropped: malformed, out of window, no taker.
        DROPPED = 9, "dropped";
        /// Resets sent.
        RESETS_OUT = 10, "resets-out";
        /// Resets received and accepted.
        RESETS_IN = 11, "resets-in";
        /// Challenge acknowledgements sent (RFC 5961).
        CHALLENGES = 12, "challenges";
        /// SYN cookies sent.
        COOKIES_SENT = 13, "cookies-sent";
        /// SYN cookies that came back valid.
        COOKIES_RECEIVED = 14, "cookies-received";
        /// SYNs dropped because the backlog was full.
        BACKLOG_DROPS = 15, "backlog-drops";
        /// Bytes of state in the module, estimated.
        STATE_BYTES = 16, "state-bytes";
        /// Echo requests answered.
        ECHOES = 17, "echoes";
    }
}

/// IP protocol numbers that the host knows by name.
pub mod protocol {
    /// `ICMP` (RFC 792).
    pub const ICMP: u8 = 1;
    /// `TCP` (RFC 9293).
    pub const TCP: u8 = 6;
    /// `UDP` (RFC 768).
    pub const UDP: u8 = 17;
    /// `ICMPv6` (RFC 4443).
    pub const ICMPV6: u8 = 58;
}
