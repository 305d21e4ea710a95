//! What an instance was given, so that what it did can be done again.
//!
//! A module is a pure function of its inputs. Every stack keeps them in memory, bounded, together with the hash of each
//! step's outputs, from the last checkpoint on; with a file to write to, it keeps everything. So a
//! recording is exact, and holds no byte of any application: modules never see one. It does hold addresses, ports and the seed
//! of all randomness.
//!
//! - `entry`: what a recording consists of, byte by byte;
//! - `memory`: the recording in memory, which recovery and reports work with;
//! - `file`, `read`: recordings in files;
//! - `replay`: feeds one to a module, and finds where it first does something else;
//! - `redact`: makes a copy that does not tell whose it is;
//! - `show`: its segments, as tcpdump prints them;
//! - `limits`: every bound.

mod entry;
mod file;
pub mod limits;
mod memory;
mod read;
mod redact;
mod replay;
#[cfg(feature = "conformance")]
mod show;

use crate::fault::Fault;
use crate::frame::FrameSlice;
use crate::payload::hash_step;
use crate::stack::Stack;
use crate::swap::thread_cpu;
use bulkhead_wit::{Config, Handle, Inputs, Outputs, STATELESS, Time};
pub use entry::{Entry, Failure, Malformed, Saved};
use file::Stream;
pub use file::{FORMAT, Header};
pub(crate) use memory::{Base, Memory};
pub use read::{ReadError, Reader};
pub use redact::redact;
pub use replay::{Divergence, End, Factory, Found, Outcome, Replay, Watch, checkpoint_before};
#[cfg(feature = "conformance")]
pub use show::{Direction, segment};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the recordings of a stack have cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Steps recorded.
    pub steps: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Bytes of the last one.
    pub checkpoint_bytes: u64,
    /// The CPU time that the last one took, in nanoseconds.
    pub checkpoint_ns: u64,
    /// Bytes that the recording in memory holds.
    pub memory: u64,
}

impl Figures {
    /// Both together, of two stacks; of checkpoints the larger one.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            checkpoints: self.checkpoints + other.checkpoints,
            checkpoint_bytes: self.checkpoint_bytes.max(other.checkpoint_bytes),
            checkpoint_ns: self.checkpoint_ns.max(other.checkpoint_ns),
            memory: self.memory + other.memory,
        }
    }
}

/// Writes down what goes into an instance.
#[derive(Debug)]
pub(crate) struct Recorder {
    header: Header,
    memory: Option<Memory>,
    stream: Option<Stream>,
    /// For an entry that does not go into memory.
    scratch: Vec<u8>,
    /// Outputs, on their way to a hash.
    encoded: Vec<u8>,
    steps: u64,
    /// The time of the step that was begun last.
    now: Time,
    /// Nothing has come of it yet.
    is_under_way: bool,
    /// Time and next deadline's owner of the last step that was carried out.
    last: (Time, Handle),
    /// The module time at which a checkpoint is due.
    due: Time,
    /// Connections that there were when a checkpoint took too long.
    denied: Option<usize>,
    figures: Figures,
}

impl Recorder {
    /// A recorder of an instance that was started with this configuration.
    pub(crate) fn new(header: Header, config: &Config, in_memory: bool) -> Self {
        let mut memory = in_memory.then(|| Memory::new(Base::Start(config.clone())));
        memory.iter_mut().for_each(|memory| memory.with_payload(header.has_payload));
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let header = Header {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            origin: Time::try_from(origin).unwrap_or_default(),
            ..header
        };
        Self {
            header,
            memory,
            stream: None,
            scratch: Vec::new(),
            encoded: Vec::new(),
            steps: 0,
            now: 0,
            is_under_way: false,
            last: (0, Handle::INSTANCE),
            due: limits::INTERVAL,
            denied: None,
            figures: Figures::default(),
        }
    }

    /// So many steps were recorded before, by somebody else.
    #[cfg(feature = "net")]
    pub(crate) fn continue_after(&mut self, steps: u64) {
        self.steps = steps;
    }

    fn is_on(&self) -> bool {
        self.memory.is_some() || self.stream.is_some()
    }

    /// Appends an entry in memory, and to the file where there is one.
    #[inline]
    fn write(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let entry = match self.memory.as_mut().and_then(Memory::tail) {
            Some(entries) => entries.put(put),
            None if self.stream.is_some() => {
                self.scratch.clear();
                put(&mut self.scratch);
                &self.scratch
            }
            None => return,
        };
        if let Some(stream) = &mut self.stream {
            stream.append(entry);
            if stream.has_failed() {
                self.stream = None;
            }
        }
    }

    /// What a step is about to be given.
    #[inline]
    pub(crate) fn step(&mut self, inputs: &Inputs<'_>) {
        self.step_with(&[], inputs);
    }

