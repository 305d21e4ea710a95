//! Runs a case: a host with the module in it, its peers, an application, and the eyes of all of them.
//!
//! The host is the real one ([`Stack`]), so whatever the contract forbids is found by the code that enforces it. A run
//! reads nothing but the case, the configuration and the module: the same three give the same outcome on every machine.

use std::sync::Arc;

use bulkhead_wit::{Config, Endpoint, MarkAt, NEVER, Setting, Time, limits as bounds, registry};

use super::case::{Case, Event, FLOWS, SYN, Segment};
use super::finding::{Finding, Kind};
use super::flow::{Flow, OURS_V4, OURS_V6, PORT};
use super::wire::{self, Numbers, Seen, Written};
use super::{applications::Applications, applications::Shown, limits};
use crate::device::queue::QueueDevice;
use crate::device::{Capabilities, ChecksumState, Gso, Offload};
use crate::fault::Fault;
use crate::placement::Instance;
use crate::stack::Spare;
use crate::{Options, Sizes, Stack};

/// What a run is made of beside the case and the module.
#[derive(Clone, Debug)]
pub struct World {
    /// What the instance is started with.
    pub config: Config,
}

impl World {
    /// An address of each version, this seed, these settings.
    #[must_use]
    pub fn new(seed: u64, settings: &[Setting]) -> Self {
        let seed = [seed, seed ^ 0x5bd1_e995, !seed, seed.rotate_left(17)];
        let mut config = Options::new([10, 0, 0, 1].into(), 24, 1500, seed).config;
        config.addresses.push(bulkhead_wit::Prefix { address: OURS_V6, length: 64 });
        config.settings = settings.to_vec();
        Self { config }
    }
}

/// Sees a run from outside, to show it to people.
pub trait Watcher {
    /// An event of the case begins.
    fn event(&mut self, number: usize, event: &Event);
    /// A frame on the wire, at this time.
    fn frame(&mut self, now: Time, from_module: bool, frame: &[u8]);
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first thing that went wrong.
    pub finding: Option<Finding>,
    /// A number over every frame that the module sent: equal for equal behaviour.
    pub digest: u64,
    /// Frames that the module sent.
    pub frames: u32,
    /// Frames that its peers sent.
    pub arrived: u32,
    /// Steps of the module.
    pub steps: u64,
    /// When it ended, in nanoseconds of virtual time.
    pub now: Time,
    /// Initial sequence numbers that the module chose, by flow.
    pub firsts: Vec<(u8, u32)>,
    /// What an application saw of each connection, and what every other implementation should show it too.
    pub seen: Vec<Shown>,
}

/// Runs cases. Its memory is used again from run to run.
#[derive(Debug, Default)]
pub struct Executor {
    memory: Memory,
    spare: Spare,
}

/// What a run works in.
#[derive(Debug)]
pub(super) struct Memory {
    device: QueueDevice,
    /// A frame of a peer's.
    frame: Vec<u8>,
    /// What applications write.
    pub(super) written: Written,
}

impl Default for Memory {
    fn default() -> Self {
        let device = QueueDevice::new(Capabilities::full(1500));
        Self { device, frame: Vec::new(), written: Written::default() }
    }
}

