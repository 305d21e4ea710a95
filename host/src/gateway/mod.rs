//! The gateway: whoever is on the other side of the device reaches the host's network through the sandboxed stack.
//!
//! Every connection, whatever its destination, is offered before it exists; an ordinary socket of the host's connects
//! first, and what comes of that is what the inside is told. Datagrams are flows, each with a socket of its own.
//!
//! - `policy`: what may be reached, and where on the host's side it is;
//! - `begun`: who has to go when too many connections are begun;
//! - `counts`: who has how many;
//! - `tcp`: connect, accept, and the way of the bytes;
//! - `udp`: flows;
//! - `confine`: what the process gives up before it begins;
//! - `limits`: every bound.

mod begun;
mod confine;
mod counts;
pub(crate) mod limits;
pub(crate) mod policy;
mod tcp;
mod udp;

pub(crate) use confine::confine;
pub(crate) use tcp::carry;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead::net::{Net, Offers, UdpSocket};
use serde_json::{Value, json};

use policy::Policy;

/// What the gateway has done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    /// The destination did not take them.
    failed: AtomicU64,
    /// The policy did not.
    denied: AtomicU64,
    /// There were too many.
    refused: AtomicU64,
    /// They were begun, or would have been, and others had to be let in before they were open.
    given_up: AtomicU64,
    /// Their source is not an address of the inside.
    strangers: AtomicU64,
    flows: AtomicU64,
    datagrams_out: AtomicU64,
    datagrams_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
}

impl Counters {
    /// Everything, for a report.
    pub(crate) fn json(&self) -> Value {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "connections": get(&self.connections), "failed": get(&self.failed), "denied": get(&self.denied),
            "refused": get(&self.refused), "given_up": get(&self.given_up), "strangers": get(&self.strangers), "bytes_out": get(&self.bytes_out), "bytes_in": get(&self.bytes_in),
            "udp_flows": get(&self.flows), "datagrams_out": get(&self.datagrams_out),
            "datagrams_in": get(&self.datagrams_in),
        })
    }
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// A gateway at work.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) policy: Policy,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Connections a second; 0 is no bound.
    pub(crate) rate: u32,
    /// The host's addresses that sockets are bound to, one a version at most; else the system chooses.
    pub(crate) outbound: Vec<IpAddr>,
    pub(crate) counters: Counters,
}

impl Gateway {
    /// Where a socket to `target` is bound: an address of ours, and any port.
    fn bound_for(&self, target: SocketAddr) -> Option<SocketAddr> {
        let ours = self.outbound.iter().find(|address| address.is_ipv4() == target.is_ipv4())?;
        Some(SocketAddr::new(*ours, 0))
    }
}

/// Any address of the version of `target`, and any port.
fn anywhere(target: SocketAddr) -> SocketAddr {
    let any = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, 0)
}

/// What is heard from the inside.
#[derive(Debug)]
pub(crate) struct Heard {
    offers: Offers,
    datagrams: UdpSocket,
}

/// From now on nothing from the inside is refused for want of a listener.
///
/// # Errors
/// Why it cannot listen.
pub(crate) fn listen(net: &Net) -> io::Result<Heard> {
    Ok(Heard { offers: tcp::listen(net)?, datagrams: udp::bind(net)? })
}

/// Carries connections and datagrams until the stack ends.
///
/// # Errors
/// How it ended.
pub(crate) async fn serve(heard: Heard, gateway: &Arc<Gateway>) -> io::Result<()> {
    tokio::select! {
        result = tcp::serve(heard.offers, gateway) => result,
        result = udp::serve(heard.datagrams, gateway) => result,
    }
}