    /// What a step was given, and what payload it has read.
    #[inline]
    pub(crate) fn step_with(&mut self, read: &[u8], inputs: &Inputs<'_>) {
        self.now = inputs.now;
        self.is_under_way = true;
        if self.is_on() {
            if let Some(memory) = &mut self.memory {
                memory.begin_step();
            }
            if !read.is_empty() {
                self.write(|to| entry::put(entry::Kind::Payload, to, |to| to.extend_from_slice(read)));
            }
            self.write(|to| entry::put_step(inputs, to));
        }
    }

    /// What came of it.
    #[inline]
    pub(crate) fn outputs(&mut self, outputs: &Outputs, staged: &[FrameSlice]) {
        self.steps += 1;
        self.is_under_way = false;
        self.last = (self.now, outputs.deadline_of);
        if self.is_on() {
            let hash = hash_step(outputs, staged, &mut self.encoded);
            self.write(|to| entry::put_outputs(hash, to));
        }
    }

    /// The step failed: it is no part of what happened, but of what is told.
    pub(crate) fn fault(&mut self, fault: &Fault, outputs: &Outputs, staged: &[FrameSlice]) {
        let is_broken = matches!(fault, Fault::Broken(_));
        let outputs = is_broken.then(|| hash_step(outputs, staged, &mut self.encoded));
        let text = fault.report();
        self.write(|to| entry::put_fault(Failure { outputs, text: &text }, to));
    }

    /// Whether nothing has come yet of the step that was begun last.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Forgets the step that failed, in memory, and says whether a step was under way at all.
    pub(crate) fn forget_failed(&mut self) -> bool {
        let was_under_way = std::mem::take(&mut self.is_under_way);
        if was_under_way && let Some(memory) = &mut self.memory {
            memory.forget_last();
        }
        was_under_way
    }

    /// What recovery begins with, and what it replays.
    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Steps that were recorded so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// The time of the last step that was carried out.
    pub(crate) fn last_now(&self) -> Time {
        self.last.0
    }

    /// Whose deadline that step has told.
    pub(crate) fn last_deadline_of(&self) -> Handle {
        self.last.1
    }

    /// A fresh instance goes on from here.
    pub(crate) fn begin(&mut self, header: Header, base: Base, module_ns: Time) {
        self.header = Header { program: self.header.program.clone(), origin: self.header.origin, ..header };
        self.due = module_ns.saturating_add(limits::INTERVAL);
        self.denied = None;
        if let Some(stream) = &mut self.stream {
            let mut bytes = Vec::new();
            Memory::new(base.clone()).at(self.steps).begin_file(&mut bytes);
            stream.append(&bytes);
        }
        if let Some(memory) = &mut self.memory {
            memory.rebase(base, self.steps);
            memory.with_payload(self.header.has_payload);
        }
    }

    /// A fresh instance goes on from here, and has done again what is in memory, which stays. So much module time had passed
    /// before that.
    pub(crate) fn go_on(&mut self, module_ns: Time) {
        self.due = limits::INTERVAL.saturating_add(module_ns);
        if let (Some(stream), Some(memory)) = (&mut self.stream, &self.memory) {
            memory.append_to(stream);
        }
    }

    /// Whether a checkpoint is due after so much time in the module.
    #[inline]
    pub(crate) fn is_due(&self, module_ns: Time) -> bool {
        self.is_on() && (module_ns >= self.due || self.memory.as_ref().is_some_and(Memory::is_full))
    }

    /// Whether a checkpoint may be taken with so many connections, which the module holds in so many bytes; if not, it is asked again
    /// later.
    fn may_checkpoint(&mut self, module_ns: Time, (connections, bytes): (usize, usize)) -> bool {
        if bytes > 2 * limits::STATE {
            // Not even tried: what is saved takes as much again of the module's memory.
            self.denied = Some(connections);
        }
        match self.denied {
            Some(before) if connections > before / 2 => {
                self.due = module_ns.saturating_add(bulkhead_wit::limits::SECOND);
                if let Some(memory) = &mut self.memory {
                    memory.give_up();
                }
                false
            }
            _ => true,
        }
    }

    /// A checkpoint was taken, and took so long.
    fn checkpoint(&mut self, base: Base, took: Duration, module_ns: Time, connections: usize) {
        let Base::State { now, config, state } = &base else { return };
        let cost = Time::try_from(took.as_nanos()).unwrap_or(Time::MAX / limits::COST_FACTOR);
        self.due = module_ns.saturating_add(limits::INTERVAL.max(cost.saturating_mul(limits::COST_FACTOR)));
        self.figures.checkpoints += 1;
        self.figures.checkpoint_bytes = state.len() as u64;
        self.figures.checkpoint_ns = cost;
        if let Some(stream) = &mut self.stream {
            if stream.since_checkpoint >= limits::FILE_FACTOR * state.len() as u64 {
                let saved = Saved { now: *now, steps: self.steps, config: config.clone(), state };
                self.scratch.clear();
                entry::put_saved(entry::Kind::Checkpoint, &saved, &mut self.scratch);
                stream.append(&self.scratch);
                stream.since_checkpoint = 0;
            }
            stream.flush();
        }
        self.denied = (cost > limits::PAUSE).then_some(connections);
        let is_too_long = state.len() > limits::STATE;
        if is_too_long {
            self.denied = Some(connections);
        }
        if let Some(memory) = &mut self.memory {
            if is_too_long {
                memory.give_up();
            } else {
                memory.rebase(base, self.steps);
            }
        }
    }

