//! Real faults under load: a server whose module has defects, honest clients, checksummed streams, and poison on the way.
//!
//! What is lost and what is altered is counted; how long recoveries took is told by the stack itself.

use crate::world::{Transfer, V4};
use bulkhead::artifact::Artifact;
use bulkhead::checksum::checksum;
use bulkhead::device::link::{Impairments, Link, LinkConfig, LinkEnd};
use bulkhead::device::{Capabilities, Device, Offload};
use bulkhead::fault::Budget;
use bulkhead::frame::{Frame, FramePool};
use bulkhead::placement::Instance;
use bulkhead::supervise::Factory;
use bulkhead::{ConnectOptions, Fault, ListenOptions, ListenerId, Options, Stack, StreamId};
use bulkhead_wit::{Endpoint, Setting, Time, limits};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// The setting of the hostile module that makes segments poison.
pub const POISONABLE: u16 = 0xf004;
/// The TTL that stands for its first defect.
pub const POISON: u8 = 200;

/// The hostile component, loaded once.
///
/// # Panics
/// If it has not been built.
pub fn hostile() -> &'static Artifact {
    static ARTIFACT: OnceLock<Artifact> = OnceLock::new();
    ARTIFACT.get_or_init(|| guest("hostile-guest"))
}

/// A component of this workspace.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn guest(name: &str) -> Artifact {
    Artifact::from_file(&path_of(name)).expect("run `cargo xtask guests` first")
}

/// A component that is built only where there is a compiler for it.
///
/// # Panics
/// If it is there and does not load.
#[must_use]
pub fn guest_if_built(name: &str) -> Option<Artifact> {
    let path = path_of(name);
    path.is_file().then(|| Artifact::from_file(&path).expect("a component that loads"))
}

/// Where a component of this workspace is, if it was built.
#[must_use]
pub fn path_of(name: &str) -> PathBuf {
    let guests = std::env::var_os("BULKHEAD_GUESTS").map(PathBuf::from).unwrap_or_else(|| {
        // Beside the program, which cargo puts into `<target>/<profile>` or its `deps`.
        let program = std::env::current_exe().unwrap_or_default();
        let found = program.ancestors().map(|folder| folder.join("guests")).find(|folder| folder.is_dir());
        found.unwrap_or_else(|| Path::new("target/guests").to_owned())
    });
    guests.join(name).with_extension("wasm")
}

/// What makes instances of the hostile component.
pub fn hostile_factory() -> Factory {
    Box::new(|| Ok(Box::new(hostile().fresh()?) as Box<dyn Instance>))
}

/// What was injected, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Frames that were made poison.
    pub injected: u64,
    /// Faults that followed.
    pub faults: u64,
    /// Of these, those after which the module went on where it was.
    pub recovered: u64,
    /// Connections, and those of them that were lost.
    pub connections: usize,
    /// Connections that were lost.
    pub lost: usize,
    /// Bytes that were read without an error, both ways.
    pub bytes: u64,
    /// Of these, those that are not what was written at that place.
    pub altered: u64,
    /// Bytes that were missing at the end of streams that ended well.
    pub missing: u64,
    /// From the moment a fault was found to that when the module was ready again, each recovery.
    pub took: Vec<Duration>,
    /// How long each step that failed had been running when that was found.
    pub found_after: Vec<Duration>,
    /// CPU time that the module had used up when a budget ended it, from the first look at it on.
    pub used: Vec<Duration>,
    /// Everything was carried that was not lost.
    pub is_done: bool,
}

impl Tally {
    /// Whether nothing was lost or altered, and everything carried.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_done && (self.lost, self.altered, self.missing) == (0, 0, 0)
    }
}

/// A quantile of some times.
#[must_use]
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

/// Turns between two looks at all connections: in the others only those are served of which there is news.
const SWEEP: u64 = 256;

/// How a load is made.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections at once.
    pub connections: usize,
    /// Bytes that each carries to the server, and as many back.
    pub bytes: u64,
    /// Every so many segments with payload from a client one becomes poison; 0 is none.
    pub every: u64,
    /// How many of them at most.
    pub most: u64,
    /// Faults by number, in turns.
    pub defects: &'static [u8],
    /// Bits per second that the link carries each way; 0 is no limit. Poison is spread out by it.
    pub rate: u64,
    /// Virtual time between two segments of one connection that are poison, at least: a connection that kills too often within a
    /// second goes.
    pub apart: Time,
    /// Seeds everything.
    pub seed: u64,
}

