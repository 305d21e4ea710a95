//! What a step gives.

use super::Reason;
use super::{Endpoint, Handle, NEVER, Time};
use alloc::string::String;
use alloc::vec::Vec;

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
#[repr(transparent)]
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
#[repr(C)]
pub struct Send {
    /// Whose payload, by its number: see [`Source`].
    pub of: u64,
    /// The byte at which it begins there.
    pub at: u64,
    /// The byte of `headers` at which the header begins.
    pub header: u32,
    /// Bytes of payload.
    pub length: u32,
    /// Bytes of the header.
    pub header_length: u16,
    /// The byte of the header at which the transport header begins.
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
#[repr(C)]
pub struct Place {
    /// Whose, by its number: see [`Target`].
    pub of: u64,
    /// The byte at which they go there.
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
#[repr(C)]
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
    /// The offset in bytes at which the stream ends.
    pub at: u64,
    /// The segment with the FIN.
    pub segment: u32,
}

/// Urgent data ends at `at` (RFC 9293 3.8.5, RFC 6093).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Urgent {
    /// The connection.
    pub connection: Handle,
    /// The offset in bytes after the last urgent one.
    pub at: u64,
}

/// A hold slot is complete: pass its first `length` bytes through split as a datagram's payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hold {
    /// The slot's number.
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
    /// The level: 1 error, 2 warning, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// About which connection; 0 is the instance.
    pub connection: Handle,
    /// At most [`limits::NOTE_BYTES`](crate::limits::NOTE_BYTES) bytes.
    pub text: String,
}

/// Everything that a step gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outputs {
    /// The time in nanoseconds at which to step again if nothing else happens; [`NEVER`] if there is no need. At least
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
    /// Sends the header that was appended from `header` on, places in [`headers`](Self::headers) both: its transport header begins
    /// at `transport`, and behind it comes what `payload` says of one.
    #[inline]
    pub fn send(&mut self, header: usize, transport: usize, payload: Send) {
        let header_length = (self.headers.len() - header) as u16;
        let transport = (transport - header) as u16;
        self.sends.push(Send { header: header as u32, header_length, transport, ..payload });
    }

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
