//! What an input is: a list of things that happen to the module, one after the other.
//!
//! Segments are told relative to what the module said last, as a peer would know it: sequence number 0 is the peer's
//! next byte, acknowledgement 0 everything that was heard. So a case stays meaningful when the module is changed, and when
//! an event in front of it goes. The text form is in [`text`](super::text).

use bulkhead_wit::Verdict;

/// Connections that a case can speak of; the last two are over IPv6.
pub const FLOWS: u8 = 8;
/// The first flow over IPv6.
pub const FIRST_V6: u8 = 6;

/// A list of events.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Case {
    /// In order.
    pub events: Vec<Event>,
}

/// Something that happens.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Event {
    /// A TCP segment of the peer's.
    Segment(Box<Segment>),
    /// A fragment of a datagram that nobody has cut: its bytes are a pattern.
    Fragment(Fragment),
    /// An ICMP error about what the module sent last in this flow.
    Icmp(Icmp),
    /// An ICMP echo request.
    Echo {
        /// Whose.
        flow: u8,
        /// Bytes of payload.
        length: u16,
    },
    /// A UDP datagram of the peer's.
    Datagram {
        /// Whose.
        flow: u8,
        /// The port that it goes to.
        port: u16,
        /// Bytes of payload.
        length: u16,
    },
    /// Bytes from the network header on. Lengths and checksums are repaired where there is room for them.
    Raw(Vec<u8>),
    /// Something that the application does.
    Call(Call),
    /// Time passes, and the module is called whenever it asked to be.
    Wait {
        /// Microseconds.
        us: u64,
    },
    /// Time passes without a call, as when the machine sleeps.
    Stall {
        /// Microseconds.
        us: u64,
    },
    /// From here on the peers are fair: they acknowledge what they got, send again what is missing, and their windows are
    /// open; applications read. So whatever was written must arrive, unless the connection ends.
    Fair {
        /// Round trips.
        rounds: u8,
    },
}

/// A TCP segment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Segment {
    /// Whose.
    pub flow: u8,
    /// Flags as in the header (RFC 9293 3.1): FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Sequence number, from the peer's next byte on. Only at 0 the peer's next byte moves on.
    pub seq: i32,
    /// Acknowledgement number, from the end of what was heard on.
    pub ack: i32,
    /// The window field.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// Bytes of payload.
    pub length: u16,
    /// The port that it goes to, where it is not the flow's: 0.
    pub port: u16,
    /// Options; padded to words.
    pub options: Vec<TcpOption>,
    /// Payload bytes of the real segments that a super-segment was merged from; 0 is a plain segment.
    pub gso: u16,
    /// Bytes of IP fragments that it is cut into, in units of 8; 0 is none.
    pub cut: u16,
    /// How often more it is sent, each time `stride` further.
    pub repeat: u8,
    /// See `repeat`.
    pub stride: u16,
    /// ECN bits of the network header.
    pub ecn: u8,
}

/// A TCP option.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum TcpOption {
    /// Kind 0.
    End,
    /// Kind 1.
    Nop,
    /// Kind 2.
    Mss(u16),
    /// Kind 3.
    WindowScale(u8),
    /// Kind 4.
    SackPermitted,
    /// Kind 5: each block from and to, from the end of what was heard on.
    Sack(Vec<(i32, i32)>),
    /// Kind 8: the peer's clock plus the first, what was heard plus the second.
    Timestamps(i32, i32),
    /// Bytes as they are: kind, length and whatever.
    Raw(Vec<u8>),
}

/// A fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Fragment {
    /// Whose.
    pub flow: u8,
    /// Identification.
    pub id: u8,
    /// Where it belongs, in units of 8 bytes.
    pub offset: u16,
    /// Bytes.
    pub length: u16,
    /// More fragments follow.
    pub more: bool,
    /// The protocol of the datagram.
    pub protocol: u8,
}

/// An ICMP error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Icmp {
    /// About which flow.
    pub flow: u8,
    /// The type, as in the header.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The last word of the header: next-hop MTU, pointer.
    pub value: u32,
    /// Quoted sequence number, from the last byte that the module sent on.
    pub seq: i32,
    /// Bytes of the quoted transport header.
    pub quoted: u8,
}

/// What an application does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Call {
    /// Listens at a port.
    Listen {
        /// The port.
        port: u16,
        /// Decides about each connection.
        defer: bool,
    },
    /// Stops listening at the port of the last `Listen`.
    Unlisten,
    /// Connects to the flow's peer.
    Open(u8),
    /// Writes so many bytes.
    Write(u8, u32),
    /// Writes with marks of its own: see [`MarkAt`](bulkhead_wit::MarkAt).
    Mark(u8, u32, u8),
    /// Reads at most so many bytes.
    Read(u8, u32),
    /// Ends the stream.
    Shutdown(u8),
    /// Is done; so many milliseconds may be spent on what is left.
    Close(u8, u32),
    /// Resets the connection.
    Abort(u8),
    /// A setting of the connection.
    Set(u8, u16, u64),
    /// A setting of the instance.
    Default(u16, u64),
    /// Asks for information about the connection.
    Query(u8),
    /// Decides about an offered connection.
    Decide(u8, Verdict),
    /// Sends a UDP datagram to the flow's peer.
    Send(u8, u16),
}

impl Event {
    /// The flow it is about.
    #[must_use]
    pub fn flow(&self) -> Option<u8> {
        match self {
            Self::Segment(segment) => Some(segment.flow),
            Self::Fragment(fragment) => Some(fragment.flow),
            Self::Icmp(icmp) => Some(icmp.flow),
            Self::Echo { flow, .. } | Self::Datagram { flow, .. } => Some(*flow),
            Self::Call(call) => call.flow(),
            Self::Raw(_) | Self::Wait { .. } | Self::Stall { .. } | Self::Fair { .. } => None,
        }
    }
}

impl Call {
    fn flow(&self) -> Option<u8> {
        match *self {
            Self::Open(flow)
            | Self::Write(flow, _)
            | Self::Mark(flow, ..)
            | Self::Read(flow, _)
            | Self::Shutdown(flow)
            | Self::Close(flow, _)
            | Self::Abort(flow)
            | Self::Set(flow, ..)
            | Self::Query(flow)
            | Self::Decide(flow, _)
            | Self::Send(flow, _) => Some(flow),
            Self::Listen { .. } | Self::Unlisten | Self::Default(..) => None,
        }
    }
}

/// FIN.
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 2;
/// RST.
pub const RST: u8 = 4;
/// PSH.
pub const PSH: u8 = 8;
/// ACK.
pub const ACK: u8 = 16;
/// URG.
pub const URG: u8 = 32;

impl Segment {
    /// A segment with these flags and an open window.
    #[must_use]
    pub fn new(flow: u8, flags: u8) -> Self {
        Self { flow, flags, window: 65_535, ..Self::default() }
    }
}

impl From<Segment> for Event {
    fn from(segment: Segment) -> Self {
        Self::Segment(Box::new(segment))
    }
}
