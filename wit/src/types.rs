//! Inputs and outputs of a module, item by item as in `bulkhead.wit`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Nanoseconds since the instance's origin. Never goes back; survives restore and swap.
pub type Time = u64;

/// The time that never comes.
pub const NEVER: Time = Time::MAX;

/// Names a connection, a datagram socket or (0) the instance.
///
/// Bits 0 to 23 are a slot, bits 24 to 55 the slot's generation, bit 63 says who numbered it: 0 the host (`open`,
/// `bind`), 1 the module (`accepted`, `offered`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Handle(pub u64);

impl Handle {
    /// The instance itself, where a handle is asked for.
    pub const INSTANCE: Self = Self(0);
    const BY_MODULE: u64 = 1 << 63;

    /// A handle numbered by the host. Generation 0 of slot 0 is [`Handle::INSTANCE`], so generations begin at 1.
    #[must_use]
    pub const fn by_host(slot: u32, generation: u32) -> Self {
        Self((slot as u64 & 0xff_ffff) | (generation as u64) << 24)
    }

    /// A handle numbered by the module.
    #[must_use]
    pub const fn by_module(slot: u32, generation: u32) -> Self {
        Self(Self::by_host(slot, generation).0 | Self::BY_MODULE)
    }

    /// The slot, `0..2^24`.
    #[must_use]
    pub const fn slot(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }

    /// The slot's generation.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 24) as u32
    }

    /// Whether the module numbered it.
    #[must_use]
    pub const fn is_by_module(self) -> bool {
        self.0 & Self::BY_MODULE != 0
    }

    /// Whether bits 56 to 62, which mean nothing, are zero as they must be.
    #[must_use]
    pub const fn is_well_formed(self) -> bool {
        (self.0 >> 56) & 0x7f == 0
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::INSTANCE {
            return f.write_str("instance");
        }
        let by = if self.is_by_module() { 'm' } else { 'h' };
        write!(f, "{by}{}.{}", self.slot(), self.generation())
    }
}

/// An IPv6 address; IPv4 as `::ffff:a.b.c.d`; all zero is unspecified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    /// The first eight bytes, big endian.
    pub high: u64,
    /// The last eight bytes, big endian.
    pub low: u64,
}

impl Address {
    /// `::`, which stands for any address where a local one is asked for.
    pub const UNSPECIFIED: Self = Self { high: 0, low: 0 };
    const V4: u64 = 0xffff_0000_0000;

    /// `::ffff:a.b.c.d`.
    #[must_use]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self { high: 0, low: Self::V4 | u32::from_be_bytes(octets) as u64 }
    }

    /// From sixteen bytes as on the wire.
    #[must_use]
    pub const fn from_v6(octets: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(octets);
        Self { high: (all >> 64) as u64, low: all as u64 }
    }

    /// Sixteen bytes as on the wire.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        ((self.high as u128) << 64 | self.low as u128).to_be_bytes()
    }

    /// The four bytes of an IPv4 address, if it is one.
    #[must_use]
    pub const fn v4(self) -> Option<[u8; 4]> {
        if self.is_v4() { Some((self.low as u32).to_be_bytes()) } else { None }
    }

    /// Whether it stands for an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == 0xffff
    }

    /// `::` or `0.0.0.0`.
    #[must_use]
    pub const fn is_unspecified(self) -> bool {
        self.high == 0 && (self.low == 0 || self.low == Self::V4)
    }

    /// `224.0.0.0/4` or `ff00::/8`.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() { (self.low as u32) >> 28 == 0xe } else { self.high >> 56 == 0xff }
    }

    /// `255.255.255.255`.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        self.is_v4() && self.low as u32 == u32::MAX
    }

    /// `127.0.0.0/8` or `::1`.
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() { (self.low as u32) >> 24 == 127 } else { self.high == 0 && self.low == 1 }
    }

    /// Whether a connection's end can be here: neither unspecified, multicast nor broadcast.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        !self.is_unspecified() && !self.is_multicast() && !self.is_broadcast()
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::from_v6(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        match address.v4() {
            Some(octets) => Self::V4(octets.into()),
            None => Self::V6(address.octets().into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address and a port; port 0 is any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port, in host order.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint from its parts.
    #[must_use]
    pub const fn new(address: Address, port: u16) -> Self {
        Self { address, port }
    }
}

impl From<core::net::SocketAddr> for Endpoint {
    fn from(socket: core::net::SocketAddr) -> Self {
        Self { address: socket.ip().into(), port: socket.port() }
    }
}

impl From<Endpoint> for core::net::SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.address.into(), endpoint.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A network: the first `length` bits of an address in its 128-bit form, so an IPv4 network of /24 has length 120.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Prefix {
    /// An address in it; as one of ours, the address that we have.
    pub address: Address,
    /// Bits, `0..=128`.
    pub length: u8,
}

impl Prefix {
    /// Whether `address` lies in this network.
    #[must_use]
    pub const fn contains(self, address: Address) -> bool {
        let differ =
            ((self.address.high ^ address.high) as u128) << 64 | (self.address.low ^ address.low) as u128;
        let length = if self.length > 128 { 128 } else { self.length as u32 };
        differ.leading_zeros() >= length
    }
}

/// A numbered option and its value: see [`registry::setting`](crate::registry::setting).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setting {
    /// Its number.
    pub key: u16,
    /// Its value; what it means stands at the number.
    pub value: u64,
}

/// A kind of packets that a module serves or sends: see [`registry::service`](crate::registry::service).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// What `value` counts.
    pub kind: u8,
    /// The number.
    pub value: u16,
}