/// A device that makes frames on their way to the server poison.
struct Poisoner<'a> {
    device: &'a mut LinkEnd,
    load: &'a Load,
    seen: &'a mut u64,
    injected: &'a mut u64,
    /// Of each connection, by its port: the highest sequence number, and when its last poison left.
    marks: &'a mut HashMap<u16, (u32, Option<Time>)>,
    now: Time,
}

impl Poisoner<'_> {
    /// Whether this may become poison: not a segment that is sent again, since that would be the same one killing twice, and none
    /// soon after another of its connection.
    fn may_kill(&mut self, parts: &[IoSlice<'_>], is_due: bool) -> bool {
        let Some(header) = parts.first().filter(|header| header.len() >= 28) else { return false };
        let port = u16::from_be_bytes([header[20], header[21]]);
        let seq = u32::from_be_bytes([header[24], header[25], header[26], header[27]]);
        let (highest, last) = self.marks.entry(port).or_insert((seq.wrapping_sub(1), None));
        let is_new = seq.wrapping_sub(*highest).cast_signed() > 0;
        *highest = if is_new { seq } else { *highest };
        let may = is_new && is_due && last.is_none_or(|last| self.now - last >= self.load.apart);
        *last = if may { Some(self.now) } else { *last };
        may
    }
}

impl Device for Poisoner<'_> {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        self.device.receive(pool)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // Headers with options and some text.
        let has_text = length > 80;
        *self.seen += u64::from(has_text);
        let is_due = self.load.every > 0
            && self.seen.is_multiple_of(self.load.every)
            && has_text
            && *self.injected < self.load.most;
        if !self.may_kill(parts, is_due) {
            return self.device.transmit(parts, offload);
        }
        let mut frame: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let defect = self.load.defects[*self.injected as usize % self.load.defects.len()];
        *self.injected += 1;
        frame[8] = POISON + defect;
        frame[10..12].fill(0);
        let sum = checksum(&frame[..20]);
        frame[10..12].copy_from_slice(&sum.to_be_bytes());
        self.device.transmit(&[IoSlice::new(&frame)], offload)
    }
}

/// Both hosts under load.
pub struct Arena {
    /// The server, whose module fails.
    pub server: Stack,
    client: Stack,
    ends: (LinkEnd, LinkEnd),
    link: Link,
    load: Load,
    listener: ListenerId,
    clients: Vec<(Transfer, bool)>,
    servers: Vec<(Transfer, bool)>,
    /// Where a stream stands in these lists.
    of_client: HashMap<StreamId, usize>,
    of_server: HashMap<StreamId, usize>,
    turns: u64,
    now: Time,
    seen: u64,
    marks: HashMap<u16, (u32, Option<Time>)>,
    incidents: u64,
    tally: Tally,
}

impl Arena {
    /// Two hosts with a link of a millisecond between them.
    ///
    /// # Panics
    /// If a module does not start.
    #[must_use]
    pub fn new(instance: Box<dyn Instance>, factory: Factory, load: Load) -> Self {
        let mut options = Options::new(V4[0], 24, 1500, [load.seed, 1, 2, 3]);
        options.config.settings.push(Setting { key: POISONABLE, value: 1 });
        let mut server = Stack::new(instance, options).expect("the server starts");
        server.supervise(factory);
        let client = Stack::new(crate::world::native(), Options::new(V4[1], 24, 1500, [load.seed, 5, 6, 7]))
            .expect("the client starts");
        let delay = Impairments { delay: limits::MILLISECOND, rate: load.rate, ..Impairments::default() };
        let config = LinkConfig { there: delay, back: delay, ..LinkConfig::default() };
        let (link, one, other) = Link::new(config, load.seed);
        let at: Endpoint = SocketAddr::new(V4[0], 80).into();
        let options = ListenOptions { backlog: 4096, ..ListenOptions::default() };
        let listener = server.listen(at, options).expect("it listens");
        let mut arena = Self {
            server,
            client,
            ends: (one, other),
            link,
            load,
            listener,
            clients: Vec::new(),
            servers: Vec::new(),
            of_client: HashMap::new(),
            of_server: HashMap::new(),
            turns: 0,
            now: 0,
            seen: 0,
            marks: HashMap::new(),
            incidents: 0,
            tally: Tally { connections: load.connections, ..Tally::default() },
        };
        arena.turn();
        for number in 0..load.connections as u64 {
            let stream = arena.client.connect(at, ConnectOptions::default()).expect("a place");
            arena.of_client.insert(stream, arena.clients.len());
            arena.clients.push((Transfer::new(stream, (number, load.bytes), (!number, load.bytes)), false));
        }
        arena
    }

