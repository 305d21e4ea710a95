//! Frames by hand, for tests.

use crate::checksum::{self, Sum};
use crate::split::network::{ICMP, ICMPV6, TCP, UDP};

pub(crate) const HERE4: [u8; 4] = [10, 0, 0, 2];
pub(crate) const THERE4: [u8; 4] = [10, 0, 0, 1];
pub(crate) const HERE6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub(crate) const THERE6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An IPv4 datagram from THERE to HERE with a right header checksum.
pub(crate) fn v4(protocol: u8, options: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = 20 + options.len();
    let mut header = vec![0x40 | (length / 4) as u8, 0];
    header.extend_from_slice(&((length + rest.len()) as u16).to_be_bytes());
    header.extend_from_slice(&[0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    header.extend_from_slice(&THERE4);
    header.extend_from_slice(&HERE4);
    header.extend_from_slice(options);
    fix_v4(&mut header);
    header.extend_from_slice(rest);
    header
}

/// Makes the header checksum right.
pub(crate) fn fix_v4(frame: &mut [u8]) {
    let length = usize::from(frame[0] & 15) * 4;
    frame[10..12].fill(0);
    let sum = checksum::checksum(&frame[..length]);
    frame[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An IPv6 datagram from THERE to HERE; `extensions` stand between the fixed header and `rest`, whose kind is `next`.
pub(crate) fn v6(next: u8, extensions: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend_from_slice(&((extensions.len() + rest.len()) as u16).to_be_bytes());
    header.extend_from_slice(&[next, 64]);
    header.extend_from_slice(&THERE6);
    header.extend_from_slice(&HERE6);
    header.extend_from_slice(extensions);
    header.extend_from_slice(rest);
    header
}

/// A TCP segment from port 1000 to 80, seq 0x01020304, ack 0x05060708.
pub(crate) fn tcp(flags: u8, options: &[u8], payload: &[u8], is_v4: bool) -> Vec<u8> {
    let mut segment = vec![3, 232, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8];
    segment.extend_from_slice(&[(((20 + options.len()) / 4) << 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(options);
    segment.extend_from_slice(payload);
    fix(&mut segment, 16, TCP, is_v4);
    segment
}

/// A UDP datagram from port 1000 to 53.
pub(crate) fn udp(payload: &[u8], is_v4: bool) -> Vec<u8> {
    let mut datagram = vec![3, 232, 0, 53];
    datagram.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    fix(&mut datagram, 6, UDP, is_v4);
    datagram
}

/// An ICMP message: type, code 0, four zero bytes, `rest`.
pub(crate) fn icmp(kind: u8, rest: &[u8], is_v4: bool) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(rest);
    fix(&mut message, 2, if is_v4 { ICMP } else { ICMPV6 }, is_v4);
    message
}

/// Makes the transport checksum right.
pub(crate) fn fix(transport: &mut [u8], field: usize, protocol: u8, is_v4: bool) {
    transport[field..field + 2].fill(0);
    let mut sum = Sum::new();
    if protocol != ICMP {
        if is_v4 {
            sum.add(&THERE4);
            sum.add(&HERE4);
        } else {
            sum.add(&THERE6);
            sum.add(&HERE6);
        }
        sum.add_u32(transport.len() as u32);
        sum.add_u16(u16::from(protocol));
    }
    sum.add(transport);
    let sum = if sum.checksum() == 0 && protocol == UDP { 0xffff } else { sum.checksum() };
    transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}
