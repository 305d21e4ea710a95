//! The hash of outputs that stands in a recording.

/// Bytes that are taken at once: a word for each lane.
const BLOCK: usize = 32;
/// Odd, from the digits of the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// The lanes before the first block: odd numbers that are not alike.
const LANES: [u64; BLOCK / 8] = [
    MULTIPLIER,
    MULTIPLIER.wrapping_mul(MULTIPLIER),
    MULTIPLIER.wrapping_mul(MULTIPLIER).wrapping_mul(MULTIPLIER),
    !MULTIPLIER | 1,
];

/// A 64-bit hash of bytes, the same on every machine and in every version: it is written into recordings.
///
/// Bytes are taken as blocks of four little-endian words, the last one filled up with zeros; each word goes into a lane of its
/// own, since a processor multiplies four numbers in the time of one. A word `w` turns its lane `s` into `(s ^ w) * MULTIPLIER`, rotated
/// by half. In the end the lanes are taken together in the same way, with the number of bytes, and the last lines are those of
/// MurmurHash3. Each of these is one to one, so that two strings of bytes of one length that differ in a single word never
/// have the same hash. It tells a deviation of a replay; it does not resist anyone who looks for collisions.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut lanes = LANES;
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for block in blocks {
        take(&mut lanes, block);
    }
    let mut last = [0; BLOCK];
    if let Some(room) = last.get_mut(..rest.len()).filter(|room| !room.is_empty()) {
        room.copy_from_slice(rest);
        take(&mut lanes, &last);
    }
    let [one, two, three, four] = lanes;
    let mut hash = mixed(mixed(mixed(one, two), mixed(three, four)), bytes.len() as u64);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[inline]
fn take(lanes: &mut [u64; BLOCK / 8], block: &[u8; BLOCK]) {
    let (words, _) = block.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = mixed(*lane, u64::from_le_bytes(*word));
    }
}

#[inline]
const fn mixed(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(MULTIPLIER).rotate_left(32)
}
