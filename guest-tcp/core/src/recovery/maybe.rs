//! An optional time or offset in eight bytes, since a connection holds a dozen of them.

use core::num::NonZeroU64;

use crate::save::codec::{Fixed, Put, Take};

/// A number, or none. The largest number of 64 bits becomes the one below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Maybe(Option<NonZeroU64>);

impl Maybe {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) const fn some(number: u64) -> Self {
        Self(NonZeroU64::new(number.saturating_add(1)))
    }
    pub(crate) const fn get(self) -> Option<u64> {
        match self.0 {
            Some(one_more) => Some(one_more.get() - 1),
            None => None,
        }
    }
    pub(crate) const fn is_some(self) -> bool {
        self.0.is_some()
    }
    pub(crate) const fn is_none(self) -> bool {
        self.0.is_none()
    }
    /// Whether it is a time that has come.
    pub(crate) fn is_due(self, now: u64) -> bool {
        self.get().is_some_and(|at| at <= now)
    }
}

impl Fixed for Maybe {
    const WIDTH: usize = u64::WIDTH;
    #[inline(always)]
    fn put(&self, to: &mut Put<'_>) {
        self.0.map_or(0, NonZeroU64::get).put(to);
    }
    #[inline(always)]
    fn take(from: &mut Take<'_>) -> Option<Self> {
        u64::take(from).map(|one_more| Self(NonZeroU64::new(one_more)))
    }
}

impl From<Option<u64>> for Maybe {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::NONE, Self::some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_but_one_comes_back() {
        for number in [None, Some(0), Some(1), Some(u64::MAX - 1)] {
            assert_eq!(Maybe::from(number).get(), number);
        }
        assert_eq!(Maybe::some(u64::MAX).get(), Some(u64::MAX - 1));
        assert_eq!(size_of::<Maybe>(), 8);
    }
}
