//! The virtio-net header of a TUN device with `IFF_VNET_HDR` (virtio 1.2, 5.1.6; `struct virtio_net_hdr`).
//!
//! Ten bytes in front of every datagram, numbers in the machine's byte order.

use crate::device::{ChecksumState, Gso, Offload};

/// Bytes of the header.
pub(crate) const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Header for a frame to be sent.
pub(crate) fn encode(offload: Offload) -> [u8; LENGTH] {
    let (mut flags, mut start, mut field) = (0, 0, 0);
    match offload.checksum {
        ChecksumState::None => {}
        ChecksumState::Needs { start: at, offset } => (flags, start, field) = (NEEDS_CHECKSUM, at, offset),
        ChecksumState::Verified => flags = DATA_VALID,
    }
    let kind = match offload.gso {
        Gso::None => GSO_NONE,
        Gso::Tcp4 => GSO_TCP4,
        Gso::Tcp6 => GSO_TCP6,
        Gso::Udp => GSO_UDP,
    };
    let is_super = offload.gso != Gso::None;
    let kind = if is_super && offload.cwr { kind | GSO_ECN } else { kind };
    let [a, b] = if is_super { offload.header_length } else { 0 }.to_ne_bytes();
    let [c, d] = if is_super { offload.gso_size } else { 0 }.to_ne_bytes();
    let ([e, f], [g, h]) = (start.to_ne_bytes(), field.to_ne_bytes());
    [flags, kind, a, b, c, d, e, f, g, h]
}

/// What the header of an arrived frame says; `None` for kinds of merging that were never asked for.
pub(crate) fn decode(header: [u8; LENGTH]) -> Option<Offload> {
    let [flags, kind, a, b, c, d, e, f, g, h] = header;
    let gso = match kind & !GSO_ECN {
        GSO_NONE => Gso::None,
        GSO_TCP4 => Gso::Tcp4,
        GSO_TCP6 => Gso::Tcp6,
        GSO_UDP => Gso::Udp,
        _ => return None,
    };
    let checksum = if flags & NEEDS_CHECKSUM != 0 {
        ChecksumState::Needs { start: u16::from_ne_bytes([e, f]), offset: u16::from_ne_bytes([g, h]) }
    } else if flags & DATA_VALID != 0 {
        ChecksumState::Verified
    } else {
        ChecksumState::None
    };
    Some(Offload {
        gso,
        gso_size: u16::from_ne_bytes([c, d]),
        header_length: u16::from_ne_bytes([a, b]),
        cwr: kind & GSO_ECN != 0,
        checksum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_was_meant() {
        let checksum = ChecksumState::Needs { start: 40, offset: 16 };
        let super_segment =
            Offload { gso: Gso::Tcp6, gso_size: 1428, header_length: 72, cwr: true, checksum };
        assert_eq!(decode(encode(super_segment)), Some(super_segment));
        let lone = Offload { gso: Gso::None, gso_size: 0, header_length: 0, cwr: false, checksum };
        assert_eq!(encode(Offload { header_length: 72, ..lone }), encode(lone));
        assert_eq!(decode(encode(lone)), Some(lone));
        let [flags, kind, ..] = encode(super_segment);
        assert_eq!((flags, kind), (1, 0x84));
        assert_eq!(decode([0; LENGTH]), Some(Offload::default()));
        assert_eq!(decode([0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
