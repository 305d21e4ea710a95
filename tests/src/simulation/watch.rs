//! A device between a stack and its end of the link, that reads what passes and holds it against the rules of the wire.
//!
//! It knows TCP's header and nothing of the stack behind it. It can also be a narrow place on the path: what is too long
//! for it is dropped, and the sender told so by ICMP or not at all.

use bulkhead::checksum::{checksum, pseudo};
use bulkhead::device::{Capabilities, Device, Gso, Offload};
use bulkhead::frame::{Frame, FramePool};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Endpoint, Time};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, IoSlice};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Ends of a connection: ours first.
pub(super) type Ends = (Endpoint, Endpoint);

/// Messages about what is too big, that wait at most.
const REPORTS: usize = 1000;

/// What a connection's segments have said so far.
#[derive(Debug, Default)]
struct Seen {
    /// Window shifts offered in SYNs: ours and the peer's.
    offered: Option<u8>,
    peer_offered: Option<u8>,
    /// The right edge that our last segment announced, and that segment's number of the SYN it belongs to.
    edge: Option<u32>,
    our_syn: Option<u32>,
    /// What came in, by the number of its first byte of data: one entry an incarnation.
    arrived: Vec<Arrived>,
}

#[derive(Debug)]
struct Arrived {
    base: u32,
    /// Ranges of bytes that came in whole and unharmed, by start, apart from each other.
    ranges: BTreeMap<u64, u64>,
}

impl Arrived {
    fn add(&mut self, mut start: u64, mut end: u64) {
        let touching: Vec<u64> =
            self.ranges.range(..=end).filter(|(_, to)| **to >= start).map(|(from, _)| *from).collect();
        for from in touching {
            let to = self.ranges.remove(&from).unwrap_or(from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.ranges.insert(start, end);
    }

    /// The end of what came in without a hole.
    fn whole(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or(0)
    }
}

/// A TCP segment as the wire has it.
#[derive(Clone, Copy, Debug)]
struct Tcp {
    source: Endpoint,
    destination: Endpoint,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    scale: Option<u8>,
    length: u32,
}

/// The narrow place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Narrow {
    pub(super) mtu: u32,
    /// Whether senders are told.
    pub(super) reports: bool,
}

/// The device.
pub(super) struct Watched {
    inner: Box<dyn Device>,
    seen: HashMap<Ends, Seen>,
    pub(super) narrow: Option<Narrow>,
    reports: VecDeque<Vec<u8>>,
    violation: Option<String>,
    pub(super) segments: u64,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn Device>) -> Self {
        Self {
            inner,
            seen: HashMap::new(),
            narrow: None,
            reports: VecDeque::new(),
            violation: None,
            segments: 0,
        }
    }

    /// Whether something waits that the link does not know of.
    pub(super) fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// The first rule that was broken.
    pub(super) fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }

    /// How many bytes came in without a hole, in the connection with these ends; `None` if none is known.
    pub(super) fn whole(&self, ends: Ends) -> Option<u64> {
        self.seen.get(&ends)?.arrived.iter().map(Arrived::whole).max()
    }

    fn leaves(&mut self, frame: &[u8]) {
        let Some(tcp) = parse(frame) else { return };
        self.segments += 1;
        let seen = self.seen.entry((tcp.source, tcp.destination)).or_default();
        if tcp.flags & RST != 0 {
            return;
        }
        if tcp.flags & SYN != 0 {
            if seen.our_syn != Some(tcp.seq) {
                (seen.our_syn, seen.edge) = (Some(tcp.seq), None);
            }
            seen.offered = tcp.scale;
        }
        if tcp.flags & ACK == 0 {
            return;
        }
        let is_scaled = tcp.flags & SYN == 0 && seen.peer_offered.is_some();
        let scale = seen.offered.filter(|_| is_scaled).unwrap_or(0).min(14);
        let edge = tcp.ack.wrapping_add(u32::from(tcp.window) << scale);
        // RFC 7323 2.4: less than a unit of the scale may be lost to rounding; without a scale, nothing.
        if let Some(before) = seen.edge
            && (before.wrapping_sub(edge) as i32) >= 1 << scale
        {
            self.violation.get_or_insert_with(|| {
                format!("the window of {} shrinks by {}: {tcp:?}", tcp.source, before.wrapping_sub(edge))
            });
        }
        seen.edge = Some(edge);
    }

    fn comes_in(&mut self, frame: &[u8]) {
        let Some(tcp) = parse(frame).filter(|_| is_sound(frame)) else { return };
        self.segments += 1;
        let seen = self.seen.entry((tcp.destination, tcp.source)).or_default();
        if tcp.flags & SYN != 0 {
            seen.peer_offered = tcp.scale;
            let base = tcp.seq.wrapping_add(1);
            if seen.arrived.iter().all(|arrived| arrived.base != base) {
                seen.arrived.push(Arrived { base, ranges: BTreeMap::new() });
            }
        }
        for arrived in &mut seen.arrived {
            let first = tcp.seq.wrapping_add(u32::from(tcp.flags & SYN != 0));
            // Runs are shorter than 2 GiB.
            let start = i64::from(first.wrapping_sub(arrived.base) as i32);
            let end = start + i64::from(tcp.length);
            if end > 0 {
                arrived.add(start.max(0) as u64, end as u64);
            }
        }
    }

    /// Whether the narrow place drops this one; it may say so.
    fn is_too_long(&mut self, frame: &[u8], offload: Offload) -> bool {
        let Some(narrow) = self.narrow else { return false };
        let header = parse_lengths(frame).map_or(0, |(transport, header)| transport + header);
        let longest = match offload.gso {
            Gso::None => frame.len(),
            _ => frame.len().min(header + usize::from(offload.gso_size)),
        };
        if longest <= narrow.mtu as usize {
            return false;
        }
        if narrow.reports && self.reports.len() < REPORTS {
            self.reports.extend(too_big(frame, narrow.mtu));
        }
        true
    }
}

