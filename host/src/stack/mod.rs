//! A host with one instance, without a clock and without I/O of its own.
//!
//! Whoever drives it hands in the time and a device with each [turn](Stack::turn), on any one thread: an async
//! runtime, a blocking thread, a simulator in virtual time, a replay. Between turns, applications use the streams: their
//! calls only move bytes and numbers, and the next turn tells the module.

mod answers;
mod datagrams;
pub mod door;
#[cfg(feature = "net")]
mod hand_over;
mod news;
mod offers;
mod readiness;
mod sizes;
mod sockets;
#[cfg(feature = "fuzz-cases")]
mod spare;
mod table;

pub use datagrams::{BindOptions, DATAGRAM_COST, SOCKETS, SocketId};
pub use door::{DoorCounters, Level};
pub use readiness::Readiness;
pub use sizes::Sizes;
pub use sockets::{Accepted, ConnectOptions, ListenOptions, ListenerId, StreamId};
#[cfg(feature = "fuzz-cases")]
pub(crate) use spare::Spare;

use crate::error::StreamError;
use crate::fault::Fault;
use crate::frame::{Frame, FramePool, FrameSlice};
use crate::inspect::{Grants, Holds, Ledgers};
use crate::join::{Join, JoinCounters};
use crate::placement::{Instance, StepCost};
use crate::record::{Base, Recorder};
use crate::split::{Arrived, Split, SplitCounters};
use crate::streams::{Blocks, HoldBytes};
use crate::supervise::Supervisor;
use crate::swap::Companion;
use bulkhead_wit::{
    Address, Batch, Call, Config, Description, Endpoint, Handle, Outputs, Prefix, Setting, Time, limits,
};
pub(crate) use datagrams::Datagrams;
use sockets::Listening;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
pub(crate) use table::Table;

/// How a stack is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the module is started with. [`Options::new`] fills it for one address.
    pub config: Config,
    /// Sizes of new connections' buffers.
    pub sizes: Sizes,
    /// Bytes of stream memory of all connections together: see [`door`] for what follows as it is used up.
    pub memory: usize,
    /// Connections that one source may have open to our listeners, at most; 0 is no bound.
    pub per_source: u32,
    /// Keep the module's inputs since its last checkpoint in memory: for recovery, reports and replay.
    pub recording: bool,
}

impl Options {
    /// One address with its network, MTU and seed of all randomness; Linux's ephemeral ports; everything else by
    /// default.
    #[must_use]
    pub fn new(address: std::net::IpAddr, prefix: u8, mtu: u32, seed: [u64; 4]) -> Self {
        let mapped = if address.is_ipv4() { prefix.min(32) + 96 } else { prefix.min(128) };
        let config = Config {
            addresses: vec![Prefix { address: Address::from(address), length: mapped }],
            any_address: false,
            mtu,
            seed: (seed[0], seed[1], seed[2], seed[3]),
            shard: 0,
            shards: 1,
            ports_first: 32_768,
            ports_last: 60_999,
            connections: limits::CONNECTIONS,
            embryos: limits::EMBRYOS,
            offers: limits::OFFERS,
            islands: limits::ISLANDS as u16,
            holds: limits::HOLDS as u16,
            settings: Vec::<Setting>::new(),
        };
        Self { config, sizes: Sizes::default(), memory: 1 << 30, per_source: 0, recording: true }
    }

    /// The same, with no more connections than this instance has memory for.
    fn within(mut self, instance: &dyn Instance) -> Self {
        self.config.connections = self.config.connections.min(instance.capacity());
        self
    }
}

/// What a stack has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Connections that were opened, by either side.
    pub connections: u64,
    /// Connections that ended, for whatever reason.
    pub ended: u64,
    /// Bytes that applications were given to read.
    pub bytes_in: u64,
    /// Bytes that applications have written.
    pub bytes_written: u64,
    /// Bytes that peers have acknowledged.
    pub bytes_out: u64,
    /// Errors of the device.
    pub device_errors: u64,
}

