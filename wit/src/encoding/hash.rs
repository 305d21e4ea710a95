//! The hash of outputs that stands in a recording.

use super::Sink;

/// A 64-bit hash of bytes, the same on every machine and in every version: it is written into recordings.
///
/// Bytes are taken as little-endian words of eight, then what is left over (which may be nothing) filled up with zeros
/// to one more word, then their number as a word. A word `w` turns the state `s` into `t ^ (t >> 32)` with `t = (s ^ w) * MULTIPLIER`, and the end is the last lines of
/// MurmurHash3. Each of these is one to one, so that two strings of bytes of one length that differ in a single word never have
/// the same hash. It tells a deviation of a replay; it does not resist anyone who looks for collisions.
#[derive(Clone, Debug)]
pub struct Hasher {
    state: u64,
    /// Bytes that do not fill a word yet.
    word: u64,
    length: u64,
}

/// Odd, from the digits of the golden ratio; so is the state at the beginning.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher {
    /// The state before the first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: MULTIPLIER, word: 0, length: 0 }
    }

    /// The hash of what was put in.
    #[must_use]
    pub const fn finish(self) -> u64 {
        let mut hash = mixed(mixed(self.state, self.word), self.length);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

const fn mixed(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(MULTIPLIER);
    product ^ product >> 32
}

impl Sink for Hasher {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        // Bits of the word that are taken: the same after a whole word, so the loop needs no other state.
        let taken = (self.length % 8) as u32 * 8;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            let word = u64::from_le_bytes(*word);
            self.state = mixed(self.state, self.word | word << taken);
            // A shift by 64 is none of the hardware's; it would leave nothing.
            self.word = word.checked_shr(64 - taken).unwrap_or(0);
        }
        let mut last = [0; 8];
        if let Some(room) = last.get_mut(..rest.len()) {
            room.copy_from_slice(rest);
        }
        let last = u64::from_le_bytes(last);
        self.word |= last << taken;
        if taken as usize + rest.len() * 8 >= 64 {
            self.state = mixed(self.state, self.word);
            self.word = last.checked_shr(64 - taken).unwrap_or(0);
        }
        self.length += bytes.len() as u64;
    }
}

/// The hash of these bytes.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = Hasher::new();
    hasher.put(bytes);
    hasher.finish()
}
