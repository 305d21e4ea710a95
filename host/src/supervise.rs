//! What happens when the module fails: the instance ends, the host goes on.
//!
//! Of the ladder (checkpoint and replay; dropping who is to blame; starting empty) this is the last step: a fresh
//! instance with the same listeners, while every open stream is told the fault. Restarts are rationed: a module that
//! fails again and again is given up, and then the listeners are told too.

use crate::error::StreamError;
use crate::fault::Fault;
use crate::placement::Instance;
use crate::stack::Stack;
use bulkhead_wit::{Time, limits};
use std::collections::VecDeque;
use std::sync::Arc;

/// Makes a fresh instance of the module.
pub type Factory = Box<dyn FnMut() -> Result<Box<dyn Instance>, Fault> + Send>;

/// Restarts allowed within [`WINDOW`]; one more fault in it, and the module is given up.
pub const RESTARTS: usize = 5;
/// The time in which restarts are counted.
pub const WINDOW: Time = 60 * limits::SECOND;
/// Faults that are remembered, the newest.
pub const REMEMBERED: usize = 16;

/// A fault and what came of it.
#[derive(Clone, Debug)]
pub struct Incident {
    /// When it happened, in the stack's time.
    pub at: Time,
    /// What it was.
    pub fault: Arc<Fault>,
    /// Streams that ended by it.
    pub streams: usize,
    /// Whether a fresh instance serves on, or the one that ran before a swap.
    pub restarted: bool,
}

/// Decides about restarts, and remembers faults.
#[derive(Default)]
pub(crate) struct Supervisor {
    factory: Option<Factory>,
    restarts: VecDeque<Time>,
    incidents: VecDeque<Incident>,
    count: u64,
}

impl Supervisor {
    /// Another module runs from now on, with what makes a fresh instance of it. Returns the former one's.
    pub(crate) fn replace_factory(&mut self, factory: Option<Factory>) -> Option<Factory> {
        std::mem::replace(&mut self.factory, factory)
    }

    /// A fresh instance, if there is to be one.
    fn replacement(&mut self, now: Time) -> Option<Box<dyn Instance>> {
        let factory = self.factory.as_mut()?;
        self.restarts.retain(|at| now.saturating_sub(*at) < WINDOW);
        if self.restarts.len() >= RESTARTS {
            tracing::error!(
                restarts = RESTARTS,
                seconds = WINDOW / limits::SECOND,
                "given up: the module keeps failing"
            );
            return None;
        }
        self.restarts.push_back(now);
        match factory() {
            Ok(instance) => Some(instance),
            Err(fault) => {
                tracing::error!(%fault, "given up: no fresh instance can be made");
                None
            }
        }
    }
}

impl Stack {
    /// From now on a fault is followed by a restart with what `factory` makes, as long as the ration lasts.
    pub fn supervise(&mut self, factory: Factory) {
        self.supervisor.factory = Some(factory);
    }

    /// The newest faults, oldest first.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.supervisor.incidents.iter()
    }

    /// Faults since the beginning.
    #[must_use]
    pub fn fault_count(&self) -> u64 {
        self.supervisor.count
    }

    /// A fault, and what came of it.
    pub(crate) fn remember(&mut self, fault: &Arc<Fault>, streams: usize, restarted: bool) {
        let supervisor = &mut self.supervisor;
        supervisor.count += 1;
        if supervisor.incidents.len() == REMEMBERED {
            supervisor.incidents.pop_front();
        }
        supervisor.incidents.push_back(Incident {
            at: self.now,
            fault: Arc::clone(fault),
            streams,
            restarted,
        });
    }

    /// The instance has failed. Ends its streams, and goes on with a fresh instance if there is one.
    ///
    /// # Errors
    /// The fault, if it is final.
    pub(crate) fn fail(&mut self, fault: Fault) -> Result<(), Arc<Fault>> {
        let fault = Arc::new(fault);
        self.recorder.fault(&fault, &self.outputs);
        self.suspect();
        let streams = self.end_instance(&StreamError::Fault(Arc::clone(&fault)));
        tracing::error!(streams, "{}", fault.report());
        let fresh = self.supervisor.replacement(self.now);
        let restarted = fresh.is_some_and(|instance| self.restart(instance));
        self.remember(&fault, streams, restarted);
        if restarted {
            return Ok(());
        }
        self.give_up(Arc::clone(&fault));
        Err(fault)
    }
}
