//! Every bound between workers and between machines.

/// Bytes of a case that comes in a message.
pub(super) const CASE_BYTES: usize = 256 << 10;
/// Bytes of cases that a broker hands on; it keeps them for whoever joins later.
pub(super) const SHARED_BYTES: usize = 128 << 20;
/// Connections between brokers that one of them has at a time.
pub(super) const LINKS: usize = 32;
/// Machines whose status is known.
pub(super) const MACHINES: usize = 256;
