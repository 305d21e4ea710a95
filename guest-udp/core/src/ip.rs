//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, as much as UDP has to read and to write.

use alloc::vec::Vec;
use bulkhead_wit::Address;

fn bytes<const N: usize>(header: &[u8], at: usize) -> Option<[u8; N]> {
    header.get(at..)?.first_chunk().copied()
}

pub(crate) fn word(header: &[u8], at: usize) -> Option<u16> {
    bytes(header, at).map(u16::from_be_bytes)
}

/// Source and destination of a network header.
pub(crate) fn addresses(header: &[u8]) -> Option<(Address, Address)> {
    match header.first()? >> 4 {
        4 => Some((Address::from_v4(bytes(header, 12)?), Address::from_v4(bytes(header, 16)?))),
        6 => Some((Address::from_v6(bytes(header, 8)?), Address::from_v6(bytes(header, 24)?))),
        _ => None,
    }
}

/// What an outgoing network header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
}

impl Outgoing {
    /// Appends the header. Lengths, identification and checksum stay zero: join fills them. DF is not set: a datagram
    /// that is longer than the link takes goes out in fragments.
    pub(crate) fn build(&self, protocol: u8, to: &mut Vec<u8>) {
        let class = self.traffic_class;
        if let (Some(source), Some(destination)) = (self.source.v4(), self.destination.v4()) {
            to.extend_from_slice(&[0x45, class, 0, 0, 0, 0, 0, 0, self.ttl, protocol, 0, 0]);
            to.extend_from_slice(&source);
            to.extend_from_slice(&destination);
        } else {
            to.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0, 0, 0, protocol, self.ttl]);
            to.extend_from_slice(&self.source.octets());
            to.extend_from_slice(&self.destination.octets());
        }
    }
}

/// Gives a network header that stands alone the length of a datagram of no bytes, in which no lengths are filled in later.
pub(crate) fn empty(header: &mut [u8]) {
    let (at, length) = if header.len() == 20 { (2, 28_u16) } else { (4, 8) };
    if let Some(field) = header.get_mut(at..at + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// What a fragment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fragment {
    pub(crate) identification: u32,
    /// Of its first byte, in bytes.
    pub(crate) offset: u32,
    /// It is not the last one.
    pub(crate) more: bool,
    pub(crate) protocol: u8,
}

impl Fragment {
    /// From an IPv4 header, or from the fragment header among IPv6's extensions.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        if header.first()? >> 4 == 4 {
            let field = word(header, 6)?;
            return Some(Self {
                identification: u32::from(word(header, 4)?),
                offset: u32::from(field & 0x1fff) * 8,
                more: field & 0x2000 != 0,
                protocol: *header.get(9)?,
            });
        }
        let (mut next, mut at) = (*header.get(6)?, 40_usize);
        for _ in 0..bulkhead_wit::limits::EXTENSION_HEADERS {
            match next {
                44 => {
                    let field = word(header, at + 2)?;
                    return Some(Self {
                        identification: u32::from_be_bytes(bytes(header, at + 4)?),
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
