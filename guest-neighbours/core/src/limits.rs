//! Bounds and times.

use bulkhead_wit::Time;
use bulkhead_wit::limits::SECOND;

/// Between two advertisements that nobody has asked for (RFC 4861 6.2.1: `MaxRtrAdvInterval`).
pub(crate) const ADVERTISE: Time = 600 * SECOND;
/// Seconds for which we are the default router after an advertisement: three times as long (RFC 4861 6.2.1).
pub(crate) const ROUTER_SECONDS: u16 = 1800;
/// Seconds for which a prefix is valid and preferred (RFC 4861 6.2.1: 30 and 7 days).
pub(crate) const PREFIX_SECONDS: [u32; 2] = [30 * 86_400, 7 * 86_400];
/// Seconds of a lease. There is one guest and one address: it only has to be renewed now and then.
pub(crate) const LEASE_SECONDS: u32 = 86_400;
/// Hop limit of what is sent. Neighbour Discovery has 255, which no router leaves as it is (RFC 4861 6.1, 7.1).
pub(crate) const TTL: u8 = 64;
/// Options of a DHCP message or of a Neighbour Discovery message that are looked at.
pub(crate) const OPTIONS: usize = 64;
