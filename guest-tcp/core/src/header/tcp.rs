//! The TCP header (RFC 9293 3.1) without its options.

use super::{bytes, u16_at, u32_at};
use crate::seq::Seq;
use alloc::vec::Vec;

/// Bytes of a header without options.
pub(crate) const HEADER: u16 = 20;

/// The control bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags(pub u8);

impl Flags {
    pub(crate) const FIN: Self = Self(1);
    pub(crate) const SYN: Self = Self(2);
    pub(crate) const RST: Self = Self(4);
    pub(crate) const PSH: Self = Self(8);
    pub(crate) const ACK: Self = Self(16);
    pub(crate) const URG: Self = Self(32);
    pub(crate) const ECE: Self = Self(64);
    pub(crate) const CWR: Self = Self(128);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With `other` if `set`.
    pub(crate) const fn with_if(self, set: bool, other: Self) -> Self {
        if set { self.with(other) } else { self }
    }
}

/// The fixed fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tcp {
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: Seq,
    pub ack: Seq,
    pub flags: Flags,
    pub window: u16,
    pub urgent: u16,
}

impl Tcp {
    /// Reads the fixed fields and gives the option bytes. A data offset below 5 or beyond the header is refused.
    pub(crate) fn parse(header: &[u8]) -> Option<(Self, &[u8])> {
        let length = usize::from(header.get(12)? >> 4) * 4;
        let options = header.get(usize::from(HEADER)..length)?;
        let tcp = Self {
            source_port: u16_at(header, 0)?,
            destination_port: u16_at(header, 2)?,
            seq: Seq(u32_at(header, 4)?),
            ack: Seq(u32_at(header, 8)?),
            flags: Flags(*header.get(13)?),
            window: u16_at(header, 14)?,
            urgent: u16_at(header, 18)?,
        };
        Some((tcp, options))
    }

    /// Reads ports and sequence number, all that an ICMP error must quote (RFC 792).
    pub(crate) fn parse_quoted(header: &[u8]) -> Option<(u16, u16, Seq)> {
        let [a, b, c, d, s0, s1, s2, s3] = bytes(header, 0)?;
        let seq = Seq(u32::from_be_bytes([s0, s1, s2, s3]));
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), seq))
    }

    /// Appends the fixed fields, for `options_length` bytes of options to follow. The checksum stays zero.
    pub(crate) fn build(&self, options_length: u16, to: &mut Vec<u8>) {
        let words = ((HEADER + options_length) / 4) as u8;
        let [s0, s1] = self.source_port.to_be_bytes();
        let [d0, d1] = self.destination_port.to_be_bytes();
        let [n0, n1, n2, n3] = self.seq.0.to_be_bytes();
        let [a0, a1, a2, a3] = self.ack.0.to_be_bytes();
        let [w0, w1] = self.window.to_be_bytes();
        let [u0, u1] = self.urgent.to_be_bytes();
        let flags = self.flags.0;
        // One append: the room in the list is looked for once.
        to.extend_from_slice(&[
            s0,
            s1,
            d0,
            d1,
            n0,
            n1,
            n2,
            n3,
            a0,
            a1,
            a2,
            a3,
            words << 4,
            flags,
            w0,
            w1,
            0,
            0,
            u0,
            u1,
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let tcp = Tcp {
            source_port: 80,
            destination_port: 40_000,
            seq: Seq(7),
            ack: Seq(9),
            flags: Flags::ACK.with(Flags::PSH),
            window: 512,
            urgent: 3,
        };
        let mut header = Vec::new();
        tcp.build(4, &mut header);
        header.extend_from_slice(&[1, 1, 1, 1]);
        assert_eq!(Tcp::parse(&header), Some((tcp, &[1_u8, 1, 1, 1][..])));
        assert_eq!(Tcp::parse_quoted(&header), Some((80, 40_000, Seq(7))));
    }

    #[test]
    fn a_wrong_data_offset_is_refused() {
        let mut header = [0_u8; 24];
        for words in [0_u8, 4, 7, 15] {
            header[12] = words << 4;
            assert_eq!(Tcp::parse(&header), None);
        }
    }
}
