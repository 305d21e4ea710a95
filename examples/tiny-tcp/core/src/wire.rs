//! Headers: what a segment says, and how one is written. Lengths and checksums are the host's to fill in.

use alloc::vec::Vec;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Endpoint, Outputs, Room, Segment, Send, Time, limits};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// The largest payload of a segment where the peer says nothing of it (RFC 9293 3.7.1), in bytes.
const MSS_DEFAULT: u16 = 536;
/// Bytes of both headers, with the one option of a SYN, at most.
const HEADERS: u32 = 40 + 24;

/// What a step works with: the time, what may still be sent, and what comes of it.
pub(crate) struct Step<'a> {
    pub(crate) now: Time,
    pub(crate) room: Room,
    pub(crate) outputs: &'a mut Outputs,
}

impl Step<'_> {
    /// Payload bytes that one more send may have, if there may be one.
    pub(crate) fn left(&self) -> Option<u32> {
        let (sends, headers) = (self.outputs.sends.len(), self.outputs.headers.len());
        let fits = self.room.sends > 0
            && sends < limits::SENDS
            && headers + HEADERS as usize <= limits::HEADER_BYTES;
        if fits { self.room.bytes.checked_sub(HEADERS) } else { None }
    }

    /// Sends a segment with this payload, for which there is room.
    pub(crate) fn send(&mut self, header: &Header, payload: Send) {
        self.room.sends -= 1;
        self.room.bytes = self.room.bytes.saturating_sub(HEADERS + payload.length);
        let to = &mut self.outputs.headers;
        let begin = to.len();
        network(header.local.address, header.remote.address, to);
        let transport = to.len();
        header.write(to);
        self.outputs.sends.push(Send {
            header: begin as u32,
            header_length: (to.len() - begin) as u16,
            transport: (transport - begin) as u16,
            ..payload
        });
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

fn bytes<const N: usize>(header: &[u8], at: usize) -> Option<[u8; N]> {
    header.get(at..)?.first_chunk().copied()
}

impl Header {
    pub(crate) fn parse(number: u32, header: &[u8], segment: &Segment) -> Option<Self> {
        let (source, destination) = match header.first()? >> 4 {
            4 => (Address::from_v4(bytes(header, 12)?), Address::from_v4(bytes(header, 16)?)),
            _ => (Address::from_v6(bytes(header, 8)?), Address::from_v6(bytes(header, 24)?)),
        };
        let tcp = header.get(usize::from(segment.transport)..)?;
        Some(Self {
            local: Endpoint::new(destination, u16::from_be_bytes(bytes(tcp, 2)?)),
            remote: Endpoint::new(source, u16::from_be_bytes(bytes(tcp, 0)?)),
            sequence: u32::from_be_bytes(bytes(tcp, 4)?),
            acknowledgement: u32::from_be_bytes(bytes(tcp, 8)?),
            flags: *tcp.get(13)?,
            window: u16::from_be_bytes(bytes(tcp, 14)?),
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
        to.extend_from_slice(&self.local.port.to_be_bytes());
        to.extend_from_slice(&self.remote.port.to_be_bytes());
        to.extend_from_slice(&self.sequence.to_be_bytes());
        to.extend_from_slice(&self.acknowledgement.to_be_bytes());
        let words = if self.mss > 0 { 6 } else { 5 };
        to.extend_from_slice(&[words << 4, self.flags]);
        to.extend_from_slice(&self.window.to_be_bytes());
        to.extend_from_slice(&[0; 4]);
        if self.mss > 0 {
            to.extend_from_slice(&[2, 4]);
            to.extend_from_slice(&self.mss.to_be_bytes());
        }
    }

    /// A reset for a segment that is nobody's (RFC 9293 3.10.7.1).
    pub(crate) fn refuse(&self, step: &mut Step<'_>) {
        if self.has(RST) || step.left().is_none() {
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

/// A network header: a hop limit of 64, not to be cut into fragments.
fn network(source: Address, destination: Address, to: &mut Vec<u8>) {
    if let (Some(source), Some(destination)) = (source.v4(), destination.v4()) {
        to.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
        to.extend_from_slice(&[source, destination].concat());
    } else {
        to.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol::TCP, 64]);
        to.extend_from_slice(&[source.octets(), destination.octets()].concat());
    }
}
