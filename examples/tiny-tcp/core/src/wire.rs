//! Headers: what a segment says, and how one is written. Lengths and checksums are the host's to fill in.

use alloc::vec::Vec;
use bulkhead_wit::ip::{Ip, u16_at, u32_at};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Endpoint, Outputs, Room, Segment, Send, Time, limits};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// The largest payload of a segment where the peer says nothing of it (RFC 9293 3.7.1), in bytes.
const MSS_DEFAULT: u16 = 536;
/// Bytes of both headers, with the one option of a SYN, at most.
const HEADERS: u32 = 40 + 24;
const _: () = assert!(HEADERS as usize * limits::SENDS <= limits::HEADER_BYTES);

/// What a step works with: the time, what may still be sent, and what comes of it.
pub(crate) struct Step<'a> {
    pub(crate) now: Time,
    pub(crate) room: Room,
    pub(crate) outputs: &'a mut Outputs,
}

impl Step<'_> {
    /// Payload bytes that one more send may have, if there may be one.
    pub(crate) fn left(&self) -> Option<u32> {
        if self.room.sends > 0 { self.room.bytes.checked_sub(HEADERS) } else { None }
    }

    /// Sends a segment with this payload. One that finds no room is one that was lost: so much for a reset, whatever else is sent
    /// comes after a look at what is [left](Self::left).
    pub(crate) fn send(&mut self, header: &Header, payload: Send) {
        if self.left().is_none() {
            return;
        }
        self.room.sends -= 1;
        self.room.bytes = self.room.bytes.saturating_sub(HEADERS + payload.length);
        let (source, destination) = (header.local.address, header.remote.address);
        let to = &mut self.outputs.headers;
        let begin = to.len();
        Ip { source, destination, ttl: 64, traffic_class: 0 }.build(protocol::TCP, true, to);
        let transport = to.len();
        header.write(to);
        self.outputs.send(begin, transport, payload);
    }
}

/// What a header says, one that arrived or one to send.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// To send, the option of a SYN; 0 is none.
    pub(crate) mss: u16,
    /// Of an arrived one: its number in the step, and bytes of payload.
    pub(crate) number: u32,
    pub(crate) payload: u32,
}

impl Header {
    pub(crate) fn parse(number: u32, header: &[u8], segment: &Segment) -> Option<Self> {
        let Ip { source, destination, .. } = Ip::parse(header)?;
        let tcp = header.get(usize::from(segment.transport)..)?;
        Some(Self {
            local: Endpoint::new(destination, u16_at(tcp, 2)?),
            remote: Endpoint::new(source, u16_at(tcp, 0)?),
            sequence: u32_at(tcp, 4)?,
            acknowledgement: u32_at(tcp, 8)?,
            flags: *tcp.get(13)?,
            window: u16_at(tcp, 14)?,
            mss: mss(tcp.get(20..)?).unwrap_or(MSS_DEFAULT),
            number,
            payload: segment.payload,
        })
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What it takes of the sequence space.
    pub(crate) fn length(&self) -> u32 {
        self.payload + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    fn write(&self, to: &mut Vec<u8>) {
        // Words of 32 bits, as in RFC 9293 3.1; the fifth is checksum and urgent pointer, and the sixth the option of a SYN.
        let count = if self.mss > 0 { 6 } else { 5 };
        let ports = u32::from(self.local.port) << 16 | u32::from(self.remote.port);
        let control = count << 28 | u32::from(self.flags) << 16 | u32::from(self.window);
        let option = 0x0204 << 16 | u32::from(self.mss);
        let words = [ports, self.sequence, self.acknowledgement, control, 0, option];
        to.extend(words.into_iter().take(count as usize).flat_map(u32::to_be_bytes));
    }

    /// A reset for a segment that is nobody's (RFC 9293 3.10.7.1).
    pub(crate) fn refuse(&self, step: &mut Step<'_>) {
        if self.has(RST) {
            return;
        }
        let (sequence, acknowledgement, flags) = if self.has(ACK) {
            (self.acknowledgement, 0, RST)
        } else {
            (0, self.sequence.wrapping_add(self.length()), RST | ACK)
        };
        let (local, remote) = (self.local, self.remote);
        let reset = Self { local, remote, sequence, acknowledgement, flags, ..Self::default() };
        step.send(&reset, Send::default());
    }
}

/// The one option that is looked for (RFC 9293 3.2).
fn mss(mut options: &[u8]) -> Option<u16> {
    loop {
        match options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low]).max(64)),
            [1, rest @ ..] => options = rest,
            [0, ..] | [] | [_] => return None,
            [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
        }
    }
}
