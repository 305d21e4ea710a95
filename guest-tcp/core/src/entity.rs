//! What the demultiplexer and the timers point at.

/// A connection, an embryo (half-open passive connection) or one in TIME-WAIT: the kind in the two upper bits of its
/// number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct Entity(u32);

const SHIFT: u32 = 30;

/// An entity's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntityKind {
    Connection,
    Embryo,
    TimeWait,
    /// A hold slot of fragments; it has a deadline and no ends.
    Hold,
}

impl Entity {
    pub(crate) const KINDS: usize = 4;

    pub(crate) const fn connection(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn embryo(number: u32) -> Self {
        Self(1 << SHIFT | number)
    }

    pub(crate) const fn time_wait(number: u32) -> Self {
        Self(2 << SHIFT | number)
    }

    pub(crate) const fn hold(number: u32) -> Self {
        Self(3 << SHIFT | number)
    }

    /// The number within its kind.
    pub(crate) const fn number(self) -> u32 {
        self.0 & ((1 << SHIFT) - 1)
    }

    /// The kind as an index.
    pub(crate) const fn kind(self) -> usize {
        (self.0 >> SHIFT) as usize
    }

    pub(crate) const fn what(self) -> EntityKind {
        match self.0 >> SHIFT {
            0 => EntityKind::Connection,
            1 => EntityKind::Embryo,
            2 => EntityKind::TimeWait,
            _ => EntityKind::Hold,
        }
    }

    /// As a table's number.
    pub(crate) const fn to_table(self) -> u32 {
        self.0
    }

    /// From a table's number.
    pub(crate) const fn from_table(number: u32) -> Self {
        Self(number)
    }
}
