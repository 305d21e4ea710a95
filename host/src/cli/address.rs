//! Our addresses, and the kernel's on the other side of the device.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::failure::usage;

/// An address and the length of its network in bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cidr {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "such as 10.77.0.2/24 or fd77::2/64";
        let (address, length) = text
            .split_once('/')
            .ok_or_else(|| format!("an address and the length of its network, {example}"))?;
        let address: IpAddr = address.parse().map_err(|_| format!("no IP address, {example}"))?;
        let length: u8 = length.parse().map_err(|_| format!("no length of a network, {example}"))?;
        let bits = bits(address);
        if length == 0 || length >= bits {
            return Err(format!("the network must hold us and the kernel: a length of 1 to {}", bits - 1));
        }
        let own = Self { address, length };
        let is_host = bits - length == 1 || !own.is_edge(address);
        if !is_host || address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(format!("not the address of a host, {example}"));
        }
        Ok(own)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number of its family's length.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Cidr {
    fn host_mask(self) -> u128 {
        (1_u128 << (bits(self.address) - self.length)) - 1
    }

    /// The first address of the network, which names it.
    pub(super) fn network(self) -> IpAddr {
        self.at(0)
    }

    fn at(self, host: u128) -> IpAddr {
        let number = (number(self.address) & !self.host_mask()) | host;
        match self.address {
            // An IPv4 address has 32 bits, and host_mask no more.
            IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// Whether this address is of the network.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && (number(address) ^ number(self.address)) & !self.host_mask() == 0
    }

    /// The network's own address or, for IPv4, its broadcast address: no host has one of these (but in a network of two).
    fn is_edge(self, address: IpAddr) -> bool {
        let host = number(address) & self.host_mask();
        host == 0 || (address.is_ipv4() && host == self.host_mask())
    }

    /// The first host of the network that is not among ours.
    fn other_host(self, ours: &[Cidr]) -> Option<IpAddr> {
        let first = u128::from(self.host_mask() > 1);
        let last = self.host_mask() - u128::from(self.address.is_ipv4() && self.host_mask() > 1);
        // One of so many must be free, if any is.
        (first..=last.min(first + ours.len() as u128))
            .map(|host| self.at(host))
            .find(|address| ours.iter().all(|own| own.address != *address))
    }
}

/// The kernel's addresses, one in each of our networks: those that are given, and another host where none is.
///
/// # Errors
/// A line about the command line.
pub(super) fn peers(ours: &[Cidr], given: &[IpAddr]) -> anyhow::Result<Vec<Cidr>> {
    for (at, own) in ours.iter().enumerate() {
        if ours.iter().skip(at + 1).any(|other| other.address == own.address) {
            return Err(usage(format!("--address {own} is given twice")));
        }
        if given.contains(&own.address) {
            return Err(usage(format!("{} cannot be both our address and the kernel's", own.address)));
        }
    }
    let mut networks: Vec<Cidr> = Vec::new();
    for own in ours {
        if !networks.iter().any(|known| known.length == own.length && known.contains(own.address)) {
            networks.push(*own);
        }
    }
    if networks.iter().filter(|network| network.address.is_ipv4()).count() > 1 {
        return Err(usage("all IPv4 addresses of --address must be in one network"));
    }
    if let Some(stray) = given.iter().find(|peer| !networks.iter().any(|network| network.contains(**peer))) {
        return Err(usage(format!("--peer-address {stray} is in no network of --address")));
    }
    let peer = |network: &Cidr| {
        let chosen = given.iter().copied().find(|peer| network.contains(*peer));
        let address = chosen
            .or_else(|| network.other_host(ours))
            .ok_or_else(|| usage(format!("the network {network} has no address left for the kernel")))?;
        if network.host_mask() > 1 && network.is_edge(address) {
            return Err(usage(format!("--peer-address {address} is not the address of a host")));
        }
        Ok(Cidr { address, length: network.length })
    };
    networks.iter().map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers_of(ours: &str, given: &str) -> Result<String, String> {
        let ours: Vec<Cidr> = ours.split(' ').map(|text| text.parse().unwrap()).collect();
        let given: Vec<IpAddr> = given.split_whitespace().map(|text| text.parse().unwrap()).collect();
        let peers = peers(&ours, &given).map_err(|error| error.to_string())?;
        Ok(peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_kernel_gets_another_host() {
        assert_eq!(peers_of("10.77.0.2/24", "").unwrap(), "10.77.0.1/24");
        assert_eq!(peers_of("10.77.0.1/24", "").unwrap(), "10.77.0.2/24");
        assert_eq!(peers_of("10.77.0.1/24 10.77.0.2/24", "").unwrap(), "10.77.0.3/24");
        assert_eq!(peers_of("10.0.0.4/31", "").unwrap(), "10.0.0.5/31");
        assert_eq!(peers_of("10.0.0.2/30", "").unwrap(), "10.0.0.1/30");
        assert_eq!(peers_of("10.77.0.2/24 fd77::1/64", "").unwrap(), "10.77.0.1/24 fd77::2/64");
        assert_eq!(peers_of("10.77.0.2/24 fd77::1/64", "fd77::9").unwrap(), "10.77.0.1/24 fd77::9/64");
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert!(peers_of("10.1.0.2/24 10.2.0.2/24", "").unwrap_err().contains("one network"));
        assert!(peers_of("10.1.0.2/24", "10.2.0.1").unwrap_err().contains("in no network"));
        assert!(peers_of("10.1.0.2/24", "10.1.0.2").unwrap_err().contains("both"));
        assert!(peers_of("10.1.0.2/24", "10.1.0.255").unwrap_err().contains("not the address"));
        assert!(peers_of("10.1.0.1/30 10.1.0.2/30", "").unwrap_err().contains("no address left"));
        for wrong in [
            "10.0.0.1",
            "10.0.0.1/32",
            "10.0.0.1/0",
            "10.0.0.0/24",
            "10.0.0.255/24",
            "x/24",
            "10.0.0.1/x",
            "127.0.0.1/8",
            "224.0.0.1/8",
            "fd00::/64",
            "::1/64",
            "fd00::1/128",
        ] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
