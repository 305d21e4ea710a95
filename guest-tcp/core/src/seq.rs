//! Sequence numbers (RFC 9293 3.4): a circle, so they have no order, only directed distances.

/// A 32-bit sequence number, or a timestamp, which lives on the same kind of circle (RFC 7323 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// The number `by` bytes later.
    #[must_use]
    pub const fn plus(self, by: u32) -> Self {
        Self(self.0.wrapping_add(by))
    }

    /// The number `by` bytes earlier.
    #[must_use]
    pub const fn minus(self, by: u32) -> Self {
        Self(self.0.wrapping_sub(by))
    }

    /// How far this is after `other`, negative if it comes before: the shorter way round.
    #[must_use]
    pub const fn after(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether this comes strictly before `other`.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.after(other) < 0
    }
}

/// The absolute stream position of `seq`, given that position `near` has the number `base + near`. Negative results
/// are positions before the stream began.
#[must_use]
pub(crate) fn position_of(seq: Seq, base: Seq, near: u64) -> i64 {
    let at_near = base.plus(near as u32);
    (near as i64).saturating_add(i64::from(seq.after(at_near)))
}

/// The number of stream position `at`, where position 0 has number `base`. The SYN stands at -1.
#[must_use]
pub(crate) fn number_of(at: u64, base: Seq) -> Seq {
    base.plus(at as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_the_shorter_way_round() {
        assert_eq!(Seq(5).after(Seq(u32::MAX)), 6);
        assert_eq!(Seq(u32::MAX).after(Seq(5)), -6);
        assert!(Seq(u32::MAX).is_before(Seq(0)));
    }

    #[test]
    fn positions_survive_many_turns_of_the_circle() {
        let base = Seq(0xffff_fff0);
        for at in [0_u64, 1, 0x7fff_ffff, 1 << 32, (1 << 40) + 12_345] {
            assert_eq!(position_of(number_of(at, base), base, at + 77), at as i64);
        }
        assert_eq!(position_of(base.minus(1), base, 0), -1);
    }
}
