//! Why split drops a frame, and how often it did.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Dropped { $($(#[$doc])* $name,)* }

        impl Dropped {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name of its counter, as people and scripts see it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Shorter than the headers that it claims to have.
    Truncated = "truncated";
    /// Neither IPv4 nor IPv6.
    Version = "ip-version";
    /// IPv4 header length below 20 bytes (RFC 791 3.1).
    HeaderLength = "ip-header-length";
    /// The datagram claims to be longer than the frame, or shorter than its own header (RFC 791 3.1, RFC 8200 3).
    TotalLength = "ip-total-length";
    /// Wrong IPv4 header checksum (RFC 1122 3.2.1.2).
    HeaderChecksum = "ip-header-checksum";
    /// More extension headers, or more bytes of them, than split walks.
    Extensions = "ipv6-extensions";
    /// A hop-by-hop header that is not the first (RFC 8200 4.1).
    ExtensionOrder = "ipv6-extension-order";
    /// A routing header with segments left: not for us yet (RFC 8200 4.4, RFC 5095).
    Routing = "ipv6-routing";
    /// A fragment without bytes, of a length that is no multiple of 8 though more follow, or beyond 65,535 bytes
    /// (RFC 791 3.2, RFC 8200 4.5).
    Fragment = "fragment-geometry";
    /// A source that nobody can have: multicast, broadcast, loopback, or unspecified with TCP (RFC 1122 3.2.1.3).
    Source = "source-address";
    /// TCP to a multicast or broadcast address (RFC 9293 3.9.2.3), or anything to a loopback address.
    Destination = "destination-address";
    /// From and to the same address and port (RFC 9293 3.10.7 knows no such peer).
    Land = "same-source-and-destination";
    /// A TCP data offset or UDP length that is too short or leads beyond the datagram.
    TransportLength = "transport-length";
    /// Wrong TCP, UDP or ICMP checksum.
    TransportChecksum = "transport-checksum";
    /// UDP over IPv6 without a checksum (RFC 8200 8.1).
    NoChecksum = "udp-checksum-missing";
    /// An ICMP error that quotes less than a network header and eight bytes of transport header (RFC 792, RFC 4443).
    Quote = "icmp-quote";
    /// An ICMP error about a fragment other than the first, which says nothing of a connection.
    QuotedFragment = "icmp-quote-fragment";
    /// A header of more than 512 bytes.
    LongHeader = "header-too-long";
    /// A payload of more than 65,535 bytes.
    LongPayload = "payload-too-long";
    /// A super-segment that the device describes wrongly.
    Gso = "gso";
    /// The batch is full: split was called without room.
    BatchFull = "batch-full";
}

/// How many frames were dropped, for each reason, and how many passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitCounters {
    /// Frames that became segments.
    pub passed: u64,
    dropped: [u64; Dropped::ALL.len()],
}

impl SplitCounters {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { passed: 0, dropped: [0; Dropped::ALL.len()] }
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or_default()
    }

    /// How many were dropped in all.
    #[must_use]
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Each counter with its name, those at zero too.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Dropped::ALL.iter().map(|reason| (reason.name(), self.dropped(*reason)))
    }

    pub(super) fn count(&mut self, reason: Dropped) {
        if let Some(counter) = self.dropped.get_mut(reason as usize) {
            *counter += 1;
        }
    }
}

impl Default for SplitCounters {
    fn default() -> Self {
        Self::new()
    }
}
