//! What a script says, once it is parsed.

use crate::streams::Sizes;
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::{Setting, Time};
use std::fmt;

/// A whole script.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name, for reports.
    pub name: String,
    /// How the stack under test is set up.
    pub setup: Setup,
    /// What happens, in order.
    pub events: Vec<Event>,
}

/// How the stack under test is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// IPv6 in place of IPv4.
    pub is_v6: bool,
    /// The link's MTU in bytes.
    pub mtu: u32,
    /// How far from its time a packet or the end of a blocking call may be.
    pub tolerance: Time,
    /// Contiguous segments of one burst are compared as one.
    pub is_merged: bool,
    /// PSH is not compared.
    pub is_push_free: bool,
    /// What the script's sequence number 0 of the remote end is on the wire.
    pub remote_base: u32,
    /// Half-open connections before cookies.
    pub embryos: Option<u32>,
    /// Connections in all.
    pub connections: Option<u32>,
    /// Sizes of buffers.
    pub sizes: Sizes,
    /// Settings of the instance.
    pub settings: Vec<Setting>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            is_v6: false,
            mtu: 1500,
            tolerance: MILLISECOND,
            is_merged: false,
            is_push_free: false,
            // Far from zero and such that a script of some hundred kilobytes wraps: every script tests that too.
            remote_base: 0xffff_f000,
            embryos: None,
            connections: None,
            sizes: Sizes {
                receive_first: 65_536,
                receive_max: 6 << 20,
                send_first: 1 << 20,
                send_max: 4 << 20,
                // What a script writes is written.
                unsent_max: u32::MAX,
            },
            settings: Vec::new(),
        }
    }
}

/// One line that does something.
#[derive(Clone, Debug)]
pub struct Event {
    /// The line, counted from 1.
    pub line: u32,
    /// The line as written, without comments.
    pub text: String,
    /// When.
    pub when: When,
    /// What.
    pub what: What,
}

/// When something happens. Relative times count from the previous event's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// `1.5` or `+.1`.
    At(Moment),
    /// `+.1~+.2`: somewhere between.
    Between(Moment, Moment),
    /// `*`: whenever it comes.
    Anytime,
    /// `+.1...+.3`: a call that blocks until the second time.
    During(Moment, Moment),
}

/// A time, absolute or relative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Counted from the previous event.
    pub is_relative: bool,
    /// Nanoseconds.
    pub time: Time,
}

/// The longest that `*` waits, in nanoseconds.
pub const ANYTIME: Time = 3600 * SECOND;

/// What happens.
#[derive(Clone, Debug)]
pub enum What {
    /// `<`: arrives at the stack.
    Inject(Packet),
    /// `>`: leaves the stack.
    Expect(Packet),
    /// A socket call and its result.
    Call(Call),
    /// `%{ ... }%`: information fields.
    Assert(Assertion),
}

/// A packet of either direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// What is said of the network header, and of which flow it is.
    pub network: Network,
    /// The rest.
    pub body: Body,
}

/// What a packet carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A TCP segment.
    Tcp(Tcp),
    /// An ICMP message.
    Icmp(Icmp),
}

/// The part in brackets: `[ect0, ttl 64, port 40001]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Network {
    /// The two ECN bits.
    pub ecn: Option<u8>,
    /// Time to live or hop limit.
    pub ttl: Option<u8>,
    /// The upper six bits of the traffic class, as in the whole byte.
    pub tos: Option<u8>,
    /// Whether "don't fragment" is set.
    pub df: Option<bool>,
    /// The remote port, which names the flow.
    pub port: Option<u16>,
    /// The local port.
    pub local: Option<u16>,
    /// A new connection on this flow: its initial sequence number is learned again.
    pub is_new: bool,
    /// The transport checksum is wrong.
    pub is_corrupt: bool,
    /// Arrives in this many fragments (0 and 1 are none).
    pub fragments: u8,
    /// Payload bytes of the segments that a device merged it from; 0 is not merged.
    pub merged_from: u16,
    /// The fragments arrive in reverse.
    pub is_reverse: bool,
}