/// What a module says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// What it takes in.
    pub serves: Vec<Service>,
    /// What it sends; everything that it serves and sends back must be listed too.
    pub sends: Vec<Service>,
    /// Memory that a connection takes in the module, about.
    pub bytes_per_connection: u32,
    /// The number of the format that `save` writes.
    pub state_format: u32,
    /// The settings that it knows.
    pub settings: Vec<u16>,
}

/// What an instance is started with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Our addresses, each with its network. What the module sends comes from one of these.
    pub addresses: Vec<Prefix>,
    /// Every address that is sent to is ours (a gateway), and may be sent from.
    pub any_address: bool,
    /// The longest datagram that the link takes, in bytes, from the network header on.
    pub mtu: u32,
    /// All randomness of the instance.
    pub seed: (u64, u64, u64, u64),
    /// Which shard this is, `0..shards`.
    pub shard: u16,
    /// How many there are, at least 1. Ports chosen for `open` are those with `port % shards == shard`.
    pub shards: u16,
    /// The first ephemeral port.
    pub ports_first: u16,
    /// The last ephemeral port.
    pub ports_last: u16,
    /// Connections at most.
    pub connections: u32,
    /// Half-open connections at most; beyond it, cookies.
    pub embryos: u32,
    /// Connections offered and undecided at most.
    pub offers: u32,
    /// Runs of placed bytes beyond `exposed`, a connection, at most.
    pub islands: u16,
    /// Hold slots.
    pub holds: u16,
    /// Settings of the instance, which are the defaults of its connections.
    pub settings: Vec<Setting>,
}

/// How `load` accounts for a connection. Each number must equal the host's own, or the swap is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The connection.
    pub connection: Handle,
    /// Our end.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// The sequence number of the first byte that the peer sends.
    pub receive_base: u32,
    /// The sequence number of the first byte that we send.
    pub send_base: u32,
    /// Bytes exposed to the application.
    pub exposed: u64,
    /// Bytes that the peer has acknowledged.
    pub acknowledged: u64,
    /// The end of the highest range sent.
    pub sent: u64,
    /// The receive limit as the module knows it.
    pub limit: u64,
}

// ---- inputs

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
pub struct Segment {
    /// Where its header begins in `headers`.
    pub header: u32,
    /// Bytes of payload, which the host holds.
    pub payload: u32,
    /// Bytes of its header, `20..=512`.
    pub header_length: u16,
    /// Where in the header the transport header begins; equals `header_length` for a fragment.
    pub transport: u16,
    /// The largest payload of the real segments that this one was merged from, at least 1.
    pub mss: u16,
    /// How many real segments it was merged from, at least 1.
    pub count: u16,
    /// The transport protocol.
    pub protocol: u8,
    /// What the header is.
    pub kind: Kind,
    /// What is known of its checksum.
    pub evidence: Evidence,
    /// The device it came by.
    pub device: u8,
}

