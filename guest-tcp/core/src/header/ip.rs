//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers: what [`bulkhead_wit::ip`] has of them, and what an ICMP error quotes.

use super::u16_at;
pub(crate) use bulkhead_wit::ip::{Fragment, Ip};

/// Bytes of an IPv6 header.
const V6_HEADER: u16 = 40;

/// The ECN field (RFC 3168 5): congestion experienced.
pub(crate) const ECN_CE: u8 = 3;
/// The ECN field: ECN-capable transport, the code point that we send.
pub(crate) const ECN_ECT0: u8 = 2;

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
    use alloc::vec::Vec;
    use bulkhead_wit::Address;

    #[test]
    fn a_quote_says_where_its_transport_is() {
        for [source, destination] in
            [[[10, 0, 0, 1], [10, 0, 0, 2]].map(Address::from_v4), [[1; 16], [2; 16]].map(Address::from_v6)]
        {
            let mut header = Vec::new();
            Ip { source, destination, ttl: 63, traffic_class: 0 }.build(6, true, &mut header);
            assert_eq!(transport_of(&header), Some((6, header.len())));
        }
    }

    #[test]
    fn short_headers_are_refused() {
        assert_eq!(transport_of(&[]), None);
        assert_eq!(transport_of(&[0x45; 8]), None);
        assert_eq!(transport_of(&[0x60; 6]), None);
    }
}
