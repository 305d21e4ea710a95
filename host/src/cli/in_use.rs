//! Whether an address or a network is in use on this machine, before we take it: the kernel would take it twice without
//! a word, and then traffic goes to whichever route is found first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use anyhow::bail;

use super::address::Cidr;

/// Checks our addresses and the kernel's. An interface that exists already, `name`, may have the kernel's.
///
/// # Errors
/// A line that says what is in use, and what to do.
pub(super) fn check(name: &str, ours: &[Cidr], peers: &[Cidr]) -> anyhow::Result<()> {
    let advice = "choose another network with --address";
    if let Some(own) = ours.iter().find(|own| is_of_this_machine(own.address)) {
        bail!("the address {} is in use by this machine itself; {advice}", own.address);
    }
    for peer in peers {
        if let Some(interface) = interface_of(peer).filter(|interface| interface != name) {
            let network = Cidr { address: peer.network(), length: peer.length };
            bail!("the network {network} is in use on the interface {interface}; {advice}");
        }
        if !Path::new("/sys/class/net").join(name).exists() && is_of_this_machine(peer.address) {
            bail!("the address {} is in use on another interface of this machine; {advice}", peer.address);
        }
    }
    Ok(())
}

/// Only an address of its own can be bound. (A machine set to `ip_nonlocal_bind` binds any: there we would refuse too
/// much, so an address that nobody can have is tried first.)
fn is_of_this_machine(address: IpAddr) -> bool {
    // RFC 5737 and RFC 3849: for documentation only.
    let nobodys: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 77).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 77).into(),
    };
    UdpSocket::bind((address, 0)).is_ok() && UdpSocket::bind((nobodys, 0)).is_err()
}

/// The interface with a route to exactly this network.
fn interface_of(network: &Cidr) -> Option<String> {
    let (file, find): (_, fn(&str, &Cidr) -> Option<String>) = match network.address {
        IpAddr::V4(_) => ("/proc/net/route", route_v4),
        IpAddr::V6(_) => ("/proc/net/ipv6_route", route_v6),
    };
    let table = std::fs::read_to_string(file).ok()?;
    table.lines().find_map(|line| find(line, network))
}

/// A line of `/proc/net/route`: interface, destination, ..., mask at the eighth place; numbers as the machine has them.
fn route_v4(line: &str, network: &Cidr) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    let destination = Ipv4Addr::from(number(1)?.to_ne_bytes());
    let length = Ipv4Addr::from(number(7)?.to_ne_bytes()).to_bits().leading_ones();
    let is_same = IpAddr::from(destination) == network.network() && length == u32::from(network.length);
    is_same.then(|| words.first().map(|name| (*name).to_owned()))?
}

/// A line of `/proc/net/ipv6_route`: destination, its length, ..., interface; the loopback interface has the routes to
/// our machine's own addresses.
fn route_v6(line: &str, network: &Cidr) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let destination = Ipv6Addr::from_bits(u128::from_str_radix(words.first()?, 16).ok()?);
    let length = u8::from_str_radix(words.get(1)?, 16).ok()?;
    let interface = words.last().filter(|name| **name != "lo")?;
    let is_same = IpAddr::from(destination) == network.network() && length == network.length;
    is_same.then(|| (*interface).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let network: Cidr = "10.77.0.1/24".parse().unwrap();
        let line = "bulkhead0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        // The table has the numbers of a little endian machine here.
        if cfg!(target_endian = "little") {
            assert_eq!(route_v4(line, &network).as_deref(), Some("bulkhead0"));
        }
        assert_eq!(route_v4("Iface\tDestination\tGateway", &network), None);
        assert_eq!(route_v4(line, &"10.77.1.1/24".parse().unwrap()), None);
        assert_eq!(route_v4(line, &"10.77.0.1/25".parse().unwrap()), None);
        let network: Cidr = "fd77::1/64".parse().unwrap();
        let line = "fd770000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001 tun0";
        assert_eq!(route_v6(line, &network).as_deref(), Some("tun0"));
        assert_eq!(route_v6(&line.replace("tun0", "lo"), &network), None);
    }

    #[test]
    fn a_machine_has_its_loopback_address_and_no_strangers() {
        assert!(is_of_this_machine("127.0.0.1".parse().unwrap()));
        assert!(!is_of_this_machine("198.51.100.1".parse().unwrap()));
    }
}
