//! What one process leaves to its successor: a stack in bytes.
//!
//! Everything that a stack is, but its device and the instance itself, is written down: the module's state, the ledgers, the
//! streams' bytes, listeners, datagram sockets. The successor builds the same stack around an instance of its own, which
//! has to account for every connection as a newcomer in a [swap](crate::swap) has, and takes its first step inspected.
//!
//! - `wire`: how values are written and read;
//! - `numbers`: ledgers and hold slots;
//! - `bytes`: streams;
//! - `frames`: what has arrived, and is not dealt with.
//!
//! The rest stands with what it is about: `stack/hand_over.rs`, `net/state/hand_over.rs`. Whoever writes and whoever reads are
//! the same user's programs, so what is read is checked for sense, not held against an adversary: the module is.

pub(crate) mod bytes;
pub(crate) mod frames;
pub(crate) mod numbers;
pub(crate) mod wire;

/// What a hand-over begins with.
pub(crate) const MAGIC: [u8; 8] = *b"bulkhand";
/// The format of what follows. Another order or width of anything is another format.
pub(crate) const FORMAT: u32 = 3;
/// Bytes that an application may leave with one of its sockets.
pub const NOTE: usize = 1 << 20;
