//! Ethernet frames, and as much of IPv4 (RFC 791), IPv6 (RFC 8200) and UDP (RFC 768) as asking and answering takes.

use crate::limits::TTL;
use alloc::vec::Vec;

/// A link address.
pub(crate) type Mac = [u8; 6];

/// Bytes of an Ethernet header.
pub(crate) const HEADER: usize = 14;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const BROADCAST: Mac = [0xff; 6];

const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What kind of address a link address is.
pub(crate) trait Cast {
    fn is_group(&self) -> bool;
    fn is_unicast(&self) -> bool;
}

impl Cast for Mac {
    fn is_group(&self) -> bool {
        self[0] & 1 == 1
    }

    fn is_unicast(&self) -> bool {
        !self.is_group() && *self != [0; 6]
    }
}

/// An Ethernet frame.
pub(crate) struct Frame<'a> {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

/// `N` bytes at a place, if they are there.
pub(crate) fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

pub(crate) fn word(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_be_bytes)
}

impl<'a> Frame<'a> {
    pub(crate) fn parse(frame: &'a [u8]) -> Option<Self> {
        Some(Self {
            destination: bytes(frame, 0)?,
            source: bytes(frame, 6)?,
            kind: word(frame, 12)?,
            payload: frame.get(HEADER..)?,
        })
    }
}

/// The beginning of a frame.
pub(crate) fn ethernet(destination: Mac, source: Mac, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(bulkhead_wit::limits::HEADER);
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&kind.to_be_bytes());
    frame
}

/// RFC 1071: the complement of the sum; 0 over bytes that hold their own right sum.
pub(crate) fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        // Every part but the last has an even length.
        let (pairs, rest) = part.as_chunks::<2>();
        sum += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
        sum += rest.first().map_or(0, |last| u64::from(*last) << 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The ports and the payload of a UDP datagram over IPv4 that came whole. What lies beyond the bytes that the host shows
/// is not there; the checksum covers it too, so it is not looked at: whoever alters a guest's question is the guest.
pub(crate) struct Udp<'a> {
    pub(crate) to_port: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Udp<'a> {
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let first = *datagram.first()?;
        let header = usize::from(first & 15) * 4;
        let total = usize::from(word(datagram, 2)?);
        let is_fragment = word(datagram, 6)? & 0x3fff != 0;
        let is_right = first >> 4 == 4
            && header >= 20
            && !is_fragment
            && datagram.get(9) == Some(&UDP)
            && checksum([datagram.get(..header)?]) == 0;
        let datagram = datagram.get(..total.min(datagram.len()))?;
        let udp = datagram.get(header..)?;
        let payload = udp.get(8..usize::from(word(udp, 4)?).min(udp.len()))?;
        is_right.then_some(Self { to_port: word(udp, 2)?, payload })
    }
}

/// Appends a UDP datagram over IPv4.
pub(crate) fn udp(
    frame: &mut Vec<u8>,
    (source, from): ([u8; 4], u16),
    (to, port): ([u8; 4], u16),
    payload: &[u8],
) {
    let length = 8 + payload.len() as u16;
    let start = frame.len();
    frame.extend_from_slice(&[0x45, 0]);
    frame.extend_from_slice(&(20 + length).to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&to);
    let sum = checksum([frame.get(start..).unwrap_or_default()]);
    fill(frame, start + 10, sum);
    let pseudo = [0, UDP, (length >> 8) as u8, length as u8];
    let mut head = Vec::from(from.to_be_bytes());
    head.extend_from_slice(&port.to_be_bytes());
    head.extend_from_slice(&length.to_be_bytes());
    let sum = checksum([&source[..], &to, &pseudo, &head, payload]);
    frame.extend_from_slice(&head);
    // RFC 768: no sum would be zero.
    frame.extend_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    frame.extend_from_slice(payload);
}

/// A message of Neighbour Discovery, whose rules of RFC 4861 6.1 and 7.1 hold.
pub(crate) struct Message<'a> {
    pub(crate) source: [u8; 16],
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let length = usize::from(word(datagram, 4)?);
        let body = datagram.get(40..40 + length)?;
        let (source, to) = (bytes(datagram, 8)?, bytes::<16>(datagram, 24)?);
        let is_right = datagram.first()? >> 4 == 6
            && datagram.get(6) == Some(&ICMPV6)
            && datagram.get(7) == Some(&255)
            && body.get(1) == Some(&0)
            && message_sum(&source, &to, body) == 0;
        is_right.then_some(Self { source, body })
    }
}

fn message_sum(source: &[u8; 16], to: &[u8; 16], body: &[u8]) -> u16 {
    let [a, b, c, d] = (body.len() as u32).to_be_bytes();
    checksum([&source[..], to, &[a, b, c, d, 0, 0, 0, ICMPV6], body])
}

/// Appends a message of Neighbour Discovery.
pub(crate) fn message(frame: &mut Vec<u8>, source: [u8; 16], to: [u8; 16], mut body: Vec<u8>) {
    let sum = message_sum(&source, &to, &body);
    fill(&mut body, 2, sum);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&body);
}

fn fill(bytes: &mut [u8], at: usize, sum: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}
