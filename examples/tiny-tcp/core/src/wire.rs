//! Headers: what a segment says, and how one is written. Lengths and checksums are the host's to fill in.

use alloc::vec::Vec;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Endpoint, Outputs, Segment, Send, limits};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// The largest payload of a segment where the peer says nothing of it (RFC 9293 3.7.1), in bytes.
const MSS_DEFAULT: u16 = 536;
/// Bytes of both headers, with the one option of a SYN, at most.
const HEADERS: u32 = 40 + 24;

/// What is left of a step's room.
#[derive(Debug)]
pub(crate) struct Room(bulkhead_wit::Room);

impl Room {
    pub(crate) fn new(room: bulkhead_wit::Room) -> Self {
        Self(bulkhead_wit::Room { sends: room.sends.min(limits::SENDS as u32), ..room })
    }

    /// Payload bytes that one more send may have, if there may be one.
    pub(crate) fn left(&self, outputs: &Outputs) -> Option<u32> {
        let fits = self.0.sends > 0 && outputs.headers.len() + HEADERS as usize <= limits::HEADER_BYTES;
        if fits { self.0.bytes.checked_sub(HEADERS) } else { None }
    }

    fn take(&mut self, length: u32) {
        self.0.sends = self.0.sends.saturating_sub(1);
        self.0.bytes = self.0.bytes.saturating_sub(length + HEADERS);
    }
}

/// What an arrived header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) remote: Endpoint,
    pub(crate) local: Endpoint,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) mss: u16,
    /// Bytes of payload.
    pub(crate) payload: u32,
}

fn bytes<const N: usize>(header: &[u8], at: usize) -> Option<[u8; N]> {
    header.get(at..)?.first_chunk().copied()
}

impl Header {
    pub(crate) fn parse(header: &[u8], segment: &Segment) -> Option<Self> {
        let (source, destination) = match header.first()? >> 4 {
            4 => (Address::from_v4(bytes(header, 12)?), Address::from_v4(bytes(header, 16)?)),
            _ => (Address::from_v6(bytes(header, 8)?), Address::from_v6(bytes(header, 24)?)),
        };
        let tcp = header.get(usize::from(segment.transport)..)?;
        let port = |at| bytes(tcp, at).map(u16::from_be_bytes);
        Some(Self {
            remote: Endpoint::new(source, port(0)?),
            local: Endpoint::new(destination, port(2)?),
            sequence: u32::from_be_bytes(bytes(tcp, 4)?),
            acknowledgement: u32::from_be_bytes(bytes(tcp, 8)?),
            flags: *tcp.get(13)?,
            window: u16::from_be_bytes(bytes(tcp, 14)?),
            mss: mss(tcp.get(20..)?).unwrap_or(MSS_DEFAULT),
            payload: segment.payload,
        })
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The one option that is looked for (RFC 9293 3.2).
fn mss(mut options: &[u8]) -> Option<u16> {
    loop {
        match options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low]).max(64)),
            [1, rest @ ..] => options = rest,
            [0, ..] | [] => return None,
            [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
            [_] => return None,
        }
    }
}

/// A segment to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// Only of a SYN; 0 is none.
    pub(crate) mss: u16,
    /// Where its payload is, how long it is, and how long the frames that it is cut into.
    pub(crate) payload: Send,
}

impl Outgoing {
    pub(crate) fn send(&self, room: &mut Room, outputs: &mut Outputs) {
        let to = &mut outputs.headers;
        let begin = to.len();
        network(self.local.address, self.remote.address, to);
        let transport = to.len() - begin;
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
        room.take(self.payload.length);
        outputs.sends.push(Send {
            header: begin as u32,
            header_length: (outputs.headers.len() - begin) as u16,
            transport: transport as u16,
            ..self.payload
        });
    }
}

/// A network header: a hop limit of 64, not to be cut into fragments.
fn network(source: Address, destination: Address, to: &mut Vec<u8>) {
    match (source.v4(), destination.v4()) {
        (Some(source), Some(destination)) => {
            to.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
            to.extend_from_slice(&source);
            to.extend_from_slice(&destination);
        }
        _ => {
            to.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol::TCP, 64]);
            to.extend_from_slice(&source.octets());
            to.extend_from_slice(&destination.octets());
        }
    }
}

/// A reset for a segment that is nobody's (RFC 9293 3.10.7.1).
pub(crate) fn refuse(header: &Header, room: &mut Room, outputs: &mut Outputs) {
    if room.left(outputs).is_none() {
        return;
    }
    let length = header.payload + u32::from(header.has(SYN)) + u32::from(header.has(FIN));
    let (sequence, acknowledgement, flags) = if header.has(ACK) {
        (header.acknowledgement, 0, RST)
    } else {
        (0, header.sequence.wrapping_add(length), RST | ACK)
    };
    let reset = Outgoing {
        local: header.local,
        remote: header.remote,
        sequence,
        acknowledgement,
        flags,
        window: 0,
        mss: 0,
        payload: Send::default(),
    };
    reset.send(room, outputs);
}
