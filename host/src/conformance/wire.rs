//! Frames out of what a script says, and back.

use super::flow::{End, Flow, offset, pattern};
use super::script::{Body, Icmp, Network, Number, Packet, Tcp, TcpOption, flag};
use crate::checksum::{checksum, pseudo};
use crate::device::{ChecksumState, Gso, Offload};
use bulkhead_wit::Address;
use bulkhead_wit::registry::protocol;

/// Our address and the remote end's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub local: Address,
    pub remote: Address,
}

impl Addresses {
    pub(super) fn new(is_v6: bool) -> Self {
        let documentation = |host: u8| {
            if is_v6 {
                let mut octets = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                octets[15] = host;
                Address::from_v6(octets)
            } else {
                Address::from_v4([192, 0, 2, host])
            }
        };
        Self { local: documentation(1), remote: documentation(2) }
    }

    fn is_v6(self) -> bool {
        !self.local.is_v4()
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + value.len()) {
        room.copy_from_slice(value);
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// What a device says of an arriving packet.
pub(super) fn offload(packet: &Packet, addresses: Addresses) -> Offload {
    if packet.network.merged_from == 0 {
        return Offload::default();
    }
    let gso = if addresses.is_v6() { Gso::Tcp6 } else { Gso::Tcp4 };
    Offload {
        gso,
        gso_size: packet.network.merged_from,
        checksum: ChecksumState::Verified,
        ..Offload::default()
    }
}

/// The frames of an arriving packet: several if the script has it fragmented.
pub(super) fn encode(
    packet: &Packet,
    flow: &Flow,
    addresses: Addresses,
    port: u16,
    local: u16,
) -> Vec<Vec<u8>> {
    let (protocol, mut transport) = match &packet.body {
        Body::Tcp(tcp) => {
            let payload: Vec<u8> =
                (0..tcp.length).map(|at| pattern(End::Remote, offset(tcp).wrapping_add(at))).collect();
            let wire = flow.to_wire(tcp, End::Remote);
            (protocol::TCP, segment(&wire, (port, local), &payload))
        }
        Body::Icmp(icmp) => {
            let protocol = if addresses.is_v6() { protocol::ICMPV6 } else { protocol::ICMP };
            (protocol, message(icmp, flow, addresses, (local, port)))
        }
    };
    let at = if protocol == protocol::TCP { 16 } else { 2 };
    let sum = if protocol == protocol::ICMP {
        checksum(&transport)
    } else {
        let length = u32::try_from(transport.len()).unwrap_or(u32::MAX);
        let mut sum = pseudo(addresses.remote, addresses.local, protocol, length);
        sum.add(&transport);
        sum.checksum()
    };
    let sum = if packet.network.is_corrupt { !sum } else { sum };
    put(&mut transport, at, &sum.to_be_bytes());
    let (from, to) = (addresses.remote, addresses.local);
    if packet.network.fragments < 2 {
        return vec![datagram(&packet.network, from, to, protocol, &transport, None)];
    }
    fragments(packet, from, to, protocol, &transport)
}

fn fragments(packet: &Packet, from: Address, to: Address, protocol: u8, transport: &[u8]) -> Vec<Vec<u8>> {
    let each = transport.len().div_ceil(usize::from(packet.network.fragments)).next_multiple_of(8);
    let count = transport.len().div_ceil(each);
    let mut frames: Vec<Vec<u8>> = (0..count)
        .zip(transport.chunks(each))
        .map(|(number, part)| {
            let place = (number * each, number + 1 < count);
            datagram(&packet.network, from, to, protocol, part, Some(place))
        })
        .collect();
    if packet.network.is_reverse {
        frames.reverse();
    }
    frames
}

/// A datagram; `fragment` is its offset in bytes and whether more follow.
fn datagram(
    network: &Network,
    from: Address,
    to: Address,
    protocol: u8,
    payload: &[u8],
    fragment: Option<(usize, bool)>,
) -> Vec<u8> {
    let class = network.tos.unwrap_or(0) & !3 | network.ecn.unwrap_or(0);
    let ttl = network.ttl.unwrap_or(64);
    let place = fragment.map_or(0, |(at, more)| (at / 8, more).into_place());
    let mut bytes = if let (Some(from), Some(to)) = (from.v4(), to.v4()) {
        let total = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
        let df = if fragment.is_none() && network.df != Some(false) { 0x4000_u16 } else { 0 };
        let mut header = vec![0x45, class];
        header.extend_from_slice(&total.to_be_bytes());
        header.extend_from_slice(&[0x12, 0x34]);
        header.extend_from_slice(&(df | place).to_be_bytes());
        header.extend_from_slice(&[ttl, protocol, 0, 0]);
        header.extend_from_slice(&from);
        header.extend_from_slice(&to);
        let sum = checksum(&header);
        put(&mut header, 10, &sum.to_be_bytes());
        header
    } else {
        let extra = if fragment.is_some() { 8 } else { 0 };
        let length = u16::try_from(payload.len() + extra).unwrap_or(u16::MAX);
        let mut header = (6_u32 << 28 | u32::from(class) << 20).to_be_bytes().to_vec();
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&[if extra > 0 { 44 } else { protocol }, ttl]);
        header.extend_from_slice(&from.octets());
        header.extend_from_slice(&to.octets());
        if extra > 0 {
            // RFC 8200 4.5: the offset stands three bits higher, and "more" lowest.
            let place = (place & 0x1fff) << 3 | place >> 13 & 1;
            header.extend_from_slice(&[protocol, 0]);
            header.extend_from_slice(&place.to_be_bytes());
            header.extend_from_slice(&0x1234_5678_u32.to_be_bytes());
        }
        header
    };
    bytes.extend_from_slice(payload);
    bytes
}

trait IntoPlace {
    /// The fragment field of IPv4: offset in units of eight bytes, and "more".
    fn into_place(self) -> u16;
}

impl IntoPlace for (usize, bool) {
    fn into_place(self) -> u16 {
        u16::try_from(self.0).unwrap_or(0) & 0x1fff | u16::from(self.1) << 13
    }
}

/// A TCP segment with a checksum of zero.
fn segment(tcp: &Tcp, (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut options = Vec::new();
    tcp.options.iter().flatten().for_each(|option| write_option(option, &mut options));
    options.resize(options.len().next_multiple_of(4).min(40), 0);
    let words = u8::try_from(5 + options.len() / 4).unwrap_or(5);
    let mut bytes = Vec::with_capacity(60 + payload.len());
    bytes.extend_from_slice(&from.to_be_bytes());
    bytes.extend_from_slice(&to.to_be_bytes());
    bytes.extend_from_slice(&tcp.seq.to_be_bytes());
    bytes.extend_from_slice(&tcp.ack.map_or(0, |ack| ack.or(0)).to_be_bytes());
    bytes.extend_from_slice(&[words << 4, tcp.flags]);
    let window = tcp.window.map_or(65_535, |window| window.or(65_535));
    bytes.extend_from_slice(&u16::try_from(window).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&tcp.urgent.unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(&options);
    bytes.extend_from_slice(payload);
    bytes
}

fn write_option(option: &TcpOption, to: &mut Vec<u8>) {
    let low = |number: Number| number.or(0).to_be_bytes();
    match option {
        TcpOption::End => to.push(0),
        TcpOption::Nop => to.push(1),
        TcpOption::Mss(mss) => to.extend_from_slice(&[2, 4, low(*mss)[2], low(*mss)[3]]),
        TcpOption::WindowScale(shift) => to.extend_from_slice(&[3, 3, low(*shift)[3]]),
        TcpOption::SackOk => to.extend_from_slice(&[4, 2]),
        TcpOption::Sack(blocks) => {
            to.extend_from_slice(&[5, u8::try_from(2 + 8 * blocks.len()).unwrap_or(u8::MAX)]);
            for (left, right) in blocks {
                to.extend_from_slice(&left.to_be_bytes());
                to.extend_from_slice(&right.to_be_bytes());
            }
        }
        TcpOption::Timestamps(value, echo) => {
            to.extend_from_slice(&[8, 10]);
            to.extend_from_slice(&low(*value));
            to.extend_from_slice(&low(*echo));
        }
        TcpOption::Hex(bytes) => to.extend_from_slice(bytes),
    }
}

/// An ICMP message with a checksum of zero. An error quotes a datagram that we sent.
fn message(icmp: &Icmp, flow: &Flow, addresses: Addresses, ports: (u16, u16)) -> Vec<u8> {
    match icmp {
        Icmp::Echo { is_reply, id, seq, length } => {
            let kind = match (addresses.is_v6(), is_reply) {
                (false, false) => 8,
                (false, true) => 0,
                (true, false) => 128,
                (true, true) => 129,
            };
            let mut bytes = vec![kind, 0, 0, 0];
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&seq.to_be_bytes());
            bytes.extend((0..*length).map(|at| pattern(End::Remote, at)));
            bytes
        }
        Icmp::Error { kind: (kind, code), mtu, quoted } => {
            let mut bytes = vec![*kind, *code, 0, 0];
            bytes.extend_from_slice(&mtu.to_be_bytes());
            if let Some(quoted) = quoted {
                let payload: Vec<u8> = (0..quoted.length)
                    .map(|at| pattern(End::Local, offset(quoted).wrapping_add(at)))
                    .collect();
                let inner = segment(&flow.to_wire(quoted, End::Local), ports, &payload);
                let network = Network::default();
                let whole =
                    datagram(&network, addresses.local, addresses.remote, protocol::TCP, &inner, None);
                // RFC 792 quotes eight bytes of the transport header; RFC 1812 and RFC 4443 as much as fits.
                let most = if addresses.is_v6() { 1280 - 48 } else { 576 - 28 };
                bytes.extend_from_slice(whole.get(..most).unwrap_or(&whole));
            }
            bytes
        }
    }
}

/// What a frame that we sent says, in the wire's numbers.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The packet; all of its network fields are set.
    pub packet: Packet,
    /// The payload of a segment.
    pub payload: Vec<u8>,
    /// What is wrong with it, whatever the script expects.
    pub wrong: Option<String>,
}

/// Reads a frame that we sent.
pub(super) fn decode(frame: &[u8], addresses: Addresses) -> Option<Seen> {
    let is_v4 = frame.first()? >> 4 == 4;
    let (class, ttl, df, protocol, at, end) = if is_v4 {
        let end = usize::from(u16_at(frame, 2)?);
        let df = u16_at(frame, 6)? & 0x4000 != 0;
        let at = usize::from(frame.first()? & 15) * 4;
        (*frame.get(1)?, *frame.get(8)?, df, *frame.get(9)?, at, end)
    } else {
        let class = (u16_at(frame, 0)? >> 4) as u8;
        (class, *frame.get(7)?, true, *frame.get(6)?, 40, 40 + usize::from(u16_at(frame, 4)?))
    };
    let transport = frame.get(at..end)?;
    let mut network =
        Network { ecn: Some(class & 3), ttl: Some(ttl), tos: Some(class & !3), ..Network::default() };
    network.df = Some(df);
    let mut wrong = (end != frame.len()).then(|| "its length field is wrong".to_owned());
    let length = u32::try_from(transport.len()).ok()?;
    let mut sum = if protocol == protocol::ICMP {
        crate::checksum::Sum::new()
    } else {
        pseudo(addresses.local, addresses.remote, protocol, length)
    };
    sum.add(transport);
    if !sum.is_right() || is_v4 && checksum(frame.get(..at)?) != 0 {
        wrong = Some("its checksum is wrong".to_owned());
    }
    let (body, payload) = match protocol {
        protocol::TCP => {
            network.local = u16_at(transport, 0);
            network.port = u16_at(transport, 2);
            let (tcp, payload) = read_segment(transport)?;
            (Body::Tcp(tcp), payload.to_vec())
        }
        _ => (Body::Icmp(read_message(transport, is_v4, &mut network)?), Vec::new()),
    };
    Some(Seen { packet: Packet { network, body }, payload, wrong })
}

/// A whole segment, or the first eight bytes of one, as an ICMP error may quote it.
pub(super) fn read_segment(bytes: &[u8]) -> Option<(Tcp, &[u8])> {
    let seq = u32_at(bytes, 4)?;
    let flags = bytes.get(13).copied().unwrap_or(0);
    let header = bytes.get(12).map_or(bytes.len(), |byte| usize::from(byte >> 4) * 4);
    let payload = bytes.get(header..).unwrap_or_default();
    let ack = (flags & flag::ACK != 0).then_some(Number::Is(u32_at(bytes, 8)?));
    let tcp = Tcp {
        flags,
        seq,
        length: u32::try_from(payload.len()).ok()?,
        ack,
        window: u16_at(bytes, 14).map(|window| Number::Is(window.into())),
        urgent: u16_at(bytes, 18).filter(|_| flags & flag::URG != 0),
        options: Some(read_options(bytes.get(20..header).unwrap_or_default())),
    };
    Some((tcp, payload))
}

fn read_options(mut rest: &[u8]) -> Vec<TcpOption> {
    let mut options = Vec::new();
    while let Some(&kind) = rest.first() {
        let length = if kind < 2 { 1 } else { usize::from(rest.get(1).copied().unwrap_or(0)).max(2) };
        let Some(option) = rest.get(..length) else {
            options.push(TcpOption::Hex(rest.to_vec()));
            break;
        };
        options.push(read_option(kind, option));
        rest = rest.get(length..).unwrap_or_default();
    }
    options
}

fn read_option(kind: u8, option: &[u8]) -> TcpOption {
    let raw = || TcpOption::Hex(option.to_vec());
    match (kind, option.len()) {
        (0, _) => TcpOption::End,
        (1, _) => TcpOption::Nop,
        (2, 4) => u16_at(option, 2).map_or_else(raw, |mss| TcpOption::Mss(Number::Is(mss.into()))),
        (3, 3) => option.get(2).map_or_else(raw, |shift| TcpOption::WindowScale(Number::Is((*shift).into()))),
        (4, 2) => TcpOption::SackOk,
        (5, _) => {
            let blocks = option.get(2..).unwrap_or_default().chunks_exact(8);
            TcpOption::Sack(blocks.filter_map(|block| u32_at(block, 0).zip(u32_at(block, 4))).collect())
        }
        (8, 10) => match u32_at(option, 2).zip(u32_at(option, 6)) {
            Some((value, echo)) => TcpOption::Timestamps(Number::Is(value), Number::Is(echo)),
            None => raw(),
        },
        _ => raw(),
    }
}

fn read_message(bytes: &[u8], is_v4: bool, network: &mut Network) -> Option<Icmp> {
    let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
    if matches!((is_v4, kind), (true, 0 | 8) | (false, 128 | 129)) {
        return Some(Icmp::Echo {
            is_reply: matches!(kind, 0 | 129),
            id: u16_at(bytes, 4)?,
            seq: u16_at(bytes, 6)?,
            length: u32::try_from(bytes.len().checked_sub(8)?).ok()?,
        });
    }
    let inner = bytes.get(8..)?;
    let at = if is_v4 { usize::from(inner.first()? & 15) * 4 } else { 40 };
    let quoted = inner.get(at..).unwrap_or_default();
    // What we quote is what arrived: the remote end's port is its source.
    network.port = u16_at(quoted, 0);
    network.local = u16_at(quoted, 2);
    let quoted = read_segment(quoted).map(|(tcp, _)| tcp);
    Some(Icmp::Error { kind: (kind, code), mtu: u32_at(bytes, 4)?, quoted })
}