fn mixed(before: u64, word: u64) -> u64 {
    (before.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A number over frames.
#[derive(Clone, Copy, Debug, Default)]
struct Digest([u64; 4]);

impl Digest {
    fn add(&mut self, frame: &[u8]) {
        let (parts, rest) = frame.as_chunks::<32>();
        parts.iter().for_each(|part| self.part(part));
        let mut last = [0; 32];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.part(&last);
        self.number(frame.len() as u64);
    }

    /// Four words beside each other, since each product takes its time.
    fn part(&mut self, part: &[u8; 32]) {
        for (word, lane) in part.as_chunks::<8>().0.iter().zip(&mut self.0) {
            *lane = mixed(*lane, u64::from_le_bytes(*word));
        }
    }

    fn number(&mut self, number: u64) {
        self.0[0] = mixed(self.0[0], number);
    }

    fn finish(self) -> u64 {
        self.0.into_iter().fold(0, mixed)
    }
}

impl Executor {
    /// Runs a case in this instance, which is started anew.
    pub fn run(
        &mut self,
        instance: Box<dyn Instance>,
        world: &World,
        case: &Case,
        watcher: Option<&mut dyn Watcher>,
    ) -> Outcome {
        let mut options = Options::new([10, 0, 0, 1].into(), 24, 1500, [0; 4]);
        options.config = world.config.clone();
        // A case is its own recording; and checkpoints come by the clock, which would make no two runs the same.
        options.recording = false;
        options.sizes = Sizes {
            receive_first: 32 << 10,
            receive_max: 256 << 10,
            send_first: 64 << 10,
            send_max: 256 << 10,
            ..Sizes::default()
        };
        let stack = match Stack::new_in(std::mem::take(&mut self.spare), instance, options) {
            Ok(stack) => stack,
            Err(fault) => return not_made(fault),
        };
        self.memory.device.clear();
        let mut run = Run::new(stack, std::mem::take(&mut self.memory), watcher);
        let outcome = run.whole(case);
        (self.memory, self.spare) = (run.memory, run.stack.into_spare());
        outcome
    }
}

/// A run under way.
pub(super) struct Run<'w> {
    pub(super) stack: Box<Stack>,
    pub(super) flows: Vec<Flow>,
    pub(super) applications: Applications,
    pub(super) memory: Memory,
    pub(super) now: Time,
    watcher: Option<&'w mut dyn Watcher>,
    event: usize,
    digest: Digest,
    frames: u32,
    arrived: u32,
    /// Steps that the instance had taken before.
    steps_before: u64,
    identification: u16,
}

/// What ended a run.
pub(super) type Ended = Result<(), Kind>;

impl<'w> Run<'w> {
    fn new(stack: Box<Stack>, memory: Memory, watcher: Option<&'w mut dyn Watcher>) -> Self {
        let steps_before = stack.cost().steps;
        Self {
            stack,
            flows: (0..FLOWS).map(Flow::new).collect(),
            applications: Applications::default(),
            memory,
            now: bounds::SECOND,
            watcher,
            event: 0,
            digest: Digest::default(),
            frames: 0,
            arrived: 0,
            steps_before,
            identification: 0,
        }
    }

    fn whole(&mut self, case: &Case) -> Outcome {
        let result = self.events(case);
        let finding = result.err().map(|kind| Finding { kind, event: self.event });
        let firsts =
            (0..).zip(&self.flows).filter_map(|(number, flow)| Some((number, flow.first()?))).collect();
        Outcome {
            finding,
            digest: self.digest.finish(),
            frames: self.frames,
            arrived: self.arrived,
            steps: self.stack.cost().steps - self.steps_before,
            now: self.now,
            firsts,
            seen: self.summary(),
        }
    }

    fn events(&mut self, case: &Case) -> Ended {
        // Told with what comes first.
        self.prepare();
        for (number, event) in case.events.iter().enumerate() {
            self.event = number;
            if let Some(watcher) = &mut self.watcher {
                watcher.event(number, event);
            }
            self.happen(event)?;
            self.look()?;
        }
        self.read_all()
    }

    /// An application listens from the beginning.
    fn prepare(&mut self) {
        if self.stack.serves(registry::protocol::TCP) {
            for address in [OURS_V4, OURS_V6] {
                self.listen(Endpoint::new(address, PORT), false);
            }
        }
        if self.stack.serves(registry::protocol::UDP) {
            self.bind(Endpoint::new(OURS_V4, PORT));
        }
    }

    fn happen(&mut self, event: &Event) -> Ended {
        match event {
            Event::Segment(segment) => self.segment(segment),
            Event::Call(call) => self.call(*call)?,
            Event::Wait { us } => return self.wait(*us),
            Event::Stall { us } => self.now += (*us).min(limits::WAIT_US) * bounds::MICROSECOND,
            Event::Fair { rounds } => return self.fair(*rounds),
            other => self.packet(other),
        }
        self.pump()
    }

    fn flow(&self, number: u8) -> usize {
        usize::from(number % FLOWS)
    }

    /// A segment of a peer's, as often as it is sent.
    pub(super) fn segment(&mut self, segment: &Segment) {
        let index = self.flow(segment.flow);
        let Some(flow) = self.flows.get_mut(index) else { return };
        flow.clock = 1_000_000 + (self.now / bounds::MILLISECOND) as u32;
        if segment.flags & SYN != 0 && segment.port != 0 {
            flow.local.port = segment.port;
        }
        let begin = flow.next.wrapping_add_signed(segment.seq);
        let before = self.arrived;
        for time in 0..=u32::from(segment.repeat) {
            if self.arrived - before >= limits::BURST {
                return;
            }
            let Some(flow) = self.flows.get_mut(index) else { return };
            let seq = begin.wrapping_add(time * u32::from(segment.stride));
            let ack = flow.heard.wrapping_add_signed(segment.ack);
            wire::segment(&mut self.memory.frame, flow, segment, Numbers { seq, ack });
            if let Some(seen) = Seen::of(&self.memory.frame) {
                // What is in fragments, or longer than a datagram, is not taken by everybody.
                flow.says(&seen, segment.cut == 0 && self.memory.frame.len() <= bounds::DATAGRAM);
                if segment.seq == 0 && time == 0 {
                    flow.goes_on(&seen);
                }
            }
            flow.is_odd |= is_odd(segment);
            let is_v4 = flow.local.address.is_v4();
            if segment.cut > 0 && is_v4 {
                self.cut(segment.cut);
            } else {
                self.arrive(if segment.gso == 0 { None } else { Some((is_v4, segment.gso)) });
            }
        }
    }

    fn cut(&mut self, unit: u16) {
        self.identification = self.identification.wrapping_add(1) | 0x8000;
        let frame = std::mem::take(&mut self.memory.frame);
        wire::cut(&frame, unit, self.identification, |part| {
            self.memory.frame.clear();
            self.memory.frame.extend_from_slice(part);
            self.arrive(None);
        });
        self.memory.frame = frame;
    }

    /// What is no TCP segment.
    fn packet(&mut self, event: &Event) {
        let Some(flow) = self.flows.get(self.flow(event.flow().unwrap_or(0))) else { return };
        match event {
            Event::Fragment(fragment) => wire::fragment(&mut self.memory.frame, flow, fragment),
            Event::Icmp(icmp) => wire::icmp(&mut self.memory.frame, flow, icmp),
            Event::Echo { length, .. } => wire::echo(&mut self.memory.frame, flow, *length),
            Event::Datagram { port, length, .. } => {
                wire::datagram(&mut self.memory.frame, flow, *port, *length)
            }
            Event::Raw(bytes) => {
                wire::raw(&mut self.memory.frame, bytes);
                let seen = Seen::of(&self.memory.frame);
                let of = |seen: &Seen| self.flows.iter().position(|flow| flow.remote == seen.from);
                if let Some((seen, index)) = seen.and_then(|seen| Some((seen, of(&seen)?)))
                    && let Some(flow) = self.flows.get_mut(index)
                {
                    flow.says(&seen, false);
                    flow.is_odd = true;
                }
            }
            _ => return,
        }
        self.arrive(None);
    }

    /// What stands in `frame` arrives.
    fn arrive(&mut self, merged: Option<(bool, u16)>) {
        if let Some(watcher) = &mut self.watcher {
            watcher.frame(self.now, false, &self.memory.frame);
        }
        self.arrived += 1;
        let mut offload = Offload { checksum: ChecksumState::Verified, ..Offload::default() };
        if let Some((is_v4, size)) = merged {
            offload.gso = if is_v4 { Gso::Tcp4 } else { Gso::Tcp6 };
            offload.gso_size = size;
        }
        self.memory.device.inject(&self.memory.frame, offload);
    }

    /// Turns until there is nothing more to do at this time.
    pub(super) fn pump(&mut self) -> Ended {
        for _ in 0..limits::TURNS {
            let turn = self.stack.turn(self.now, &mut self.memory.device).map_err(Kind::Fault)?;
            self.hear()?;
            self.accept();
            if !turn.again {
                return Ok(());
            }
        }
        Err(Kind::Spins)
    }

    /// The peers hear what the module has sent.
    fn hear(&mut self) -> Ended {
        while let Some((frame, _)) = self.memory.device.take() {
            self.frames += 1;
            self.digest.add(&frame);
            if let Some(watcher) = &mut self.watcher {
                watcher.frame(self.now, true, &frame);
            }
            if let Some(seen) = Seen::of(&frame)
                && let Some(flow) = self.flows.iter_mut().find(|flow| flow.remote == seen.to)
            {
                let payload = frame.get(frame.len() - seen.length as usize..).unwrap_or_default();
                let heard = flow.hears(&seen).and_then(|()| {
                    // Looked up only where there is something to hold against it.
                    let begins =
                        (seen.length > 0).then(|| self.stack.send_base(seen.from, seen.to)).flatten();
                    flow.holds_against(&seen, payload, begins, &mut self.memory.written)
                });
                heard.map_err(|(rule, detail)| Kind::Wire { rule, detail })?;
            }
            self.memory.device.recycle(frame);
        }
        Ok(())
    }

    /// Time passes, and every deadline is kept.
    pub(super) fn wait(&mut self, us: u64) -> Ended {
        let until = self.now + us.min(limits::WAIT_US) * bounds::MICROSECOND;
        for _ in 0..limits::DEADLINES {
            let due = self.stack.next_deadline();
            if due > until {
                break;
            }
            self.now = self.now.max(due);
            self.pump()?;
        }
        self.now = until;
        self.pump()
    }

    /// After each event: whoever waits for something has a deadline.
    fn look(&mut self) -> Ended {
        if self.stack.next_deadline() != NEVER {
            return Ok(());
        }
        for (number, flow) in self.flows.iter().enumerate() {
            let Some(stream) = flow.stream else { continue };
            if self.stack.end_of(stream).is_some() {
                continue;
            }
            // What is outstanding may be of a half-open connection, which the module may give up without a word.
            let ends = (flow.local, flow.remote);
            if flow.is_outstanding() && self.stack.connections().any(|(_, one, other)| (one, other) == ends) {
                let detail = format!("flow {number} has not acknowledged everything");
                return Err(Kind::Silent { detail });
            }
            let waiting = self.stack.unacknowledged(stream).unwrap_or(0);
            if waiting > 0 && !self.applications.may_hold_back && self.stack.may_write(stream) {
                let detail = format!("{waiting} bytes of flow {number} are not sent");
                return Err(Kind::Silent { detail });
            }
        }
        Ok(())
    }

    pub(super) fn mark(&mut self, marks: u8) -> MarkAt {
        self.applications.may_hold_back |= MarkAt(marks).contains(MarkAt::MORE);
        MarkAt(marks & 15)
    }
}

/// Whether the peer tells something that may keep an honest module from going on.
fn is_odd(segment: &Segment) -> bool {
    use super::case::TcpOption;
    let far = |number: i32| number.unsigned_abs() > 1 << 20;
    // A segment that is ahead tells the window last: what fair peers say of it afterwards is older (SND.WL1).
    let is_ahead = segment.seq > 0 || (segment.repeat > 0 && segment.stride > 0);
    (is_ahead && segment.window < 65_535)
        || segment.options.iter().any(|option| match option {
            TcpOption::Timestamps(value, echo) => *value != 0 || far(*echo),
            TcpOption::Raw(_) => true,
            _ => false,
        })
}

/// What a fault is when the module was never entered.
pub(super) fn not_made(fault: Fault) -> Outcome {
    let finding = Finding { kind: Kind::Fault(Arc::new(fault)), event: 0 };
    Outcome { finding: Some(finding), ..Outcome::default() }
}
