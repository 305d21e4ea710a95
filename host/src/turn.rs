//! One turn of the host: the rooms in order. Read this first.
//!
//! ```text
//! device -> split -> record -> step -> inspect -> streams -> application
//!                                             \-> join -> device
//! ```
//!
//! A turn gathers what there is for the module (calls, positions, arrived segments, the time), steps it once or a few
//! times, has every output inspected, and only then carries the outputs out. A turn with nothing to say to the module
//! is no step.

use crate::device::Device;
use crate::fault::Fault;
use crate::frame::FrameSlice;
use crate::inspect::{self, Step};
use crate::split::{Arrived, Split};
use crate::stack::Stack;
use bulkhead_wit::{Room, Source, Target, Time, limits};
use std::sync::Arc;

/// Steps of one turn at most: then the driver looks after its other work.
const STEPS: u32 = 8;
/// Segments that are taken into one step: enough to share the cost of a call, few enough to answer soon.
const BATCH: usize = 128;
/// Payload that is taken into one step, in bytes; then the turn ends, so that applications read what is in a cache still. Twice as
/// much would fill the larger caches of small machines, and be read from memory.
const BATCH_BYTES: usize = 512 << 10;
/// Bytes that one step may send, so that acknowledgements are heard between super-segments.
const ROOM_BYTES: u32 = 2 << 20;
/// Sends of one step.
const ROOM_SENDS: u32 = 256;

/// What a turn did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    /// Steps taken.
    pub steps: u32,
    /// There is more to do at once: turn again, without waiting.
    pub again: bool,
}

impl Stack {
    /// One turn at time `now` (nanoseconds since the stack's origin, never back).
    ///
    /// # Errors
    /// The fault that ended the last instance, told again at each call; its streams are told the same. A fault that
    /// was followed by a [restart](Stack::supervise) is told to its streams alone, and remembered.
    pub fn turn(&mut self, now: Time, device: &mut dyn Device) -> Result<Turn, Arc<Fault>> {
        self.turn_by(&mut || now, device)
    }

