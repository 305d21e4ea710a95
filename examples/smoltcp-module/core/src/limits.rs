//! Every bound of this module.

use bulkhead_wit::{Time, limits};

/// Connections at once, those in TIME-WAIT and those that are asked for included: each has two buffers.
pub(crate) const CONNECTIONS: usize = 320;
/// Of these, those that are asked for and not yet there.
pub(crate) const EMBRYOS: usize = 128;
/// Addresses that smoltcp is built for.
pub(crate) const ADDRESSES: usize = 8;
/// The smallest and the largest receive buffer, in bytes.
pub(crate) const RECEIVE: (u32, u32) = (4096, 64 << 10);
/// Bytes of a send buffer.
pub(crate) const SEND: usize = 64 << 10;
/// Bytes that one step stages for streams: what is left of the bound is for echoes.
pub(crate) const STAGE_BYTES: usize = limits::STAGED_BYTES - (256 << 10);
/// Runs of bytes that one step stages for streams.
pub(crate) const STAGES: usize = limits::STAGES - 256;
/// Bytes that one step reads from queues: what is left of the bound is for what arrives.
pub(crate) const READ_BYTES: usize = limits::READ_BYTES - limits::ARRIVING * limits::DATAGRAM - (256 << 10);
/// How long FIN-WAIT-2 lasts once nobody reads, in nanoseconds.
pub(crate) const FIN_WAIT_2: Time = 60 * limits::SECOND;
/// How long an embryo lives, in nanoseconds.
pub(crate) const EMBRYO: Time = 75 * limits::SECOND;
/// How long an open may take, in nanoseconds.
pub(crate) const OPEN: Time = 120 * limits::SECOND;
/// Nanoseconds without an answer after which a connection ends where no user timeout is set.
pub(crate) const TIMEOUT: Time = 900 * limits::SECOND;
/// Ports that are tried for an open.
pub(crate) const PORTS: u32 = 4096;
/// The shortest time between keepalive probes, in nanoseconds.
pub(crate) const KEEPALIVE: Time = limits::SECOND;
