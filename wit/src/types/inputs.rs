//! What a step takes.

use super::{Config, Endpoint, Handle, Setting, Time};
use alloc::vec::Vec;
use core::fmt;

/// How much may be sent in this step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Sends; a super-segment counts once.
    pub sends: u32,
    /// Bytes of headers and payload together, before segmentation.
    pub bytes: u32,
}

/// What a segment's header is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A network header, its extensions, and a whole transport header; the payload is what follows.
    #[default]
    Whole,
    /// A network header of a fragment; the payload is everything after it.
    Fragment,
    /// A network header, an ICMP header, and the quoted network and transport header as far as they were quoted.
    /// `transport` is where the ICMP header begins and `protocol` is ICMP's.
    IcmpError,
    /// A link-layer frame.
    Frame,
}

/// What is known of a segment's checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum Evidence {
    /// The host computed it, and it was right.
    #[default]
    Verified,
    /// The device vouches for it.
    Trusted,
    /// There is none (UDP over IPv4 with checksum 0, fragments).
    Absent,
}

/// A segment that arrived. Its number in the list names it for the length of the step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Segment {
    /// The byte of `headers` at which its header begins.
    pub header: u32,
    /// Bytes of payload, which the host holds.
    pub payload: u32,
    /// Bytes of its header, `20..=512`.
    pub header_length: u16,
    /// The byte of the header at which the transport header begins; equals `header_length` for a fragment.
    pub transport: u16,
    /// The largest payload, in bytes, of the real segments that this one was merged from, at least 1.
    pub mss: u16,
    /// How many real segments it was merged from, at least 1.
    pub count: u16,
    /// The transport protocol.
    pub protocol: u8,
    /// What the header is.
    pub kind: Kind,
    /// What is known of its checksum.
    pub evidence: Evidence,
    /// The number of the device it came by.
    pub device: u8,
}

/// What an application said about the byte at `written`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
#[repr(transparent)]
pub struct MarkAt(pub u8);

impl MarkAt {
    /// Push what was written (RFC 9293 3.9.1.2).
    pub const PUSH: Self = Self(1);
    /// More is coming at once (`MSG_MORE`).
    pub const MORE: Self = Self(2);
    /// A record ends here: never merge what follows into the same segment (`MSG_EOR`).
    pub const END_OF_RECORD: Self = Self(4);
    /// The last byte written is urgent (RFC 9293 3.8.5).
    pub const URGENT: Self = Self(8);
    /// A writer waits for space in the send queue.
    pub const WAITING: Self = Self(16);

    /// Whether all marks of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for MarkAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "marks({:#04x})", self.0)
    }
}

/// Where the application stands in both streams of a connection. Numbers are absolute, so a lost position is made
/// good by the next one. At most one a connection and step, unless marks differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Position {
    /// The connection.
    pub connection: Handle,
    /// Bytes written into the send queue since the beginning.
    pub written: u64,
    /// Bytes that the application has read.
    pub consumed: u64,
    /// The receive stream's limit: bytes up to here may be placed. Never shrinks.
    pub limit: u64,
    /// Marks at `written`.
    pub marks: MarkAt,
}

/// A datagram of the application's. Its number in the list names it for the length of the step, then it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Message {
    /// The socket it was written to.
    pub socket: Handle,
    /// Bytes.
    pub length: u32,
    /// Hop limit; 0 is the default.
    pub hop_limit: u8,
    /// Traffic class.
    pub traffic_class: u8,
    /// Where it comes from; unspecified is the socket's own.
    pub source: Endpoint,
    /// Where it goes.
    pub to: Endpoint,
}

/// How the host decides about an offered connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// Go on with the handshake.
    #[default]
    Accept,
    /// Refuse by a reset.
    Reset,
    /// Refuse by an ICMP unreachable with the given code.
    Unreachable,
    /// Say nothing.
    Drop,
}

/// Flags of a listener or datagram socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Listening(pub u8);

impl Listening {
    /// An IPv6 listener takes IPv4 connections too.
    pub const DUAL_STACK: Self = Self(1);
    /// Takes connections to any address, ours or not (a gateway). With port 0, to any port.
    pub const ANY_ADDRESS: Self = Self(2);
    /// Offers a connection before the handshake, for the host to decide.
    pub const DEFER: Self = Self(4);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A passive open (RFC 9293 3.10.1).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listen {
    /// Its number, chosen by the host.
    pub listener: u32,
    /// Where; unspecified is all of our addresses.
    pub local: Endpoint,
    /// Flags.
    pub how: Listening,
    /// Connections that may be accepted in all, counted from the listener's beginning: the backlog as credit.
    pub allow: u64,
    /// The receive limit that each connection begins with, in bytes.
    pub receive_first: u32,
    /// The largest receive window that a connection may come to, in bytes; the window scale follows from it.
    pub receive_max: u32,
    /// Settings for each connection.
    pub settings: Vec<Setting>,
}

/// More accepted connections in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allow {
    /// The listener.
    pub listener: u32,
    /// The new total of connections, never smaller than before.
    pub up_to: u64,
}

