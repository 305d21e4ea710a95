//! Another module takes over from the one that runs, between two steps.
//!
//! The state goes from the old one's `save` to the newcomer's `load`; what that accounts for is held against the host's
//! own ledgers, number by number; then the newcomer takes its first step, with nothing in it but the time. If anything
//! of this fails, nothing has changed and the old one goes on. For [`PROBATION`] steps more the old one is given the
//! same inputs and is not listened to: as long as both say the same, it can take over again should the newcomer fail.
//!
//! Streams, ledgers and frames are the host's, and are not touched: no connection notices.

mod account;
mod shadow;

pub(crate) use shadow::Companion;
pub use shadow::{PROBATION, ShadowReport};

use crate::device::Device;
use crate::error::StreamError;
use crate::fault::Fault;
use crate::inspect::Grants;
use crate::placement::Instance;
use crate::record::Base;
use crate::stack::Stack;
use crate::supervise::Factory;
use bulkhead_wit::registry::{protocol, reason};
use bulkhead_wit::{Config, Description, STATELESS, Time, limits};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Turns in which the resets of a [cold](Stack::swap_cold) swap leave: 8 steps each, 256 calls a step.
const LAST_TURNS: usize = 1 + limits::CONNECTIONS as usize / (8 * limits::CALLS);

/// A module that is to take over.
pub struct Newcomer {
    instance: Box<dyn Instance>,
    factory: Option<Factory>,
}

impl Newcomer {
    /// An instance that has not been started. When it fails later, the stack has ended, unless
    /// [`restarted_by`](Self::restarted_by) says what follows.
    #[must_use]
    pub fn new(instance: Box<dyn Instance>) -> Self {
        Self { instance, factory: None }
    }

    /// What makes a fresh instance after this one has failed.
    #[must_use]
    pub fn restarted_by(mut self, factory: Factory) -> Self {
        self.factory = Some(factory);
        self
    }

    /// A component in the sandbox, made and linked here and now so that the swap itself need not wait for it.
    ///
    /// # Errors
    /// How making the instance failed.
    #[cfg(feature = "wasm")]
    pub fn artifact(artifact: &crate::artifact::Artifact) -> Result<Self, crate::artifact::ArtifactError> {
        let instance = Box::new(artifact.instance()?);
        let artifact = artifact.clone();
        let factory: Factory =
            Box::new(move || artifact.fresh().map(|fresh| Box::new(fresh) as Box<dyn Instance>));
        Ok(Self::new(instance).restarted_by(factory))
    }

    /// What the module says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.instance.description()
    }

    /// Whether it says that it serves an IP protocol.
    #[must_use]
    pub fn serves(&self, protocol: u8) -> bool {
        self.description().serves_protocol(protocol)
    }

    /// Loads a state to no other end than that memory is touched and a refusal is known before anybody waits.
    ///
    /// # Errors
    /// [`SwapError::Refused`].
    pub fn rehearse(&mut self, rehearsal: &Rehearsal) -> Result<(), SwapError> {
        let Rehearsal { config, now, state } = rehearsal;
        // The second time it has a state to let go of, as it will have when it counts.
        for _ in 0..2 {
            self.instance.load(config, *now, state).map_err(SwapError::Refused)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newcomer").field("module", &self.description().name).finish_non_exhaustive()
    }
}

/// A state to rehearse with: [`Stack::rehearsal`].
#[derive(Clone, Debug)]
pub struct Rehearsal {
    config: Config,
    now: Time,
    state: Vec<u8>,
}

/// A swap that was made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Swapped {
    /// Name and version of the module that has gone, as it gives them.
    pub from: String,
    /// Name and version of the newcomer.
    pub to: String,
    /// Connections that went over; after a cold swap those that were reset.
    pub connections: usize,
    /// Bytes of the saved state; none after a cold swap.
    pub state: Option<usize>,
    /// For how long no step could be taken.
    pub pause: Duration,
    /// The thread's CPU time in it.
    pub cpu: Duration,
}

