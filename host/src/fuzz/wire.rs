//! Frames as a peer sends them, and what a peer reads of the module's.
//!
//! Frames are handed to the host as verified, since split and its checksums are not what is fuzzed here; only the checksum
//! of the IPv4 header is computed.

use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Endpoint};

use super::case::{ACK, Fragment, Icmp, Segment, TcpOption};
use super::flow::Flow;
use super::limits;
use crate::checksum::checksum;

/// The byte of a stream's payload at this sequence number. It repeats late enough that no misplaced byte goes unseen.
pub(super) fn pattern(seq: u32) -> u8 {
    (seq ^ (seq >> 8) ^ (seq >> 16).wrapping_mul(7)) as u8
}

/// Bytes after which what applications write repeats: a prime, so that no length of segments has a share in it.
const PERIOD: u64 = 65_521;

/// What applications write: another byte at each place of a stream, and others on each stream. Made as far as it is asked
/// for, and kept.
#[derive(Debug, Default)]
pub(super) struct Written(Vec<u8>);

impl Written {
    /// The bytes at this place of the stream to the peer with this port.
    pub(super) fn bytes(&mut self, port: u16, at: u64, count: usize) -> &[u8] {
        let from = ((at + u64::from(port) * 977) % PERIOD) as usize;
        let made = self.0.len() as u64;
        self.0.extend((made..(from + count) as u64).map(|n| pattern((n % PERIOD) as u32)));
        self.0.get(from..from + count).unwrap_or_default()
    }
}

/// What differs between two TCP segments of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// Sequence number.
    pub(super) seq: u32,
    /// Acknowledgement number.
    pub(super) ack: u32,
}