/// What an application said about the byte at `written`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
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
    /// The largest receive window that a connection may come to; the window scale follows from it.
    pub receive_max: u32,
    /// Settings for each connection.
    pub settings: Vec<Setting>,
}

/// More accepted connections in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allow {
    /// The listener.
    pub listener: u32,
    /// The new total, never smaller than before.
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
    /// The largest receive window that it may come to.
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
    /// How long unacknowledged data may go on, counted from now: 0 resets at once, [`NEVER`] sets no limit.
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
    /// The time of the step.
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

/// The inputs of one step, owned; its vectors are reused from step to step.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The time of the step.
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

// ---- outputs

/// Where a send's payload comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum Source {
    /// There is none; `of`, `at` and `length` are zero.
    #[default]
    Nothing,
    /// A connection's send queue: `of` is its handle, `at` the offset in the stream.
    Queue,
    /// A segment of this step: `of` is its number, `at` how many payload bytes to skip.
    Segment,
    /// A message of this step: `of` is its number, `at` how many bytes to skip.
    Message,
    /// A hold slot: `of` is its number, `at` how many bytes to skip.
    Hold,
    /// Bytes staged in this step; only in the world with payload access.
    Staged,
}

/// Flags of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct How(pub u8);

impl How {
    /// Join may cut the datagram into IP fragments where it is longer than the MTU.
    pub const MAY_FRAGMENT: Self = Self(1);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A frame, or a super-segment that join cuts into frames.
///
/// Length, identification and checksum fields of the header are zero: join fills them, and steps the sequence
/// number from frame to frame. PSH and FIN are sent with the last frame only, CWR with the first only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Send {
    /// Whose payload: see [`Source`].
    pub of: u64,
    /// Where it begins there.
    pub at: u64,
    /// Where the header begins in `headers`.
    pub header: u32,
    /// Bytes of payload.
    pub length: u32,
    /// Bytes of the header.
    pub header_length: u16,
    /// Where in the header the transport header begins.
    pub transport: u16,
    /// Payload bytes of each frame; 0 is one frame.
    pub mss: u16,
    /// Where the payload comes from.
    pub source: Source,
    /// Flags.
    pub how: How,
}

/// Where placed bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum Target {
    /// A connection's receive stream: `of` is its handle, `at` the offset.
    #[default]
    Stream,
    /// A datagram socket: `of` is its handle, `at` is 0.
    Datagram,
    /// A hold slot: `of` is its number, `at` the offset in the datagram.
    Hold,
}

/// Bytes of an arrived segment are put where they belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Whose: see [`Target`].
    pub of: u64,
    /// Where there.
    pub at: u64,
    /// The segment's number (or the staged bytes').
    pub segment: u32,
    /// Payload bytes of the segment to skip.
    pub skip: u32,
    /// Bytes to place.
    pub length: u32,
    /// `Segment` or `Staged`.
    pub source: Source,
    /// Where to.
    pub target: Target,
}

/// How far a connection has come. At most one a connection and step, with both numbers as they are now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// The connection.
    pub connection: Handle,
    /// Bytes in order, for the application to read (RCV.NXT without SYN and FIN).
    pub exposed: u64,
    /// Bytes that the peer has acknowledged (SND.UNA without SYN and FIN): the host drops them from its queue.
    pub acknowledged: u64,
    /// The segment whose acknowledgement covers `acknowledged`; not looked at where `acknowledged` has not changed.
    pub by: u32,
    /// How large the receive window should become, in bytes; 0 has no wish.
    pub want_receive: u32,
    /// How large the send queue should become, in bytes; 0 has no wish.
    pub want_send: u32,
}

