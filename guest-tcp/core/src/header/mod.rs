//! Headers: parsing what arrived and building what leaves. Everything is bounds-checked; a malformed header is `None`,
//! never a panic.

pub(crate) mod icmp;
pub(crate) mod ip;
pub(crate) mod options;
pub(crate) mod tcp;

/// `N` bytes at `at`, if they are there.
pub(crate) fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A big-endian 16-bit number at `at`.
pub(crate) fn u16_at(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_be_bytes)
}

/// A big-endian 32-bit number at `at`.
pub(crate) fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_be_bytes)
}
