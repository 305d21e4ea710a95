//! A second instance is given the same inputs and is not listened to: before a swap the newcomer, to see what it would say;
//! after it the former module, which can take over again as long as both say the same.

use super::{Newcomer, SwapError, titled};
use crate::fault::Fault;
use crate::payload::Desk;
use crate::placement::Instance;
use crate::stack::Stack;
use crate::supervise::{Factory, Incident};
use bulkhead_wit::{Inputs, Outputs};
use std::fmt;
use std::sync::Arc;

/// Steps after a swap for which the former module can take over again.
pub const PROBATION: u32 = 64;

/// How a module behaved that was given the inputs of the running one, and not listened to.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShadowReport {
    /// Steps in which it said the same.
    pub same: u64,
    /// Steps that are left.
    pub left: u32,
    /// What differed first, if anything did. Another congestion control differs with good reason.
    pub differs: Option<String>,
    /// How it failed, if it did.
    pub fault: Option<Fault>,
}

impl ShadowReport {
    /// Whether the shadow runs no more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left == 0 || self.differs.is_some() || self.fault.is_some()
    }
}

/// An instance that is given the same inputs as the one that runs.
pub(crate) struct Companion {
    pub(super) instance: Box<dyn Instance>,
    /// `Some` for one that ran before and may take over again, with what restarts it.
    pub(super) former: Option<Option<Factory>>,
    outputs: Outputs,
    report: ShadowReport,
}

impl Stack {
    /// A module is given the inputs of the next `steps` steps and not listened to: what it would have said is compared
    /// with what the running one says. It is never promoted; a swap begins with an instance of its own.
    ///
    /// # Errors
    /// As [`swap`](Self::swap).
    pub fn shadow(&mut self, newcomer: Newcomer, steps: u32) -> Result<(), SwapError> {
        let mut newcomer = newcomer;
        self.load_into(&mut newcomer)?;
        let report = ShadowReport { left: steps, ..ShadowReport::default() };
        self.companion = Some(Companion {
            instance: newcomer.instance,
            former: None,
            outputs: Outputs::default(),
            report,
        });
        Ok(())
    }

    /// How the shadow has done so far; `None` if there was none. It is forgotten with the next shadow or swap.
    #[must_use]
    pub fn shadow_report(&self) -> Option<&ShadowReport> {
        self.companion
            .as_ref()
            .filter(|companion| companion.former.is_none())
            .map(|companion| &companion.report)
    }

    /// After a step that passed: the companion, if there is one, takes the same.
    pub(crate) fn accompany(&mut self) {
        let Some(companion) = &mut self.companion else { return };
        if companion.report.is_over() {
            // A report stays until it is asked for; an instance that may not take over any more goes.
            if companion.former.is_some() {
                self.companion = None;
            }
            return;
        }
        if !companion.instance.has_payload() {
            return companion.accompany(&self.batch.inputs(), &self.outputs);
        }
        let Some(mut companion) = self.companion.take() else { return };
        let mut desk = self.lend_payload();
        companion.accompany_with(&self.batch.inputs(), &self.outputs, &mut desk);
        if self.take_payload_back(&mut desk) != self.staged {
            companion.report.differs.get_or_insert_with(|| "what is staged".into());
        }
        self.companion = Some(companion);
    }

    /// The running instance has failed: whether the former one stands in its place now, with the same step to be taken.
    pub(crate) fn fall_back(&mut self, fault: &Fault) -> bool {
        let companion = self.companion.take();
        let Some(Companion { instance, former: Some(factory), report, .. }) = companion else { return false };
        if report.is_over() {
            return false;
        }
        tracing::error!(
            to = titled(instance.description()),
            "the newcomer has failed, the former is back: {fault}"
        );
        self.recorder.fault(fault, &self.outputs, &self.staged);
        let failed = self.exchange(instance, factory);
        // A former that fails here has nobody behind it any more.
        let Ok(state) = self.instance.save() else {
            drop(self.exchange(failed.instance, failed.former.flatten()));
            return false;
        };
        let incident = self.incident(&Arc::new(fault.clone()));
        self.remember(Incident { restarted: true, recovered: true, ..incident });
        self.begin_from(state);
        true
    }
}

impl Companion {
    /// The instance that ran until now, with what restarts it.
    pub(super) fn former(instance: Box<dyn Instance>, factory: Option<Factory>) -> Self {
        let report = ShadowReport { left: PROBATION, ..ShadowReport::default() };
        Self { instance, former: Some(factory), outputs: Outputs::default(), report }
    }

    pub(super) fn accompany(&mut self, inputs: &Inputs<'_>, said: &Outputs) {
        let done = self.instance.step(inputs, &mut self.outputs);
        self.compare(done, said);
    }

    /// The same for a module with payload access.
    fn accompany_with(&mut self, inputs: &Inputs<'_>, said: &Outputs, desk: &mut Desk) {
        let done = self.instance.step_with(inputs, &mut self.outputs, desk);
        self.compare(done, said);
    }

    fn compare(&mut self, done: Result<(), Fault>, said: &Outputs) {
        self.report.left = self.report.left.saturating_sub(1);
        match done {
            Err(fault) => self.report.fault = Some(fault),
            Ok(()) => match difference(said, &self.outputs) {
                None => self.report.same += 1,
                differs => self.report.differs = differs,
            },
        }
    }
}

/// The first difference between what two modules said; notes are for people and do not count.
fn difference(one: &Outputs, other: &Outputs) -> Option<String> {
    fn first<T: PartialEq + fmt::Debug>(what: &str, one: &[T], other: &[T]) -> Option<String> {
        let at = one.iter().zip(other).position(|(one, other)| one != other);
        match at {
            Some(at) => Some(format!("{what} {at}: {:?}, the shadow {:?}", one[at], other[at])),
            None if one.len() != other.len() => {
                Some(format!("{} {what}s, the shadow {}", one.len(), other.len()))
            }
            None => None,
        }
    }
    let timing = |outputs: &Outputs| (outputs.deadline, outputs.deadline_of, outputs.unfinished);
    first("event", &one.events, &other.events)
        .or_else(|| first("place", &one.places, &other.places))
        .or_else(|| first("mark", &one.marks, &other.marks))
        .or_else(|| first("send", &one.sends, &other.sends))
        .or_else(|| first("header byte", &one.headers, &other.headers))
        .or_else(|| first("deadline", &[timing(one)], &[timing(other)]))
}