/// A connection begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    /// The listener that took it; 0 for `opened`.
    pub listener: u32,
    /// The connection.
    pub connection: Handle,
    /// The segment that completed the handshake (that asks for it, for `offered`).
    pub segment: u32,
    /// The sequence number of the first byte that the peer sends: its initial one + 1.
    pub receive_base: u32,
    /// The sequence number of the first byte that we send: our initial one + 1. 0 for `offered`, where it is not set.
    pub send_base: u32,
    /// Payload bytes in a full segment that we send.
    pub mss: u16,
}

/// The end that the module chose for an open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choosing {
    /// The connection.
    pub connection: Handle,
    /// Our end.
    pub local: Endpoint,
}

/// The peer has ended its stream. Told when its FIN is seen, even beyond a hole; end of file when `exposed == at`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Finished {
    /// The connection.
    pub connection: Handle,
    /// Where the stream ends.
    pub at: u64,
    /// The segment with the FIN.
    pub segment: u32,
}

/// Urgent data ends at `at` (RFC 9293 3.8.5, RFC 6093).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Urgent {
    /// The connection.
    pub connection: Handle,
    /// The offset after the last urgent byte.
    pub at: u64,
}

/// A hold slot is complete: pass its first `length` bytes through split as a datagram's payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hold {
    /// The slot.
    pub slot: u32,
    /// Bytes.
    pub length: u32,
}

/// The answer to a query: fields in registry order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Of what; 0 is the census.
    pub of: Handle,
    /// At most [`limits::INFO_FIELDS`](crate::limits::INFO_FIELDS).
    pub fields: Vec<u64>,
}

/// A call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Failed {
    /// The call's number in the list.
    pub call: u32,
    /// Why: see [`registry::reason`](crate::registry::reason).
    pub reason: u16,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A stranger asks for a connection of a deferring listener.
    Offered(Opening),
    /// A passive open is complete.
    Accepted(Opening),
    /// An active open is complete.
    Opened(Opening),
    /// The local end of an open is chosen.
    Choosing(Choosing),
    /// The peer has ended its stream.
    Finished(Finished),
    /// Urgent data.
    Urgent(Urgent),
    /// An ICMP error, or a new path MTU.
    Warned(Reason),
    /// The connection is gone: nothing more is said of it. TIME-WAIT is the module's own affair.
    Closed(Reason),
    /// A reassembled datagram.
    Resubmit(Hold),
    /// A hold slot is free again.
    Release(u32),
    /// The answer to a query.
    Info(Info),
    /// A call failed.
    Failed(Failed),
}

/// A sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Note {
    /// 1 error, 2 warning, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// About which connection; 0 is the instance.
    pub connection: Handle,
    /// At most [`limits::NOTE_BYTES`](crate::limits::NOTE_BYTES) bytes.
    pub text: String,
}

/// Everything that a step gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outputs {
    /// When to step again if nothing else happens; [`NEVER`] if there is no need. At least
    /// [`limits::DEADLINE_MIN`](crate::limits::DEADLINE_MIN) from now unless `unfinished`.
    pub deadline: Time,
    /// The connection whose timer that is, for blame; 0 is the instance.
    pub deadline_of: Handle,
    /// There is more to send than there was room for: call again at once.
    pub unfinished: bool,
    /// The header bytes of all sends.
    pub headers: Vec<u8>,
    /// What is to be sent, in order.
    pub sends: Vec<Send>,
    /// Where arrived bytes belong.
    pub places: Vec<Place>,
    /// How far connections have come.
    pub marks: Vec<Mark>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Sentences for people.
    pub notes: Vec<Note>,
}

impl Default for Outputs {
    fn default() -> Self {
        Self {
            deadline: NEVER,
            deadline_of: Handle::INSTANCE,
            unfinished: false,
            headers: Vec::new(),
            sends: Vec::new(),
            places: Vec::new(),
            marks: Vec::new(),
            events: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Outputs {
    /// Empties the lists, keeps their memory, and sets the deadline to never.
    pub fn clear(&mut self) {
        self.deadline = NEVER;
        self.deadline_of = Handle::INSTANCE;
        self.unfinished = false;
        self.headers.clear();
        self.sends.clear();
        self.places.clear();
        self.marks.clear();
        self.events.clear();
        self.notes.clear();
    }
}
