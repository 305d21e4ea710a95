//! Every bound of the fuzzer.
#![cfg_attr(not(feature = "fuzz"), allow(dead_code, reason = "cases alone need a part of them"))]

/// Counters in a module: edges of its control flow.
pub(super) const PROBES: u32 = 1 << 20;
/// Constants that are taken from a module's comparisons.
pub(super) const CONSTANTS: usize = 4096;
/// Names of functions that are kept.
pub(super) const NAMES: usize = 1 << 18;

/// Events of a case that is read from a file.
pub const EVENTS: usize = 512;
/// Bytes of a raw frame.
pub(super) const RAW: usize = 2048;
/// Bytes of TCP options in a header (RFC 9293 3.1).
pub(super) const OPTION_BYTES: usize = 40;
/// Turns that follow one event: a module that always wants another one spins.
pub(super) const TURNS: u32 = 64;
/// Frames of peers in one event: as many as a segment and its repetitions.
pub(super) const BURST: u32 = 256;
/// Fragments that one datagram is cut into.
pub(super) const FRAGMENTS: usize = 128;
/// Deadlines that are kept while time passes in one event.
pub(super) const DEADLINES: u32 = 64;
/// Longest time that one event lets pass: a day, in microseconds.
pub(super) const WAIT_US: u64 = 86_400_000_000;
/// Segments of a peer that are remembered, to know what it has sent.
pub(super) const REMEMBERED: usize = 1024;
/// Events of a case that mutation has made.
pub(super) const MUTATED: usize = 96;
/// Options of one segment.
pub(super) const OPTIONS: usize = 12;
/// Round trips of fair peers after a case.
pub(super) const FAIR_ROUNDS: u8 = 60;
/// Runs that making a case small may take.
pub(super) const MINIMISE: usize = 3000;
/// Runs in one kept instance before it is replaced.
pub(super) const ROTATE: u32 = 1000;
/// Different findings of a campaign.
pub(super) const FINDINGS: usize = 1000;
