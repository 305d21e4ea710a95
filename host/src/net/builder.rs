//! How a stack is put together.

mod take_over;

use super::driver::Driver;
use super::handle::Net;
use super::limits::BESIDE;
use super::router::Router;
use super::shared::Shared;
use super::state::State;
#[cfg(feature = "wasm")]
use crate::artifact::Artifact;
use crate::device::Device;
use crate::placement::Instance;
#[cfg(feature = "process")]
use crate::placement::process::{Launch, Process};
use crate::stack::{Options, Stack};
use crate::streams::Sizes;
use crate::supervise::{Factory, Reporter};
use bulkhead_wit::{Address, Prefix, Setting};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// One more module, and what follows a fault of it.
type Beside = (io::Result<Box<dyn Instance>>, Option<Factory>);

/// Puts device, module and addresses together.
pub struct Builder {
    device: Box<dyn Device>,
    instance: Option<io::Result<Box<dyn Instance>>>,
    factory: Option<Factory>,
    beside: Vec<Beside>,
    embryos: Option<u32>,
    offers: Option<u32>,
    addresses: Vec<Prefix>,
    mtu: Option<u32>,
    seed: Option<[u64; 4]>,
    settings: Vec<Setting>,
    sizes: Sizes,
    memory: Option<usize>,
    connections: Option<u32>,
    any_address: bool,
    shard: (u16, u16),
    turns_in_calls: Option<bool>,
    busy_poll: Duration,
    recording: bool,
    record_to: Option<Box<dyn Write + Send>>,
    record_goes_on: bool,
    reporter: Option<Reporter>,
}

impl Builder {
    /// A stack over this device. Without a word about the module, the bundled one runs in the sandbox (feature `wasm`).
    #[must_use]
    pub fn new(device: impl Device + 'static) -> Self {
        Self {
            device: Box::new(device),
            instance: None,
            factory: None,
            beside: Vec::new(),
            embryos: None,
            offers: None,
            addresses: Vec::new(),
            mtu: None,
            seed: None,
            settings: Vec::new(),
            sizes: Sizes::default(),
            memory: None,
            connections: None,
            any_address: false,
            shard: (0, 1),
            turns_in_calls: None,
            busy_poll: Duration::ZERO,
            recording: true,
            record_to: None,
            record_goes_on: false,
            reporter: None,
        }
    }

    /// The module as an instance of any placement, not started yet. When it fails, the stack has ended, unless
    /// [`restarted_by`](Self::restarted_by) says what follows.
    #[must_use]
    pub fn instance(mut self, instance: Box<dyn Instance>) -> Self {
        self.instance = Some(Ok(instance));
        self
    }

    /// The module as a component, to run in the sandbox. When it fails, a fresh instance goes on where it was, without the input
    /// that has killed it; where that cannot be, open streams are told so, and the fresh instance serves on with the same
    /// listeners. See [`supervise`](crate::supervise).
    #[cfg(feature = "wasm")]
    #[must_use]
    pub fn artifact(mut self, artifact: Artifact) -> Self {
        self.instance = Some(boxed(artifact.instance().map_err(io::Error::other)));
        self.restarted_by(Box::new(move || boxed(artifact.fresh())))
    }

    /// The module in a process of its own, which is started here. When it fails, open streams are told so, and a fresh
    /// process serves on with the same listeners, as long as [`supervise`](crate::supervise) allows.
    #[cfg(feature = "process")]
    #[must_use]
    pub fn process(mut self, launch: Launch) -> Self {
        let start = move || Process::new(&launch).map(|process| Box::new(process) as Box<dyn Instance>);
        self.instance = Some(start().map_err(io::Error::other));
        self.restarted_by(Box::new(start))
    }

    /// One more module, for the protocols that it says it serves, with a wall of its own: whichever fails, the others go
    /// on. A protocol is served by one module. Up to eight.
    #[must_use]
    pub fn beside(mut self, instance: Box<dyn Instance>) -> Self {
        self.beside.push((Ok(instance), None));
        self
    }

    /// As [`beside`](Self::beside), with a component that is started afresh after a fault, as [`artifact`](Self::artifact)
    /// is.
    #[cfg(feature = "wasm")]
    #[must_use]
    pub fn artifact_beside(mut self, artifact: Artifact) -> Self {
        let instance = boxed(artifact.instance().map_err(io::Error::other));
        self.beside.push((instance, Some(Box::new(move || boxed(artifact.fresh())))));
        self
    }