/// Why a swap was not made. Nothing has changed, but by [`Failed`](Self::Failed).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SwapError {
    /// The stack has ended.
    Ended,
    /// The newcomer does not serve the protocols that applications here use.
    Serves(String),
    /// The running module cannot save its state.
    Stateless(String),
    /// The state is too large to be saved: bytes about.
    TooLarge(u64),
    /// The newcomer refuses the state, or failed over it.
    Refused(Fault),
    /// What the newcomer accounts for is not what the host knows: the first difference.
    Accounts(String),
    /// The newcomer's first step failed; the former goes on.
    FirstStep(Fault),
    /// The former module failed in `save`. What follows is what follows any fault.
    Failed(Arc<Fault>),
}

impl fmt::Display for SwapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the stack has ended"),
            Self::Serves(what) => f.write_str(what),
            Self::Stateless(name) => write!(f, "{name} cannot save its state"),
            Self::TooLarge(bytes) => {
                write!(
                    f,
                    "the state of about {bytes} bytes is larger than the {} that can be saved",
                    limits::SAVE
                )
            }
            Self::Refused(fault) => write!(f, "the newcomer does not take over: {fault}"),
            Self::Accounts(what) => write!(f, "the newcomer does not account for every connection: {what}"),
            Self::FirstStep(fault) => {
                write!(f, "the newcomer failed in its first step, the former goes on: {fault}")
            }
            Self::Failed(fault) => write!(f, "the running module failed while it saved its state: {fault}"),
        }
    }
}

impl std::error::Error for SwapError {}

impl Stack {
    /// Whether a newcomer serves what applications use of this stack.
    fn is_served_by(&self, newcomer: &Description) -> Result<(), SwapError> {
        for (number, name) in [(protocol::TCP, "TCP"), (protocol::UDP, "UDP")] {
            if self.serves(number) && !newcomer.serves_protocol(number) {
                let name_of = titled(newcomer);
                return Err(SwapError::Serves(format!("{name_of} does not serve {name}")));
            }
        }
        Ok(())
    }

    /// A state for [`Newcomer::rehearse`].
    ///
    /// # Errors
    /// [`SwapError::Ended`], [`SwapError::TooLarge`], [`SwapError::Failed`].
    pub fn rehearsal(&mut self) -> Result<Rehearsal, SwapError> {
        let state = self.saved()?;
        Ok(Rehearsal { config: self.config_of_load(), now: self.now, state })
    }

    /// The newcomer goes on from here with every connection; see the [module](self)'s text.
    ///
    /// # Errors
    /// Why nothing has changed, or [`SwapError::Failed`].
    pub fn swap(&mut self, device: &mut dyn Device, newcomer: Newcomer) -> Result<Swapped, SwapError> {
        let clock = Pause::begin();
        let mut newcomer = newcomer;
        let state = self.load_into(&mut newcomer)?;
        let size = state.len();
        let from = titled(self.description());
        let connections = self.connections().count();
        // Whoever was on probation before gives its memory back when nobody waits any more.
        let before = self.companion.take();
        self.companion = Some(self.exchange(newcomer.instance, newcomer.factory));
        self.begin_from(state);
        self.begin_batch();
        if let Err(fault) = self.attempt(device) {
            self.recorder.fault(&fault, &self.outputs, &self.staged);
            if let Some(former) = self.companion.take() {
                drop(self.exchange(former.instance, former.former.flatten()));
            }
            if let Ok(state) = self.saved() {
                self.begin_from(state);
            }
            return Err(SwapError::FirstStep(fault));
        }
        let swapped = clock.end(from, titled(self.description()), connections, Some(size));
        drop(before);
        tracing::info!(from = swapped.from, to = swapped.to, connections, "swapped");
        Ok(swapped)
    }

