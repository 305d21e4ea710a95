//! What applications do with streams.

use super::pair::{Host, PORT, Pair, bad_link, byte, good_link, wait};
use super::{Factory, need, told};
use crate::device::link::LinkConfig;
use crate::{ConnectOptions, StreamError, StreamId};
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{NEVER, Summary, Time};

/// Bytes each way of a transfer.
const BYTES: usize = 256 << 10;
/// Connections with data side by side.
const FLOWS: usize = 8;
/// Connections that are open at once.
const MANY: usize = 200;
/// Longer than a TIME-WAIT of twice the maximum segment lifetime (RFC 9293 3.4.2: two minutes each).
const AFTERWARDS: Time = 250 * SECOND;

/// One host's end of a transfer: writes so many known bytes and the end, and reads as many and the other end.
struct Transfer {
    host: Host,
    stream: StreamId,
    /// Where in the sequence of known bytes this connection's begin.
    base: usize,
    size: usize,
    written: usize,
    read: usize,
    is_shut: bool,
    is_ended: bool,
}

impl Transfer {
    /// The two ends of the connection with this number.
    fn both((client, server): (StreamId, StreamId), number: usize, size: usize) -> [Self; 2] {
        let new = |host, stream| Self::new(host, stream, number << 24, size);
        [new(Host::Client, client), new(Host::Server, server)]
    }

    fn new(host: Host, stream: StreamId, base: usize, size: usize) -> Self {
        Self { host, stream, base, size, written: 0, read: 0, is_shut: false, is_ended: false }
    }

    fn pump(&mut self, pair: &mut Pair) -> Result<bool, String> {
        self.write(pair)?;
        self.read(pair)?;
        Ok(self.is_shut && self.is_ended)
    }

    fn write(&mut self, pair: &mut Pair) -> Result<(), String> {
        let stack = pair.stack(self.host);
        while self.written < self.size {
            let end = self.size.min(self.written + 8192);
            let bytes: Vec<u8> = (self.written..end).map(|at| byte(self.host, self.base + at)).collect();
            let Some(count) = wait(stack.write(self.stream, &bytes)).map_err(told("write"))? else {
                return Ok(());
            };
            self.written += count;
        }
        if !self.is_shut {
            self.is_shut = true;
            stack.shutdown(self.stream).map_err(told("shutdown"))?;
        }
        Ok(())
    }

    fn read(&mut self, pair: &mut Pair) -> Result<(), String> {
        let from = if self.host == Host::Client { Host::Server } else { Host::Client };
        let mut bytes = [0; 8192];
        while !self.is_ended {
            let result = wait(pair.stack(self.host).read(self.stream, &mut bytes)).map_err(told("read"))?;
            let Some(count) = result else { return Ok(()) };
            let mut arrived = (self.read..).zip(bytes.iter().take(count));
            if let Some((at, _)) = arrived.find(|(at, got)| **got != byte(from, self.base + *at)) {
                return Err(format!("byte {at} is another than was written"));
            }
            self.read += count;
            self.is_ended = count == 0;
        }
        if self.read == self.size {
            return Ok(());
        }
        Err(format!("{} bytes were read, and {} written", self.read, self.size))
    }
}

/// Moves what they have to move, and `meanwhile` looks on and is told how much was read in all.
fn exchange(
    pair: &mut Pair,
    mut ends: Vec<Transfer>,
    mut meanwhile: impl FnMut(&mut Pair, usize) -> Result<(), String>,
) -> Result<(), String> {
    pair.until("the transfer", |pair| {
        let mut is_done = true;
        for end in &mut ends {
            is_done &= end.pump(pair)?;
        }
        meanwhile(pair, ends.iter().map(|end| end.read).sum())?;
        Ok(is_done)
    })
}

/// [`BYTES`] both ways over a new connection.
fn one_exchange(
    pair: &mut Pair,
    meanwhile: impl FnMut(&mut Pair, usize) -> Result<(), String>,
) -> Result<(), String> {
    let listener = pair.listen()?;
    let streams = pair.open(listener)?;
    exchange(pair, Transfer::both(streams, 0, BYTES).into(), meanwhile)
}

fn milliseconds(time: Time) -> String {
    format!("{} ms of virtual time", time / 1_000_000)
}

fn transfer(factory: &Factory<'_>, link: LinkConfig) -> Result<String, String> {
    let mut pair = Pair::new(factory, link, false)?;
    one_exchange(&mut pair, |_, _| Ok(()))?;
    Ok(format!("{} KiB each way in {}", BYTES >> 10, milliseconds(pair.now)))
}