    /// Streams to here from now on: what is in memory first.
    fn stream_to(&mut self, mut stream: Stream) {
        if let Some(memory) = &self.memory {
            memory.append_to(&mut stream);
        }
        self.stream = Some(stream);
    }

    /// The recording in memory as it is now; `None` where there is none.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let memory = self.memory.as_ref().filter(|memory| memory.contents().is_some())?;
        Some(Snapshot { header: self.header.clone(), memory: memory.clone() })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    fn end(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let mut end = Vec::new();
            entry::put(entry::Kind::End, &mut end, |_| {});
            stream.append(&end);
            stream.flush();
        }
    }
}

/// A copy of a recording in memory.
#[derive(Debug)]
pub(crate) struct Snapshot {
    header: Header,
    memory: Memory,
}

impl Snapshot {
    /// As it stands in a file.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let (_, mut entries) = self.memory.contents()?;
        let mut bytes = self.header.encode();
        let mut add = |entry: &[u8]| {
            bytes.extend_from_slice(entry);
            bytes.extend_from_slice(&entry::check_of(entry));
        };
        let mut base = Vec::new();
        self.memory.begin_file(&mut base);
        add(&base);
        while let Some(entry) = entries.next_bytes() {
            add(entry);
        }
        let mut end = Vec::new();
        entry::put(entry::Kind::End, &mut end, |_| {});
        add(&end);
        Some(bytes)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

impl Stack {
    /// Of whom a recording of the present instance is.
    pub(crate) fn recording_header(instance: &dyn crate::placement::Instance) -> Header {
        Header {
            identity: instance.identity(),
            has_payload: instance.has_payload(),
            description: instance.description().clone(),
            ..Header::default()
        }
    }

    /// Records everything from now on, and what is in memory before it. An error while it is written ends the recording with
    /// a warning, and nothing else. It is whole once [`end_recording`](Self::end_recording) was called.
    ///
    /// # Errors
    /// What writing the first bytes fails with, or how the module failed where its state had to be asked for.
    pub fn record_to(&mut self, to: Box<dyn Write + Send>) -> io::Result<()> {
        let stream = Stream::new(to, &self.recorder.header)?;
        self.record_into(stream)
    }

    /// The same, behind what a predecessor has recorded of the same connections: a fresh instance goes on from there.
    ///
    /// # Errors
    /// How the module failed where its state had to be asked for.
    #[cfg(feature = "net")]
    pub(crate) fn record_after(&mut self, to: Box<dyn Write + Send>) -> io::Result<()> {
        self.record_into(Stream::behind(to))
    }

    fn record_into(&mut self, stream: Stream) -> io::Result<()> {
        let is_whole = self.recorder.memory.as_ref().is_some_and(|memory| memory.contents().is_some());
        let base = if is_whole || self.recorder.steps == 0 {
            None
        } else {
            let state = Arc::new(self.saved().map_err(io::Error::other)?);
            Some(Base::State { now: self.now, config: self.config_of_load(), state })
        };
        self.recorder.stream_to(stream);
        let base = match base {
            None if is_whole => return Ok(()),
            None => Base::Start(self.options().config.clone()),
            Some(base) => base,
        };
        let header = self.recorder.header.clone();
        self.recorder.begin(header, base, self.instance.cost().wall_ns);
        Ok(())
    }

    /// The recording is complete: its end is written.
    pub fn end_recording(&mut self) {
        self.recorder.end();
    }

    /// The recording in memory as a file would have it: from the last checkpoint on. `None` where none is kept.
    #[must_use]
    pub fn recording(&self) -> Option<Vec<u8>> {
        self.recorder.snapshot()?.encode()
    }

    /// What recording has cost so far.
    #[must_use]
    pub fn recording_figures(&self) -> Figures {
        let memory = self.recorder.memory.as_ref().map_or(0, Memory::held) as u64;
        Figures { steps: self.recorder.steps, memory, ..self.recorder.figures }
    }

    /// Between two steps: has the module save its state, if it is time to.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Fault> {
        let module_ns = self.instance.cost().wall_ns;
        if !self.recorder.is_due(module_ns) || self.description().state_format == STATELESS {
            return Ok(());
        }
        let connections = self.ledgers.living().count();
        let bytes = connections.saturating_mul(self.description().bytes_per_connection as usize);
        if !self.recorder.may_checkpoint(module_ns, (connections, bytes)) {
            return Ok(());
        }
        // What the step was given is dealt with: a fault is the checkpoint's.
        self.batch.clear();
        // Not the time on the wall: a thread that was preempted would have the next one wait.
        let from = thread_cpu();
        let state = Arc::new(self.instance.save()?);
        let base = Base::State { now: self.now, config: self.config_of_load(), state };
        self.recorder.checkpoint(base, thread_cpu().saturating_sub(from), module_ns, connections);
        Ok(())
    }
}
