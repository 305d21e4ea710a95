//! Feeds a recording to a module, and finds where it first does something else than what was recorded.
//!
//! A replay carries nothing out and inspects nothing: it compares hashes.

use super::entry::{Entry, Failure, Saved};
use super::read::{ReadError, Reader};
use crate::fault::Fault;
use crate::payload::{Desk, hash_step};
use crate::placement::Instance;
use bulkhead_wit::encoding::decode_inputs;
use bulkhead_wit::{Batch, Config, Inputs, Outputs};
use std::fmt;
use std::io::Read;

/// Makes the instances that a recording is fed to.
pub type Factory<'a> = dyn FnMut() -> Result<Box<dyn Instance>, Fault> + 'a;

/// An instance that is fed a recording.
pub struct Replay<'a> {
    make: &'a mut Factory<'a>,
    instance: Option<Box<dyn Instance>>,
    batch: Batch,
    outputs: Outputs,
    /// What the next step reads, and what the last one has staged.
    desk: Desk,
    /// Outputs, on their way to a hash.
    encoded: Vec<u8>,
    /// The hash or the fault of the step that was taken last, until what was recorded of it is known.
    pending: Option<Result<u64, Fault>>,
    steps: u64,
    checkpoints: u64,
    compares_states: bool,
}

/// The module does not do what was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// The step's number, the first one being 1.
    pub step: u64,
    /// What was recorded.
    pub recorded: Found,
    /// What came of it now.
    pub now: Found,
}

/// What came of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Outputs with this hash.
    Outputs(u64),
    /// A fault: its first line.
    Fault(String),
    /// A state of so many bytes, at a checkpoint after the step.
    State(usize),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outputs(hash) => write!(f, "outputs {hash:016x}"),
            Self::Fault(text) => f.write_str(text),
            Self::State(bytes) => write!(f, "a state of {bytes} bytes"),
        }
    }
}

/// How a replay ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// With the recording; everything was as recorded.
    Complete,
    /// In the middle of the recording, which was cut off there.
    CutOff,
    /// After the step that was asked for.
    Until,
    /// Where the module did something else.
    Diverged(Box<Divergence>),
    /// Where it failed as it was made, started or loaded.
    Failed(Fault),
}

/// What a replay has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u64,
    /// Checkpoints at which the module's state was the recorded one.
    pub checkpoints: u64,
    /// Faults that came again as recorded: the step's number, and what is said of it with the module's backtrace.
    pub faults: Vec<(u64, String)>,
    /// How it ended.
    pub end: End,
    /// What went into the last step.
    pub inputs: Batch,
    /// What came out of it.
    pub outputs: Outputs,
}

/// Looks at each step that was taken: its number, what went in, and what came out.
pub type Watch<'a> = dyn FnMut(u64, &Inputs<'_>, &Result<&Outputs, Fault>) + 'a;

impl<'a> Replay<'a> {
    /// A replay with instances that `make` makes. `compares_states` asks for the same state at each checkpoint, not only for
    /// the same outputs: for a module of the recorded name and version.
    pub fn new(make: &'a mut Factory<'a>, compares_states: bool) -> Self {
        Self {
            make,
            instance: None,
            batch: Batch::default(),
            outputs: Outputs::default(),
            desk: Desk::default(),
            encoded: Vec::new(),
            pending: None,
            steps: 0,
            checkpoints: 0,
            compares_states,
        }
    }