/// An active open (RFC 9293 3.10.1).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Open {
    /// The connection's handle, numbered by the host.
    pub connection: Handle,
    /// Our end. An unspecified address or port 0 is chosen by the module and told by `choosing`.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// The receive limit that the connection begins with, in bytes.
    pub receive_first: u32,
    /// The largest receive window that it may come to, in bytes.
    pub receive_max: u32,
    /// Settings of the connection.
    pub settings: Vec<Setting>,
}

/// A datagram socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bind {
    /// The socket's handle, numbered by the host.
    pub socket: Handle,
    /// Our end.
    pub local: Endpoint,
    /// The only peer, or unspecified.
    pub remote: Endpoint,
    /// Flags.
    pub how: Listening,
}

/// The host's decision about an offered connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Decide {
    /// The offered connection.
    pub connection: Handle,
    /// What is to be done.
    pub verdict: Verdict,
    /// The ICMP code for `unreachable`.
    pub code: u16,
}

/// Nobody reads any more, and nothing more will be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Close {
    /// The connection.
    pub connection: Handle,
    /// Nanoseconds that unacknowledged data may go on, counted from now: 0 resets at once, [`NEVER`](super::NEVER) sets no limit.
    pub linger: Time,
}

/// A setting of a connection, a socket or (0) the instance is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// Of what.
    pub of: Handle,
    /// The setting.
    pub setting: Setting,
}

/// A numbered reason with a value, about a connection: see [`registry::reason`](crate::registry::reason).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reason {
    /// The connection.
    pub connection: Handle,
    /// The reason's number.
    pub reason: u16,
    /// Its value; what it means stands at the number.
    pub value: u32,
}

/// What the host asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Addresses, MTU and settings change; the seed is ignored.
    Configure(Config),
    /// New randomness; keys and secrets are to be derived anew where that is possible.
    Reseed((u64, u64, u64, u64)),
    /// A passive open.
    Listen(Listen),
    /// More connections for a listener.
    Allow(Allow),
    /// A listener ends; its half-open connections are reset, accepted ones stay.
    Unlisten(u32),
    /// An active open.
    Open(Open),
    /// A datagram socket.
    Bind(Bind),
    /// The decision about an offered connection.
    Decide(Decide),
    /// Nothing more will be written: end the stream after `written` (as this step's positions have it).
    Shutdown(Handle),
    /// Nobody reads any more either.
    Close(Close),
    /// Reset the connection, or close the socket.
    Abort(Handle),
    /// A setting changes.
    Set(Change),
    /// Asks for an `info`, answered in this step. 0 is the census.
    Query(Handle),
    /// News from outside: unreachable, too big, gone.
    Report(Reason),
}

/// The inputs of one step, borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// The time of the step, in nanoseconds.
    pub now: Time,
    /// How much may be sent.
    pub room: Room,
    /// The header bytes of all segments.
    pub headers: &'a [u8],
    /// What arrived.
    pub segments: &'a [Segment],
    /// Where applications stand.
    pub positions: &'a [Position],
    /// Datagrams of the application's.
    pub messages: &'a [Message],
    /// What the host asks for.
    pub calls: &'a [Call],
}

impl<'a> Inputs<'a> {
    /// The header of a segment, which the host has put among the others.
    #[inline]
    #[must_use]
    pub fn header(&self, segment: &Segment) -> Option<&'a [u8]> {
        let from = segment.header as usize;
        self.headers.get(from..from.checked_add(usize::from(segment.header_length))?)
    }
}

/// The inputs of one step, owned; its vectors are reused from step to step.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The time of the step, in nanoseconds.
    pub now: Time,
    /// How much may be sent.
    pub room: Room,
    /// The header bytes of all segments.
    pub headers: Vec<u8>,
    /// What arrived.
    pub segments: Vec<Segment>,
    /// Where applications stand.
    pub positions: Vec<Position>,
    /// Datagrams of the application's.
    pub messages: Vec<Message>,
    /// What the host asks for.
    pub calls: Vec<Call>,
}

impl Batch {
    /// The same, borrowed.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            now: self.now,
            room: self.room,
            headers: &self.headers,
            segments: &self.segments,
            positions: &self.positions,
            messages: &self.messages,
            calls: &self.calls,
        }
    }

    /// Empties the lists and keeps their memory.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.segments.clear();
        self.positions.clear();
        self.messages.clear();
        self.calls.clear();
    }

    /// Whether there is nothing in it but the time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
            && self.positions.is_empty()
            && self.messages.is_empty()
            && self.calls.is_empty()
    }
}