/// Writes a network header for a payload that follows; [`finish`] completes it.
fn network(into: &mut Vec<u8>, from: Address, to: Address, protocol: u8, ecn: u8) {
    into.clear();
    if let (Some(from), Some(to)) = (from.v4(), to.v4()) {
        into.extend([0x45, ecn & 3, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        into.extend(from);
        into.extend(to);
    } else {
        into.extend([0x60, (ecn & 3) << 4, 0, 0, 0, 0, protocol, 64]);
        into.extend(from.octets());
        into.extend(to.octets());
    }
}

/// Bytes of the network header that `frame` begins with.
pub(super) fn network_length(frame: &[u8]) -> usize {
    match frame.first() {
        Some(first) if first >> 4 == 6 => 40,
        Some(first) => usize::from(first & 15) * 4,
        None => 0,
    }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = frame.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

/// Fills in the length, and the checksum of an IPv4 header.
fn finish(frame: &mut [u8]) {
    if frame.first().is_some_and(|first| first >> 4 == 6) {
        let length = frame.len().saturating_sub(40) as u16;
        put(frame, 4, &length.to_be_bytes());
        return;
    }
    let length = frame.len() as u16;
    put(frame, 2, &length.to_be_bytes());
    put(frame, 10, &[0, 0]);
    let header = network_length(frame).clamp(20, frame.len().max(20));
    let sum = frame.get(..header).map_or(0, checksum);
    put(frame, 10, &sum.to_be_bytes());
}

/// A TCP segment of the flow's peer with these numbers.
pub(super) fn segment(into: &mut Vec<u8>, flow: &Flow, segment: &Segment, numbers: Numbers) {
    let to = Endpoint { port: if segment.port == 0 { flow.local.port } else { segment.port }, ..flow.local };
    network(into, flow.remote.address, to.address, protocol::TCP, segment.ecn);
    let begin = into.len();
    into.extend(flow.remote.port.to_be_bytes());
    into.extend(to.port.to_be_bytes());
    into.extend(numbers.seq.to_be_bytes());
    into.extend(if segment.flags & ACK == 0 { 0 } else { numbers.ack }.to_be_bytes());
    into.extend([0, segment.flags]);
    into.extend(segment.window.to_be_bytes());
    into.extend([0, 0]);
    into.extend(segment.urgent.to_be_bytes());
    let options = into.len();
    segment.options.iter().for_each(|option| put_option(into, option, flow));
    into.truncate(options + limits::OPTION_BYTES);
    while !(into.len() - begin).is_multiple_of(4) {
        into.push(0);
    }
    let words = ((into.len() - begin) / 4) as u8;
    put(into, begin + 12, &[words << 4]);
    let first = numbers.seq.wrapping_add(u32::from(segment.flags & super::case::SYN != 0));
    into.extend((0..u32::from(segment.length)).map(|at| pattern(first.wrapping_add(at))));
    finish(into);
}

fn put_option(into: &mut Vec<u8>, option: &TcpOption, flow: &Flow) {
    match option {
        TcpOption::End => into.push(0),
        TcpOption::Nop => into.push(1),
        TcpOption::Mss(size) => {
            into.extend([2, 4]);
            into.extend(size.to_be_bytes());
        }
        TcpOption::WindowScale(shift) => into.extend([3, 3, *shift]),
        TcpOption::SackPermitted => into.extend([4, 2]),
        TcpOption::Sack(blocks) => {
            into.extend([5, (2 + 8 * blocks.len()) as u8]);
            for (from, to) in blocks {
                for end in [from, to] {
                    into.extend(flow.heard.wrapping_add_signed(*end).to_be_bytes());
                }
            }
        }
        TcpOption::Timestamps(value, echo) => {
            into.extend([8, 10]);
            into.extend(flow.clock.wrapping_add_signed(*value).to_be_bytes());
            into.extend(flow.stamp.wrapping_add_signed(*echo).to_be_bytes());
        }
        TcpOption::Raw(bytes) => into.extend(bytes),
    }
}

/// Cuts a datagram into IPv4 fragments with `unit` times 8 bytes each, or more where there would be too many.
pub(super) fn cut(frame: &[u8], unit: u16, id: u16, mut each: impl FnMut(&[u8])) {
    let header = network_length(frame);
    let (Some(head), Some(body)) = (frame.get(..header), frame.get(header..)) else { return };
    let size = usize::from(unit.max(1)).max(body.len().div_ceil(8 * limits::FRAGMENTS)) * 8;
    if head.first().is_none_or(|first| first >> 4 != 4) || body.len() <= size {
        return each(frame);
    }
    let mut part = Vec::with_capacity(header + size);
    for (number, bytes) in body.chunks(size).enumerate() {
        let more = (number + 1) * size < body.len();
        let field = ((number * size / 8) as u16 & 0x1fff) | if more { 0x2000 } else { 0 };
        part.clear();
        part.extend(head);
        part.extend(bytes);
        put(&mut part, 4, &id.to_be_bytes());
        put(&mut part, 6, &field.to_be_bytes());
        finish(&mut part);
        each(&part);
    }
}

/// A fragment whose bytes are a pattern.
pub(super) fn fragment(into: &mut Vec<u8>, flow: &Flow, fragment: &Fragment) {
    network(into, flow.remote.address, flow.local.address, fragment.protocol, 0);
    let field = (fragment.offset & 0x1fff) | if fragment.more { 0x2000 } else { 0 };
    if flow.local.address.is_v4() {
        put(into, 4, &u16::from(fragment.id).to_be_bytes());
        put(into, 6, &field.to_be_bytes());
    } else {
        put(into, 6, &[44]);
        let offset = (fragment.offset << 3) | u16::from(fragment.more);
        into.extend([fragment.protocol, 0]);
        into.extend(offset.to_be_bytes());
        into.extend(u32::from(fragment.id).to_be_bytes());
    }
    into.extend((0..u32::from(fragment.length)).map(pattern));
    finish(into);
}

/// An ICMP error that quotes what the module sent last.
pub(super) fn icmp(into: &mut Vec<u8>, flow: &Flow, icmp: &Icmp) {
    let is_v4 = flow.local.address.is_v4();
    let number = if is_v4 { protocol::ICMP } else { protocol::ICMPV6 };
    network(into, flow.remote.address, flow.local.address, number, 0);
    into.extend([icmp.kind, icmp.code, 0, 0]);
    into.extend(icmp.value.to_be_bytes());
    let mut quoted = Vec::new();
    network(&mut quoted, flow.local.address, flow.remote.address, protocol::TCP, 0);
    quoted.extend(flow.local.port.to_be_bytes());
    quoted.extend(flow.remote.port.to_be_bytes());
    quoted.extend(flow.sent_last.wrapping_add_signed(icmp.seq).to_be_bytes());
    quoted.extend(flow.next.to_be_bytes());
    quoted.extend([0x50, ACK, 0xff, 0xff, 0, 0, 0, 0]);
    finish(&mut quoted);
    quoted.truncate(network_length(&quoted) + usize::from(icmp.quoted));
    into.extend(quoted);
    finish(into);
}

/// An echo request.
pub(super) fn echo(into: &mut Vec<u8>, flow: &Flow, length: u16) {
    let is_v4 = flow.local.address.is_v4();
    let (number, kind) = if is_v4 { (protocol::ICMP, 8) } else { (protocol::ICMPV6, 128) };
    network(into, flow.remote.address, flow.local.address, number, 0);
    into.extend([kind, 0, 0, 0, 0, 1, 0, 2]);
    into.extend((0..u32::from(length)).map(pattern));
    finish(into);
}

/// A UDP datagram of the flow's peer.
pub(super) fn datagram(into: &mut Vec<u8>, flow: &Flow, port: u16, length: u16) {
    network(into, flow.remote.address, flow.local.address, protocol::UDP, 0);
    into.extend(flow.remote.port.to_be_bytes());
    into.extend(port.to_be_bytes());
    into.extend(length.saturating_add(8).to_be_bytes());
    into.extend([0, 0]);
    into.extend((0..u32::from(length)).map(pattern));
    finish(into);
}

/// Bytes as they are, with the length and the header checksum right.
pub(super) fn raw(into: &mut Vec<u8>, bytes: &[u8]) {
    into.clear();
    into.extend(bytes.iter().take(limits::RAW));
    if into.len() >= 20 {
        finish(into);
    }
}

/// A TCP segment as it was seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) length: u32,
    /// Shift of the window scale option, if it is there.
    pub(super) scale: Option<u8>,
    /// The sender's timestamp, if the option is there.
    pub(super) stamp: Option<u32>,
}

fn word(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn half(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

impl Seen {
    /// Reads a frame, if it is a whole TCP segment.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        Self::of_cut(frame, frame.len())
    }

    /// Reads a frame of this length of which only the first bytes are there.
    pub(super) fn of_cut(frame: &[u8], length: usize) -> Option<Self> {
        let begin = network_length(frame);
        let (from, to, number) = if begin == 40 {
            let address = |at: usize| frame.get(at..)?.first_chunk().map(|octets| Address::from_v6(*octets));
            (address(8)?, address(24)?, *frame.get(6)?)
        } else {
            let address = |at: usize| frame.get(at..)?.first_chunk().map(|octets| Address::from_v4(*octets));
            if half(frame, 6)? & 0x3fff != 0 {
                return None;
            }
            (address(12)?, address(16)?, *frame.get(9)?)
        };
        if number != protocol::TCP {
            return None;
        }
        let header = usize::from(*frame.get(begin + 12)? >> 4) * 4;
        let length = length.checked_sub(begin + header)?;
        let mut seen = Self {
            from: Endpoint::new(from, half(frame, begin)?),
            to: Endpoint::new(to, half(frame, begin + 2)?),
            seq: word(frame, begin + 4)?,
            ack: word(frame, begin + 8)?,
            flags: *frame.get(begin + 13)?,
            window: half(frame, begin + 14)?,
            length: length as u32,
            scale: None,
            stamp: None,
        };
        seen.options(frame.get(begin + 20..begin + header)?);
        Some(seen)
    }

    fn options(&mut self, mut rest: &[u8]) {
        while let Some((kind, tail)) = rest.split_first() {
            let length = match (kind, tail.first()) {
                (0, _) | (2.., None) => return,
                (1, _) => 1,
                (_, Some(length)) => usize::from(*length).max(2),
            };
            match kind {
                // Where there are several, or the last is cut off: the one that allows the most.
                3 => self.scale = self.scale.max(tail.get(1).copied()),
                8 => self.stamp = word(tail, 1),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// Sequence numbers that it takes: bytes, SYN and FIN.
    pub(super) fn extent(&self) -> u32 {
        self.length + u32::from(self.flags & 1) + u32::from(self.flags >> 1 & 1)
    }
}
