//! Inputs and outputs of a module, item by item as in `bulkhead.wit`.

mod address;
mod config;
mod inputs;
mod layout;
mod outputs;

pub use address::{Address, Endpoint, Prefix};
pub use config::{Config, Description, Service, Setting, Summary};
pub use inputs::*;
pub use outputs::*;

use core::fmt;

/// Nanoseconds since the instance's origin. Never goes back; survives restore and swap.
pub type Time = u64;

/// The time, in nanoseconds, that never comes.
pub const NEVER: Time = Time::MAX;

/// Names a connection, a datagram socket or (0) the instance.
///
/// Bits 0 to 23 are a slot, bits 24 to 55 the slot's generation, bit 63 says who numbered it: 0 the host (`open`,
/// `bind`), 1 the module (`accepted`, `offered`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Handle(pub u64);

impl Handle {
    /// The instance itself, where a handle is asked for.
    pub const INSTANCE: Self = Self(0);
    const BY_MODULE: u64 = 1 << 63;

    /// A handle numbered by the host. Generation 0 of slot 0 is [`Handle::INSTANCE`], so generations begin at 1.
    #[must_use]
    pub const fn by_host(slot: u32, generation: u32) -> Self {
        Self((slot as u64 & 0xff_ffff) | (generation as u64) << 24)
    }

    /// A handle numbered by the module.
    #[must_use]
    pub const fn by_module(slot: u32, generation: u32) -> Self {
        Self(Self::by_host(slot, generation).0 | Self::BY_MODULE)
    }

    /// The slot, `0..2^24`.
    #[must_use]
    pub const fn slot(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }

    /// The slot's generation.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 24) as u32
    }

    /// Whether the module numbered it.
    #[must_use]
    pub const fn is_by_module(self) -> bool {
        self.0 & Self::BY_MODULE != 0
    }

    /// Whether bits 56 to 62, which mean nothing, are zero as they must be.
    #[must_use]
    pub const fn is_well_formed(self) -> bool {
        (self.0 >> 56) & 0x7f == 0
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::INSTANCE {
            return f.write_str("instance");
        }
        let by = if self.is_by_module() { 'm' } else { 'h' };
        write!(f, "{by}{}.{}", self.slot(), self.generation())
    }
}