/// The host's core: one instance, its ledgers and its streams.
pub struct Stack {
    pub(crate) instance: Box<dyn Instance>,
    pub(crate) fault: Option<Arc<Fault>>,
    pub(crate) now: Time,
    pub(crate) deadline: Time,
    pub(crate) unfinished: bool,
    // The rooms, in packet order.
    pub(crate) pool: FramePool,
    pub(crate) split: Split,
    pub(crate) batch: Batch,
    pub(crate) arrived: Vec<Arrived>,
    pub(crate) outputs: Outputs,
    /// What a module with payload access has staged in this step.
    pub(crate) staged: Vec<FrameSlice>,
    pub(crate) grants: Grants,
    pub(crate) ledgers: Ledgers,
    pub(crate) holds: Holds,
    pub(crate) streams: Table,
    pub(crate) hold_bytes: HoldBytes,
    pub(crate) datagrams: Datagrams,
    pub(crate) blocks: Blocks,
    pub(crate) join: Join,
    /// Datagrams put together from fragments, for the next step.
    pub(crate) resubmitted: VecDeque<Frame>,
    pub(crate) drops: u64,
    // News for the module.
    calls: VecDeque<Call>,
    dirty: VecDeque<u32>,
    // News for applications.
    ready: VecDeque<u32>,
    listeners: HashMap<u32, Listening>,
    next_listener: u32,
    ready_listeners: VecDeque<u32>,
    answers: HashMap<Handle, Vec<u64>>,
    offers: VecDeque<StreamId>,
    door: door::Door,
    options: Options,
    totals: Totals,
    pub(crate) recorder: Recorder,
    /// What the steps of instances that are gone have cost.
    pub(crate) former_cost: StepCost,
    /// Module time before the step that was begun last.
    pub(crate) step_from: Time,
    pub(crate) companion: Option<Companion>,
    pub(crate) supervisor: Supervisor,
}

impl Stack {
    /// Starts the instance with this configuration.
    ///
    /// # Errors
    /// [`Fault::Refused`] if the module does not serve the configuration, or how it failed.
    pub fn new(mut instance: Box<dyn Instance>, options: Options) -> Result<Self, Fault> {
        let options = options.within(&*instance);
        instance.start(&options.config)?;
        Ok(Self::around(instance, options))
    }

    /// Another instance stands here now, which may have memory for fewer connections.
    pub(crate) fn fit_into_instance(&mut self) {
        let connections = &mut self.options.config.connections;
        *connections = (*connections).min(self.instance.capacity());
    }

    /// A stack around an instance that knows of nothing yet, or is to load a state.
    fn around(instance: Box<dyn Instance>, options: Options) -> Self {
        let options = options.within(&*instance);
        let grants = Grants::new(&options.config, instance.description());
        let header = Self::recording_header(&*instance);
        let recorder = Recorder::new(header, &options.config, options.recording);
        Self {
            instance,
            fault: None,
            now: 0,
            deadline: bulkhead_wit::NEVER,
            unfinished: false,
            pool: FramePool::default(),
            split: Split::new(0),
            batch: Batch::default(),
            arrived: Vec::with_capacity(limits::SEGMENTS),
            outputs: Outputs::default(),
            staged: Vec::new(),
            grants,
            ledgers: Ledgers::default(),
            holds: Holds::default(),
            streams: Table::default(),
            hold_bytes: HoldBytes::default(),
            datagrams: Datagrams::default(),
            blocks: Blocks::default(),
            join: Join::new(options.config.seed.0 ^ options.config.seed.3),
            resubmitted: VecDeque::new(),
            drops: 0,
            calls: VecDeque::new(),
            dirty: VecDeque::new(),
            ready: VecDeque::new(),
            listeners: HashMap::new(),
            next_listener: 1,
            ready_listeners: VecDeque::new(),
            answers: HashMap::new(),
            offers: VecDeque::new(),
            door: door::Door::default(),
            options,
            totals: Totals::default(),
            former_cost: StepCost::default(),
            recorder,
            step_from: 0,
            companion: None,
            supervisor: Supervisor::default(),
        }
    }

    /// The time of the last turn.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// The fault that ended the instance, if one did.
    #[must_use]
    pub fn fault(&self) -> Option<&Arc<Fault>> {
        self.fault.as_ref()
    }

    /// What was done so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What the module's steps have cost.
    #[must_use]
    pub fn cost(&self) -> StepCost {
        let (former, cost) = (self.former_cost, self.instance.cost());
        StepCost { steps: former.steps + cost.steps, wall_ns: former.wall_ns + cost.wall_ns }
    }

    /// What split passed and dropped.
    #[must_use]
    pub fn split_counters(&self) -> &SplitCounters {
        self.split.counters()
    }

    /// What join sent.
    #[must_use]
    pub fn join_counters(&self) -> &JoinCounters {
        self.join.counters()
    }

    /// How the stack was set up.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether the module says that it serves an IP protocol.
    #[must_use]
    pub fn serves(&self, protocol: u8) -> bool {
        self.instance.description().serves_protocol(protocol)
    }

