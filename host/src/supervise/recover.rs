//! Recovery: a fresh instance becomes what the failed one was before its last step, and that step is done again without what
//! kills it.
//!
//! The fresh instance loads the last checkpoint and is given every step since; each has to give the same outputs, of which
//! nothing is carried out a second time. Then the failed step's inputs follow one by one, with inspection and all that
//! belongs to a step, and what makes the module fail is left out (contract, D5):
//!
//! | input | what becomes of it |
//! |---|---|
//! | a segment | dropped: to TCP a loss. The second time the same one kills, its connection goes |
//! | a position | told again once; the second time its connection goes |
//! | an open, a listen, a bind | fails with the fault |
//! | an option, a question, credit of a listener | left out |
//! | a datagram | lost |
//! | anything else that names a connection, and a timer after the state was handed on | the connection that it names goes |
//! | anything that is about the whole instance | the state is handed on; if that does not help, the module starts afresh |
//!
//! Ledgers and streams are the host's and were not touched by the step that failed, so connections go on.
//!
//! Where segments of several connections kill one after the other, or nothing can be left out, the state is sick and not they:
//! then the instance hands its state on to one more, by `save` and `load`, and what is no part of the state stays behind.

use super::redo::{Part, Redo};
use crate::device::Device;
use crate::error::StreamError;
use crate::fault::Fault;
use crate::inspect::Stage;
use crate::payload::{Desk, hash_step};
use crate::record::limits::KEPT;
use crate::record::{Base, Entry};
use crate::split::{Arrived, Ends};
use crate::stack::Stack;
use bulkhead_wit::encoding::decode_inputs;
use bulkhead_wit::{Batch, Call, Handle, Outputs, STATELESS, Time, limits};
use std::collections::VecDeque;
use std::sync::Arc;

/// Instances that one recovery may use up: the failed step may have several inputs that kill.
const ATTEMPTS: usize = 16;
/// CPU time that one segment may take after a step has taken too long, in nanoseconds: a thousand times what one takes.
const SEGMENT_CPU: Time = 2 * limits::MILLISECOND;
/// Recoveries within [`RATION`]; the next fault in it is followed by a restart.
const RECOVERIES: usize = 50;
/// The time in which recoveries are counted.
const RATION: Time = limits::SECOND;
/// Segments that are remembered for having killed.
const POISONS: usize = 256;
/// How long one is remembered.
const MEMORY: Time = 60 * limits::SECOND;
/// Segments of one connection that may kill within [`RATION`], whichever they are; then it goes.
const POISONS_OF_ONE: usize = 8;
/// Where segments of two connections kill within so many steps, or [`SICK_OF_ONE`] of one, it is rather the state that is
/// sick than they are poison.
const SICK: u64 = 24;
/// Less than [`POISONS_OF_ONE`]: before a connection goes, its segments are tried on a state that was handed on.
const SICK_OF_ONE: usize = 3;

/// A segment that killed.
#[derive(Clone, Copy, Debug)]
struct Poison {
    ends: Ends,
    /// Sequence number, acknowledgement number and length: what a segment has in common with itself when it is sent again.
    marks: (u32, u32, usize),
    at: Time,
    /// Steps that the recording has seen by then.
    step: u64,
}

/// What recovery remembers from one fault to the next.
#[derive(Debug, Default)]
pub(super) struct Memories {
    recoveries: VecDeque<Time>,
    poisons: VecDeque<Poison>,
    /// Connections whose position was left out, and is to be told again.
    told_again: VecDeque<Handle>,
}

impl Memories {
    /// Whether one more recovery is allowed; counts it.
    fn ration(&mut self, now: Time) -> bool {
        self.recoveries.retain(|at| now.saturating_sub(*at) < RATION);
        let is_allowed = self.recoveries.len() < RECOVERIES;
        if is_allowed {
            self.recoveries.push_back(now);
        }
        is_allowed
    }

    /// Remembers a segment that killed; says whether its connection is to go.
    fn is_known_poison(&mut self, arrived: &Arrived, now: Time, step: u64) -> bool {
        let (seq, ack) = arrived.facts.tcp().map_or((0, 0), |tcp| (tcp.seq, tcp.ack));
        let marks = (seq, ack, arrived.payload.len());
        self.poisons.retain(|poison| now.saturating_sub(poison.at) < MEMORY);
        let of_one = self.poisons.iter().filter(|poison| poison.ends == arrived.ends);
        let (mut same, mut lately) = (false, 0);
        for poison in of_one {
            same |= poison.marks == marks;
            lately += usize::from(now.saturating_sub(poison.at) < RATION);
        }
        if self.poisons.len() == POISONS {
            self.poisons.pop_front();
        }
        self.poisons.push_back(Poison { ends: arrived.ends, marks, at: now, step });
        same || lately >= POISONS_OF_ONE
    }

