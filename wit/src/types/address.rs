//! Addresses, endpoints, networks.

use core::fmt;

/// An IPv6 address; IPv4 as `::ffff:a.b.c.d`; all zero is unspecified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct Address {
    /// The first eight bytes, big endian.
    pub high: u64,
    /// The last eight bytes, big endian.
    pub low: u64,
}

impl Address {
    /// `::`, which stands for any address where a local one is asked for.
    pub const UNSPECIFIED: Self = Self { high: 0, low: 0 };
    const V4: u64 = 0xffff_0000_0000;

    /// `::ffff:a.b.c.d`.
    #[must_use]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self { high: 0, low: Self::V4 | u32::from_be_bytes(octets) as u64 }
    }

    /// From sixteen bytes as on the wire.
    #[must_use]
    pub const fn from_v6(octets: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(octets);
        Self { high: (all >> 64) as u64, low: all as u64 }
    }

    /// Sixteen bytes as on the wire.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        ((self.high as u128) << 64 | self.low as u128).to_be_bytes()
    }

    /// The four bytes of an IPv4 address, if it is one.
    #[must_use]
    pub const fn v4(self) -> Option<[u8; 4]> {
        if self.is_v4() { Some((self.low as u32).to_be_bytes()) } else { None }
    }

    /// Whether it stands for an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == 0xffff
    }

    /// `::` or `0.0.0.0`.
    #[must_use]
    pub const fn is_unspecified(self) -> bool {
        self.high == 0 && (self.low == 0 || self.low == Self::V4)
    }

    /// `224.0.0.0/4` or `ff00::/8`.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() { (self.low as u32) >> 28 == 0xe } else { self.high >> 56 == 0xff }
    }

    /// `255.255.255.255`.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        self.is_v4() && self.low as u32 == u32::MAX
    }

    /// `127.0.0.0/8` or `::1`.
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() { (self.low as u32) >> 24 == 127 } else { self.high == 0 && self.low == 1 }
    }

    /// Whether a connection's end can be here: neither unspecified, multicast nor broadcast.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        !self.is_unspecified() && !self.is_multicast() && !self.is_broadcast()
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::from_v6(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        match address.v4() {
            Some(octets) => Self::V4(octets.into()),
            None => Self::V6(address.octets().into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address and a port; port 0 is any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port, in host order.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint from its parts.
    #[must_use]
    pub const fn new(address: Address, port: u16) -> Self {
        Self { address, port }
    }
}

impl From<core::net::SocketAddr> for Endpoint {
    fn from(socket: core::net::SocketAddr) -> Self {
        Self { address: socket.ip().into(), port: socket.port() }
    }
}

impl From<Endpoint> for core::net::SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.address.into(), endpoint.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A network: the first `length` bits of an address in its 128-bit form, so an IPv4 network of /24 has length 120.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Prefix {
    /// An address in it; as one of ours, the address that we have.
    pub address: Address,
    /// Bits, `0..=128`.
    pub length: u8,
}

impl Prefix {
    /// Whether `address` lies in this network.
    #[must_use]
    pub const fn contains(self, address: Address) -> bool {
        let differ =
            ((self.address.high ^ address.high) as u128) << 64 | (self.address.low ^ address.low) as u128;
        let length = if self.length > 128 { 128 } else { self.length as u32 };
        differ.leading_zeros() >= length
    }
}