    /// The newcomer starts empty: every connection is reset in kind, listeners and datagram sockets go on.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn swap_cold(&mut self, device: &mut dyn Device, newcomer: Newcomer) -> Result<Swapped, SwapError> {
        let clock = Pause::begin();
        self.is_up()?;
        self.is_served_by(newcomer.description())?;
        let Newcomer { mut instance, factory } = newcomer;
        instance.start(&self.options().config).map_err(SwapError::Refused)?;
        let from = titled(self.description());
        let connections = self.connections().count();
        tracing::warn!(
            from,
            to = titled(instance.description()),
            connections,
            "cold swap: every connection is reset"
        );
        self.abort_all();
        let now = self.now;
        for _ in 0..LAST_TURNS {
            if !self.has_news() || self.turn(now, device).is_err() {
                break;
            }
        }
        self.end_instance(&StreamError::Ended(reason::ABORTED));
        drop(self.exchange(instance, factory));
        self.companion = None;
        self.begin_again();
        Ok(clock.end(from, titled(self.description()), connections, None))
    }

    fn is_up(&self) -> Result<(), SwapError> {
        if self.fault.is_some() { Err(SwapError::Ended) } else { Ok(()) }
    }

    pub(crate) fn saved(&mut self) -> Result<Vec<u8>, SwapError> {
        self.is_up()?;
        if self.description().state_format == STATELESS {
            return Err(SwapError::Stateless(titled(self.description())));
        }
        // The module's own figure is for what it holds; what it saves is of that order.
        let each = u64::from(self.description().bytes_per_connection);
        let bytes = each.saturating_mul(self.connections().count() as u64);
        if bytes > limits::SAVE as u64 {
            return Err(SwapError::TooLarge(bytes));
        }
        self.instance.save().map_err(|fault| {
            let fault = Arc::new(fault);
            // Followed by a restart, or by the end: it is told to streams and remembered like any other.
            let _ = self.fail((*fault).clone());
            SwapError::Failed(fault)
        })
    }

    /// The instance that stands here now goes on from this state: it is held to what it may do, and recorded.
    pub(crate) fn begin_from(&mut self, state: Vec<u8>) {
        self.begin_from_state(self.now, state);
    }

    /// The same with a state of that time.
    pub(crate) fn begin_from_state(&mut self, now: Time, state: Vec<u8>) {
        self.fit_into_instance();
        self.grants = Grants::new(&self.options().config, self.description());
        let base = Base::State { now, config: self.config_of_load(), state: Arc::new(state) };
        self.recorder.begin(Self::recording_header(&*self.instance), base, self.instance.cost().wall_ns);
    }

    /// From `save` to `load`, and the newcomer's account is checked. Returns the state.
    fn load_into(&mut self, newcomer: &mut Newcomer) -> Result<Vec<u8>, SwapError> {
        self.is_up()?;
        self.is_served_by(newcomer.description())?;
        let state = self.saved()?;
        let connections = self.options().config.connections.min(newcomer.instance.capacity());
        let config = Config { connections, ..self.config_of_load() };
        let accounts = newcomer.instance.load(&config, self.now, &state).map_err(SwapError::Refused)?;
        self.holds_against(&accounts).map_err(SwapError::Accounts)?;
        Ok(state)
    }

    /// Puts an instance in the place of the one that runs, which is returned.
    fn exchange(&mut self, instance: Box<dyn Instance>, factory: Option<Factory>) -> Companion {
        let total = self.cost();
        let (former, factory) =
            (std::mem::replace(&mut self.instance, instance), self.supervisor.replace_factory(factory));
        self.former_cost = total.without(self.instance.cost());
        Companion::former(former, factory)
    }
}

/// Name and version as the module gives them: untrusted text, cut and without control characters.
fn titled(description: &Description) -> String {
    let both = format!("{} {}", description.name, description.version);
    both.chars().filter(|letter| !letter.is_control()).take(80).collect()
}

/// For how long nothing moves.
struct Pause {
    wall: Instant,
    cpu: Duration,
}

impl Pause {
    fn begin() -> Self {
        Self { wall: Instant::now(), cpu: thread_cpu() }
    }

    fn end(self, from: String, to: String, connections: usize, state: Option<usize>) -> Swapped {
        let cpu = thread_cpu().saturating_sub(self.cpu);
        Swapped { from, to, connections, state, pause: self.wall.elapsed(), cpu }
    }
}

/// CPU time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
