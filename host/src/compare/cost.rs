//! What a segment costs an instance by itself, with few connections and with many, of which few or all are active.

use std::time::Instant;

use bulkhead_wit::{Batch, Call, Config, Event, Handle, Listen, Outputs, Position, Room, Source, limits};

use super::figures::{Figure, Results};
use super::frames::{ACK, Remote, SYN, config, local, numbers};
use crate::fault::{Fault, Rule};
use crate::placement::Instance;

/// Segments of a step, as a busy device delivers them.
const BATCH: usize = 32;
/// Payload bytes of a segment.
const MSS: u32 = 1460;
/// Segments that are written at once, an initial window (RFC 6928).
const BURST: u64 = 10;
/// Where applications have room: more than is ever received.
const ROOM: u64 = 1 << 30;
/// Handshakes of a step.
const HANDSHAKES: usize = 200;

/// An instance with many connections, and their peers.
struct Crowd {
    instance: Box<dyn Instance>,
    batch: Batch,
    outputs: Outputs,
    remotes: Vec<Remote>,
    handles: Vec<Handle>,
    /// Bytes that the application of each has written.
    written: Vec<u64>,
    /// The active connection whose turn is next.
    next: usize,
}

impl Crowd {
    /// Shakes hands with so many peers; what is not accepted has no handle.
    fn open(mut instance: Box<dyn Instance>, number: u32) -> Result<Self, Fault> {
        instance.start(&Config { connections: instance.capacity(), ..config() })?;
        let remote = |number: u32| Remote {
            address: [10, 1 + (number >> 14) as u8, 0, 2],
            port: 1024 + (number & 0x3fff) as u16,
            seq: number,
            ack: 0,
        };
        let mut batch = Batch { now: limits::SECOND, ..Batch::default() };
        batch.calls.push(Call::Listen(Listen {
            listener: 1,
            local: local(),
            allow: u64::MAX,
            receive_first: ROOM as u32,
            receive_max: ROOM as u32,
            ..Listen::default()
        }));
        let mut crowd = Self {
            instance,
            batch,
            outputs: Outputs::default(),
            remotes: (0..number).map(remote).collect(),
            handles: Vec::new(),
            written: vec![0; number as usize],
            next: 0,
        };
        for first in (0..number as usize).step_by(HANDSHAKES) {
            crowd.shake_hands(first..(first + HANDSHAKES).min(number as usize))?;
        }
        Ok(crowd)
    }

    fn shake_hands(&mut self, which: std::ops::Range<usize>) -> Result<(), Fault> {
        let (remotes, batch) = (&mut self.remotes, &mut self.batch);
        let some = remotes.get_mut(which.clone()).unwrap_or_default();
        some.iter_mut().for_each(|remote| remote.say(batch, SYN, 0));
        self.step()?;
        let (remotes, batch) = (&mut self.remotes, &mut self.batch);
        for (remote, send) in remotes.get_mut(which).unwrap_or_default().iter_mut().zip(&self.outputs.sends) {
            let iss = numbers(&self.outputs.headers, send.header).map_or(0, |(seq, _)| seq);
            remote.ack = iss.wrapping_add(1);
            remote.say(batch, ACK, 0);
        }
        self.step()?;
        self.handles.extend(self.outputs.events.iter().filter_map(|event| match event {
            Event::Accepted(opening) => Some(opening.connection),
            _ => None,
        }));
        Ok(())
    }

    /// A step, and the nanoseconds that it took.
    fn step(&mut self) -> Result<u64, Fault> {
        self.batch.room = Room { sends: 1024, bytes: 64 << 20 };
        let inputs = self.batch.inputs();
        let before = Instant::now();
        self.instance.step(&inputs, &mut self.outputs)?;
        let took = before.elapsed().as_nanos() as u64;
        let now = self.batch.now + 10_000;
        self.batch.clear();
        self.batch.now = now;
        Ok(took)
    }

    /// The connections whose turn it is, of so many active ones.
    fn turn(&mut self, active: usize, count: usize) -> Vec<usize> {
        let turn = (self.next..self.next + count.min(active)).map(|at| at % active).collect();
        self.next = (self.next + count) % active;
        turn
    }

    /// A peer sends.
    fn say(&mut self, which: usize, length: u32) {
        if let Some(remote) = self.remotes.get_mut(which) {
            remote.say(&mut self.batch, ACK, length);
        }
    }

    /// An application writes.
    fn write(&mut self, which: usize, length: u64) {
        let (Some(connection), Some(written)) = (self.handles.get(which), self.written.get_mut(which)) else {
            return;
        };
        *written += length;
        let position = Position { written: *written, limit: ROOM, ..Position::default() };
        self.batch.positions.push(Position { connection: *connection, ..position });
    }

    /// The peers have got what was sent in the last step; how many segments that was.
    fn take_acknowledgements(&mut self) -> u64 {
        let mut segments = 0;
        for send in self.outputs.sends.iter().filter(|send| send.source == Source::Queue) {
            // Places are taken in order, the lowest first.
            let which = Handle(send.of).slot() as usize;
            if self.handles.get(which).is_none_or(|handle| handle.0 != send.of) {
                continue;
            }
            let end = numbers(&self.outputs.headers, send.header)
                .map_or(0, |(seq, _)| seq.wrapping_add(send.length));
            if let Some(remote) = self.remotes.get_mut(which) {
                remote.ack = end;
            }
            segments += u64::from(send.length.div_ceil(MSS));
        }
        segments
    }

