//! Network headers beyond what [`bulkhead_wit::ip`] has of them.

use bulkhead_wit::Address;
use bulkhead_wit::ip::Ip;

/// Source and destination of a network header.
pub(crate) fn addresses(header: &[u8]) -> Option<(Address, Address)> {
    Ip::parse(header).map(|ip| (ip.source, ip.destination))
}

/// Gives a network header that stands alone the length of a datagram of no bytes, in which no lengths are filled in later.
pub(crate) fn empty(header: &mut [u8]) {
    let (at, length) = if header.len() == 20 { (2, 28_u16) } else { (4, 8) };
    if let Some(field) = header.get_mut(at..at + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
