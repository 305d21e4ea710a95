//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, uniform through [`Address`].

use super::{bytes, u16_at, u32_at};
use alloc::vec::Vec;
use bulkhead_wit::Address;

/// Bytes of an IPv6 header.
const V6_HEADER: u16 = 40;

/// The ECN field (RFC 3168 5): congestion experienced.
pub(crate) const ECN_CE: u8 = 3;
/// The ECN field: ECN-capable transport, the code point that we send.
pub(crate) const ECN_ECT0: u8 = 2;

/// What the stack wants to know of a network header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ip {
    pub source: Address,
    pub destination: Address,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Traffic class with the ECN bits.
    pub traffic_class: u8,
}

impl Ip {
    /// Reads the addresses from a header's first bytes. Lengths are split's affair, not ours.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
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
    pub(crate) fn build(&self, protocol: u8, dont_fragment: bool, to: &mut Vec<u8>) {
        if let (Some(source), Some(destination)) = (self.source.v4(), self.destination.v4()) {
            // RFC 6864: an atomic datagram (DF set) needs no identification.
            let flags = if dont_fragment { 0x40 } else { 0 };
            let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (source, destination);
            to.extend_from_slice(&[
                0x45,
                self.traffic_class,
                0,
                0,
                0,
                0,
                flags,
                0,
                self.ttl,
                protocol,
                0,
                0,
                s0,
                s1,
                s2,
                s3,
                d0,
                d1,
                d2,
                d3,
            ]);
        } else {
            let class = self.traffic_class;
            to.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0, 0, 0, protocol, self.ttl]);
            to.extend_from_slice(&self.source.octets());
            to.extend_from_slice(&self.destination.octets());
        }
    }
}

/// What a fragment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fragment {
    pub identification: u32,
    /// Of its first byte, in bytes.
    pub offset: u32,
    /// It is not the last one.
    pub more: bool,
    pub protocol: u8,
}

impl Fragment {
    /// From an IPv4 header, or from the fragment header among IPv6's extensions.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        if header.first()? >> 4 == 4 {
            let field = u16_at(header, 6)?;
            return Some(Self {
                identification: u32::from(u16_at(header, 4)?),
                offset: u32::from(field & 0x1fff) * 8,
                more: field & 0x2000 != 0,
                protocol: *header.get(9)?,
            });
        }
        let mut next = *header.get(6)?;
        let mut at = usize::from(V6_HEADER);
        for _ in 0..bulkhead_wit::limits::EXTENSION_HEADERS {
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

/// Where the transport header of a quoted datagram begins, and its protocol (for ICMP errors, which quote one).
pub(crate) fn transport_of(quoted: &[u8]) -> Option<(u8, usize)> {
    match quoted.first()? >> 4 {
        4 => {
            let length = usize::from(quoted.first()? & 0xf) * 4;
            // Only the first fragment has a transport header.
            let offset = u16_at(quoted, 6)? & 0x1fff;
            (length >= 20 && offset == 0).then_some(())?;
            Some((*quoted.get(9)?, length))
        }
        6 => walk_extensions(quoted),
        _ => None,
    }
}

/// RFC 8200 4: extension headers before the upper layer, at most as many as split walks.
fn walk_extensions(quoted: &[u8]) -> Option<(u8, usize)> {
    let mut next = *quoted.get(6)?;
    let mut at = usize::from(V6_HEADER);
    for _ in 0..bulkhead_wit::limits::EXTENSION_HEADERS {
        let length = match next {
            0 | 43 | 60 => (usize::from(*quoted.get(at + 1)?) + 1) * 8,
            44 => {
                (u16_at(quoted, at + 2)? & 0xfff8 == 0).then_some(())?;
                8
            }
            _ => return Some((next, at)),
        };
        next = *quoted.get(at)?;
        at = at.checked_add(length)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        for (source, destination) in [
            (Address::from_v4([10, 0, 0, 1]), Address::from_v4([10, 0, 0, 2])),
            (Address::from_v6([1; 16]), Address::from_v6([2; 16])),
        ] {
            let ip = Ip { source, destination, ttl: 63, traffic_class: 0xb9 };
            let mut header = Vec::new();
            ip.build(6, true, &mut header);
            assert_eq!(Ip::parse(&header), Some(ip));
            assert_eq!(transport_of(&header), Some((6, header.len())));
        }
    }

    #[test]
    fn short_headers_are_refused() {
        assert_eq!(Ip::parse(&[]), None);
        assert_eq!(Ip::parse(&[0x45; 19]), None);
        assert_eq!(Ip::parse(&[0x60; 39]), None);
        assert_eq!(transport_of(&[0x60; 6]), None);
    }
}
