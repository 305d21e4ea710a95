//! What a stack has done.

use super::info::Census;
use crate::fault::Fault;
use crate::record::Figures;
use crate::stack::{DoorCounters, Stack};
use crate::supervise::{FaultFigures, Incident};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a stack has done so far, or in all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Connections that were opened, by either side.
    pub connections: u64,
    /// Connections that ended, for whatever reason.
    pub ended: u64,
    /// Bytes that applications were given to read.
    pub bytes_in: u64,
    /// Bytes that peers have acknowledged.
    pub bytes_out: u64,
    /// The module's own figures, retransmissions among them; `None` if it has never been asked.
    pub census: Option<Census>,
    /// Calls into the module.
    pub steps: u64,
    /// Wall clock time inside the module, the crossings included.
    pub module_time: Duration,
    /// Time since the stack was set up.
    pub running: Duration,
    /// Turns taken.
    pub turns: u64,
    /// The longest time for which the stack had something to do (a deadline, or news of an application) before a turn
    /// was taken.
    pub longest_gap: Duration,
    /// Errors of the device.
    pub device_errors: u64,
    /// Frames dropped: malformed ones that arrived, and those that the device did not take.
    pub drops: u64,
    /// What was refused for want of memory, by budgets of sources, and since it was poison.
    pub refused: DoorCounters,
    /// How often the module failed.
    pub faults: u64,
    /// The newest of them, oldest first.
    pub incidents: Vec<Incident>,
    /// The fault that ended the first module, if one did.
    pub fault: Option<Arc<Fault>>,
    /// Bytes that streams and arrived frames hold, and buffers kept for them.
    pub memory: usize,
    /// How often the modules failed, and what came of it.
    pub recoveries: FaultFigures,
    /// What recording has cost.
    pub recording: Figures,
    /// Each module on its own, the first one in front.
    pub modules: Vec<ModuleSummary>,
}

/// What one of the modules has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModuleSummary {
    /// What it is called.
    pub name: String,
    /// Calls into it.
    pub steps: u64,
    /// Wall clock time inside it, the crossings included.
    pub time: Duration,
    /// How often it failed.
    pub faults: u64,
    /// The fault that ended it, if one did.
    pub fault: Option<Arc<Fault>>,
}

impl ModuleSummary {
    pub(super) fn of(stack: &Stack) -> Self {
        let cost = stack.cost();
        Self {
            name: stack.description().name.clone(),
            steps: cost.steps,
            time: Duration::from_nanos(cost.wall_ns),
            faults: stack.fault_figures().faults,
            fault: stack.fault().cloned(),
        }
    }
}

impl Summary {
    /// Segments that were sent again, if the module has said.
    #[must_use]
    pub fn retransmissions(&self) -> Option<u64> {
        self.census.map(|census| census.retrans)
    }

    /// Both together, of two shards: counts and times inside the module added up, gaps and ages the longer one.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.connections += other.connections;
        self.ended += other.ended;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.census = match (self.census, other.census) {
            (Some(one), Some(two)) => Some(one.plus(two)),
            (one, two) => one.or(two),
        };
        self.steps += other.steps;
        self.module_time += other.module_time;
        self.running = self.running.max(other.running);
        self.turns += other.turns;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.device_errors += other.device_errors;
        self.drops += other.drops;
        self.refused = self.refused.plus(other.refused);
        self.faults += other.faults;
        self.incidents.extend(other.incidents);
        self.fault = self.fault.or(other.fault);
        self.memory += other.memory;
        self.recoveries = self.recoveries.plus(other.recoveries);
        self.recording = self.recording.plus(other.recording);
        self.modules.extend(other.modules);
        self
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} bytes in, {} bytes out",
            self.connections, self.bytes_in, self.bytes_out
        )?;
        if let Some(count) = self.retransmissions() {
            write!(f, ", {count} retransmissions")?;
        }
        write!(
            f,
            "; {} turns, {} steps, {:.3} s of {:.3} s in the module, longest gap {:.1} ms, {} drops, {} device errors",
            self.turns,
            self.steps,
            self.module_time.as_secs_f64(),
            self.running.as_secs_f64(),
            self.longest_gap.as_secs_f64() * 1e3,
            self.drops,
            self.device_errors,
        )?;
        if self.faults > 0 {
            let FaultFigures { recovered, streams, .. } = self.recoveries;
            write!(f, ", {} faults ({recovered} recovered, {streams} connections lost)", self.faults)?;
        }
        match &self.fault {
            Some(fault) => write!(f, "; failed: {fault}"),
            None => Ok(()),
        }
    }
}
