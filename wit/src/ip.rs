//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers as modules read and write them, uniform through [`Address`]. Lengths and checksums
//! are the host's affair: `split` has held those of an arrived header to its datagram, and `join` fills in those of one to send.

use crate::limits;
use crate::types::Address;
use alloc::vec::Vec;

/// Bytes of an IPv6 header.
const V6_HEADER: usize = 40;

/// `N` bytes at `at`, if they are there.
#[inline]
#[must_use]
pub fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A big-endian 16-bit number at `at`.
#[inline]
#[must_use]
pub fn u16_at(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_be_bytes)
}

/// A big-endian 32-bit number at `at`.
#[inline]
#[must_use]
pub fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_be_bytes)
}

/// What a stack wants to know of a network header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ip {
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Traffic class with the ECN bits.
    pub traffic_class: u8,
}

impl Ip {
    /// Reads a header's first bytes.
    #[inline]
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        match header.first()? >> 4 {
            4 => Some(Self {
                source: Address::from_v4(bytes(header, 12)?),
                destination: Address::from_v4(bytes(header, 16)?),
                ttl: *header.get(8)?,
                traffic_class: *header.get(1)?,
            }),
            6 => Some(Self {
                source: Address::from_v6(bytes(header, 8)?),
                destination: Address::from_v6(bytes(header, 24)?),
                ttl: *header.get(7)?,
                traffic_class: (u16_at(header, 0)? >> 4) as u8,
            }),
            _ => None,
        }
    }

    /// Appends a header. Total length, identification and checksum stay zero: join fills them.
    #[inline]
    pub fn build(&self, protocol: u8, dont_fragment: bool, to: &mut Vec<u8>) {
        let class = self.traffic_class;
        if let (Some(source), Some(destination)) = (self.source.v4(), self.destination.v4()) {
            // RFC 6864: an atomic datagram (DF set) needs no identification.
            let flags = if dont_fragment { 0x40 } else { 0 };
            // One array, and so one growth of the list: this is the header of every segment.
            let mut header =
                [0x45, class, 0, 0, 0, 0, flags, 0, self.ttl, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&source);
            header[16..].copy_from_slice(&destination);
            to.extend_from_slice(&header);
        } else {
            to.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0, 0, 0, protocol, self.ttl]);
            to.extend_from_slice(&self.source.octets());
            to.extend_from_slice(&self.destination.octets());
        }
    }
}

/// What a fragment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// What all fragments of a datagram have in common.
    pub identification: u32,
    /// Of its first byte, in bytes.
    pub offset: u32,
    /// It is not the last one.
    pub more: bool,
    /// The protocol of what the datagram carries.
    pub protocol: u8,
}

impl Fragment {
    /// From an IPv4 header, or from the fragment header among IPv6's extensions.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        if header.first()? >> 4 == 4 {
            let field = u16_at(header, 6)?;
            return Some(Self {
                identification: u32::from(u16_at(header, 4)?),
                offset: u32::from(field & 0x1fff) * 8,
                more: field & 0x2000 != 0,
                protocol: *header.get(9)?,
            });
        }
        let (mut next, mut at) = (*header.get(6)?, V6_HEADER);
        for _ in 0..limits::EXTENSION_HEADERS {
            match next {
                44 => {
                    let field = u16_at(header, at + 2)?;
                    return Some(Self {
                        identification: u32_at(header, at + 4)?,
                        offset: u32::from(field & 0xfff8),
                        more: field & 1 != 0,
                        protocol: *header.get(at)?,
                    });
                }
                0 | 43 | 60 => {
                    next = *header.get(at)?;
                    at = at.checked_add((usize::from(*header.get(at + 1)?) + 1) * 8)?;
                }
                _ => return None,
            }
        }
        None
    }
}