    /// Feeds the rest of a recording, at most until step `until` of it. With `from`, it begins at the checkpoint with that
    /// number (see [`checkpoint_before`]) instead of the beginning.
    ///
    /// # Errors
    /// Where the recording cannot be read.
    pub fn run<R: Read>(
        mut self,
        reader: &mut Reader<R>,
        from: Option<u64>,
        until: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Outcome, ReadError> {
        if reader.header().is_redacted {
            return Err(ReadError::Redacted);
        }
        let mut faults = Vec::new();
        let mut skipped = from.map_or(0, |number| number + 1);
        let end = loop {
            let at = reader.position();
            let Some(entry) = reader.next_entry()? else {
                break if reader.is_cut_off() { End::CutOff } else { End::Complete };
            };
            if skipped > 0 {
                let Entry::Checkpoint(saved) = entry else { continue };
                skipped -= 1;
                if skipped > 0 {
                    continue;
                }
                self.steps = saved.steps;
                if let Err(end) = self.load(&saved) {
                    break end;
                }
                continue;
            }
            if matches!(entry, Entry::Step(_)) && self.steps >= until {
                break End::Until;
            }
            match self.take(&entry, at, watch)? {
                Ok(None) => {}
                Ok(Some(fault)) => faults.push((self.steps + 1, fault)),
                Err(end) => break end,
            }
        };
        let Self { steps, checkpoints, batch: inputs, outputs, .. } = self;
        Ok(Outcome { steps, checkpoints, faults, end, inputs, outputs })
    }

    /// One entry; gives the fault that came again, if one did, or how the replay ends.
    fn take(
        &mut self,
        entry: &Entry<'_>,
        at: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Result<Option<String>, End>, ReadError> {
        let order = |what| ReadError::Malformed(super::Malformed::Order { at, what });
        if self.pending.is_some() && !matches!(entry, Entry::Outputs(_) | Entry::Fault(_)) {
            return Err(order("nothing says what came of a step"));
        }
        match entry {
            Entry::Start(config) => return Ok(self.start(config).map(|()| None)),
            Entry::Load(saved) => {
                self.steps = saved.steps;
                return Ok(self.load(saved).map(|()| None));
            }
            Entry::Step(bytes) => {
                decode_inputs(bytes, &mut self.batch).map_err(|error| {
                    ReadError::Malformed(super::Malformed::Body { at, what: error.to_string() })
                })?;
                let instance = self.instance.as_mut().ok_or(order("a step before any instance"))?;
                let inputs = self.batch.inputs();
                let result = self.desk.step(&mut **instance, &inputs, &mut self.outputs);
                watch(self.steps + 1, &inputs, &result.clone().map(|()| &self.outputs));
                let (staged, encoded) = (self.desk.staged(), &mut self.encoded);
                self.pending = Some(result.map(|()| hash_step(&self.outputs, staged, encoded)));
            }
            Entry::Outputs(hash) => {
                let now = self.pending.take().ok_or(order("outputs before any step"))?;
                self.steps += 1;
                if now != Ok(*hash) {
                    return Ok(Err(self.diverged(self.steps, Found::Outputs(*hash), found(now))));
                }
            }
            Entry::Fault(failure) => return Ok(self.compare_fault(failure)),
            Entry::Checkpoint(saved) => return Ok(self.compare_state(saved).map(|()| None)),
            Entry::Payload(read) => self.desk = Desk::recorded(read),
            Entry::End => {}
        }
        Ok(Ok(None))
    }

    fn start(&mut self, config: &Config) -> Result<(), End> {
        let mut instance = (self.make)().map_err(End::Failed)?;
        instance.start(config).map_err(End::Failed)?;
        self.instance = Some(instance);
        Ok(())
    }

    fn load(&mut self, saved: &Saved<'_>) -> Result<(), End> {
        let mut instance = (self.make)().map_err(End::Failed)?;
        instance.load(&saved.config, saved.now, saved.state).map_err(End::Failed)?;
        self.instance = Some(instance);
        Ok(())
    }

    /// What was recorded is that the step failed. The instance has ended then; another one follows, or nothing.
    fn compare_fault(&mut self, failure: &Failure<'_>) -> Result<Option<String>, End> {
        let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let recorded = line(failure.text);
        let Some(now) = self.pending.take() else {
            // It was a checkpoint that failed.
            return Ok(None);
        };
        self.instance = None;
        match now {
            // Inspect said so, and there is no inspect here: the same outputs break the same rule.
            Ok(hash) if failure.outputs == Some(hash) => Ok(Some(failure.text.to_owned())),
            Err(fault) if line(&fault.report()) == recorded => Ok(Some(fault.report())),
            now => Err(self.diverged(self.steps + 1, Found::Fault(recorded), found(now))),
        }
    }

    fn compare_state(&mut self, saved: &Saved<'_>) -> Result<(), End> {
        if !self.compares_states {
            return Ok(());
        }
        let Some(instance) = &mut self.instance else { return Ok(()) };
        let now = match instance.save() {
            Ok(state) if state == saved.state => {
                self.checkpoints += 1;
                return Ok(());
            }
            Ok(state) => Found::State(state.len()),
            Err(fault) => Found::Fault(fault.to_string()),
        };
        Err(self.diverged(self.steps, Found::State(saved.state.len()), now))
    }

    fn diverged(&self, step: u64, recorded: Found, now: Found) -> End {
        End::Diverged(Box::new(Divergence { step, recorded, now }))
    }
}

fn found(now: Result<u64, Fault>) -> Found {
    match now {
        Ok(hash) => Found::Outputs(hash),
        Err(fault) => Found::Fault(fault.to_string()),
    }
}

impl fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// The number of the last checkpoint that was taken before more than `steps` steps, and after how many it was; the first one
/// has number 0.
///
/// # Errors
/// Where the recording cannot be read.
pub fn checkpoint_before<R: Read>(
    reader: &mut Reader<R>,
    steps: u64,
) -> Result<Option<(u64, u64)>, ReadError> {
    let (mut number, mut found) = (0, None);
    while let Some(entry) = reader.next_entry()? {
        if let Entry::Checkpoint(saved) = entry {
            if saved.steps > steps {
                break;
            }
            found = Some((number, saved.steps));
            number += 1;
        }
    }
    Ok(found)
}
