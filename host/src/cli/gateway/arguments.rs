//! What can be said to the gateway.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use bulkhead_wit::Setting;
use clap::Args;

use crate::cli::arguments::{Placement, setting};
use crate::gateway::policy::Rule;

pub(in crate::cli) const GATEWAY_EXAMPLES: &str = "\
Examples:
  bulkhead gateway -- curl https://example.org/   one program, on the sandboxed stack's network
  bulkhead gateway -- bash                        a shell, and whatever is started in it
  bulkhead gateway -p 8080:80 -- python3 -m http.server 80
                                                  the host's 127.0.0.1:8080 leads to port 80 inside
  bulkhead gateway --deny 10.0.0.0/8 --deny :25 -- ./untrusted
                                                  neither the private network nor mail
  bulkhead gateway --pid 4711                     a network namespace that exists: a container's
  bulkhead gateway --qemu-stream /tmp/net         a virtual machine, started with
      qemu-system-x86_64 -device virtio-net,netdev=n \\
        -netdev stream,id=n,server=off,addr.type=unix,addr.path=/tmp/net

The program sees one interface, with the gateway at 10.0.2.2 (fd00::2) and a name server at 10.0.2.3, which answers as \
the host's does. TCP and UDP to anywhere else are carried by ordinary sockets of this user's; destinations that refuse, \
or cannot be reached, look so from the inside. Echo requests are answered by the gateway itself, whatever their \
destination. The host's loopback is not to be reached, unless --host-loopback makes 10.0.2.2 stand for it.

Needed: user and network namespaces for this user, the programs unshare, nsenter and mount (util-linux), and \
/dev/net/tun open to this user (most distributions have it so; else root says `chmod 666 /dev/net/tun`). \
Exit codes: the program's own; 125 if the gateway itself fails, 2 wrong usage.";

/// Whose network it is, and what may pass.
#[derive(Debug, Args)]
pub(in crate::cli) struct Gateway {
    /// The program to run inside, with its arguments
    #[arg(last = true, value_name = "PROGRAM", required_unless_present_any = ["netns", "pid", "qemu_stream", "qemu_dgram"])]
    pub(super) program: Vec<OsString>,

    /// Instead of a program: a network namespace that exists
    #[arg(long, value_name = "PATH", conflicts_with_all = ["program", "pid"])]
    pub(super) netns: Option<PathBuf>,

    /// Instead of a program: a virtual machine, whose QEMU connects to this socket with -netdev stream
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["program", "netns", "pid"])]
    pub(super) qemu_stream: Option<PathBuf>,

    /// The same with -netdev dgram: our socket, and QEMU's
    #[arg(long, value_name = "OURS=QEMU'S", conflicts_with_all = ["program", "netns", "pid", "qemu_stream"])]
    pub(super) qemu_dgram: Option<Sockets>,

    /// Instead of a program: the namespaces of this process
    #[arg(long, value_name = "PID", conflicts_with = "program")]
    pub(super) pid: Option<u32>,

    /// The interface inside
    #[arg(long, value_name = "NAME", default_value = "tun0")]
    pub(super) tun: String,

    /// Its MTU in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65_521))]
    pub(super) mtu: u32,

    /// The IPv4 network inside: the gateway is number 2 in it, the name server 3, the inside itself 100
    #[arg(long, value_name = "ADDRESS/BITS", default_value = "10.0.2.0/24")]
    pub(super) network: Network,

    /// No IPv6
    #[arg(long)]
    pub(super) no_ipv6: bool,

    /// The name server that answers inside; the first of /etc/resolv.conf if not given
    #[arg(long, value_name = "ADDRESS")]
    pub(super) dns: Option<IpAddr>,

    /// No name server, and the inside keeps the host's resolv.conf
    #[arg(long, conflicts_with = "dns")]
    pub(super) no_dns: bool,

    /// Whose addresses may speak from the inside, besides those of its network; may be repeated
    #[arg(long, value_name = "NETWORK[:PORTS]")]
    pub(super) from: Vec<Rule>,

    /// Only these destinations; may be repeated
    #[arg(long, value_name = "NETWORK[:PORTS]")]
    pub(super) allow: Vec<Rule>,

    /// Not these destinations, whatever is allowed; may be repeated
    #[arg(long, value_name = "NETWORK[:PORTS]")]
    pub(super) deny: Vec<Rule>,

    /// The gateway's own address stands for the host's loopback
    #[arg(long)]
    pub(super) host_loopback: bool,

    /// A port of the host's (at 127.0.0.1 if no address is said) that leads to one inside; may be repeated
    #[arg(short = 'p', long, value_name = "[ADDRESS:]PORT:INSIDE")]
    pub(super) publish: Vec<Published>,

    /// Connections at a time; more are refused
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub(super) connections: usize,

    /// Connections begun a second, and at once; more are refused. 0 is no bound
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(super) rate: u32,

    /// Where the protocol modules run
    #[arg(long, value_enum, default_value_t = Placement::Wasm)]
    pub(super) placement: Placement,

    /// The TCP module, a component; the bundled one if not given
    #[arg(long, value_name = "FILE.wasm")]
    pub(super) module: Option<PathBuf>,

    /// A setting of the TCP module's, as in congestion=reno; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(super) setting: Vec<Setting>,

    /// At the end print what was carried, as JSON on standard error
    #[arg(long)]
    pub(super) json: bool,

    /// What only those say who call it by another name.
    #[arg(skip)]
    pub(super) caller: Caller,
}

