//! What was done so far.

use super::State;
use crate::net::summary::{ModuleSummary, Summary};
use crate::record::Figures;
use crate::stack::{DoorCounters, Stack};
use crate::supervise::FaultFigures;
use std::time::Duration;

impl State {
    /// What was done so far; the module's own figures are those of the latest census.
    pub(in crate::net) fn summary(&self) -> Summary {
        let totals = self.stack.totals();
        let modules: Vec<ModuleSummary> = self.modules().map(ModuleSummary::of).collect();
        let dropped = |stack: &Stack| stack.split_counters().dropped_in_all() + stack.join_counters().dropped;
        Summary {
            connections: totals.connections,
            ended: totals.ended,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
            census: self.census,
            steps: modules.iter().map(|module| module.steps).sum(),
            module_time: modules.iter().map(|module| module.time).sum(),
            running: self.clock.elapsed(),
            turns: self.turns,
            longest_gap: Duration::from_nanos(self.longest_gap),
            device_errors: self.device_errors(),
            drops: self.modules().map(dropped).sum::<u64>() + self.router.drops(),
            refused: self
                .modules()
                .fold(DoorCounters::default(), |all, stack| all.plus(*stack.door_counters())),
            faults: modules.iter().map(|module| module.faults).sum(),
            memory: self.modules().map(Stack::memory).sum(),
            recoveries: self
                .modules()
                .map(Stack::fault_figures)
                .fold(FaultFigures::default(), FaultFigures::plus),
            recording: self.modules().map(Stack::recording_figures).fold(Figures::default(), Figures::plus),
            modules,
            incidents: self.modules().flat_map(Stack::incidents).cloned().collect(),
            fault: self.stack.fault().cloned(),
        }
    }
}
