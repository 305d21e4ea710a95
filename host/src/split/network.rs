//! Network headers: lengths, the way to the transport header, addresses, fragments.

use bulkhead_wit::{Address, limits};

use crate::checksum::{self, Sum};
use crate::split::FragmentFacts;
use crate::split::reasons::Dropped;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A network header, measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    /// The transport protocol; of a fragment, the protocol of its first header.
    pub(crate) protocol: u8,
    /// Where the transport header begins, or the bytes of a fragment.
    pub(crate) transport: usize,
    /// Where the datagram ends; link padding may follow.
    pub(crate) end: usize,
    pub(crate) fragment: Option<FragmentFacts>,
}

impl Network {
    /// Measures the network header of a datagram. Of a super-segment, the frame's own length counts.
    pub(crate) fn parse(bytes: &[u8], is_super: bool) -> Result<Self, Dropped> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::v4(bytes, is_super),
            Some(6) => Self::v6(bytes, is_super),
            Some(_) => Err(Dropped::Version),
            None => Err(Dropped::Truncated),
        }
    }

    /// The pseudo header of this datagram's transport header and payload, `length` bytes together.
    pub(crate) fn pseudo(&self, bytes: &[u8], length: usize) -> Sum {
        let length = length as u32;
        if self.destination.is_v4() {
            let addresses = bytes.get(12..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 8]);
            checksum::pseudo_v4(addresses, self.protocol, length)
        } else {
            let addresses = bytes.get(8..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 32]);
            checksum::pseudo_v6(addresses, self.protocol, length)
        }
    }

    /// RFC 791 3.1.
    fn v4(bytes: &[u8], is_super: bool) -> Result<Self, Dropped> {
        let fixed: &[u8; 20] = bytes.first_chunk().ok_or(Dropped::Truncated)?;
        let transport = usize::from(fixed[0] & 15) * 4;
        if transport < 20 {
            return Err(Dropped::HeaderLength);
        }
        let header = bytes.get(..transport).ok_or(Dropped::Truncated)?;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let end = if is_super { bytes.len() } else { total };
        if end < transport || end > bytes.len() {
            return Err(Dropped::TotalLength);
        }
        if checksum::checksum(header) != 0 {
            return Err(Dropped::HeaderChecksum);
        }
        let [a, b, c, d] = [fixed[12], fixed[13], fixed[14], fixed[15]];
        let [e, f, g, h] = [fixed[16], fixed[17], fixed[18], fixed[19]];
        let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
        let (offset, more) = ((flags & 0x1fff) * 8, flags & 0x2000 != 0);
        let fragment = if offset == 0 && !more {
            None
        } else {
            let identification = u32::from(u16::from_be_bytes([fixed[4], fixed[5]]));
            let key_protocol = fixed[9];
            Some(FragmentFacts { key_protocol, identification, offset, more })
        };
        if let Some(fragment) = fragment {
            fragment_fits(fragment, end - transport)?;
        }
        Ok(Self {
            source: Address::from_v4([a, b, c, d]),
            destination: Address::from_v4([e, f, g, h]),
            protocol: fixed[9],
            transport,
            end,
            fragment,
        })
    }

    /// RFC 8200 3. Jumbograms (RFC 2675) are not served: their payload length of 0 leaves no room for a transport header.
    fn v6(bytes: &[u8], is_super: bool) -> Result<Self, Dropped> {
        let fixed: &[u8; 40] = bytes.first_chunk().ok_or(Dropped::Truncated)?;
        let length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let end = if is_super { bytes.len() } else { 40 + length };
        let datagram = bytes.get(..end).ok_or(Dropped::TotalLength)?;
        let walked = walk_v6(datagram)?;
        if let Some(fragment) = walked.fragment {
            fragment_fits(fragment, end.saturating_sub(walked.transport))?;
        }
        let address = |at: usize| {
            let octets = fixed.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 16]);
            Address::from_v6(*octets)
        };
        let (source, destination) = (address(8), address(24));
        // ::ffff:a.b.c.d must not appear on the wire (RFC 4942 2.2), and would pass for IPv4 behind the wall.
        if source.is_v4() {
            return Err(Dropped::Source);
        }
        if destination.is_v4() {
            return Err(Dropped::Destination);
        }
        let Walked { transport, protocol, fragment, .. } = walked;
        Ok(Self { source, destination, protocol, transport, end, fragment })
    }
}

/// The end of a walk along extension headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    /// Where the transport header begins, or the bytes of a fragment.
    pub(crate) transport: usize,
    /// Its protocol.
    pub(crate) protocol: u8,
    /// Where the part ends that every fragment must repeat (RFC 8200 4.5).
    pub(crate) unfragmentable: usize,
    /// Where the byte is that says what follows the unfragmentable part.
    pub(crate) next_field: usize,
    pub(crate) fragment: Option<FragmentFacts>,
}

/// Walks from the fixed IPv6 header to the transport header or the bytes of a fragment (RFC 8200 4.1).
///
/// Authentication and encryption, mobility and what is unknown count as transport: they are passed on by protocol.
pub(crate) fn walk_v6(datagram: &[u8]) -> Result<Walked, Dropped> {
    let mut at = 40;
    let mut field = 6;
    let mut walked = Walked { transport: 40, protocol: 0, unfragmentable: 40, next_field: 6, fragment: None };
    for headers in 0.. {
        let next = datagram.get(field).copied().ok_or(Dropped::Truncated)?;
        (walked.transport, walked.protocol) = (at, next);
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return Ok(walked);
        }
        if next == HOP_BY_HOP && headers > 0 {
            return Err(Dropped::ExtensionOrder);
        }
        let header: &[u8; 8] = datagram.get(at..).and_then(<[u8]>::first_chunk).ok_or(Dropped::Truncated)?;
        let length = if next == FRAGMENT { 8 } else { (usize::from(header[1]) + 1) * 8 };
        if headers >= limits::EXTENSION_HEADERS || at + length > 40 + limits::EXTENSION_BYTES {
            return Err(Dropped::Extensions);
        }
        if at + length > datagram.len() {
            return Err(Dropped::Truncated);
        }
        // Segments left, at byte 3: someone else is the final destination.
        if next == ROUTING && header[3] != 0 {
            return Err(Dropped::Routing);
        }
        field = at;
        at += length;
        if next == FRAGMENT {
            let flags = u16::from_be_bytes([header[2], header[3]]);
            let (offset, more) = (flags & 0xfff8, flags & 1 != 0);
            // An atomic fragment is no fragment (RFC 6946).
            if offset != 0 || more {
                let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                // RFC 8200 4.5: the addresses and the identification alone name the datagram.
                let key_protocol = FRAGMENT;
                walked.fragment = Some(FragmentFacts { key_protocol, identification, offset, more });
                (walked.transport, walked.protocol) = (at, header[0]);
                return Ok(walked);
            }
        } else if next != DESTINATION_OPTIONS {
            // Hop-by-hop options and routing, with the destination options before them, go into every fragment.
            (walked.unfragmentable, walked.next_field) = (at, field);
        }
    }
    Err(Dropped::Extensions)
}

/// RFC 791 3.2 and RFC 8200 4.5; a fragment that reaches beyond the longest datagram is an attack ("ping of death").
fn fragment_fits(fragment: FragmentFacts, length: usize) -> Result<(), Dropped> {
    let is_ragged = fragment.more && !length.is_multiple_of(8);
    if length == 0 || is_ragged || usize::from(fragment.offset) + length > limits::DATAGRAM {
        return Err(Dropped::Fragment);
    }
    Ok(())
}
