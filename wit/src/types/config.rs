//! What a module says of itself, what it is started with, and how it accounts for a loaded state.

use super::{Address, Endpoint, Handle, Prefix};
use crate::registry::service;
use alloc::string::String;
use alloc::vec::Vec;

/// A numbered option and its value: see [`registry::setting`](crate::registry::setting).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setting {
    /// Its number.
    pub key: u16,
    /// Its value; what it means stands at the number.
    pub value: u64,
}

/// A kind of packets that a module serves or sends: see [`registry::service`](crate::registry::service).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// What kind of number `value` is.
    pub kind: u8,
    /// The number.
    pub value: u16,
}

/// What a module says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// What it takes in.
    pub serves: Vec<Service>,
    /// What it sends; everything that it serves and sends back must be listed too.
    pub sends: Vec<Service>,
    /// Bytes of memory that a connection takes in the module, about.
    pub bytes_per_connection: u32,
    /// The number of the format that `save` writes; 0 where the module cannot save its state, and is never asked to.
    pub state_format: u32,
    /// The settings that it knows.
    pub settings: Vec<u16>,
}

impl Description {
    /// Whether it takes in an IP protocol.
    #[must_use]
    pub fn serves_protocol(&self, protocol: u8) -> bool {
        let is_this = |s: &Service| s.kind == service::IP_PROTOCOL && s.value == u16::from(protocol);
        self.serves.iter().any(is_this)
    }
}

/// What an instance is started with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Our addresses, each with its network. What the module sends comes from one of these.
    pub addresses: Vec<Prefix>,
    /// Every address that is sent to is ours (a gateway), and may be sent from.
    pub any_address: bool,
    /// The longest datagram that the link takes, in bytes, from the network header on.
    pub mtu: u32,
    /// All randomness of the instance.
    pub seed: (u64, u64, u64, u64),
    /// The number of this shard, `0..shards`.
    pub shard: u16,
    /// How many there are, at least 1. Ports chosen for `open` are those with `port % shards == shard`.
    pub shards: u16,
    /// The first ephemeral port.
    pub ports_first: u16,
    /// The last ephemeral port.
    pub ports_last: u16,
    /// Connections at most.
    pub connections: u32,
    /// Half-open connections at most; beyond it, cookies.
    pub embryos: u32,
    /// Connections offered and undecided at most.
    pub offers: u32,
    /// Runs of placed bytes beyond `exposed`, a connection, at most.
    pub islands: u16,
    /// How many hold slots there are, at most [`limits::HOLDS`](crate::limits::HOLDS).
    pub holds: u16,
    /// Settings of the instance, which are the defaults of its connections.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Whether what is sent to this address is for us.
    #[must_use]
    pub fn is_ours(&self, address: Address) -> bool {
        self.any_address || self.addresses.iter().any(|prefix| prefix.address == address)
    }

    /// One of our addresses of the same version to reach `to` from, best one in the same network.
    #[must_use]
    pub fn source_for(&self, to: Address) -> Option<Address> {
        let mut same = self.addresses.iter().filter(|prefix| prefix.address.is_v4() == to.is_v4());
        let near = self.addresses.iter().find(|prefix| prefix.contains(to));
        near.or_else(|| same.next()).map(|prefix| prefix.address)
    }
}

/// How `load` accounts for a connection. Each number must equal the host's own, or the swap is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The connection.
    pub connection: Handle,
    /// Our end.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// The sequence number of the first byte that the peer sends.
    pub receive_base: u32,
    /// The sequence number of the first byte that we send.
    pub send_base: u32,
    /// Bytes exposed to the application.
    pub exposed: u64,
    /// Bytes that the peer has acknowledged.
    pub acknowledged: u64,
    /// The end of the highest range sent: an offset in the stream, in bytes.
    pub sent: u64,
    /// The receive limit as the module knows it: an offset in the stream, in bytes.
    pub limit: u64,
}
