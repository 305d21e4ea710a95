//! Two stacks, a link between them, and virtual time.
//!
//! Nothing here knows a clock: the next event is whatever the link or a stack says comes next, so an hour with a lossy
//! link takes a moment, and the same seed gives the same run.

use bulkhead::device::link::{Link, LinkConfig, LinkEnd};
use bulkhead::placement::Instance;
use bulkhead::{Options, Readiness, Stack, StreamError, StreamId};
use bulkhead_wit::{Endpoint, NEVER, Time};
use std::net::{IpAddr, SocketAddr};

/// Turns in a row at one time after which a stack that still wants more is taken for spinning.
const TURNS_AT_ONCE: u32 = 100_000;

/// Times that applications may go on without any event being due.
const IDLE: u32 = 10_000;

/// One of the two hosts.
pub struct Side {
    /// Its stack.
    pub stack: Stack,
    /// Its end of the link.
    pub device: LinkEnd,
    /// Its address.
    pub address: IpAddr,
}

/// Both hosts, the link, and the time.
pub struct World {
    /// The link.
    pub link: Link,
    /// The first host.
    pub a: Side,
    /// The second host.
    pub b: Side,
    /// The time.
    pub now: Time,
}

/// How a world is made.
pub struct Plan<'a> {
    /// The link.
    pub link: LinkConfig,
    /// Seeds everything.
    pub seed: u64,
    /// Addresses of both hosts.
    pub addresses: [IpAddr; 2],
    /// Makes an instance for a host.
    pub instance: &'a dyn Fn() -> Box<dyn Instance>,
    /// Changes a host's options before it starts.
    pub options: &'a dyn Fn(&mut Options),
}

/// Two IPv4 hosts.
pub const V4: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2))];

/// Two IPv6 hosts.
pub const V6: [IpAddr; 2] = [
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
];

/// The native core, as both hosts' module.
#[must_use]
pub fn native() -> Box<dyn Instance> {
    Box::new(bulkhead::placement::native::Native::new(Box::new(bulkhead_tcp::Tcp::new())))
}

impl World {
    /// A world at time 0.
    ///
    /// # Panics
    /// If an instance does not start.
    #[must_use]
    pub fn new(plan: &Plan<'_>) -> Self {
        let (link, first, second) = Link::new(plan.link, plan.seed);
        let side = |number: usize, device: LinkEnd| {
            let address = plan.addresses[number];
            let seed = [plan.seed, number as u64, 0x5eed, plan.seed ^ 0xa5a5];
            let mut options = Options::new(address, 64, plan.link.mtu, seed);
            (plan.options)(&mut options);
            let stack = Stack::new((plan.instance)(), options).expect("the module starts");
            Side { stack, device, address }
        };
        Self { link, a: side(0, first), b: side(1, second), now: 0 }
    }

    /// Turns both stacks until neither has more to do at this time. Says whether there was anything.
    ///
    /// # Panics
    /// On a fault, and if a stack spins.
    pub fn settle(&mut self) -> bool {
        for turns in 0..TURNS_AT_ONCE {
            self.link.advance(self.now);
            let mut again = false;
            for side in [&mut self.a, &mut self.b] {
                let turn = side.stack.turn(self.now, &mut side.device);
                let turn = turn.unwrap_or_else(|fault| panic!("{} at {}", fault.report(), self.now));
                again |= turn.steps > 0;
            }
            if !again {
                return turns > 0;
            }
        }
        panic!("a stack still has more to do after {TURNS_AT_ONCE} turns at {}", self.now);
    }

    /// Goes on to the next event. `false` if there is none.
    pub fn advance(&mut self) -> bool {
        let next = [self.link.next_event(), self.a.stack.next_deadline(), self.b.stack.next_deadline()];
        let next = next.into_iter().min().unwrap_or(NEVER);
        if next == NEVER {
            return false;
        }
        self.now = self.now.max(next);
        self.settle();
        true
    }

    /// Runs until `done` says so, at most to `limit`. Says whether it was done.
    pub fn run(&mut self, limit: Time, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        self.settle();
        let mut idle = 0;
        loop {
            if done(self) {
                return true;
            }
            // What applications did in `done` is dealt with at the same time; without a delay on the link, that may be
            // all that happens.
            let is_busy = self.settle();
            idle = if self.advance() { 0 } else { idle + 1 };
            if self.now >= limit || idle > if is_busy { IDLE } else { 0 } {
                return done(self);
            }
        }
    }

    /// Where the second host listens.
    #[must_use]
    pub fn server(&self, port: u16) -> Endpoint {
        SocketAddr::new(self.b.address, port).into()
    }
}

/// The byte at an offset of the stream with this seed.
#[must_use]
pub fn byte(seed: u64, at: u64) -> u8 {
    let mixed = ((at / 8) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (8 * (at % 8))) as u8 ^ (mixed >> 61) as u8
}

/// One end of a transfer: writes a stream of known bytes, ends it, and checks what it reads, byte for byte.
#[derive(Debug)]
pub struct Transfer {
    /// The stream, once there is one.
    pub stream: StreamId,
    writes: (u64, u64),
    reads: (u64, u64),
    /// Bytes written.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes read that are not those that were written, or are more than there are.
    pub altered: u64,
    /// Bytes that were missing when the end was read.
    pub missing: u64,
    /// The end was read.
    pub ended: bool,
    shut: bool,
    closed: bool,
}

