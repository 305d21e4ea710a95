//! Two hosts, an instance each, and a link between them in virtual time.

use super::{Factory, told};
use crate::device::link::{Impairments, Link, LinkConfig, LinkEnd};
use crate::{Accepted, ConnectOptions, ListenOptions, ListenerId, Options, Stack, StreamError, StreamId};
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::{Endpoint, NEVER, Time};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Turns at one time after which a stack that still wants more is taken for spinning.
const TURNS: u32 = 100_000;
/// Virtual time that anything may take.
pub(super) const PATIENCE: Time = 600 * SECOND;
/// Where servers listen.
pub(super) const PORT: u16 = 80;
/// Seeds link and instances.
const SEED: u64 = 0x636f_6e74_7261_6374;

/// Which of the two hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Host {
    Client,
    Server,
}

/// Both hosts, the link and the time.
pub(super) struct Pair {
    pub(super) client: Stack,
    pub(super) server: Stack,
    ends: (LinkEnd, LinkEnd),
    link: Link,
    is_v6: bool,
    pub(super) now: Time,
}

/// 5 ms each way and nothing else.
pub(super) fn good_link() -> LinkConfig {
    let way = Impairments { delay: 5 * MILLISECOND, ..Impairments::default() };
    LinkConfig { there: way, back: way, ..LinkConfig::default() }
}

/// Whatever can go wrong does, in every fiftieth frame or so.
pub(super) fn bad_link() -> LinkConfig {
    let way = Impairments {
        loss: 20_000,
        duplicate: 10_000,
        corrupt: 10_000,
        reorder: 20_000,
        reorder_delay: 8 * MILLISECOND,
        delay: 5 * MILLISECOND,
        jitter: MILLISECOND,
        ..Impairments::default()
    };
    LinkConfig { there: way, back: way, ..LinkConfig::default() }
}

fn address(host: Host, is_v6: bool) -> IpAddr {
    let number = if host == Host::Client { 1 } else { 2 };
    if is_v6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)).into()
    } else {
        Ipv4Addr::new(10, 0, 0, number).into()
    }
}

/// How a host with this address is set up.
pub(super) fn options(host: Host, is_v6: bool, mtu: u32) -> Options {
    let seed = [SEED, host as u64, 3, 4];
    let mut options = Options::new(address(host, is_v6), if is_v6 { 64 } else { 24 }, mtu, seed);
    options.config.connections = 4096;
    options
}

impl Pair {
    pub(super) fn new(factory: &Factory<'_>, link: LinkConfig, is_v6: bool) -> Result<Self, String> {
        let stack =
            |host| Stack::new(factory()?, options(host, is_v6, link.mtu)).map_err(|fault| fault.to_string());
        let (client, server) = (stack(Host::Client)?, stack(Host::Server)?);
        let (link, first, second) = Link::new(link, SEED);
        Ok(Self { client, server, ends: (first, second), link, is_v6, now: 0 })
    }

    pub(super) fn endpoint(&self, host: Host, port: u16) -> Endpoint {
        SocketAddr::new(address(host, self.is_v6), port).into()
    }

    /// Turns both until neither has more to do at this time. Says whether there was anything.
    pub(super) fn settle(&mut self) -> Result<bool, String> {
        for turns in 0..TURNS {
            self.link.advance(self.now);
            let mut steps = 0;
            for (stack, end) in [(&mut self.client, &mut self.ends.0), (&mut self.server, &mut self.ends.1)] {
                let turn = stack.turn(self.now, end).map_err(|fault| fault.report().to_string())?;
                steps += turn.steps;
            }
            if steps == 0 {
                return Ok(turns > 0);
            }
        }
        Err("it never comes to rest".to_owned())
    }

    /// Runs until `done` says so, or for [`PATIENCE`].
    pub(super) fn until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let limit = self.now + PATIENCE;
        loop {
            self.settle()?;
            if done(self)? {
                return self.settle().map(drop);
            }
            // What applications did just now is dealt with at the same time.
            if self.settle()? {
                continue;
            }
            let next = [self.link.next_event(), self.client.next_deadline(), self.server.next_deadline()];
            let next = next.into_iter().min().unwrap_or(NEVER);
            if next > limit {
                return Err(format!("{what}: not within {} s", PATIENCE / SECOND));
            }
            self.now = self.now.max(next);
        }
    }

    /// Time passes, at least so much.
    pub(super) fn wait(&mut self, time: Time) -> Result<(), String> {
        let until = self.now + time;
        loop {
            self.settle()?;
            let next = [self.link.next_event(), self.client.next_deadline(), self.server.next_deadline()];
            let next = next.into_iter().min().unwrap_or(NEVER);
            if next > until {
                self.now = until;
                return self.settle().map(drop);
            }
            self.now = self.now.max(next);
        }
    }

    pub(super) fn listen(&mut self) -> Result<ListenerId, String> {
        let local = self.endpoint(Host::Server, PORT);
        let listener = self.server.listen(local, ListenOptions::default()).map_err(told("listen"))?;
        self.settle()?;
        Ok(listener)
    }

    pub(super) fn connect(&mut self) -> Result<StreamId, String> {
        let remote = self.endpoint(Host::Server, PORT);
        self.client.connect(remote, ConnectOptions::default()).map_err(told("connect"))
    }

    /// A connection: the client's stream and the server's.
    pub(super) fn open(&mut self, listener: ListenerId) -> Result<(StreamId, StreamId), String> {
        let client = self.connect()?;
        let mut taken: Option<Accepted> = None;
        self.until("a connection opens", |pair| {
            if taken.is_none() {
                taken = wait(pair.server.accept(listener)).map_err(told("accept"))?;
            }
            Ok(taken.is_some() && pair.client.is_open(client).map_err(told("connect"))?)
        })?;
        let taken = taken.ok_or("nothing was accepted")?;
        let theirs = self.client.ends(client);
        if theirs != Some((taken.remote, taken.local)) {
            return Err(format!("the two ends differ: {theirs:?} and {:?}", (taken.remote, taken.local)));
        }
        Ok((client, taken.stream))
    }

    pub(super) fn stack(&mut self, host: Host) -> &mut Stack {
        match host {
            Host::Client => &mut self.client,
            Host::Server => &mut self.server,
        }
    }
}

/// What would block is nothing yet.
pub(super) fn wait<T>(result: Result<T, StreamError>) -> Result<Option<T>, StreamError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StreamError::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The byte at an offset of what a host sends.
pub(super) fn byte(host: Host, at: usize) -> u8 {
    let at = (at as u64) ^ (host as u64) << 40;
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}
