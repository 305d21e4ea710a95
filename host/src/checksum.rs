//! The internet checksum (RFC 1071).
//!
//! Sums are kept in the machine's byte order, which RFC 1071 section 2(B) allows, and swapped once at the end.

use std::io::IoSlice;

use bulkhead_wit::Address;

/// A one's complement sum under way. Bytes may be added in pieces of any length, odd ones too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// 16-bit words in the machine's byte order, carries not yet folded.
    total: u64,
    /// Whether an odd number of bytes was added, so that the next piece stands crosswise (RFC 1071 2(A)).
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { total: 0, odd: false }
    }

    /// Adds bytes that follow those added before.
    pub fn add(&mut self, bytes: &[u8]) {
        let piece = fold(sum_words(bytes));
        let piece = if self.odd { piece.swap_bytes() } else { piece };
        self.total += u64::from(piece);
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds all bytes of `parts`, in order.
    pub fn add_parts(&mut self, parts: &[IoSlice<'_>]) {
        for part in parts {
            self.add(part);
        }
    }

    /// Adds a 16-bit number as it stands on the wire. Its place counts as even, whatever was added before.
    pub fn add_u16(&mut self, number: u16) {
        self.total += u64::from(number.to_be());
    }

    /// Adds a 32-bit number as it stands on the wire. Its place counts as even, whatever was added before.
    pub fn add_u32(&mut self, number: u32) {
        let both = number.to_be();
        self.total += u64::from(both & 0xffff) + u64::from(both >> 16);
    }

    /// Adds the sum of the bytes that follow, which was made on its own.
    pub fn append(&mut self, next: Self) {
        let piece = fold(next.total);
        let piece = if self.odd { piece.swap_bytes() } else { piece };
        self.total += u64::from(piece);
        self.odd ^= next.odd;
    }

    /// The sum folded to 16 bits and not complemented: what a device with checksum offload wants to find in the field.
    #[must_use]
    pub const fn folded(self) -> u16 {
        u16::from_be(fold(self.total))
    }

    /// The checksum: the folded sum, complemented.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Whether a sum that includes the checksum field says that nothing was altered.
    #[must_use]
    pub const fn is_right(self) -> bool {
        self.folded() == 0xffff
    }
}

/// The pseudo header of TCP and UDP over IPv4 (RFC 9293 3.1) from the eight address bytes of the header.
#[must_use]
pub fn pseudo_v4(addresses: &[u8; 8], protocol: u8, length: u32) -> Sum {
    let mut sum = Sum::new();
    sum.add(addresses);
    sum.add_u16(u16::from(protocol));
    sum.add_u32(length);
    sum
}

/// The pseudo header of everything over IPv6 (RFC 8200 8.1) from the 32 address bytes of the header.
#[must_use]
pub fn pseudo_v6(addresses: &[u8; 32], protocol: u8, length: u32) -> Sum {
    let mut sum = Sum::new();
    sum.add(addresses);
    sum.add_u32(length);
    sum.add_u16(u16::from(protocol));
    sum
}

/// The pseudo header for two addresses of the contract's form; both must be of the same family.
#[must_use]
pub fn pseudo(source: Address, destination: Address, protocol: u8, length: u32) -> Sum {
    let mut sum = Sum::new();
    match (source.v4(), destination.v4()) {
        (Some(source), Some(destination)) => {
            sum.add(&source);
            sum.add(&destination);
        }
        _ => {
            sum.add(&source.octets());
            sum.add(&destination.octets());
        }
    }
    sum.add_u32(length);
    sum.add_u16(u16::from(protocol));
    sum
}

/// The checksum of contiguous bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.checksum()
}

/// Adds 32-bit words into 64-bit lanes: no carry can be lost below 16 GiB, and the compiler turns the eight lanes
/// into vector registers.
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (words, tail) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0u8; 4];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    total + u64::from(u32::from_ne_bytes(last))
}

/// Adds the carries in until 16 bits are left.
const fn fold(total: u64) -> u16 {
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 16) + (total & 0xffff);
    let total = (total >> 16) + (total & 0xffff);
    let total = (total >> 16) + (total & 0xffff);
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::random::Random;

    /// RFC 1071 4.1, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn known_sums() {
        // The example of RFC 1071 section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0]), 0xffff);
        assert_eq!(checksum(&[0xff, 0xff]), 0);
        assert_eq!(checksum(&[0xab]), !0xab00);
        // A well-known IPv4 header.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01,
            0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }

    #[test]
    fn equals_the_naive_sum_in_pieces_of_any_length() {
        let mut random = Random::new(1);
        for round in 0..2_000 {
            let length = if round < 300 { round } else { random.below(5_000) as usize };
            let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            assert_eq!(checksum(&bytes), naive(&bytes), "length {length}");
            let (mut sum, mut apart, mut rest) = (Sum::new(), Sum::new(), bytes.as_slice());
            while !rest.is_empty() {
                let cut = 1 + random.below(rest.len() as u64) as usize;
                sum.add(&rest[..cut]);
                let mut piece = Sum::new();
                piece.add_parts(&[IoSlice::new(&rest[..cut])]);
                apart.append(piece);
                rest = &rest[cut..];
            }
            assert_eq!(sum.checksum(), naive(&bytes));
            assert_eq!(apart.checksum(), naive(&bytes));
        }
    }

    #[test]
    fn no_carry_is_lost_in_the_longest_datagram() {
        let bytes = vec![0xff; 65_535];
        assert_eq!(checksum(&bytes), naive(&bytes));
    }

    #[test]
    fn pseudo_headers_agree() {
        let (a, b) = (Address::from_v4([10, 0, 0, 1]), Address::from_v4([10, 9, 8, 7]));
        let mut four = [0; 8];
        four[..4].copy_from_slice(&[10, 0, 0, 1]);
        four[4..].copy_from_slice(&[10, 9, 8, 7]);
        assert_eq!(pseudo_v4(&four, 6, 70_000).folded(), pseudo(a, b, 6, 70_000).folded());
        let (a, b) = (Address { high: 0xfd00 << 48, low: 1 }, Address { high: 0xfd00 << 48, low: 0x1_0002 });
        let mut six = [0; 32];
        six[..16].copy_from_slice(&a.octets());
        six[16..].copy_from_slice(&b.octets());
        assert_eq!(pseudo_v6(&six, 17, 70_000).folded(), pseudo(a, b, 17, 70_000).folded());
        let mut by_hand = Vec::from(six);
        by_hand.extend_from_slice(&70_000u32.to_be_bytes());
        by_hand.extend_from_slice(&[0, 0, 0, 17]);
        assert_eq!(pseudo(a, b, 17, 70_000).checksum(), naive(&by_hand));
    }
}