    /// What the module says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.instance.description()
    }

    /// Connections that are alive, as the host knows them: handle, our end, the peer's.
    pub fn connections(&self) -> impl Iterator<Item = (Handle, Endpoint, Endpoint)> {
        self.ledgers.living().map(|(_, ledger)| (ledger.handle, ledger.local, ledger.remote))
    }

    /// The sequence number of the first byte that goes out between these ends.
    #[cfg(feature = "fuzz-cases")]
    pub(crate) fn send_base(&self, local: Endpoint, remote: Endpoint) -> Option<u32> {
        let mut living = self.ledgers.living();
        living
            .find(|(_, ledger)| (ledger.local, ledger.remote) == (local, remote))
            .map(|(_, ledger)| ledger.send_base)
    }

    /// Bytes of memory that streams hold: blocks of send queues and small payloads, and arrived frames.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.blocks.held() + self.pool.memory()
    }

    /// The instance is gone: every stream is told why. Returns how many.
    pub(crate) fn end_instance(&mut self, end: &StreamError) -> usize {
        let living: Vec<u32> = self.ledgers.living().map(|(index, _)| index).collect();
        for index in &living {
            self.ledgers.forget(*index);
            self.end_stream(*index, end.clone());
        }
        self.ledgers.forget_instance();
        self.forget_sources();
        self.companion = None;
        self.holds = Holds::default();
        self.hold_bytes = HoldBytes::default();
        self.deadline = bulkhead_wit::NEVER;
        self.unfinished = false;
        self.arrived.clear();
        self.resubmitted.clear();
        self.answers.clear();
        // What no application has taken, none will close.
        let untaken =
            self.listeners.values_mut().flat_map(|l| l.backlog.drain(..)).map(|accepted| accepted.stream);
        let untaken: Vec<StreamId> = untaken.chain(self.offers.drain(..)).collect();
        untaken.into_iter().for_each(|id| self.close(id, 0));
        self.calls.clear();
        living.len()
    }

    /// Goes on with a fresh instance and the same listeners. Its randomness is another.
    pub(crate) fn restart(&mut self, mut instance: Box<dyn Instance>) -> bool {
        let seed = &mut self.options.config.seed;
        *seed = (seed.1, seed.2, seed.3, seed.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.now);
        if let Err(fault) = instance.start(&self.options.config) {
            tracing::error!(%fault, "the fresh instance does not start");
            return false;
        }
        self.former_cost = self.cost();
        let base = Base::Start(self.options.config.clone());
        self.recorder.begin(Self::recording_header(&*instance), base, 0);
        self.instance = instance;
        self.begin_again();
        true
    }

    /// A started instance is told of listeners and datagram sockets.
    pub(crate) fn begin_again(&mut self) {
        self.grants = Grants::new(&self.options.config, self.instance.description());
        self.calls.extend(self.listeners.values_mut().filter_map(Listening::again));
        self.calls.extend(self.datagrams.again());
    }

    /// Nothing follows any more: listeners are told too.
    pub(crate) fn give_up(&mut self, fault: Arc<Fault>) {
        self.datagrams.end_all(&StreamError::Fault(Arc::clone(&fault)));
        self.fault = Some(fault);
        self.ready_listeners.extend(self.listeners.keys());
    }

    /// Sets the end of a stream and frees it if nobody is left to be told.
    fn end_stream(&mut self, index: u32, end: StreamError) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.end.is_none() {
            stream.end = Some(end);
            self.totals.ended += 1;
        }
        stream.send.clear(&mut self.blocks);
        if stream.is_detached {
            self.free(index);
        } else {
            self.announce(index, Readiness::ENDED.with(Readiness::READABLE).with(Readiness::WRITABLE));
        }
    }

    /// The connection is to be ended by the module; this is what its application is told then.
    pub(crate) fn sentence(&mut self, index: u32, end: StreamError) {
        if let Some(stream) = self.streams.get_mut(index)
            && stream.end.is_none()
        {
            stream.end = Some(end);
            self.totals.ended += 1;
        }
    }

    /// The application and the module are both done with a connection.
    fn free(&mut self, index: u32) {
        if let Some(mut stream) = self.streams.remove(index) {
            stream.send.clear(&mut self.blocks);
            stream.receive.clear(&mut self.blocks);
        }
        self.ledgers.release(index);
    }

    pub(crate) fn note_device_error(&mut self, error: &std::io::Error) {
        self.totals.device_errors += 1;
        if self.totals.device_errors.is_power_of_two() {
            tracing::warn!(%error, errors = self.totals.device_errors, "the device failed to receive");
        }
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("module", &self.instance.description().name)
            .field("now", &self.now)
            .field("fault", &self.fault)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}
