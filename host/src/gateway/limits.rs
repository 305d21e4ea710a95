//! Bounds of the gateway: what the inside can make it hold.

use std::time::Duration;

/// How long a destination may take to answer; the inside's own SYN is repeated meanwhile.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(60);
/// Connections that are begun and not open yet; beyond, whoever has most gives way. Fewer than [`OFFERS`], which is
/// where the module stops to listen.
pub(crate) const BEGUN: usize = 2048;
/// Bytes that are taken from a stream or a socket at once.
pub(crate) const PIECE: usize = 256 << 10;
/// What is read at once from a socket that says little.
pub(crate) const LITTLE: usize = 16 << 10;
/// Offers that wait for their destination.
pub(crate) const OFFERS: u32 = 4096;
/// Descriptors beside those of connections and flows: devices, timers, listeners, the runtime's.
pub(crate) const DESCRIPTORS: u64 = 128;
/// Open connections that nobody has taken yet.
pub(crate) const BACKLOG: u32 = 4096;

/// Flows of datagrams at a time; beyond, of whoever has most the one goes that has been silent for longest.
pub(crate) const FLOWS: usize = 1024;
/// A flow that is silent for so long is over (RFC 4787 4.3: at least two minutes).
pub(crate) const FLOW_IDLE: Duration = Duration::from_secs(120);
/// The same for a question to a name server.
pub(crate) const DNS_IDLE: Duration = Duration::from_secs(15);
/// Bytes of datagrams that wait to be carried out.
pub(crate) const DATAGRAMS: usize = 1 << 20;
