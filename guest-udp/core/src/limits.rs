//! Bounds of the UDP core.

use bulkhead_wit::Time;
use bulkhead_wit::limits::SECOND;

/// Sockets at once.
pub(crate) const SOCKETS: usize = 16_384;
/// ICMP errors a second, and at once after a pause (RFC 1812 4.3.2.8: they must be limited).
pub(crate) const ERRORS_PER_SECOND: u64 = 100;
/// Time that one error costs.
pub(crate) const ERROR_TIME: Time = SECOND / ERRORS_PER_SECOND;
/// Bytes of headers at most for what we build: an IPv6 header and UDP's.
pub(crate) const HEADERS: u32 = 48;
/// Bytes of a quote in an ICMP error: its network header with options or extensions, and UDP's.
pub(crate) const QUOTE: usize = 128;
/// Time to live of what is sent, where nobody says otherwise.
pub(crate) const TTL: u8 = 64;