    /// One of `active` after the other: full segments in, nothing out but acknowledgements; nanoseconds a segment.
    fn receive(&mut self, active: usize, rounds: usize) -> Result<f64, Fault> {
        let mut took = Vec::new();
        for _ in 0..rounds.max(active / BATCH) {
            for _ in 0..BATCH {
                let turn = self.turn(active, 1);
                turn.into_iter().for_each(|which| self.say(which, MSS));
            }
            took.push(self.step()?);
        }
        Ok(median(took) / BATCH as f64)
    }

    /// A full segment in, one out, and each acknowledges the one before: for a segment either way.
    fn exchange(&mut self, active: usize, rounds: usize) -> Result<f64, Fault> {
        let (mut took, mut segments) = (Vec::new(), 0);
        for _ in 0..rounds.max(2 * active / BATCH) {
            let turn = self.turn(active, BATCH);
            segments += turn.len() as u64;
            for which in turn {
                self.say(which, MSS);
                self.write(which, MSS.into());
            }
            took.push(self.step()?);
            segments += self.take_acknowledgements();
        }
        let rounds = took.len() as f64;
        Ok(median(took) * rounds / segments as f64)
    }

    /// The peers acknowledge what is outstanding: otherwise it would be sent again beside what is measured next.
    fn acknowledge(&mut self, active: usize) -> Result<(), Fault> {
        for first in (0..active).step_by(BATCH) {
            (first..active.min(first + BATCH)).for_each(|which| self.say(which, 0));
            self.step()?;
        }
        Ok(())
    }

    /// Ten segments written at once, and their acknowledgement, for `count` connections in a step: with one, nothing hides that
    /// its memory must be fetched. For a connection.
    fn burst(&mut self, active: usize, count: usize, rounds: usize) -> Result<f64, Fault> {
        let mut took = Vec::new();
        let count = count.min(active);
        for _ in 0..rounds.max(active / count) {
            let turn = self.turn(active, count);
            turn.iter().for_each(|which| self.write(*which, BURST * u64::from(MSS)));
            let first = self.step()?;
            self.take_acknowledgements();
            turn.iter().for_each(|which| self.say(*which, 0));
            took.push(first + self.step()?);
            self.take_acknowledgements();
        }
        Ok(median(took) / count as f64)
    }
}

/// A busy machine takes the processor away in some rounds.
fn median(mut rounds: Vec<u64>) -> f64 {
    rounds.sort_unstable();
    rounds.get(rounds.len() / 2).map_or(0.0, |time| *time as f64)
}

/// How many connections, and how many of them active. The first is what the others are compared with.
const CROWDS: [(u32, usize, &str); 5] = [
    (10, 10, "10 of 10"),
    (1_000, 10, "10 of 1,000"),
    (100_000, 10, "10 of 100,000"),
    (1_000, 1_000, "1,000 of 1,000"),
    (100_000, 100_000, "all of 100,000"),
];

/// Nanoseconds a segment, by how many connections are active of how many, in instances that `make` gives and that go by `name`:
/// a column for each crowd, beside which the ratio to the first stands as in [`Results::rows`]. `is_quick`: a look at it.
///
/// # Errors
/// The fault of an instance, or why there is none.
pub fn costs<E: From<Fault>>(
    results: &mut Results,
    name: &str,
    is_quick: bool,
    make: impl Fn() -> Result<Box<dyn Instance>, E>,
) -> Result<(), E> {
    let rounds = if is_quick { 500 } else { 6_000 };
    for (column, (number, active, _)) in CROWDS.into_iter().enumerate() {
        if is_quick && number > 1_000 {
            continue;
        }
        let begun = Instant::now();
        let mut crowd = Crowd::open(make()?, number)?;
        if crowd.handles.len() != number as usize {
            return Err(Fault::broken(Rule::Opening, "not every handshake opens a connection").into());
        }
        let opened = begun.elapsed().as_nanos() as f64 / f64::from(number);
        let mut add = |what: &str, unit, value| {
            results.add(&Figure::less(&format!("{name}: {what}"), unit), column, Some(value));
        };
        add("opened", "ns", opened);
        add("in", "ns", crowd.receive(active, rounds)?);
        add("in and out", "ns", crowd.exchange(active, rounds)?);
        crowd.acknowledge(active)?;
        add("10 out and their ACK, 32 a step", "ns", crowd.burst(active, BATCH, rounds / 10)?);
        add("the same, one a step", "ns", crowd.burst(active, 1, 3 * rounds)?);
    }
    Ok(())
}

impl Results {
    /// Nothing yet, of the crowds that [`costs`] measures.
    #[must_use]
    pub fn of_crowds(repetitions: usize) -> Self {
        Self::new(CROWDS.map(|(_, _, name)| name.to_owned()).into(), repetitions)
    }
}

#[cfg(all(test, feature = "wasm"))]
mod tests {
    use super::*;
    use crate::artifact::Artifact;

    #[test]
    fn an_instance_takes_as_many_connections_as_it_has_memory_for() {
        let instance = Artifact::bundled().expect("the bundled module").instance().expect("an instance");
        let most = instance.capacity();
        assert!(most > 100_000, "{most}");
        let mut crowd = Crowd::open(Box::new(instance), most + 2_000).expect("no fault");
        assert_eq!(crowd.handles.len(), most as usize);
        // They are of use, each of them.
        crowd.exchange(most as usize, 1).expect("no fault");
    }
}
