//! Where an instance runs: in the sandbox, natively, or in a process of its own.
//!
//! All placements have one face, and a step is one call: batch in, outputs out. Also in a process of its own, where the
//! two could be apart; [`process`] says why they are not.

pub mod native;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "wasm")]
pub mod wasm;

use bulkhead_wit::{Config, Description, Inputs, Outputs, Summary, Time, limits};

use crate::fault::Fault;
use crate::payload::Desk;

/// One running module. After a fault of any call but a refused `start` or `load` it has ended: every further call
/// gives [`Fault::Ended`].
pub trait Instance: Send {
    /// What the module said of itself.
    fn description(&self) -> &Description;

    /// Begins anew.
    ///
    /// # Errors
    /// [`Fault::Refused`] when the module does not serve this configuration, or how it failed.
    fn start(&mut self, config: &Config) -> Result<(), Fault>;

    /// One step. `outputs` is cleared first and its memory reused; after a fault its contents mean nothing.
    ///
    /// # Errors
    /// How the module failed.
    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault>;

    /// Whether it is a module of the second world: its steps are taken by [`step_with`](Self::step_with).
    fn has_payload(&self) -> bool {
        false
    }

    /// One step with payload at hand. Whatever comes of it, the desk is handed back with all that is behind it.
    ///
    /// # Errors
    /// How the module failed.
    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        let _ = desk;
        self.step(inputs, outputs)
    }

    /// Steps have so much CPU time from now on, in nanoseconds, in place of [`STEP_CPU`](bulkhead_wit::limits::STEP_CPU). Where
    /// steps have no budget, or are watched from afar, nothing changes.
    fn limit_steps(&mut self, _cpu: Time) {}

    /// The whole state, in the module's canonical form; at most [`SAVE`](bulkhead_wit::limits::SAVE) bytes.
    ///
    /// # Errors
    /// How the module failed.
    fn save(&mut self) -> Result<Vec<u8>, Fault>;

    /// Takes over from a saved state at time `now`. The summaries are what the module believes: the caller compares
    /// them with what it knows.
    ///
    /// # Errors
    /// [`Fault::Refused`] when the module does not read this state, or how it failed.
    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault>;

    /// Connections that it has memory for: a stack asks it for no more. By what the module says that one takes; beyond it a
    /// peer that opens one after the other would end the instance, and with it everybody else's.
    fn capacity(&self) -> u32 {
        limits::CONNECTIONS
    }

    /// What its steps have cost so far.
    fn cost(&self) -> StepCost;

    /// Whether a failed instance can have harmed nothing but itself, so that another one may go on where it was.
    fn is_behind_a_wall(&self) -> bool {
        true
    }

    /// Which module it is and where it runs, for recordings and reports.
    fn identity(&self) -> Identity {
        Identity::default()
    }
}

/// Connections for which a memory of so many bytes has room where each takes so much: a quarter is left for all the rest, as what is
/// outstanding and the copy that is saved.
#[cfg(any(feature = "wasm", feature = "process"))]
pub(crate) fn capacity(memory: u64, each: u32) -> u32 {
    let most = memory / 4 * 3 / u64::from(each.max(1));
    u32::try_from(most).unwrap_or(u32::MAX).min(limits::CONNECTIONS)
}

/// Which module an instance is, and where it runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The BLAKE3 hash of the module's file, where it has one.
    pub hash: Option<[u8; 32]>,
    /// `wasm`, `native`, or what else the placement is called.
    pub placement: String,
}

/// The cost of an instance's steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StepCost {
    /// Steps that were entered.
    pub steps: u64,
    /// Wall clock time in steps, in nanoseconds, the crossing included. CPU time would cost a system call a step.
    pub wall_ns: u64,
}

impl StepCost {
    /// What is left of it without another, which is a part of it.
    pub(crate) fn without(self, other: Self) -> Self {
        let Self { steps, wall_ns } = self;
        Self { steps: steps.saturating_sub(other.steps), wall_ns: wall_ns.saturating_sub(other.wall_ns) }
    }

    /// Counts a step that began at `from` and has ended now.
    pub(crate) fn add(&mut self, from: std::time::Instant) {
        self.steps += 1;
        self.wall_ns += u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
    }
}