    /// Datagram sockets: the bundled UDP module beside the first one, in a sandbox of its own.
    #[cfg(feature = "wasm")]
    #[must_use]
    pub fn udp(mut self) -> Self {
        match Artifact::bundled_udp() {
            Ok(artifact) => self.artifact_beside(artifact),
            Err(error) => {
                self.beside.push((Err(io::Error::other(error)), None));
                self
            }
        }
    }

    /// What makes a fresh instance after one has failed.
    #[must_use]
    pub fn restarted_by(mut self, factory: Factory) -> Self {
        self.factory = Some(factory);
        self
    }

    /// One of our addresses with the length of its network in bits (24 for a usual IPv4 one). At least one is needed.
    #[must_use]
    pub fn address(mut self, address: IpAddr, prefix: u8) -> Self {
        let length = if address.is_ipv4() { prefix.min(32) + 96 } else { prefix.min(128) };
        self.addresses.push(Prefix { address: Address::from(address), length });
        self
    }

    /// Every address that frames come for is ours, and may be sent from (a gateway).
    #[must_use]
    pub fn any_address(mut self) -> Self {
        self.any_address = true;
        self
    }

    /// This stack is one of several on the same interface: number `index` of `count`. Its device is one of those that
    /// [`shards`](crate::device::shard::shards) makes, and each of its listeners has a twin in every other shard.
    #[must_use]
    pub fn shard(mut self, index: u16, count: u16) -> Self {
        self.shard = (index, count.max(1));
        self
    }

    /// Whether socket calls that have news for the module take the turn themselves, on the caller's thread, while the
    /// driver waits: what is written leaves before `write` returns, and nobody is woken for it. Without it every turn is
    /// the driver's, which shares a step among the tasks that wrote meanwhile. If it is not said, calls take turns where
    /// the driver has a thread of its own ([`spawn`](Self::spawn)): see `benches/sockets.rs`.
    #[must_use]
    pub fn turns_in_calls(mut self, in_calls: bool) -> Self {
        self.turns_in_calls = Some(in_calls);
        self
    }

    /// For how long after the last step the driver looks at its device again and again rather than sleep: it saves the
    /// wake-up, and costs the core. Zero, the default, is never.
    #[must_use]
    pub fn busy_poll(mut self, time: Duration) -> Self {
        self.busy_poll = time;
        self
    }

    /// Whether the inputs of each module since its last checkpoint are kept in memory, some megabytes at most: without
    /// them a fault ends every connection, and its report has nothing to replay. Kept if it is not said.
    #[must_use]
    pub fn recording(mut self, is_kept: bool) -> Self {
        self.recording = is_kept;
        self
    }

    /// Where everything that the first module is given is written to, from the start on: see
    /// [`record`](crate::record). It holds the seed, addresses and ports, and no application's bytes.
    #[must_use]
    pub fn record_to(mut self, to: impl Write + Send + 'static) -> Self {
        self.record_to = Some(Box::new(to));
        self
    }

    /// Where the recording of a predecessor goes on, once this has [taken over](Self::take_over) from it: the same as
    /// [`record_to`](Self::record_to), but for what stands at a recording's beginning. The predecessor's own must have written out
    /// everything, and never writes its end.
    #[must_use]
    pub fn record_after(mut self, to: impl Write + Send + 'static) -> Self {
        self.record_goes_on = true;
        self.record_to(to)
    }

    /// Who writes a report of each fault of the first module.
    #[must_use]
    pub fn report_to(mut self, reporter: Reporter) -> Self {
        self.reporter = Some(reporter);
        self
    }