impl Transfer {
    /// Writes and reads `(seed, bytes)` each.
    #[must_use]
    pub fn new(stream: StreamId, writes: (u64, u64), reads: (u64, u64)) -> Self {
        let (written, read, altered, missing) = (0, 0, 0, 0);
        Self {
            stream,
            writes,
            reads,
            written,
            read,
            altered,
            missing,
            ended: false,
            shut: false,
            closed: false,
        }
    }

    /// Writes and reads what is possible now, and closes when both directions are done.
    ///
    /// # Errors
    /// What the stream says, but for having to wait.
    pub fn pump(&mut self, stack: &mut Stack) -> Result<(), StreamError> {
        if self.closed {
            return Ok(());
        }
        self.write(stack)?;
        self.read(stack)?;
        if self.shut && self.ended {
            self.closed = true;
            stack.close(self.stream, NEVER);
        }
        Ok(())
    }

    /// Both directions are done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.closed
    }

    fn write(&mut self, stack: &mut Stack) -> Result<(), StreamError> {
        let mut bytes = [0u8; 16 * 1024];
        while self.written < self.writes.1 {
            let count = bytes.len().min((self.writes.1 - self.written) as usize);
            for (at, slot) in (self.written..).zip(&mut bytes[..count]) {
                *slot = byte(self.writes.0, at);
            }
            match stack.write(self.stream, &bytes[..count]) {
                Ok(count) => self.written += count as u64,
                Err(StreamError::WouldBlock) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if !self.shut {
            self.shut = true;
            stack.shutdown(self.stream)?;
        }
        Ok(())
    }

    fn read(&mut self, stack: &mut Stack) -> Result<(), StreamError> {
        let mut bytes = [0u8; 16 * 1024];
        while !self.ended {
            let count = match stack.read(self.stream, &mut bytes) {
                Ok(count) => count,
                Err(StreamError::WouldBlock) => return Ok(()),
                Err(error) => return Err(error),
            };
            for (at, got) in (self.read..).zip(&bytes[..count]) {
                self.altered += u64::from(at >= self.reads.1 || *got != byte(self.reads.0, at));
            }
            self.read += count as u64;
            self.ended = count == 0;
        }
        self.missing = self.reads.1.saturating_sub(self.read);
        Ok(())
    }
}

/// Connects the hosts `count` times and moves `there` bytes from the first to the second and `back` the other way,
/// over each connection. Returns the virtual time that it took.
///
/// # Panics
/// If a byte is wrong, a stream fails, or it is not done by `limit`.
pub fn transfer(world: &mut World, count: u64, there: u64, back: u64, limit: Time) -> Time {
    let begin = world.now;
    let server = world.server(80);
    let listener = world.b.stack.listen(server, bulkhead::ListenOptions::default()).expect("listens");
    // The module hears of the listener before the first SYN is on its way.
    world.settle();
    let mut clients: Vec<Transfer> = (0..count)
        .map(|number| {
            let stream =
                world.a.stack.connect(server, bulkhead::ConnectOptions::default()).expect("connects");
            Transfer::new(stream, (number, there), (!number, back))
        })
        .collect();
    let mut servers: Vec<(u16, Option<u64>, Transfer)> = Vec::new();
    let done = world.run(begin + limit, |world| {
        while let Ok(accepted) = world.b.stack.accept(listener) {
            servers.push((accepted.remote.port, None, Transfer::new(accepted.stream, (0, 0), (0, 0))));
        }
        for (port, number, transfer) in &mut servers {
            if number.is_none() {
                let own = clients.iter().position(|client| {
                    world.a.stack.ends(client.stream).is_some_and(|(local, _)| local.port == *port)
                });
                let own = own.expect("a connection that a client opened") as u64;
                *number = Some(own);
                *transfer = Transfer::new(transfer.stream, (!own, back), (own, there));
            }
            transfer.pump(&mut world.b.stack).unwrap_or_else(|error| panic!("server: {error:?}"));
        }
        for client in &mut clients {
            if world.a.stack.is_open(client.stream).is_ok_and(|open| open) {
                client.pump(&mut world.a.stack).unwrap_or_else(|error| panic!("client: {error}"));
            }
        }
        while world.a.stack.next_ready().is_some() || world.b.stack.next_ready().is_some() {}
        clients.iter().all(Transfer::is_done)
            && servers.len() as u64 == count
            && servers.iter().all(|s| s.2.is_done())
    });
    let state = |transfer: &Transfer| (transfer.written, transfer.read, transfer.ended);
    for transfer in clients.iter().chain(servers.iter().map(|server| &server.2)) {
        assert_eq!((transfer.altered, transfer.missing), (0, 0), "{transfer:?}");
    }
    assert!(
        done,
        "not done at {} s: clients {:?}, servers {:?}",
        (world.now - begin) / 1_000_000_000,
        clients.iter().filter(|t| !t.is_done()).map(state).collect::<Vec<_>>(),
        servers.iter().filter(|s| !s.2.is_done()).map(|s| state(&s.2)).collect::<Vec<_>>()
    );
    world.now - begin
}

/// What is told of a stream, for tests that wait for one thing.
#[must_use]
pub fn news(stack: &mut Stack, stream: StreamId) -> Readiness {
    let mut all = Readiness::default();
    while let Some((id, news)) = stack.next_ready() {
        if id == stream {
            all = all.with(news);
        }
    }
    all
}
