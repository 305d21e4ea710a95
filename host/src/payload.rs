//! The desk at which a module of the second world reads payload and leaves bytes, for the length of one step.
//!
//! A payload-blind module never comes here. For the others the rooms that hold payload stand behind the desk while the module
//! runs: what it names is looked up there, by the numbers that it was told; everything that it reads is written
//! down for the recording, and what it stages is kept until the step is carried out. Where a recording is replayed, the desk
//! answers from that instead.

use crate::fault::{Broken, Fault, Rule};
use crate::frame::FrameSlice;
use crate::inspect::{Ledgers, check, violation};
use crate::placement::Instance;
use crate::split::Arrived;
use crate::stack::{Datagrams, Stack, Table};
use crate::streams::HoldBytes;
use bulkhead_wit::encoding::{hash_bytes, hash_outputs};
use bulkhead_wit::{Handle, Inputs, Outputs, Payload, Source, limits};

/// Bytes in front of what was read, in a record: source, `of`, `at`, `length`, and how many bytes there were.
const HEAD: usize = 1 + 8 + 8 + 4 + 4;
/// In place of a length: the read failed. The rule is in bits 16 to 23, the length of the text in the 16 below.
const FAILED: u32 = 1 << 31;
/// The most bytes that the reads of one step take in a recording.
pub(crate) const RECORD_MAX: usize = limits::READ_BYTES + limits::READS * HEAD;

/// Where payload is, lent by the stack for a step.
#[derive(Default)]
struct Rooms {
    ledgers: Ledgers,
    streams: Table,
    hold_bytes: HoldBytes,
    datagrams: Datagrams,
    arrived: Vec<Arrived>,
    /// Messages of this step.
    messages: usize,
}

/// What answers.
#[derive(Default)]
enum Behind {
    /// Nothing: there is no step.
    #[default]
    Nothing,
    Rooms(Box<Rooms>),
    /// What a recording has of the step, and how much of it was read.
    Record(Vec<u8>, usize),
}

/// The desk of one step.
#[derive(Default)]
pub struct Desk {
    behind: Behind,
    /// What was read, as a recording has it.
    record: Vec<u8>,
    reads: usize,
    read: usize,
    staged: Vec<FrameSlice>,
    staged_bytes: usize,
    /// The rule that was broken first, where the module cannot be stopped on the spot.
    fault: Option<Fault>,
}

impl Desk {
    /// A desk that answers as was recorded of a step.
    pub(crate) fn recorded(record: &[u8]) -> Self {
        Self { behind: Behind::Record(record.to_vec(), 0), ..Self::default() }
    }

    /// A step of a recording. Afterwards only what was staged is left here.
    ///
    /// # Errors
    /// How the module failed.
    pub(crate) fn step(
        &mut self,
        instance: &mut dyn Instance,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
    ) -> Result<(), Fault> {
        if !instance.has_payload() {
            return instance.step(inputs, outputs);
        }
        let mut desk = match std::mem::take(self) {
            desk @ Self { behind: Behind::Record(..), .. } => desk,
            _ => Self::recorded(&[]),
        };
        let done = instance.step_with(inputs, outputs, &mut desk);
        self.staged = desk.staged;
        done
    }

    /// What was staged, by number.
    pub(crate) fn staged(&self) -> &[FrameSlice] {
        &self.staged
    }

