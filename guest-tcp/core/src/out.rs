//! What a step gives, with the account of how much more it may give.

use crate::header::ip::Ip;
use crate::header::options::Options;
use crate::header::tcp::{HEADER, Tcp};
use crate::instance::Instance;
use crate::limits::EVENTS_EACH;
use bulkhead_wit::limits as bounds;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Event, How, Outputs, Room, Send, Source, Time};

/// What the rooms of a step share.
pub(crate) struct Context<'a> {
    pub now: Time,
    pub instance: &'a mut Instance,
    /// Memory for pieces was short when the step began.
    pub is_tight: bool,
    pub out: Out<'a>,
}

/// Where a segment's payload comes from, and how it may be cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Payload {
    pub of: u64,
    pub at: u64,
    pub length: u32,
    /// Payload bytes of each frame where it is longer.
    pub mss: u16,
    pub source: Source,
    pub how: How,
}

/// A segment to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub ip: Ip,
    pub dont_fragment: bool,
    pub tcp: Tcp,
    pub options: Options,
    pub syn: bool,
    pub payload: Payload,
}

/// The outputs, and what room is left.
pub(crate) struct Out<'a> {
    pub outputs: &'a mut Outputs,
    sends: u32,
    bytes: u32,
}

/// Bytes of headers at most for what we build: IPv6, TCP, 40 bytes of options.
const HEADERS_MAX: u32 = 100;

impl<'a> Out<'a> {
    pub(crate) fn new(outputs: &'a mut Outputs, room: Room) -> Self {
        Self { outputs, sends: room.sends.min(bounds::SENDS as u32), bytes: room.bytes }
    }

    /// Bytes of payload that the next send may have; `None` if there is no room for another one at all.
    pub(crate) fn room(&mut self) -> Option<u32> {
        let headers_left = bounds::HEADER_BYTES.saturating_sub(self.outputs.headers.len());
        if self.sends == 0 || self.bytes < HEADERS_MAX || headers_left < HEADERS_MAX as usize {
            return None;
        }
        Some(self.bytes - HEADERS_MAX)
    }

    /// Sends a TCP segment; false if there was no room.
    pub(crate) fn segment(&mut self, segment: &Segment) -> bool {
        if self.room().is_none_or(|bytes| segment.payload.length > bytes) {
            return false;
        }
        let header = self.outputs.headers.len();
        let headers = &mut self.outputs.headers;
        segment.ip.build(protocol::TCP, segment.dont_fragment, headers);
        let transport = headers.len() - header;
        // The data offset is known once the options are.
        let fixed = headers.len();
        segment.tcp.build(0, headers);
        if segment.syn {
            segment.options.build_syn(headers);
        } else {
            segment.options.build(headers);
        }
        let tcp_length = headers.len() - fixed;
        if let Some(offset) = headers.get_mut(fixed + 12) {
            *offset = ((tcp_length / 4) as u8) << 4;
        }
        debug_assert!(tcp_length >= usize::from(HEADER) && tcp_length <= 60);
        self.push(header, transport, segment.payload);
        true
    }

    /// Accounts for a send whose header was appended at `header`.
    pub(crate) fn push(&mut self, header: usize, transport: usize, payload: Payload) {
        let header_length = self.outputs.headers.len() - header;
        let source = if payload.length == 0 { Source::Nothing } else { payload.source };
        let nothing = source == Source::Nothing;
        self.outputs.sends.push(Send {
            of: if nothing { 0 } else { payload.of },
            at: if nothing { 0 } else { payload.at },
            header: header as u32,
            length: payload.length,
            header_length: header_length as u16,
            transport: transport as u16,
            mss: if payload.length > u32::from(payload.mss) { payload.mss } else { 0 },
            source,
            how: payload.how,
        });
        self.sends = self.sends.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(header_length as u32).saturating_sub(payload.length);
    }

    /// Whether everything that one more timer can bring about may still be said.
    pub(crate) fn may_say_more(&self) -> bool {
        self.outputs.events.len() + EVENTS_EACH <= bounds::EVENTS && self.outputs.marks.len() < bounds::MARKS
    }

    /// Says what happened.
    pub(crate) fn event(&mut self, event: Event) {
        if self.outputs.events.len() < bounds::EVENTS {
            self.outputs.events.push(event);
        }
    }
}