fn opens(factory: &Factory<'_>, is_v6: bool) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), is_v6)?;
    let listener = pair.listen()?;
    pair.open(listener)?;
    Ok(String::new())
}

pub(super) fn opens_v4(factory: &Factory<'_>) -> Result<String, String> {
    opens(factory, false)
}

pub(super) fn opens_v6(factory: &Factory<'_>) -> Result<String, String> {
    opens(factory, true)
}

pub(super) fn both_ways(factory: &Factory<'_>) -> Result<String, String> {
    transfer(factory, good_link())
}

pub(super) fn on_a_bad_link(factory: &Factory<'_>) -> Result<String, String> {
    transfer(factory, bad_link())
}

/// Connections side by side: the bytes of each stay its own.
pub(super) fn side_by_side(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, bad_link(), false)?;
    let listener = pair.listen()?;
    let mut ends = Vec::new();
    for number in 0..FLOWS {
        ends.extend(Transfer::both(pair.open(listener)?, number, BYTES / FLOWS));
    }
    exchange(&mut pair, ends, |_, _| Ok(()))?;
    Ok(String::new())
}

pub(super) fn back_pressure(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let listener = pair.listen()?;
    let (client, server) = pair.open(listener)?;
    let block = vec![7; 64 << 10];
    let mut written = 0;
    for _ in 0..400 {
        written += wait(pair.client.write(client, &block)).map_err(told("write"))?.unwrap_or(0);
        pair.wait(SECOND / 20)?;
    }
    let sizes = pair.server.options().sizes;
    let most = (sizes.receive_max + sizes.send_max) as usize;
    need(written <= most, &format!("{written} bytes were taken though nobody reads"))?;
    let mut left = written;
    let mut into = vec![0; 64 << 10];
    pair.until("the reader catches up", |pair| {
        while let Some(count) = wait(pair.server.read(server, &mut into)).map_err(told("read"))? {
            need(count > 0, "the stream ended")?;
            left -= count.min(left);
        }
        Ok(left == 0)
    })?;
    Ok(format!("after {} KiB", written >> 10))
}