    /// The rule that a module broke which runs natively.
    pub(crate) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// See [`Payload::read`].
    ///
    /// # Errors
    /// The rule that is broken: what is named is not there, or too much was read.
    pub(crate) fn read(&mut self, source: u8, of: u64, at: u64, length: u32) -> Result<Vec<u8>, Fault> {
        let mut head = [0; HEAD - 4];
        head[0] = source;
        head[1..9].copy_from_slice(&of.to_le_bytes());
        head[9..17].copy_from_slice(&at.to_le_bytes());
        head[17..].copy_from_slice(&length.to_le_bytes());
        let result = match &mut self.behind {
            Behind::Nothing => return Err(Fault::broken(Rule::Payload, "reads payload outside of a step")),
            Behind::Rooms(rooms) => {
                let left = limits::READ_BYTES - self.read;
                rooms.read(source, of, at, (length as usize).min(left + 1)).and_then(|bytes| {
                    let is_within = bytes.len() <= left && self.reads < limits::READS;
                    check(is_within, Rule::Counts, || {
                        format!(
                            "more than {} reads or {} bytes in one step",
                            limits::READS,
                            limits::READ_BYTES
                        )
                    })?;
                    Ok(bytes)
                })
            }
            Behind::Record(record, done) => {
                let (result, end) = recorded(record, *done, &head).ok_or_else(|| {
                    Fault::broken(Rule::Payload, "reads payload that was not read when this was recorded")
                })?;
                *done = end;
                result
            }
        };
        let (length, bytes) = match &result {
            Ok(bytes) => (bytes.len() as u32, bytes.as_slice()),
            // The same comes of it when this is replayed.
            Err(Broken { rule, detail }) => {
                (FAILED | (*rule as u32) << 16 | detail.len() as u32, detail.as_bytes())
            }
        };
        self.record.extend_from_slice(&head);
        self.record.extend_from_slice(&length.to_le_bytes());
        self.record.extend_from_slice(bytes);
        self.reads += 1;
        self.read += result.as_ref().map_or(0, Vec::len);
        result.map_err(Fault::Broken)
    }

    /// See [`Payload::stage`].
    ///
    /// # Errors
    /// The rule that is broken: there is no step, or too much was staged.
    pub(crate) fn stage(&mut self, bytes: &[u8]) -> Result<u32, Fault> {
        if matches!(self.behind, Behind::Nothing) {
            return Err(Fault::broken(Rule::Payload, "stages bytes outside of a step"));
        }
        let all = self.staged_bytes.saturating_add(bytes.len());
        if all > limits::STAGED_BYTES || self.staged.len() >= limits::STAGES || bytes.len() > limits::DATAGRAM
        {
            let number = self.staged.len() + 1;
            let detail = format!("{} bytes staged, {all} in {number} runs in one step", bytes.len());
            return Err(Fault::broken(Rule::Counts, detail));
        }
        self.staged_bytes = all;
        self.staged.push(FrameSlice::from(bytes));
        Ok(self.staged.len() as u32 - 1)
    }
}

/// For modules that run natively: they are told nothing, and the step fails as it ends.
impl Payload for Desk {
    fn read(&mut self, source: Source, of: u64, at: u64, length: u32) -> Vec<u8> {
        Desk::read(self, source as u8, of, at, length).unwrap_or_else(|fault| {
            self.fault.get_or_insert(fault);
            Vec::new()
        })
    }

    fn stage(&mut self, bytes: &[u8]) -> u32 {
        Desk::stage(self, bytes).unwrap_or_else(|fault| {
            self.fault.get_or_insert(fault);
            u32::MAX
        })
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("reads", &self.reads)
            .field("staged", &self.staged)
            .finish_non_exhaustive()
    }
}

/// What a record has at `done`, if it has this read there, and where the next one begins.
fn recorded(record: &[u8], done: usize, head: &[u8]) -> Option<(Result<Vec<u8>, Broken>, usize)> {
    let (count, rest) = record.get(done..)?.strip_prefix(head)?.split_first_chunk()?;
    let count = u32::from_le_bytes(*count);
    let length = (if count & FAILED == 0 { count } else { count & 0xffff }) as usize;
    let bytes = rest.get(..length)?.to_vec();
    let end = done + HEAD + length;
    if count & FAILED == 0 {
        return Some((Ok(bytes), end));
    }
    let rule = *Rule::ALL.get((count >> 16 & 0xff) as usize)?;
    Some((Err(Broken { rule, detail: String::from_utf8(bytes).ok()? }), end))
}

