//! Bounds of the applications: what a peer can make them hold.

use std::time::Duration;

/// Connections of one application that are served at a time; more wait in the listener's backlog.
pub(crate) const CONNECTIONS: usize = 16_384;
/// Bytes that echo and discard read at once; the buffer of one connection.
pub(crate) const BUFFER: usize = 64 << 10;
/// Bytes that are read at once and dropped, once nobody is interested any more.
pub(crate) const DRAIN_BYTES: usize = 16 << 10;

/// Bytes of a file that are read at once. A response holds two such pieces: one on its way, one read ahead.
pub(crate) const FILE_PIECE: usize = 256 << 10;
/// Time from a connection's beginning, or from its last response, to the end of the next request's header.
pub(crate) const HEADER_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's header, and of what hyper buffers for a connection.
pub(crate) const HEADER_BYTES: usize = 64 << 10;
/// Entries that a directory listing shows.
pub(crate) const LISTED: usize = 10_000;
/// Bytes of a path in a request, decoded.
pub(crate) const PATH_BYTES: usize = 4096;

/// Time that a connection to a target may take to open.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(30);
/// Addresses of one name that are tried.
pub(crate) const ADDRESSES: usize = 8;
/// Bytes of one write or read of a measurement.
pub(crate) const PERF_BLOCK: usize = 1 << 20;
/// Streams of a measurement in each direction.
pub(crate) const PERF_STREAMS: usize = 128;
/// Bytes of a text in a measurement.
pub(crate) const PERF_JSON: usize = 1 << 20;
