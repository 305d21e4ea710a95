//! Where things are in an outgoing header, and how its fields are filled.

use crate::checksum::{self, Sum};
use crate::split::network::{ICMP, ICMPV6, TCP, UDP, walk_v6};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const URG: u8 = 0x20;
pub(crate) const CWR: u8 = 0x80;

/// Where in a TCP header the flags are.
pub(crate) const TCP_FLAGS: usize = 13;

/// The shape of an outgoing header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) is_v4: bool,
    pub(crate) protocol: u8,
    /// Where the transport header begins.
    pub(crate) transport: usize,
    /// Bytes of all headers together.
    pub(crate) length: usize,
}

impl Layout {
    /// The layout of a header whose transport header is said to begin at `transport`; why not, if it does not.
    pub(crate) fn of(header: &[u8], transport: usize) -> Result<Self, &'static str> {
        let length = header.len();
        let (is_v4, protocol, found) = match header.first().map(|first| (first >> 4, first & 15)) {
            Some((4, words)) if words >= 5 && length >= 20 => {
                (true, header.get(9).copied().unwrap_or_default(), usize::from(words) * 4)
            }
            Some((6, _)) if length >= 40 => {
                let walked = walk_v6(header).map_err(|_| "extension headers lead nowhere")?;
                if walked.fragment.is_some() {
                    return Err("a fragment header is join's to write");
                }
                (false, walked.protocol, walked.transport)
            }
            _ => return Err("neither an IPv4 nor an IPv6 header"),
        };
        if found != transport || transport > length {
            return Err("the transport header is elsewhere");
        }
        let least = match protocol {
            TCP => 20,
            UDP => 8,
            ICMP | ICMPV6 => 4,
            _ => 0,
        };
        if length - transport < least {
            return Err("the transport header is too short");
        }
        Ok(Self { is_v4, protocol, transport, length })
    }

    /// Where in the transport header the checksum is; `None` for protocols whose checksum is not ours to write.
    pub(crate) const fn checksum_offset(self) -> Option<usize> {
        match (self.protocol, self.is_v4) {
            (TCP, _) => Some(16),
            (UDP, _) => Some(6),
            (ICMP, true) | (ICMPV6, false) => Some(2),
            _ => None,
        }
    }

    /// Writes the length fields for `payload` bytes after the header and, for IPv4, identification and checksum
    /// (RFC 791 3.1, RFC 8200 3, RFC 768).
    pub(crate) fn fill_network(self, header: &mut [u8], payload: usize, identification: u16) {
        let total = self.length + payload;
        if self.is_v4 {
            put_u16(header, 2, total as u16);
            put_u16(header, 4, identification);
            fill_v4_checksum(header, self.transport);
        } else {
            put_u16(header, 4, (total - 40) as u16);
        }
        if self.protocol == UDP {
            put_u16(header, self.transport + 4, (total - self.transport) as u16);
        }
    }

    /// The sum of the pseudo header for `payload` bytes after the header; empty for ICMP over IPv4.
    pub(crate) fn pseudo(self, header: &[u8], payload: usize) -> Sum {
        let length = (self.length - self.transport + payload) as u32;
        if !self.is_v4 {
            let addresses = header.get(8..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 32]);
            checksum::pseudo_v6(addresses, self.protocol, length)
        } else if self.protocol == ICMP {
            Sum::new()
        } else {
            let addresses = header.get(12..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 8]);
            checksum::pseudo_v4(addresses, self.protocol, length)
        }
    }

    /// Leaves the checksum to the device: writes the sum of the pseudo header only.
    pub(crate) fn fill_partial(self, header: &mut [u8], payload: usize) {
        if let Some(offset) = self.checksum_offset() {
            let sum = self.pseudo(header, payload).folded();
            put_u16(header, self.transport + offset, sum);
        }
    }

    /// Writes the transport checksum over the header and a payload of `length` bytes whose sum is `payload`.
    pub(crate) fn fill_checksum(self, header: &mut [u8], length: usize, payload: Sum) {
        let Some(offset) = self.checksum_offset() else { return };
        let field = self.transport + offset;
        put_u16(header, field, 0);
        let mut sum = self.pseudo(header, length);
        sum.add(header.get(self.transport..).unwrap_or_default());
        sum.append(payload);
        put_u16(header, field, written(sum.checksum(), self.protocol));
    }
}

/// Completes a checksum that was left to the device: the bytes from `start` on are summed, the sum of the pseudo
/// header in the field among them, and the complement is stored at `start + offset`.
pub(crate) fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) {
    let sum = checksum::checksum(frame.get(start..).unwrap_or_default());
    // UDP is the only protocol with its field there.
    let protocol = if offset == 6 { UDP } else { TCP };
    put_u16(frame, start + offset, written(sum, protocol));
}

/// Zero says "no checksum" in UDP, so that a sum of zero is sent as all ones (RFC 768).
pub(crate) const fn written(checksum: u16, protocol: u8) -> u16 {
    if checksum == 0 && protocol == UDP { 0xffff } else { checksum }
}

/// Writes the checksum of an IPv4 header of `length` bytes (RFC 791 3.1).
pub(crate) fn fill_v4_checksum(header: &mut [u8], length: usize) {
    put_u16(header, 10, 0);
    let sum = checksum::checksum(header.get(..length).unwrap_or_default());
    put_u16(header, 10, sum);
}

/// Writes a number in network order, if there is room for it.
pub(crate) fn put_u16(header: &mut [u8], at: usize, number: u16) {
    if let Some(field) = header.get_mut(at..at + 2) {
        field.copy_from_slice(&number.to_be_bytes());
    }
}

/// Writes a number in network order, if there is room for it.
pub(crate) fn put_u32(header: &mut [u8], at: usize, number: u32) {
    if let Some(field) = header.get_mut(at..at + 4) {
        field.copy_from_slice(&number.to_be_bytes());
    }
}

/// Reads a number in network order; 0 beyond the end.
pub(crate) fn get_u16(header: &[u8], at: usize) -> u16 {
    header.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u16::from_be_bytes(*field))
}

/// Reads a number in network order; 0 beyond the end.
pub(crate) fn get_u32(header: &[u8], at: usize) -> u32 {
    header.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u32::from_be_bytes(*field))
}
