//! What applications are told of their streams.

/// What an application waits for, or is told of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Hash)]
pub struct Readiness(u8);

impl Readiness {
    /// There is something to read: bytes, or the end.
    pub const READABLE: Self = Self(1);
    /// There is space to write.
    pub const WRITABLE: Self = Self(2);
    /// The connection is open.
    pub const OPENED: Self = Self(4);
    /// The connection has ended.
    pub const ENDED: Self = Self(8);
    /// Everything there is to be told.
    pub const ALL: Self = Self(15);

    /// Whether any of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nothing is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