/// Reads to the end of the stream; how many bytes there were.
fn read_to_end(pair: &mut Pair, host: Host, stream: StreamId) -> Result<usize, String> {
    let (mut into, mut total) = ([0; 4096], 0);
    pair.until("the end of the stream", |pair| {
        while let Some(count) = wait(pair.stack(host).read(stream, &mut into)).map_err(told("read"))? {
            total += count;
            if count == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    Ok(total)
}

pub(super) fn half_close(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let listener = pair.listen()?;
    let (client, server) = pair.open(listener)?;
    pair.client.shutdown(client).map_err(told("shutdown"))?;
    need(read_to_end(&mut pair, Host::Server, server)? == 0, "bytes that nobody wrote")?;
    pair.wait(SECOND)?;
    let count = pair.server.write(server, &[1; 1000]).map_err(told("write after the peer's end"))?;
    pair.server.shutdown(server).map_err(told("shutdown"))?;
    let arrived = read_to_end(&mut pair, Host::Client, client)?;
    need(arrived == count, &format!("{arrived} of {count} bytes arrived after the half close"))?;
    Ok(String::new())
}

pub(super) fn close(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let listener = pair.listen()?;
    let (client, server) = pair.open(listener)?;
    pair.client.close(client, NEVER);
    read_to_end(&mut pair, Host::Server, server)?;
    pair.server.close(server, NEVER);
    pair.wait(AFTERWARDS)?;
    let left = pair.client.connections().count() + pair.server.connections().count();
    need(left == 0, &format!("{left} connections are left four minutes after both ends were closed"))?;
    // The port is of use again, to the same peer.
    pair.open(listener)?;
    Ok(String::new())
}

pub(super) fn reset(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let listener = pair.listen()?;
    let (client, server) = pair.open(listener)?;
    pair.client.abort(client);
    pair.until("the peer is told", |pair| match pair.server.read(server, &mut [0; 16]) {
        Err(StreamError::WouldBlock) => Ok(false),
        Err(StreamError::Ended(reason::RESET)) => Ok(true),
        other => Err(format!("the peer of a reset is told {other:?}")),
    })?;
    Ok(String::new())
}

/// Waits for the answer to an open that nobody listens to.
fn is_refused(pair: &mut Pair, stream: StreamId) -> Result<(), String> {
    pair.until("the refusal", |pair| match pair.client.is_open(stream) {
        Ok(false) => Ok(false),
        Err(StreamError::Ended(reason::REFUSED)) => Ok(true),
        other => Err(format!("a connection to where nobody listens is told {other:?}")),
    })
}

pub(super) fn refused(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let remote = pair.endpoint(Host::Server, PORT + 1);
    let stream = pair.client.connect(remote, ConnectOptions::default()).map_err(told("connect"))?;
    is_refused(&mut pair, stream)?;
    Ok(String::new())
}

pub(super) fn unlisten(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let listener = pair.listen()?;
    let (client, server) = pair.open(listener)?;
    pair.server.unlisten(listener);
    pair.settle()?;
    let late = pair.connect()?;
    is_refused(&mut pair, late)?;
    // What was accepted before lives on.
    exchange(&mut pair, Transfer::both((client, server), 0, BYTES).into(), |_, _| Ok(()))?;
    Ok(String::new())
}

pub(super) fn deterministic(factory: &Factory<'_>) -> Result<String, String> {
    let run = || -> Result<_, String> {
        let mut pair = Pair::new(factory, bad_link(), false)?;
        one_exchange(&mut pair, |_, _| Ok(()))?;
        let mut save = |host| pair.stack(host).instance.save().map_err(|fault| fault.to_string());
        let states = (save(Host::Client)?, save(Host::Server)?);
        need(states.0 == save(Host::Client)?, "saving twice gives two states")?;
        Ok((states, pair.now, *pair.client.join_counters()))
    };
    let (first, second) = (run()?, run()?);
    need(first.1 == second.1, "two runs with the same seed took different times")?;
    need(format!("{:?}", first.2) == format!("{:?}", second.2), "two runs sent differently")?;
    need(first.0 == second.0, "two runs with the same seed end in different states")?;
    Ok(String::new())
}

/// The host's own numbers of a connection, as a summary has them.
fn accounts(pair: &mut Pair, host: Host) -> Vec<Summary> {
    let living = pair.stack(host).ledgers.living();
    let mut all: Vec<Summary> = living
        .map(|(_, ledger)| Summary {
            connection: ledger.handle,
            local: ledger.local,
            remote: ledger.remote,
            receive_base: ledger.receive_base,
            send_base: ledger.send_base,
            exposed: ledger.exposed,
            acknowledged: ledger.acknowledged,
            sent: ledger.sent,
            limit: ledger.limit,
        })
        .collect();
    all.sort_by_key(|summary| summary.connection);
    all
}

/// A fresh instance takes over from a host's present one.
fn replace(pair: &mut Pair, host: Host, factory: &Factory<'_>) -> Result<usize, String> {
    let state = pair.stack(host).instance.save().map_err(|fault| format!("save: {fault}"))?;
    let mut fresh = factory()?;
    let (now, accounts) = (pair.now, accounts(pair, host));
    let stack = pair.stack(host);
    let mut loaded =
        fresh.load(&stack.options().config, now, &state).map_err(|fault| format!("load: {fault}"))?;
    loaded.sort_by_key(|summary| summary.connection);
    if loaded != accounts {
        return Err(format!("after load it says {loaded:?}; the host knows {accounts:?}"));
    }
    let again = fresh.save().map_err(|fault| format!("save after load: {fault}"))?;
    need(again == state, "what is saved after load is not what was loaded")?;
    stack.instance = fresh;
    // Whatever the former one waited for, its successor says anew.
    stack.deadline = now;
    Ok(state.len())
}

pub(super) fn takes_over(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, bad_link(), false)?;
    let (mut replaced, mut longest) = (0, 0);
    one_exchange(&mut pair, |pair, read| {
        while replaced < 8 && read > (replaced + 1) * BYTES / 5 {
            let host = if replaced % 2 == 0 { Host::Client } else { Host::Server };
            longest = replace(pair, host, factory)?.max(longest);
            replaced += 1;
        }
        Ok(())
    })?;
    need(replaced > 0, "no instance was replaced")?;
    Ok(format!("{replaced} times; a state of {longest} bytes at most"))
}

pub(super) fn many(factory: &Factory<'_>) -> Result<String, String> {
    let mut pair = Pair::new(factory, good_link(), false)?;
    let listener = pair.listen()?;
    let save = |pair: &mut Pair| pair.server.instance.save().map_err(|fault| fault.to_string());
    let before = save(&mut pair)?.len();
    let memory = pair.server.memory();
    for _ in 0..MANY {
        pair.open(listener)?;
    }
    pair.wait(SECOND)?;
    let open = pair.server.connections().count();
    need(open == MANY, &format!("{open} of {MANY} are open"))?;
    let state = save(&mut pair)?.len().saturating_sub(before) / MANY;
    let buffers = pair.server.memory().saturating_sub(memory) / MANY;
    let own = pair.server.description().bytes_per_connection;
    Ok(format!(
        "each {own} bytes in the module by its own account, {state} of saved state, {buffers} of buffers"
    ))
}
