//! What happens when the module fails: the instance ends, the host goes on.
//!
//! A ladder of three steps. A fresh instance takes over from the last checkpoint and the recording since, and the failed step
//! is done again without what kills it ([`recover`](self)): no connection notices. If the same input kills again, the connection
//! to blame goes. Where neither helps, a fresh instance starts empty, with the same listeners, while every open stream is told
//! the fault. Both are rationed: a module that fails again and again is given up, and then the listeners are told too.

mod recover;
mod redo;
mod report;
mod spare;

use crate::device::Device;
use crate::error::StreamError;
use crate::fault::Fault;
use crate::placement::Instance;
use crate::record::{Header, Snapshot};
use crate::stack::Stack;
use bulkhead_wit::{Time, limits};
use recover::{Memories, Remedy};
pub use report::{KEPT, KEPT_BYTES, RECORDING, Reporter};
use spare::Spares;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Whether that goes on where the failed one was, with every connection but `streams`.
    pub recovered: bool,
    /// What was left out of the step that failed, in words.
    pub left_out: Vec<String>,
    /// How long the step had been running when it was found to fail, on the wall; nothing where it was not a step.
    pub found_after: Duration,
    /// From the moment when the fault was found until the module was ready again.
    pub took: Duration,
}

/// How often it came to which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultFigures {
    /// Faults in all.
    pub faults: u64,
    /// Of these, those after which a fresh instance went on where the failed one was.
    pub recovered: u64,
    /// Streams that ended by faults.
    pub streams: u64,
    /// The longest recovery, in nanoseconds.
    pub recovery_ns_max: u64,
}

impl FaultFigures {
    /// Both together, of two stacks.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            faults: self.faults + other.faults,
            recovered: self.recovered + other.recovered,
            streams: self.streams + other.streams,
            recovery_ns_max: self.recovery_ns_max.max(other.recovery_ns_max),
        }
    }
}

/// Decides about restarts, and remembers faults.
#[derive(Default)]
pub(crate) struct Supervisor {
    factory: Option<Factory>,
    restarts: VecDeque<Time>,
    incidents: VecDeque<Incident>,
    figures: FaultFigures,
    memories: Memories,
    spares: Spares,
    reporter: Option<Reporter>,
}

/// What a report is made of, taken as the fault was found.
type Evidence = Option<(Header, Option<Snapshot>)>;

impl Supervisor {
    /// Faults of predecessors count on.
    #[cfg(feature = "net")]
    pub(crate) fn continue_from(&mut self, figures: FaultFigures) {
        self.figures = figures;
    }

    /// Another module runs from now on, with what makes a fresh instance of it. Returns the former one's.
    pub(crate) fn replace_factory(&mut self, factory: Option<Factory>) -> Option<Factory> {
        self.spares.forget();
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

    /// From now on each fault is reported in files.
    pub fn report_to(&mut self, reporter: Reporter) {
        self.supervisor.reporter = Some(reporter);
    }

    /// The recording with the step that failed, where somebody is to be told of it.
    fn evidence(&self) -> Evidence {
        self.supervisor.reporter.as_ref()?;
        Some((self.recorder.header().clone(), self.recorder.snapshot()))
    }

    /// A fault is remembered, and reported.
    fn conclude(&mut self, incident: Incident, evidence: Evidence) {
        if let Some(reporter) = &self.supervisor.reporter
            && let Some((header, recording)) = evidence
        {
            reporter.report(&incident, &header, recording);
        }
        self.remember(incident);
    }

    /// The newest faults, oldest first.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.supervisor.incidents.iter()
    }

    /// Faults since the beginning, and what came of them.
    #[must_use]
    pub fn fault_figures(&self) -> FaultFigures {
        self.supervisor.figures
    }

