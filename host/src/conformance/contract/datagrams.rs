//! What applications do with datagrams.

use super::pair::{Host, PORT, Pair, byte, good_link, wait};
use super::{Factory, need, told};
use crate::StreamError;
use crate::stack::{BindOptions, SocketId};
use bulkhead_wit::Endpoint;
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::registry::reason;

/// Payloads: nothing, one byte, a whole frame of 1,500 bytes with IPv4, and several fragments.
const SIZES: [usize; 4] = [0, 1, 1472, 20_000];
/// The client's port.
const FROM: u16 = 4000;

fn bind(pair: &mut Pair, host: Host, port: u16, remote: Endpoint) -> Result<SocketId, String> {
    let local = pair.endpoint(host, port);
    let options = BindOptions { remote, ..BindOptions::default() };
    let socket = pair.stack(host).bind(local, options).map_err(told("bind"))?;
    pair.settle()?;
    Ok(socket)
}

/// One datagram there: it arrives whole, once, and says where it came from.
fn passes(
    pair: &mut Pair,
    (from, sender): (Host, SocketId),
    (to, receiver): (Host, SocketId),
    (source, target): (Endpoint, Endpoint),
    size: usize,
) -> Result<(), String> {
    let bytes: Vec<u8> = (0..size).map(|at| byte(from, at)).collect();
    pair.stack(from).send_to(sender, &bytes, Endpoint::default(), target).map_err(told("send"))?;
    let mut into = vec![0; 65_535];
    pair.until(&format!("a datagram of {size} bytes"), |pair| {
        let arrived =
            wait(pair.stack(to).receive_from(receiver, &mut into, false)).map_err(told("receive"))?;
        let Some((count, peer, own)) = arrived else { return Ok(false) };
        need(into.get(..count) == Some(&bytes), "a datagram arrived as another")?;
        need((peer, own) == (source, target), "a datagram arrived with other ends")?;
        Ok(true)
    })?;
    let more = pair.stack(to).receive_from(receiver, &mut into, false);
    need(matches!(more, Err(StreamError::WouldBlock)), "a datagram arrived twice")
}

fn both_ways(factory: &Factory<'_>, is_v6: bool) -> Result<Pair, String> {
    let mut pair = Pair::new(factory, good_link(), is_v6)?;
    let client = bind(&mut pair, Host::Client, FROM, Endpoint::default())?;
    let server = bind(&mut pair, Host::Server, PORT, Endpoint::default())?;
    let ends = (pair.endpoint(Host::Client, FROM), pair.endpoint(Host::Server, PORT));
    for size in SIZES {
        passes(&mut pair, (Host::Client, client), (Host::Server, server), ends, size)?;
        passes(&mut pair, (Host::Server, server), (Host::Client, client), (ends.1, ends.0), size)?;
    }
    pair.client.unbind(client);
    pair.server.unbind(server);
    pair.wait(SECOND)?;
    Ok(pair)
}

fn sizes() -> String {
    format!("{SIZES:?} bytes")
}

pub(super) fn both_ways_v4(factory: &Factory<'_>) -> Result<String, String> {
    both_ways(factory, false).map(|_| sizes())
}

pub(super) fn both_ways_v6(factory: &Factory<'_>) -> Result<String, String> {
    both_ways(factory, true).map(|_| sizes())
}

pub(super) fn in_use(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    bind(&mut pair, Host::Server, PORT, Endpoint::default())?;
    let second = bind(&mut pair, Host::Server, PORT, Endpoint::default())?;
    match pair.server.is_bound_still(second) {
        Err(StreamError::Ended(reason::IN_USE)) => Ok(String::new()),
        other => Err(format!("the second socket at a port is told {other:?}")),
    }
}

pub(super) fn unreachable(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let target = pair.endpoint(Host::Server, PORT + 1);
    let socket = bind(&mut pair, Host::Client, FROM, target)?;
    pair.client.send_to(socket, b"anybody?", Endpoint::default(), target).map_err(told("send"))?;
    pair.until("the refusal", |pair| match pair.client.receive_from(socket, &mut [0; 16], false) {
        Err(StreamError::WouldBlock) => Ok(false),
        Err(StreamError::Ended(reason::PORT_UNREACHABLE | reason::REFUSED)) => Ok(true),
        other => Err(format!("a datagram to a closed port is told {other:?}")),
    })?;
    Ok(String::new())
}

pub(super) fn deterministic(factory: &Factory<'_>) -> Result<String, String> {
    let run = || -> Result<_, String> {
        let mut pair = both_ways(factory, false)?;
        let state = pair.client.instance.save().map_err(|fault| fault.to_string())?;
        Ok((state, pair.now, format!("{:?}", pair.client.join_counters())))
    };
    need(run()? == run()?, "two runs with the same seed differ")?;
    Ok(String::new())
}
