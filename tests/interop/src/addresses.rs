//! Who has which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::factor::Ip;

/// Everybody's, of one version of IP. The last number tells them apart, the second the networks.
pub(crate) struct Addresses {
    /// The two ends of the relay.
    pub(crate) near: IpAddr,
    pub(crate) far: IpAddr,
    /// The stack, and its peer if that is no kernel: each behind a device with a network of its own.
    pub(crate) stack: IpAddr,
    pub(crate) far_stack: IpAddr,
    /// The far kernel's, in the network of its peer.
    pub(crate) far_kernel: IpAddr,
    /// A kernel's own.
    pub(crate) local: IpAddr,
    /// Bits of every network.
    pub(crate) length: u8,
}

impl Addresses {
    pub(crate) fn of(ip: Ip) -> Self {
        let at = |network: u8, host: u8| match ip {
            Ip::V4 => IpAddr::from([10, network, 0, host]),
            Ip::V6 => Ipv6Addr::new(0xfd00, network.into(), 0, 0, 0, 0, 0, host.into()).into(),
        };
        let (local, length) = match ip {
            Ip::V4 => (Ipv4Addr::LOCALHOST.into(), 24),
            Ip::V6 => (Ipv6Addr::LOCALHOST.into(), 64),
        };
        Self {
            near: at(1, 2),
            far: at(1, 1),
            stack: at(78, 2),
            far_stack: at(79, 2),
            far_kernel: at(79, 1),
            local,
            length,
        }
    }

    /// The command that gives an address to a device.
    pub(crate) fn add(&self, address: IpAddr, device: &str) -> Vec<String> {
        let network = format!("{address}/{}", self.length);
        let mut words = ["ip", "address", "add", &network, "dev", device].map(str::to_owned).to_vec();
        // Nobody else is on these links to have the same.
        words.extend(address.is_ipv6().then(|| "nodad".to_owned()));
        words
    }

    /// The command that sends what is for a host's network through a gateway.
    pub(crate) fn route(&self, host: IpAddr, via: IpAddr) -> Vec<String> {
        let family = if host.is_ipv6() { "-6" } else { "-4" };
        // `ip` wants the network's own address, without the bits of the host.
        let network = match host {
            IpAddr::V4(host) => Ipv4Addr::from_bits(host.to_bits() & !0xff).into(),
            IpAddr::V6(host) => IpAddr::V6(Ipv6Addr::from_bits(host.to_bits() >> 64 << 64)),
        };
        ["ip", family, "route", "add", &format!("{network}/{}", self.length), "via", &via.to_string()]
            .map(str::to_owned)
            .to_vec()
    }
}
