//! What may be reached from the inside, and where on the host's side it is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Networks and ports, as a person says them: `192.0.2.0/24`, `192.0.2.7:443`, `[2001:db8::]/32:80-90`, `:25`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// Any address if there is none.
    network: Option<(IpAddr, u8)>,
    ports: RangeInclusive<u16>,
}

impl Rule {
    fn covers(&self, to: SocketAddr) -> bool {
        let within = |(network, length): &(IpAddr, u8)| match (network, to.ip()) {
            (IpAddr::V4(network), IpAddr::V4(to)) => {
                let shift = 32 - u32::from(*length);
                (network.to_bits() ^ to.to_bits()).checked_shr(shift).unwrap_or(0) == 0 || *length == 0
            }
            (IpAddr::V6(network), IpAddr::V6(to)) => {
                let shift = 128 - u32::from(*length);
                (network.to_bits() ^ to.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        };
        self.ports.contains(&to.port()) && self.network.as_ref().is_none_or(within)
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "NETWORK, NETWORK:PORTS or :PORTS, such as 192.0.2.0/24, [2001:db8::]/32:80-90 or :25".to_owned()
        };
        let (network, ports) = match text.rsplit_once(':') {
            // A bare IPv6 network has colons and no port.
            Some((network, _)) if network.contains(':') && !text.contains(']') => (text, None),
            Some((_, after)) if after.contains(']') => (text, None),
            Some((network, ports)) => (network, Some(ports)),
            None => (text, None),
        };
        let ports = match ports {
            None => 0..=u16::MAX,
            Some(ports) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let first = first.parse().map_err(|_| wrong())?;
                let last = last.parse().map_err(|_| wrong())?;
                if first > last {
                    return Err(wrong());
                }
                first..=last
            }
        };
        if network.is_empty() {
            return Ok(Self { network: None, ports });
        }
        let (address, length) = match network.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (network, None),
        };
        let address: IpAddr =
            address.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(bits), |length| length.parse().map_err(|_| wrong()))?;
        if length > bits {
            return Err(wrong());
        }
        Ok(Self { network: Some((address, length)), ports })
    }
}

/// Why something is not carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Denied;

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not allowed here")
    }
}

/// What is carried, and where to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// If there are any, everything else is denied.
    pub(crate) allow: Vec<Rule>,
    /// These come first.
    pub(crate) deny: Vec<Rule>,
    /// The gateway's own addresses: the host itself, where that is allowed.
    pub(crate) gateway: Vec<IpAddr>,
    /// Whether the gateway's own addresses stand for the host's loopback.
    pub(crate) host_loopback: bool,
    /// An address that stands for the host's name server, and that server.
    pub(crate) dns: Vec<(IpAddr, SocketAddr)>,
    /// The network of the inside, which is nowhere else.
    pub(crate) inside: Vec<(IpAddr, u8)>,
    /// Whose addresses may speak from there besides.
    pub(crate) from: Vec<Rule>,
}

/// The port of name servers.
pub(crate) const DNS: u16 = 53;

