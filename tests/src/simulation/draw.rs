//! What a seed makes of a plan.

use super::plan::{Choice, Keys};

/// Numbers that depend on the seed alone (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high.saturating_sub(low)) + 1;
        low + ((u128::from(self.bits()) * span) >> 64) as u64
    }

    /// One of several ranges, and a number in it.
    pub(super) fn draw(&mut self, choice: &Choice) -> u64 {
        let last = choice.ranges.len().saturating_sub(1) as u64;
        let at = self.between(0, last) as usize;
        choice.ranges.get(at).map_or(0, |&(low, high)| self.between(low, high))
    }

    /// The value of a key, or what stands for it.
    pub(super) fn key(&mut self, keys: &Keys, name: &str, default: u64) -> u64 {
        match keys.get(name) {
            Some(choice) => self.draw(choice),
            None => default,
        }
    }
}