    /// One turn that asks a clock before each of its steps. Carrying out a step's sends can take milliseconds, and a
    /// stack that hears acknowledgements at a time that stands still measures round trips that are too short.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn turn_by(
        &mut self,
        clock: &mut dyn FnMut() -> Time,
        device: &mut dyn Device,
    ) -> Result<Turn, Arc<Fault>> {
        if let Some(fault) = &self.fault {
            return Err(Arc::clone(fault));
        }
        let mut turn = Turn::default();
        loop {
            self.now = self.now.max(clock());
            if turn.steps == 0 {
                device.set_now(self.now);
                self.follow_mtu(device.capabilities().mtu);
            }
            let (more_arriving, bytes) = self.gather(device);
            let is_due = self.unfinished || self.deadline <= self.now;
            if self.batch.is_empty() && !is_due {
                // What has arrived may have been all nonsense, and something behind it.
                turn.again = more_arriving;
                return Ok(turn);
            }
            self.step(device)?;
            turn.steps += 1;
            turn.again = more_arriving || self.unfinished || self.has_news();
            if !turn.again || turn.steps == STEPS || bytes >= BATCH_BYTES {
                self.make_spare();
                return Ok(turn);
            }
        }
    }

    /// A batch with nothing in it but the time, and room to send.
    pub(crate) fn begin_batch(&mut self) {
        self.batch.clear();
        self.arrived.clear();
        self.batch.now = self.now;
        self.batch.room = Room { sends: ROOM_SENDS, bytes: ROOM_BYTES };
    }

    /// Device and split: fills the batch. Says whether the device may have more, and how many bytes it gave.
    fn gather(&mut self, device: &mut dyn Device) -> (bool, usize) {
        self.begin_batch();
        self.relieve();
        self.take_calls();
        self.take_positions();
        self.take_messages();
        while let Some(frame) = self.resubmitted.pop_front() {
            let Some(frame) = device.steer(frame) else { continue };
            self.drops += u64::from(self.split.split(frame, &mut self.batch, &mut self.arrived).is_err());
        }
        let most = if self.instance.has_payload() { limits::ARRIVING } else { BATCH };
        let mut bytes = 0;
        while self.batch.segments.len() < most && bytes < BATCH_BYTES && Split::has_room(&self.batch) {
            let received = device.receive(&mut self.pool).unwrap_or_else(|error| {
                self.note_device_error(&error);
                None
            });
            let Some(frame) = received else { return (false, bytes) };
            bytes += frame.bytes.len();
            self.admit(frame);
        }
        (true, bytes)
    }

    /// One step; what follows a fault is for the supervisor to decide.
    fn step(&mut self, device: &mut dyn Device) -> Result<(), Arc<Fault>> {
        self.attempt(device)
            .or_else(|fault| if self.fall_back(&fault) { self.attempt(device) } else { Err(fault) })
            .and_then(|()| self.checkpoint())
            .or_else(|fault| self.mend(fault, device))
    }

    /// Record, step, inspect, and carry out: after a fault nothing has changed but the instance.
    pub(crate) fn attempt(&mut self, device: &mut dyn Device) -> Result<(), Fault> {
        let inputs = self.batch.inputs();
        self.staged.clear();
        self.step_from = self.instance.cost().wall_ns;
        if self.instance.has_payload() {
            self.step_at_desk()?;
        } else {
            self.recorder.step(&inputs);
            self.instance.step(&inputs, &mut self.outputs)?;
        }
        let inputs = self.batch.inputs();
        let step = Step { inputs, arrived: &self.arrived, staged: &self.staged, grants: &self.grants };
        inspect::inspect(&mut self.ledgers, &mut self.holds, &step, &self.outputs).map_err(Fault::Broken)?;
        self.recorder.outputs(&self.outputs, &self.staged);
        self.accompany();
        self.deadline = self.outputs.deadline;
        self.unfinished = self.outputs.unfinished;
        self.carry_out(device);
        Ok(())
    }

    /// Every output, in the contract's order.
    fn carry_out(&mut self, device: &mut dyn Device) {
        // The outputs leave `self` for the time of this function, so that rooms can be borrowed one by one.
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.events.iter().for_each(|event| self.begin(event));
        self.place(&outputs);
        self.expose(&outputs);
        self.send(&outputs, device);
        self.acknowledge(&outputs);
        outputs.events.drain(..).for_each(|event| self.end(event));
        outputs.notes.iter().for_each(|note| self.tell(note));
        self.outputs = outputs;
        // Frames that no stream kept go back to the pool.
        self.arrived.clear();
    }

    /// Streams: bytes go where they belong.
    fn place(&mut self, outputs: &bulkhead_wit::Outputs) {
        // A slow reader must not hold all buffers that frames arrive in.
        let keep = !self.pool.is_pressed();
        for place in &outputs.places {
            let (number, from) = (place.segment as usize, place.skip as usize);
            let Some(payload) = named((&self.arrived, &self.staged), place.source, number) else { continue };
            let payload = payload.slice(from..from + place.length as usize);
            let segment = self.batch.segments.get(number);
            match place.target {
                Target::Stream => {
                    let index = self.ledgers.last_of(bulkhead_wit::Handle(place.of));
                    if let Some(stream) = index.and_then(|index| self.streams.get_mut(index))
                        && !stream.is_detached
                    {
                        stream.receive.place(place.at, payload, keep, &mut self.blocks);
                    }
                }
                Target::Hold => {
                    let header = segment.and_then(|segment| self.batch.inputs().header(segment));
                    self.hold_bytes.place(place.of, place.at, header.unwrap_or_default(), &payload);
                }
                Target::Datagram => {
                    let Some(arrived) = self.arrived.get(number) else { continue };
                    let size = segment.map_or(1, |segment| segment.mss);
                    let ends = (arrived.ends.source, arrived.ends.destination);
                    self.datagrams.place(bulkhead_wit::Handle(place.of), ends, size.into(), &payload);
                }
            }
        }
    }

    /// Join: headers and ranges become frames.
    fn send(&mut self, outputs: &bulkhead_wit::Outputs, device: &mut dyn Device) {
        for send in &outputs.sends {
            let mut slices: [&[u8]; SLICES] = [&[]; SLICES];
            let mut count = 0;
            match send.source {
                Source::Queue => {
                    let index = self.ledgers.last_of(bulkhead_wit::Handle(send.of));
                    let Some(stream) = index.and_then(|index| self.streams.get(index)) else { continue };
                    for (slot, slice) in slices.iter_mut().zip(stream.send.slices(send.at, send.length)) {
                        *slot = slice;
                        count += 1;
                    }
                }
                Source::Segment | Source::Staged => {
                    let from = send.at as usize;
                    let payload = named((&self.arrived, &self.staged), send.source, send.of as usize);
                    let range = payload.and_then(|bytes| bytes.get(from..from + send.length as usize));
                    slices[0] = range.unwrap_or_default();
                    count = 1;
                }
                Source::Message => {
                    slices[0] = self.datagrams.message(send.of);
                    count = 1;
                }
                // The others do not pass inspect.
                Source::Nothing | Source::Hold => {}
            }
            if let Err(error) = self.join.join(send, &outputs.headers, &slices[..count], device) {
                tracing::debug!(%error, "not sent");
            }
        }
    }
}

/// The payload that an output names: a segment's, or staged bytes.
fn named<'a>(of: (&'a [Arrived], &'a [FrameSlice]), source: Source, number: usize) -> Option<&'a FrameSlice> {
    if source == Source::Staged { of.1.get(number) } else { of.0.get(number).map(|one| &one.payload) }
}

/// Slices of one send: a datagram in the smallest blocks of a queue, and both ends.
const SLICES: usize = limits::DATAGRAM / 2048 + 4;
