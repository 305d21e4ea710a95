//! Frames as a peer sends them, and headers as a module does.

use bulkhead::checksum::{self, checksum};
use bulkhead_wit::registry::protocol;

/// FIN.
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 2;
/// RST.
pub const RST: u8 = 4;
/// PSH.
pub const PSH: u8 = 8;
/// ACK.
pub const ACK: u8 = 16;
/// URG.
pub const URG: u8 = 32;

/// A TCP segment over IPv4, without options.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Where from.
    pub source: ([u8; 4], u16),
    /// Where to.
    pub destination: ([u8; 4], u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
}

impl Tcp {
    /// The headers as a module gives them: lengths and checksums are for `join` to fill.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut header = ipv4(protocol::TCP, self.source.0, self.destination.0);
        header.extend(self.source.1.to_be_bytes());
        header.extend(self.destination.1.to_be_bytes());
        header.extend(self.seq.to_be_bytes());
        header.extend(self.ack.to_be_bytes());
        header.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        header
    }

    /// The frame, complete.
    #[must_use]
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.header();
        frame.extend_from_slice(payload);
        let length = frame.len() as u32 - 20;
        let mut addresses = [0; 8];
        addresses.copy_from_slice(&frame[12..20]);
        let mut sum = checksum::pseudo_v4(&addresses, protocol::TCP, length);
        sum.add(&frame[20..]);
        let sum = sum.checksum().to_be_bytes();
        frame[36..38].copy_from_slice(&sum);
        finish_ipv4(frame, 0, 0)
    }
}

/// An IPv4 header without lengths and checksum.
fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    header.extend(source);
    header.extend(destination);
    header
}

/// Fills in total length, identification, fragment field and header checksum.
fn finish_ipv4(mut frame: Vec<u8>, identification: u16, fragment: u16) -> Vec<u8> {
    let length = frame.len() as u16;
    frame[2..4].copy_from_slice(&length.to_be_bytes());
    frame[4..6].copy_from_slice(&identification.to_be_bytes());
    frame[6..8].copy_from_slice(&fragment.to_be_bytes());
    let sum = checksum(&frame[..20]).to_be_bytes();
    frame[10..12].copy_from_slice(&sum);
    frame
}

/// The headers of an ICMP message of this type, as a module gives them.
#[must_use]
pub fn icmp_header(kind: u8, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut header = ipv4(protocol::ICMP, source, destination);
    header.extend([kind, 0, 0, 0, 0, 1, 0, 2]);
    header
}

/// An echo request.
#[must_use]
pub fn echo_request(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = icmp_header(8, source, destination);
    frame.extend_from_slice(payload);
    let sum = checksum(&frame[20..]).to_be_bytes();
    frame[22..24].copy_from_slice(&sum);
    finish_ipv4(frame, 0, 0)
}

/// A fragment of a UDP datagram, with more to come: `offset` in bytes, a multiple of eight.
#[must_use]
pub fn fragment(
    source: [u8; 4],
    destination: [u8; 4],
    identification: u16,
    offset: u16,
    bytes: &[u8],
) -> Vec<u8> {
    let mut frame = ipv4(protocol::UDP, source, destination);
    frame.extend_from_slice(bytes);
    finish_ipv4(frame, identification, 0x2000 | (offset / 8))
}
