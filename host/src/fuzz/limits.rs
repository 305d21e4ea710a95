//! Every bound of the fuzzer.

/// Counters in a module: edges of its control flow.
pub(super) const PROBES: u32 = 1 << 20;
/// Constants that are taken from a module's comparisons.
pub(super) const CONSTANTS: usize = 4096;
/// Names of functions that are kept.
pub(super) const NAMES: usize = 1 << 18;
