//! Bounds of the sockets and their driver.

use std::time::Duration;

/// Turns that the driver takes before it lets other tasks of its thread run: so many that what arrives in them in bulk is in a
/// cache still when they read it.
pub(super) const TURNS: u32 = 3;
/// Bytes that applications write while nothing is heard of the device, where they take turns in their calls.
pub(super) const UNHEARD: u64 = 256 << 10;
/// Turns within one call that waits for the module's answer: the first has it, unless many calls stand before.
pub(super) const ANSWER_TURNS: u32 = 16;
/// Rounds in which modules beside each other tell each other everything before they stand still.
pub(super) const SETTLING: u32 = 16;
/// How soon a device that failed is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(1);
/// How long connections may take to end once every handle and socket of the stack is gone.
pub(super) const ABANDONED: Duration = Duration::from_secs(10);
/// Frames that one way of a pair of devices holds.
pub(super) const PAIR_FRAMES: usize = 8192;
/// Frames that wait for one of several modules, or that turn round since they are sent to ourselves.
pub(super) const ROUTED_FRAMES: usize = 256;
/// Tasks that wait on the same socket, beside the first reader and the first writer.
pub(super) const WAITERS: usize = 64;
/// Modules beside the first one.
pub(super) const BESIDE: usize = 8;
/// Questions about connections in one turn.
pub(super) const QUESTIONS: usize = 200;