impl Policy {
    /// Where on the host's side a destination of the inside's is.
    ///
    /// # Errors
    /// It may not be reached.
    pub(crate) fn target(&self, to: SocketAddr) -> Result<SocketAddr, Denied> {
        if let Some((_, server)) = self.dns.iter().find(|(address, _)| *address == to.ip())
            && to.port() == DNS
        {
            return Ok(*server);
        }
        if self.deny.iter().any(|rule| rule.covers(to))
            || (!self.allow.is_empty() && !self.allow.iter().any(|rule| rule.covers(to)))
        {
            return Err(Denied);
        }
        if self.gateway.contains(&to.ip()) {
            let loopback: IpAddr = match to {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            return if self.host_loopback { Ok(SocketAddr::new(loopback, to.port())) } else { Err(Denied) };
        }
        if self.is_inside(to) || !is_elsewhere(to.ip()) { Err(Denied) } else { Ok(to) }
    }

    /// Whether the inside may speak by this address (BCP 38): somebody else's, nobody inside would hear the answer to.
    pub(crate) fn is_ours(&self, from: SocketAddr) -> bool {
        self.is_inside(from) || self.from.iter().any(|rule| rule.covers(from))
    }

    fn is_inside(&self, address: SocketAddr) -> bool {
        let mut networks = self.inside.iter();
        networks.any(|network| Rule { network: Some(*network), ports: 0..=u16::MAX }.covers(address))
    }
}

/// Whether an address can be that of another host: neither loopback, nor this host by another name, nor many hosts.
fn is_elsewhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast())
                && v4.octets()[0] != 0
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_elsewhere(v4.into()),
            None => {
                !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn rules(all: &[&str]) -> Vec<Rule> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn rules_are_read_as_people_write_them() {
        for (rule, yes, no) in [
            ("192.0.2.0/24", "192.0.2.255:1", "192.0.3.0:1"),
            ("192.0.2.7", "192.0.2.7:65535", "192.0.2.6:1"),
            ("192.0.2.7:443", "192.0.2.7:443", "192.0.2.7:444"),
            (":25", "[2001:db8::1]:25", "192.0.2.1:26"),
            (":80-90", "192.0.2.1:90", "192.0.2.1:91"),
            ("2001:db8::/32", "[2001:db8:1::1]:9", "[2001:db9::]:9"),
            ("[2001:db8::]/32:80-90", "[2001:db8::1]:85", "[2001:db8::1]:79"),
            ("0.0.0.0/0", "255.1.2.3:0", "[::1]:0"),
            ("::/0", "[2001:db8::1]:7", "192.0.2.1:7"),
        ] {
            let rule: Rule = rule.parse().unwrap();
            assert!(rule.covers(to(yes)) && !rule.covers(to(no)), "{rule:?}");
        }
        for wrong in ["", "x", "192.0.2.0/33", "192.0.2.1:90-80", "192.0.2.1:", "192.0.2.1:70000", "::/129"] {
            assert!(wrong.is_empty() || wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_host_itself_is_reached_only_where_that_was_said() {
        let mut policy = Policy {
            gateway: vec!["10.0.2.2".parse().unwrap()],
            dns: vec![("10.0.2.3".parse().unwrap(), to("192.0.2.53:53"))],
            inside: vec![("10.0.2.0".parse().unwrap(), 24)],
            ..Policy::default()
        };
        for denied in [
            "127.0.0.1:80",
            "127.8.8.8:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "10.0.2.2:80",
            "10.0.2.9:80",
            "10.0.2.3:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::1]:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
            "[ff02::1]:80",
            "[fe80::1]:80",
        ] {
            assert_eq!(policy.target(to(denied)), Err(Denied), "{denied}");
        }
        assert_eq!(policy.target(to("10.0.2.3:53")), Ok(to("192.0.2.53:53")));
        assert_eq!(policy.target(to("198.51.100.1:80")), Ok(to("198.51.100.1:80")));
        policy.host_loopback = true;
        assert_eq!(policy.target(to("10.0.2.2:80")), Ok(to("127.0.0.1:80")));
        assert_eq!(policy.target(to("127.0.0.1:80")), Err(Denied));
    }

    #[test]
    fn nobody_speaks_by_an_address_that_is_not_of_the_inside() {
        let mut policy = Policy { inside: vec![("10.0.2.0".parse().unwrap(), 24)], ..Policy::default() };
        assert!(policy.is_ours(to("10.0.2.100:1")));
        assert!(!policy.is_ours(to("10.0.3.100:1")) && !policy.is_ours(to("[fd00::1]:1")));
        policy.from = rules(&["10.0.3.0/24"]);
        assert!(policy.is_ours(to("10.0.3.100:1")) && policy.target(to("10.0.3.100:1")).is_ok());
    }

    #[test]
    fn denials_come_first_and_allowances_exclude_the_rest() {
        let policy = Policy {
            allow: rules(&["198.51.100.0/24:80-443"]),
            deny: rules(&["198.51.100.7"]),
            ..Policy::default()
        };
        assert!(policy.target(to("198.51.100.6:443")).is_ok());
        assert_eq!(policy.target(to("198.51.100.7:443")), Err(Denied));
        assert_eq!(policy.target(to("198.51.100.6:444")), Err(Denied));
        assert_eq!(policy.target(to("203.0.113.1:80")), Err(Denied));
    }
}