    /// A fault, and what came of it.
    pub(crate) fn remember(&mut self, incident: Incident) {
        let supervisor = &mut self.supervisor;
        let figures = &mut supervisor.figures;
        figures.faults += 1;
        figures.streams += incident.streams as u64;
        if incident.recovered {
            figures.recovered += 1;
            let took = u64::try_from(incident.took.as_nanos()).unwrap_or(u64::MAX);
            figures.recovery_ns_max = figures.recovery_ns_max.max(took);
        }
        if supervisor.incidents.len() == REMEMBERED {
            supervisor.incidents.pop_front();
        }
        supervisor.incidents.push_back(incident);
    }

    /// A fault of which nothing is known yet but when it was.
    pub(crate) fn incident(&self, fault: &Arc<Fault>) -> Incident {
        Incident {
            at: self.now,
            fault: Arc::clone(fault),
            streams: 0,
            restarted: false,
            recovered: false,
            left_out: Vec::new(),
            found_after: Duration::ZERO,
            took: Duration::ZERO,
        }
    }

    /// The instance has failed in the step that is prepared: the ladder, from its first step on.
    ///
    /// # Errors
    /// The fault, if it is final.
    pub(crate) fn mend(&mut self, fault: Fault, device: &mut dyn Device) -> Result<(), Arc<Fault>> {
        if !self.instance.is_behind_a_wall() {
            // What it has done to this process before it failed, nobody knows.
            return self.fail(fault);
        }
        let from = Instant::now();
        let found_after = match self.recorder.is_under_way() {
            true => Duration::from_nanos(self.instance.cost().wall_ns.saturating_sub(self.step_from)),
            false => Duration::ZERO,
        };
        let fault = Arc::new(fault);
        self.recorder.fault(&fault, &self.outputs, &self.staged);
        let evidence = self.evidence();
        let sources: Vec<_> = self.arrived.iter().map(|arrived| arrived.ends.source.address).collect();
        self.supervisor.spares.expect(self.now);
        match self.recover(&fault, device) {
            Ok(Remedy { left_out, dropped, .. }) => {
                let took = from.elapsed();
                tracing::error!(
                    microseconds = took.as_micros(),
                    without = left_out.join("; "),
                    connections_dropped = dropped,
                    "recovered: {}",
                    fault.report()
                );
                let incident = self.incident(&fault);
                let mended =
                    Incident { restarted: true, recovered: true, left_out, found_after, took, ..incident };
                self.conclude(Incident { streams: dropped, ..mended }, evidence);
                Ok(())
            }
            Err(why) => {
                tracing::error!("no recovery: {why}");
                self.suspect(sources);
                self.start_afresh(&fault, from, evidence)
            }
        }
    }

    /// The instance has failed, and nothing can be mended.
    ///
    /// # Errors
    /// The fault, if it is final.
    pub(crate) fn fail(&mut self, fault: Fault) -> Result<(), Arc<Fault>> {
        let from = Instant::now();
        let fault = Arc::new(fault);
        self.recorder.fault(&fault, &self.outputs, &self.staged);
        let evidence = self.evidence();
        let sources: Vec<_> = self.arrived.iter().map(|arrived| arrived.ends.source.address).collect();
        self.suspect(sources);
        self.start_afresh(&fault, from, evidence)
    }

    /// Ends all streams, and goes on with a fresh instance if there is one.
    fn start_afresh(
        &mut self,
        fault: &Arc<Fault>,
        from: Instant,
        evidence: Evidence,
    ) -> Result<(), Arc<Fault>> {
        let streams = self.end_instance(&StreamError::Fault(Arc::clone(fault)));
        tracing::error!(streams, "{}", fault.report());
        let fresh = self.supervisor.replacement(self.now);
        let restarted = fresh.is_some_and(|instance| self.restart(instance));
        let incident = self.incident(fault);
        self.conclude(Incident { streams, restarted, took: from.elapsed(), ..incident }, evidence);
        if restarted {
            return Ok(());
        }
        self.give_up(Arc::clone(fault));
        Err(Arc::clone(fault))
    }
}
