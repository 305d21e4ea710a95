//! Instances in waiting, while faults are to be expected.
//!
//! What takes longest of a recovery is to load the checkpoint into memory that was never touched: each page is a fault of its
//! own. A module that has failed is likely to fail again, so for a while after a fault there are instances that have loaded a
//! checkpoint once before. They are made between two turns, one at a time; a module that does not fail costs nothing.

use super::Supervisor;
use crate::fault::Fault;
use crate::placement::Instance;
use crate::record::Base;
use crate::stack::Stack;
use bulkhead_wit::{Config, Time, limits};

/// How many are kept: one finds out what kills, the next goes on without it.
const KEPT: usize = 2;
/// How long after a fault, in nanoseconds.
const LASTING: Time = 60 * limits::SECOND;
/// Bytes of the longest state that is worth having in memory three times.
const STATE: usize = 4 << 20;

/// How often one loads before it is needed. The second time it has a state to let go of, as it will have when it counts, and
/// needs more memory for that.
const LOADS: u32 = 2;

/// An instance in waiting, and how often it has loaded.
struct Spare {
    instance: Box<dyn Instance>,
    loads: u32,
}

/// What is ready.
#[derive(Default)]
pub(super) struct Spares {
    ready: Vec<Spare>,
    /// When the module failed last, if it is to be expected that it fails again.
    failed_at: Option<Time>,
}

impl Spares {
    /// The module has failed.
    pub(super) fn expect(&mut self, now: Time) {
        self.failed_at = Some(now);
    }

    /// Another module runs.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Supervisor {
    /// An instance that has loaded this state: one in waiting, or a fresh one. With it comes the module time, in nanoseconds,
    /// that it took to load.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn loaded(
        &mut self,
        config: &Config,
        now: Time,
        state: &[u8],
    ) -> Result<(Box<dyn Instance>, Time), String> {
        while let Some(Spare { instance: mut spare, .. }) = self.spares.ready.pop() {
            let before = spare.cost().wall_ns;
            // One that is gone, as a process may be, is no reason against the next.
            if spare.load(config, now, state).is_ok() {
                let took = spare.cost().wall_ns.saturating_sub(before);
                return Ok((spare, took));
            }
        }
        let mut fresh = self.fresh()?;
        let failed = |fault: Fault| format!("the state does not load: {fault}");
        fresh.load(config, now, state).map_err(failed)?;
        let took = fresh.cost().wall_ns;
        Ok((fresh, took))
    }

    /// An instance that has been told nothing yet.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn fresh(&mut self) -> Result<Box<dyn Instance>, String> {
        let factory = self.factory.as_mut().ok_or("nothing makes a fresh instance")?;
        factory().map_err(|fault| format!("no fresh instance can be made: {fault}"))
    }
}

impl Stack {
    /// Between two turns: makes one more instance that waits, if faults are to be expected, or has one load once more.
    #[inline]
    pub(crate) fn make_spare(&mut self) {
        if let Some(failed_at) = self.supervisor.spares.failed_at {
            self.make_spare_since(failed_at);
        }
    }

    fn make_spare_since(&mut self, failed_at: Time) {
        if self.now.saturating_sub(failed_at) > LASTING {
            self.supervisor.spares.forget();
            return;
        }
        let Some((Base::State { now, config, state }, _)) = self.recorder.memory().and_then(|m| m.contents())
        else {
            return;
        };
        if state.len() > STATE {
            return;
        }
        let ready = &mut self.supervisor.spares.ready;
        let next = match ready.iter().position(|spare| spare.loads < LOADS) {
            Some(at) => Ok(ready.swap_remove(at)),
            None if ready.len() >= KEPT => return,
            None => self.supervisor.fresh().map(|instance| Spare { instance, loads: 0 }),
        };
        let made = next.and_then(|mut spare| {
            spare.instance.load(config, *now, state).map_err(|fault| fault.to_string())?;
            spare.loads += 1;
            Ok(spare)
        });
        match made {
            Ok(spare) => self.supervisor.spares.ready.push(spare),
            // Recovery will find out as well, and say so.
            Err(_) => self.supervisor.spares.forget(),
        }
    }
}