    /// The longest datagram in bytes; the device's own if it is not said.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// All randomness of the stack. Drawn from the system if it is not said; a seed of one's own makes initial sequence
    /// numbers and ports foreseeable, so it is for tests.
    #[must_use]
    pub fn seed(mut self, seed: [u64; 4]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A setting of the instance, the default of its connections: numbers from
    /// [`registry::setting`](bulkhead_wit::registry::setting).
    #[must_use]
    pub fn setting(mut self, key: u16, value: u64) -> Self {
        self.settings.push(Setting { key, value });
        self
    }

    /// Sizes of connections' buffers, in bytes.
    #[must_use]
    pub fn sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// Bytes of stream memory, of all connections together, from which on nothing more is granted.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Connections at most.
    #[must_use]
    pub fn connections(mut self, count: u32) -> Self {
        self.connections = Some(count);
        self
    }

    /// Half-open connections at most; beyond them listeners answer with cookies.
    #[must_use]
    pub fn embryos(mut self, count: u32) -> Self {
        self.embryos = Some(count);
        self
    }

    /// [Offers](super::Offers) that wait for a decision at most: up to 4,096, 256 if it is not said. It is the one thing
    /// that a stranger gets before a handshake.
    #[must_use]
    pub fn offers(mut self, count: u32) -> Self {
        self.offers = Some(count);
        self
    }

    /// Starts the module.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] without an address; the module's fault or what is wrong with its artifact as the
    /// source; what the system says to a timer or to random bytes.
    pub fn build(mut self) -> io::Result<(Net, Driver)> {
        if self.instance.is_none() {
            self = self.bundled()?;
        }
        let options = self.options()?;
        let instance = self.instance.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
        let mut router = Router::new(self.device, &options.config.addresses);
        let mut stack = started(instance, self.factory, options.clone(), &mut router)?;
        if let Some(to) = self.record_to {
            stack.record_to(to)?;
        }
        if let Some(reporter) = self.reporter {
            stack.report_to(reporter);
        }
        let mut beside = Vec::new();
        for (number, (instance, factory)) in self.beside.into_iter().enumerate() {
            if number == BESIDE {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many modules"));
            }
            let mut options = options.clone();
            // Its settings are those of the first module.
            options.config.settings.clear();
            let seed = &mut options.config.seed;
            *seed = (seed.1, seed.2 ^ number as u64, seed.3, seed.0.rotate_left(17));
            beside.push(started(instance?, factory, options, &mut router)?);
        }
        let mut state = State::new(stack, beside, router, self.turns_in_calls.unwrap_or(false))?;
        state.busy_poll(self.busy_poll);
        let shared = Arc::new(Shared::new(state));
        Ok((Net::new(Arc::clone(&shared)), Driver::new(shared)))
    }

    fn options(&mut self) -> io::Result<Options> {
        let first = *self.addresses.first().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a stack needs an address of its own")
        })?;
        let seed = self.seed.map_or_else(random_seed, Ok)?;
        let mtu = self.mtu.unwrap_or_else(|| self.device.capabilities().mtu);
        let mut options = Options::new(first.address.into(), 0, mtu, seed);
        options.config.addresses = std::mem::take(&mut self.addresses);
        options.config.any_address = self.any_address;
        (options.config.shard, options.config.shards) = self.shard;
        options.config.settings = std::mem::take(&mut self.settings);
        options.config.connections = self.connections.unwrap_or(options.config.connections);
        options.config.embryos = self.embryos.unwrap_or(options.config.embryos);
        options.config.offers = self.offers.unwrap_or(options.config.offers);
        options.sizes = self.sizes;
        options.recording = self.recording;
        options.memory = self.memory.unwrap_or(options.memory);
        Ok(options)
    }

    #[cfg(feature = "wasm")]
    fn bundled(self) -> io::Result<Self> {
        Ok(self.artifact(Artifact::bundled().map_err(io::Error::other)?))
    }

    #[cfg(not(feature = "wasm"))]
    fn bundled(self) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "no module is bundled without the feature `wasm`"))
    }

    /// Starts the module and drives it on a thread of its own, which ends when the stack is shut down or fails, or all
    /// its handles and sockets are gone and the last connections closed.
    ///
    /// # Errors
    /// As [`build`](Self::build), and what the system says to a new thread.
    pub fn spawn(mut self) -> io::Result<Net> {
        self.turns_in_calls.get_or_insert(true);
        let (net, driver) = self.build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new().name("bulkhead".into()).spawn(move || {
            if let Err(error) = runtime.block_on(driver.run()) {
                tracing::error!(%error, "the driver cannot wait on its device");
            }
        })?;
        Ok(net)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// A stack for one module, and its place at the router.
fn started(
    instance: Box<dyn Instance>,
    factory: Option<Factory>,
    options: Options,
    router: &mut Router,
) -> io::Result<Stack> {
    let mut stack = Stack::new(instance, options).map_err(io::Error::other)?;
    if let Some(factory) = factory {
        stack.supervise(factory);
    }
    if router.add((0..=u8::MAX).filter(|protocol| stack.serves(*protocol))) {
        let text = format!("{} serves a protocol that another module serves", stack.description().name);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(stack)
}

#[cfg(feature = "wasm")]
fn boxed<E>(instance: Result<crate::placement::wasm::Wasm, E>) -> Result<Box<dyn Instance>, E> {
    instance.map(|instance| Box::new(instance) as Box<dyn Instance>)
}

pub(crate) fn random_seed() -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    let mut seed = [0; 4];
    for (word, bytes) in seed.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(seed)
}