    fn turn(&mut self) {
        self.now += limits::MILLISECOND / 4;
        self.link.advance(self.now);
        let mut poisoner = Poisoner {
            device: &mut self.ends.1,
            load: &self.load,
            seen: &mut self.seen,
            injected: &mut self.tally.injected,
            marks: &mut self.marks,
            now: self.now,
        };
        self.client.turn(self.now, &mut poisoner).expect("the client is honest");
        self.link.advance(self.now);
        // A module that is given up is told to everybody by its streams.
        let _ = self.server.turn(self.now, &mut self.ends.0);
        self.note_incidents();
    }

    fn note_incidents(&mut self) {
        let figures = self.server.fault_figures();
        let new = figures.faults - std::mem::replace(&mut self.incidents, figures.faults);
        let all: Vec<_> = self.server.incidents().collect();
        for incident in all.iter().rev().take(new as usize) {
            if incident.recovered {
                self.tally.took.push(incident.took);
            }
            self.tally.found_after.push(incident.found_after);
            if let Fault::Budget(overrun) = &*incident.fault
                && let Budget::Cpu { used, .. } = overrun.budget
            {
                self.tally.used.push(used);
            }
        }
        (self.tally.faults, self.tally.recovered) = (figures.faults, figures.recovered);
    }

    /// Carries everything, at most until `limit`; says what was injected and what came of it.
    #[must_use]
    pub fn run(self, limit: Time) -> Tally {
        self.run_and_tell(limit, &mut |_| {})
    }

    /// The same, and tells now and then how far it is.
    #[must_use]
    pub fn run_and_tell(mut self, limit: Time, tell: &mut dyn FnMut(&Tally)) -> Tally {
        while self.now < limit && !self.tally.is_done {
            self.turn();
            self.accept();
            self.turns += 1;
            if self.turns.is_multiple_of(SWEEP) {
                (0..self.clients.len()).for_each(|number| self.serve_client(number));
                (0..self.servers.len()).for_each(|number| self.serve_server(number));
                let is_over = |(transfer, is_lost): &(Transfer, bool)| *is_lost || transfer.is_done();
                self.tally.is_done = self.clients.iter().all(is_over) && self.servers.iter().all(is_over);
                tell(&self.tally);
            }
            while let Some((stream, _)) = self.client.next_ready() {
                if let Some(number) = self.of_client.get(&stream) {
                    self.serve_client(*number);
                }
            }
            while let Some((stream, _)) = self.server.next_ready() {
                if let Some(number) = self.of_server.get(&stream) {
                    self.serve_server(*number);
                }
            }
        }
        let ends = || self.clients.iter().chain(&self.servers);
        let sum = |of: fn(&Transfer) -> u64| ends().map(|(transfer, _)| of(transfer)).sum();
        let tally = &mut self.tally;
        (tally.bytes, tally.altered) = (sum(|end| end.read), sum(|end| end.altered));
        tally.missing = sum(|end| end.missing);
        let lost_at_servers = self.servers.iter().filter(|(_, is_lost)| *is_lost).count();
        let unfinished = self.clients.iter().filter(|(transfer, lost)| *lost || !transfer.is_done()).count();
        tally.lost = unfinished.max(lost_at_servers);
        self.tally
    }

    fn accept(&mut self) {
        while let Ok(accepted) = self.server.accept(self.listener) {
            let number = self.clients.iter().position(|(client, _)| {
                self.client.ends(client.stream).is_some_and(|(local, _)| local.port == accepted.remote.port)
            });
            let Some(number) = number.map(|number| number as u64) else { continue };
            let bytes = self.load.bytes;
            let transfer = Transfer::new(accepted.stream, (!number, bytes), (number, bytes));
            self.of_server.insert(accepted.stream, self.servers.len());
            self.servers.push((transfer, false));
        }
    }

    fn serve_client(&mut self, number: usize) {
        let (transfer, is_lost) = &mut self.clients[number];
        let is_open = self.client.is_open(transfer.stream);
        *is_lost |= is_open.is_err() && !transfer.is_done();
        if !*is_lost && is_open.is_ok_and(|open| open) {
            *is_lost = transfer.pump(&mut self.client).is_err();
        }
    }

    fn serve_server(&mut self, number: usize) {
        let (transfer, is_lost) = &mut self.servers[number];
        *is_lost = *is_lost || transfer.pump(&mut self.server).is_err();
    }
}