impl Device for Watched {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        if let Some(report) = self.reports.pop_front() {
            return pool.copy(&[IoSlice::new(&report)], Offload::default()).map(Some);
        }
        let frame = self.inner.receive(pool)?;
        if let Some(frame) = &frame {
            self.comes_in(&frame.bytes);
        }
        Ok(frame)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        let mut frame = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        self.leaves(&frame);
        if self.is_too_long(&frame, offload) {
            return Ok(true);
        }
        self.inner.transmit(parts, offload)
    }

    fn set_now(&mut self, now: Time) {
        self.inner.set_now(now);
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Where the transport header begins and how long it is, of TCP without extension headers.
fn parse_lengths(frame: &[u8]) -> Option<(usize, usize)> {
    let (transport, kind) = match frame.first()? >> 4 {
        4 if u16_at(frame, 6)? & 0x3fff == 0 => (usize::from(frame.first()? & 15) * 4, *frame.get(9)?),
        6 => (40, *frame.get(6)?),
        _ => return None,
    };
    if kind != protocol::TCP {
        return None;
    }
    Some((transport, usize::from(frame.get(transport + 12)? >> 4) * 4))
}

fn addresses(frame: &[u8]) -> Option<(Address, Address)> {
    if frame.first()? >> 4 == 4 {
        let address = |at: usize| Some(Address::from_v4(*frame.get(at..)?.first_chunk()?));
        Some((address(12)?, address(16)?))
    } else {
        let address = |at: usize| Some(Address::from_v6(*frame.get(at..)?.first_chunk()?));
        Some((address(8)?, address(24)?))
    }
}

fn parse(frame: &[u8]) -> Option<Tcp> {
    let (transport, header) = parse_lengths(frame)?;
    let (from, to) = addresses(frame)?;
    let flags = *frame.get(transport + 13)?;
    let end = if frame.first()? >> 4 == 4 {
        // A super-segment's length field may say nothing.
        usize::from(u16_at(frame, 2)?)
    } else {
        40 + usize::from(u16_at(frame, 4)?)
    };
    let end = if end <= transport { frame.len() } else { end.min(frame.len()) };
    let length = end.checked_sub(transport + header)? as u32;
    Some(Tcp {
        source: Endpoint::new(from, u16_at(frame, transport)?),
        destination: Endpoint::new(to, u16_at(frame, transport + 2)?),
        seq: u32_at(frame, transport + 4)?,
        ack: u32_at(frame, transport + 8)?,
        flags,
        window: u16_at(frame, transport + 14)?,
        scale: window_scale(frame.get(transport + 20..transport + header)?),
        length,
    })
}

fn window_scale(mut options: &[u8]) -> Option<u8> {
    while let Some((&kind, rest)) = options.split_first() {
        options = match kind {
            0 => return None,
            1 => rest,
            3 => return rest.get(1).copied(),
            _ => options.get(usize::from(*rest.first()?).max(2)..)?,
        };
    }
    None
}

/// Whether the checksums are right.
fn is_sound(frame: &[u8]) -> bool {
    let whole = || {
        let (transport, _) = parse_lengths(frame)?;
        let (from, to) = addresses(frame)?;
        let is_v4 = frame.first()? >> 4 == 4;
        let end = if is_v4 { usize::from(u16_at(frame, 2)?) } else { 40 + usize::from(u16_at(frame, 4)?) };
        let segment = frame.get(transport..end)?;
        let mut sum = pseudo(from, to, protocol::TCP, segment.len() as u32);
        sum.add(segment);
        Some(sum.checksum() == 0 && (!is_v4 || checksum(frame.get(..transport)?) == 0))
    };
    whole().unwrap_or(false)
}

/// What a router says of a datagram that is too long for its next link (RFC 792, RFC 4443 3.2).
fn too_big(frame: &[u8], mtu: u32) -> Option<Vec<u8>> {
    let (from, _) = addresses(frame)?;
    let mut message;
    let at;
    if let Some(to) = from.v4() {
        let quoted = frame.get(..28)?;
        message = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, protocol::ICMP, 0, 0, 10, 0, 0, 99];
        message.extend(to);
        let sum = checksum(&message).to_be_bytes();
        message[10..12].copy_from_slice(&sum);
        at = message.len();
        message.extend([3, 4, 0, 0, 0, 0]);
        message.extend((mtu as u16).to_be_bytes());
        message.extend_from_slice(quoted);
        let sum = checksum(&message[at..]).to_be_bytes();
        message[at + 2..at + 4].copy_from_slice(&sum);
    } else {
        let quoted = frame.get(..60)?;
        message = vec![0x60, 0, 0, 0, 0, 68, protocol::ICMPV6, 64];
        let router = Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99]);
        message.extend(router.octets());
        message.extend(from.octets());
        at = message.len();
        message.extend([2, 0, 0, 0]);
        message.extend(mtu.to_be_bytes());
        message.extend_from_slice(quoted);
        let mut sum = pseudo(router, from, protocol::ICMPV6, (message.len() - at) as u32);
        sum.add(&message[at..]);
        let sum = sum.checksum().to_be_bytes();
        message[at + 2..at + 4].copy_from_slice(&sum);
    }
    Some(message)
}