/// A number that may be left open by `*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Number {
    /// Any.
    Any,
    /// This one.
    Is(u32),
}

impl Number {
    /// The number; `open` where it was left open.
    #[must_use]
    pub fn or(self, open: u32) -> u32 {
        match self {
            Self::Any => open,
            Self::Is(number) => number,
        }
    }

    /// Whether `got` is within `slack` of it, around the circle.
    #[must_use]
    pub fn allows(self, got: Self, slack: u32) -> bool {
        match (self, got) {
            (Self::Is(expected), Self::Is(got)) => {
                got.wrapping_sub(expected) <= slack || expected.wrapping_sub(got) <= slack
            }
            _ => true,
        }
    }
}

/// A TCP segment; sequence numbers are the script's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Flags as on the wire.
    pub flags: u8,
    /// The first sequence number.
    pub seq: u32,
    /// Bytes of payload.
    pub length: u32,
    /// The acknowledgement number.
    pub ack: Option<Number>,
    /// The window field, unscaled.
    pub window: Option<Number>,
    /// The urgent pointer.
    pub urgent: Option<u16>,
    /// Options; `None` is `<...>`: not looked at.
    pub options: Option<Vec<TcpOption>>,
}

/// TCP flags as on the wire.
pub mod flag {
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
    /// ECE.
    pub const ECE: u8 = 64;
    /// CWR.
    pub const CWR: u8 = 128;
    /// Flags and their letters, in the order in which they are written.
    pub const LETTERS: [(u8, char); 8] =
        [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (URG, 'U'), (ECE, 'E'), (CWR, 'W'), (ACK, '.')];
}

/// One TCP option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TcpOption {
    /// End of the list.
    End,
    /// Nothing.
    Nop,
    /// Maximum segment size.
    Mss(Number),
    /// Window scale.
    WindowScale(Number),
    /// Selective acknowledgement permitted.
    SackOk,
    /// Selective acknowledgements.
    Sack(Vec<(u32, u32)>),
    /// Timestamps.
    Timestamps(Number, Number),
    /// Raw bytes, well formed or not.
    Hex(Vec<u8>),
}

/// An ICMP message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Icmp {
    /// Echo request or reply.
    Echo {
        /// A reply.
        is_reply: bool,
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
        /// Bytes of payload.
        length: u32,
    },
    /// An error.
    Error {
        /// Type and code as on the wire.
        kind: (u8, u8),
        /// The MTU that it tells.
        mtu: u32,
        /// The segment that it is about.
        quoted: Option<Tcp>,
    },
}

/// A socket call with the result it must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// Its result.
    pub result: Outcome,
}

/// An argument of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Argument {
    /// `...`
    Open,
    /// A number.
    Number(i64),
    /// One or several names joined by `|`.
    Word(String),
    /// A text in quotes.
    Text(String),
    /// `[...]` or `{...}`.
    List(Vec<Argument>),
}

/// What a call gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A number.
    Value(i64),
    /// `-1` and an error's name.
    Error(String),
    /// Names joined by `|`.
    Flags(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Error(name) => write!(f, "-1 {name}"),
            Self::Flags(names) => f.write_str(names),
        }
    }
}

/// Conditions on the information of one connection, or of the instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assertion {
    /// Of what.
    pub of: Subject,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
}

/// What an assertion is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The socket that was connected or accepted last.
    Latest,
    /// A socket.
    Socket(i64),
    /// The instance.
    Census,
}

/// `cwnd == 10`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// The field's name in the registry.
    pub field: String,
    /// Its number.
    pub index: usize,
    /// How they are compared.
    pub how: Comparison,
    /// With what.
    pub value: u64,
}

/// A comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it holds.
    #[must_use]
    pub fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// As written.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}