    /// Whether the instance is more likely to blame for the newest kill than the segment was, at this step.
    fn is_sick(&self, step: u64) -> bool {
        let lately = self.poisons.iter().rev().take_while(|poison| step.saturating_sub(poison.step) < SICK);
        let mut ends = lately.map(|poison| poison.ends);
        let Some(newest) = ends.next() else { return false };
        ends.enumerate().any(|(before, other)| other != newest || before + 2 >= SICK_OF_ONE)
    }

    /// Whether this connection's position was left out before.
    fn was_told_again(&mut self, connection: Handle) -> bool {
        if let Some(at) = self.told_again.iter().position(|of| *of == connection) {
            self.told_again.remove(at);
            return true;
        }
        if self.told_again.len() == POISONS {
            self.told_again.pop_front();
        }
        self.told_again.push_back(connection);
        false
    }
}

/// What a recovery has cost those who are served.
#[derive(Debug, Default)]
pub(super) struct Remedy {
    /// What was left out, in words.
    pub(super) left_out: Vec<String>,
    /// Connections that had to go.
    pub(super) dropped: usize,
    /// Whether the state was handed on, since nothing could be left out.
    was_handed_on: bool,
}

/// Why there is no recovery; a restart follows.
pub(super) type Hopeless = String;

impl Stack {
    /// Mends what a fault has broken, so that nobody notices but those who are to blame.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn recover(
        &mut self,
        fault: &Arc<Fault>,
        device: &mut dyn Device,
    ) -> Result<Remedy, Hopeless> {
        if !self.supervisor.memories.ration(self.now) {
            return Err(format!("it has failed {RECOVERIES} times within a second"));
        }
        let mut redo = Redo::take(&mut self.batch, &mut self.arrived, self.now);
        let mut remedy = Remedy::default();
        let mut fault = Arc::clone(fault);
        let mut hands_on = false;
        self.companion = None;
        for _ in 0..ATTEMPTS {
            // Where it was a checkpoint that failed, the fresh instance has to show that it can save its state.
            let is_step = self.recorder.forget_failed();
            self.rebuild(is_step, std::mem::take(&mut hands_on))?;
            let Some((part, next)) = self.redo(&mut redo, &fault, device) else { return Ok(remedy) };
            fault = next;
            let left_out = part.to_string();
            match self.leave_out(part.clone(), &fault, &mut redo, &mut remedy) {
                Ok(()) => remedy.left_out.push(left_out),
                // The state may be what kills: once it is handed on, and this is done again.
                Err(_) if !remedy.was_handed_on => {
                    (remedy.was_handed_on, hands_on) = (true, true);
                    redo.first(self.now, part);
                }
                Err(why) => return Err(why),
            }
        }
        Err(format!("more than {ATTEMPTS} inputs of one step kill it"))
    }

    /// A fresh instance in the place of the failed one, in the state in which that was before its last step.
    /// Unless much had to be done again, or `may_keep` says no, the checkpoint stays. With `hands_on`, or where the instance seems
    /// to be sick, it hands its state on to one more: what is no part of it stays behind, and one that is corrupt may be refused.
    fn rebuild(&mut self, may_keep: bool, hands_on: bool) -> Result<(), Hopeless> {
        let memory = self.recorder.memory().ok_or("there is no recording")?;
        let (base, entries) = memory.contents().ok_or("the recording did not keep up")?;
        let failed = |what: &str| {
            let what = what.to_owned();
            move |fault: Fault| format!("{what}: {fault}")
        };
        let (mut instance, load_ns) = match base {
            Base::Start(config) => {
                let mut fresh = self.supervisor.fresh()?;
                fresh.start(config).map_err(failed("the fresh instance does not start"))?;
                (fresh, 0)
            }
            Base::State { now, config, state } => self.supervisor.loaded(config, *now, state)?,
        };
        let loaded = instance.cost().wall_ns;
        let (mut batch, mut outputs, mut encoded) = (Batch::default(), Outputs::default(), Vec::new());
        let mut desk = Desk::default();
        for entry in entries {
            match entry {
                Entry::Payload(bytes) => desk = Desk::recorded(bytes),
                Entry::Step(bytes) => {
                    decode_inputs(bytes, &mut batch).map_err(|error| error.to_string())?;
                    let step = desk.step(&mut *instance, &batch.inputs(), &mut outputs);
                    step.map_err(failed("it fails again in a step that had passed"))?;
                }
                Entry::Outputs(hash) if hash != hash_step(&outputs, desk.staged(), &mut encoded) => {
                    return Err("it says something else than before: its state was corrupt".into());
                }
                _ => {}
            }
        }
        self.former_cost = self.cost();
        self.instance = instance;
        let took = self.instance.cost().wall_ns;
        // To save costs about as much as to load, and spares the next attempt what was done again.
        let is_cheap = took.saturating_sub(loaded) < load_ns.max(KEPT);
        let is_sick = hands_on || self.supervisor.memories.is_sick(self.recorder.steps());
        if self.description().state_format == STATELESS || may_keep && is_cheap && !is_sick {
            self.recorder.go_on(loaded);
            return Ok(());
        }
        // From here on it is recorded anew: the next failure of this very step has less to replay.
        let state = self.instance.save().map_err(failed("the fresh instance cannot save its state"))?;
        let now = self.recorder.last_now();
        if is_sick {
            let (heir, _) = self.supervisor.loaded(&self.config_of_load(), now, &state)?;
            self.former_cost = self.cost();
            self.instance = heir;
        }
        self.begin_from_state(now, state);
        Ok(())
    }

    /// What is left of the failed step, input by input, up to one that kills.
    fn redo(
        &mut self,
        redo: &mut Redo,
        fault: &Arc<Fault>,
        device: &mut dyn Device,
    ) -> Option<(Part, Arc<Fault>)> {
        while let Some((at, part)) = redo.next() {
            if let Part::Message(number, _) = &part {
                self.datagrams.bring_forward(*number);
            }
            redo.fill(at, &part, &mut self.batch, &mut self.arrived);
            // A step was too long: what makes it so takes longer than any segment should, and need not take all of it again.
            let is_hurried = matches!(**fault, Fault::Budget(_)) && matches!(part, Part::Segment(_));
            self.instance.limit_steps(if is_hurried { SEGMENT_CPU } else { limits::STEP_CPU });
            let done = self.attempt(device);
            self.instance.limit_steps(limits::STEP_CPU);
            if let Err(fault) = done {
                self.recorder.fault(&fault, &self.outputs, &self.staged);
                return Some((part, Arc::new(fault)));
            }
            // To find out that a segment takes all the time there is would take that time once more.
            if matches!(**fault, Fault::Budget(_))
                && redo.is_one_segment()
                && let Some((_, part)) = redo.next()
            {
                return Some((part, Arc::clone(fault)));
            }
        }
        None
    }

    /// This input makes the module fail.
    fn leave_out(
        &mut self,
        part: Part,
        fault: &Arc<Fault>,
        redo: &mut Redo,
        remedy: &mut Remedy,
    ) -> Result<(), Hopeless> {
        let guilty = match &part {
            Part::Segment(segment) => {
                let arrived = &segment.2;
                if !self.supervisor.memories.is_known_poison(arrived, self.now, self.recorder.steps()) {
                    return Ok(());
                }
                self.suspect([arrived.ends.source.address]);
                let (ours, theirs) = (arrived.ends.destination, arrived.ends.source);
                let ledger = self.ledgers.index_of(ours, theirs).and_then(|index| self.ledgers.get(index));
                // Of no connection yet: it is dropped, and its source not heard for a while.
                let Some(ledger) = ledger else { return Ok(()) };
                ledger.handle
            }
            Part::Message(..) => return Ok(()),
            Part::Position(position) => {
                if !self.supervisor.memories.was_told_again(position.connection) {
                    self.tell_again(position.connection);
                    return Ok(());
                }
                position.connection
            }
            Part::Call(call, _) => match call {
                Call::Open(_) | Call::Listen(_) | Call::Bind(_) => {
                    self.refuse(call, StreamError::Fault(Arc::clone(fault)));
                    return Ok(());
                }
                Call::Set(_) | Call::Query(_) | Call::Allow(_) => return Ok(()),
                Call::Abort(_) => return Err("a connection cannot even be aborted".into()),
                Call::Decide(_) | Call::Shutdown(_) | Call::Close(_) | Call::Report(_) => {
                    part.connection().unwrap_or(Handle::INSTANCE)
                }
                Call::Configure(_) | Call::Reseed(_) | Call::Unlisten(_) => {
                    return Err("what kills it is about the whole instance".into());
                }
            },
            // Which timer it was, if it was one, is a guess.
            Part::Time if !remedy.was_handed_on => return Err("it fails without any input".into()),
            Part::Time => self.recorder.last_deadline_of(),
        };
        self.condemn(guilty, part, fault, redo, remedy)
    }

    /// A connection goes: its application is told the fault, the module that it is aborted.
    fn condemn(
        &mut self,
        guilty: Handle,
        part: Part,
        fault: &Arc<Fault>,
        redo: &mut Redo,
        remedy: &mut Remedy,
    ) -> Result<(), Hopeless> {
        let index = self.ledgers.find(guilty).ok_or("what kills it belongs to no connection")?;
        if self.ledgers.get(index).is_some_and(|ledger| ledger.stage == Stage::Offered) {
            return Err("what kills it belongs to no connection yet".into());
        }
        remedy.dropped += 1;
        self.sentence(index, StreamError::Fault(Arc::clone(fault)));
        redo.forget(guilty);
        let is_timer = matches!(part, Part::Time);
        if is_timer {
            redo.first(self.now, part);
        }
        // Before the timers that are due: one of them is what kills.
        let at = if is_timer { self.recorder.last_now() } else { self.now };
        redo.first(at, Part::Call(Call::Abort(guilty), None));
        Ok(())
    }
}