impl Rooms {
    /// At most `most` bytes.
    fn read(&self, source: u8, of: u64, at: u64, most: usize) -> Result<Vec<u8>, Broken> {
        let number = usize::try_from(of).unwrap_or(usize::MAX);
        let whole: Option<&[u8]> = match source {
            1 => return self.of_queue(Handle(of), at, most),
            2 => self.arrived.get(number).map(|arrived| &*arrived.payload),
            3 if number < self.messages => Some(self.datagrams.message(of)),
            4 => self.hold_bytes.slots.get(number).map(|slot| &*slot.bytes),
            _ => None,
        };
        let whole = whole.ok_or_else(|| {
            violation(Rule::Payload, format!("reads number {of} of source {source}, which is not there"))
        })?;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole[from..from + most.min(whole.len() - from)].to_vec())
    }

    /// Bytes of a connection's queue, as far as the module was told that they are written.
    fn of_queue(&self, of: Handle, at: u64, most: usize) -> Result<Vec<u8>, Broken> {
        let index = self.ledgers.find(of);
        let found = index.and_then(|index| Some((self.ledgers.get(index)?, self.streams.get(index)?)));
        let (ledger, stream) = found.ok_or_else(|| {
            violation(
                Rule::Handle,
                format!("reads the queue of {of:?}, which is not open, or closed already"),
            )
        })?;
        if at < ledger.acknowledged || at >= ledger.written {
            return Ok(Vec::new());
        }
        let length = (ledger.written - at).min(most as u64) as u32;
        let slices: Vec<&[u8]> = stream.send.slices(at, length).collect();
        Ok(slices.concat())
    }
}

/// The hash of a step's outputs as a recording has it: with what they refer to of staged bytes.
pub(crate) fn hash_step(outputs: &Outputs, staged: &[FrameSlice], encoded: &mut Vec<u8>) -> u64 {
    let hash = hash_outputs(outputs, encoded);
    if staged.is_empty() {
        return hash;
    }
    let runs = staged.iter().map(|bytes| hash_bytes(bytes));
    let all: Vec<u8> = std::iter::once(hash).chain(runs).flat_map(u64::to_le_bytes).collect();
    hash_bytes(&all)
}

impl Stack {
    /// The rooms that hold payload move behind a desk.
    pub(crate) fn lend_payload(&mut self) -> Desk {
        let rooms = Rooms {
            ledgers: std::mem::take(&mut self.ledgers),
            streams: std::mem::take(&mut self.streams),
            hold_bytes: std::mem::take(&mut self.hold_bytes),
            datagrams: std::mem::take(&mut self.datagrams),
            arrived: std::mem::take(&mut self.arrived),
            messages: self.batch.messages.len(),
        };
        Desk { behind: Behind::Rooms(Box::new(rooms)), ..Desk::default() }
    }

    /// And back again; gives what was staged.
    pub(crate) fn take_payload_back(&mut self, desk: &mut Desk) -> Vec<FrameSlice> {
        if let Behind::Rooms(rooms) = std::mem::take(&mut desk.behind) {
            let Rooms { ledgers, streams, hold_bytes, datagrams, arrived, messages: _ } = *rooms;
            self.ledgers = ledgers;
            self.streams = streams;
            self.hold_bytes = hold_bytes;
            self.datagrams = datagrams;
            self.arrived = arrived;
        }
        std::mem::take(&mut desk.staged)
    }

    /// Step and record, with payload at hand: what is read is known only afterwards.
    ///
    /// # Errors
    /// How the module failed.
    pub(crate) fn step_at_desk(&mut self) -> Result<(), Fault> {
        let mut desk = self.lend_payload();
        let done = self.instance.step_with(&self.batch.inputs(), &mut self.outputs, &mut desk);
        self.staged = self.take_payload_back(&mut desk);
        self.recorder.step_with(&desk.record, &self.batch.inputs());
        done
    }
}
