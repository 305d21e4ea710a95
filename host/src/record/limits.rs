//! Bounds of recordings.

use bulkhead_wit::encoding::INPUTS_MAX;
use bulkhead_wit::{Time, limits};

/// Bytes of inputs that a recording in memory holds since its last checkpoint; before there are more, a checkpoint is
/// taken.
pub const MEMORY: usize = 8 << 20;
/// The longest state that is kept as a checkpoint in memory, in bytes: beyond it an instance is not worth two of itself.
pub const STATE: usize = 8 << 20;
/// Module time, in nanoseconds, after which a checkpoint is due at the earliest.
pub const INTERVAL: Time = 2 * limits::MILLISECOND;
/// A checkpoint is due after this many times what the last one cost. That is little: what came since has to be done again after
/// a fault, while everybody waits, so a thousand busy connections rather spend a sixth of the module's time.
pub const COST_FACTOR: u64 = 6;
/// Steps of so much module time, in nanoseconds, are done again sooner than a state is saved.
pub const KEPT: Time = 300 * limits::MICROSECOND;
/// A checkpoint that stops everything for longer than this, in nanoseconds, is not taken again until there are half as many
/// connections.
pub const PAUSE: Time = 10 * limits::MILLISECOND;
/// A checkpoint goes into a file once the file has grown by this many times its size: an eighth of a file is checkpoints.
pub const FILE_FACTOR: u64 = 8;
/// Bytes of a fault's text in a recording.
pub const TEXT: usize = 16 << 10;
/// Bytes of a file's header behind its magic.
pub const HEADER: usize = 16 << 10;
/// Bytes of the longest entry: a saved state and a configuration.
pub const ENTRY: usize = limits::SAVE + INPUTS_MAX;