/// What a tool says that runs the gateway as `slirp4netns`.
#[derive(Debug, Default)]
pub(super) struct Caller {
    /// Written to once the network is there.
    pub(super) ready: Option<OwnedFd>,
    /// Its end is the gateway's.
    pub(super) exit: Option<OwnedFd>,
    /// The user namespace that the network namespace belongs to.
    pub(super) user_namespace: Option<PathBuf>,
    /// The interface gets no addresses: somebody else sees to that.
    pub(super) is_bare: bool,
    /// Addresses that connections and datagrams leave from.
    pub(super) outbound: Vec<IpAddr>,
}

/// An IPv4 network, with room for the addresses that are handed out in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Network {
    address: Ipv4Addr,
    /// Bits, `8..=25`: number 100 is used.
    length: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "an IPv4 network of 8 to 25 bits, such as 10.0.2.0/24".to_owned();
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length = length.parse().ok().filter(|length| (8..=25).contains(length)).ok_or_else(wrong)?;
        let is_network = address.to_bits() << length == 0;
        if is_network && !address.is_loopback() && !address.is_multicast() && !address.is_unspecified() {
            Ok(Self { address, length })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Network {
    fn host(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | u32::from(number))
    }
}

/// Where frames come in, and where they go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) struct Sockets {
    pub(super) ours: PathBuf,
    pub(super) theirs: PathBuf,
}

impl FromStr for Sockets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((ours, theirs)) if !ours.is_empty() && !theirs.is_empty() => {
                Ok(Self { ours: ours.into(), theirs: theirs.into() })
            }
            _ => Err("the paths of two sockets, such as /run/vm/net.host=/run/vm/net.guest".to_owned()),
        }
    }
}

/// A port of the host's that leads inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) struct Published {
    pub(super) at: SocketAddr,
    pub(super) inside: u16,
}

impl FromStr for Published {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "[ADDRESS:]PORT:INSIDE, such as 8080:80 or 0.0.0.0:8080:80".to_owned();
        let (at, inside) = text.rsplit_once(':').ok_or_else(wrong)?;
        let inside = inside.parse().map_err(|_| wrong())?;
        let at = match at.parse() {
            Ok(port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            Err(_) => at.parse().map_err(|_| wrong())?,
        };
        Ok(Self { at, inside })
    }
}

impl Gateway {
    /// Whether it is for a virtual machine.
    pub(super) fn is_machine(&self) -> bool {
        self.qemu_stream.is_some() || self.qemu_dgram.is_some()
    }

    /// The IPv4 address inside.
    pub(super) fn lease(&self) -> Ipv4Addr {
        self.network.host(100)
    }

    /// The gateway's own addresses, each with its network's length in bits.
    pub(super) fn ours(&self) -> Vec<(IpAddr, u8)> {
        self.both(self.network.host(2), 2)
    }

    /// The addresses inside.
    pub(super) fn inside(&self) -> Vec<(IpAddr, u8)> {
        self.both(self.lease(), 0x100)
    }

    /// Where name servers answer.
    pub(super) fn name_servers(&self) -> Vec<IpAddr> {
        if self.no_dns { Vec::new() } else { vec![self.network.host(3).into()] }
    }

    fn both(&self, v4: Ipv4Addr, v6: u16) -> Vec<(IpAddr, u8)> {
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, v6);
        let mut all = vec![(IpAddr::from(v4), self.network.length)];
        if !self.no_ipv6 {
            all.push((v6.into(), 64));
        }
        all
    }
}

/// What the part inside is told; nobody types it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Inside {
    /// Where the gateway listens for the device
    #[arg(long)]
    pub(super) socket: PathBuf,

    /// The interface
    #[arg(long)]
    pub(super) tun: String,

    /// Its MTU
    #[arg(long)]
    pub(super) mtu: u32,

    /// Its addresses, with the length of the network
    #[arg(long)]
    pub(super) address: Vec<String>,

    /// What stands in the place of /etc/resolv.conf
    #[arg(long)]
    pub(super) resolv: Option<PathBuf>,

    /// What is run then
    #[arg(last = true)]
    pub(super) program: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_room_for_number_100_and_no_bits_beyond_it() {
        for right in ["10.0.2.0/24", "10.0.0.0/8", "192.168.128.0/25", "172.16.0.0/16"] {
            assert!(right.parse::<Network>().is_ok(), "{right}");
        }
        let wrong =
            ["10.0.2.0", "10.0.2.1/24", "10.0.2.0/26", "10.0.2.0/7", "127.0.0.0/8", "0.0.0.0/8", "fd00::/64"];
        for wrong in wrong {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().host(100), Ipv4Addr::new(10, 0, 0, 100));
    }
}
