//! An instance by itself, with one connection that receives bulk data: full segments in order, and an application that
//! reads everything at once. What one crossing costs, and what a segment.

use std::hint::black_box;
use std::time::Instant;

use bulkhead_wit::{Batch, Call, Event, Handle, Listen, Outputs, Position, Room};

use super::figures::{Figure, Results, median};
use super::frames::{ACK, Remote, SYN, config, local, numbers};
use crate::fault::{Fault, Rule};
use crate::placement::Instance;

/// Payload bytes of a segment.
const MSS: u32 = 1448;
/// Bytes that the application's window is open for.
const WINDOW: u64 = 4 << 20;
/// Steps of one run.
const STEPS: u32 = 64;
/// Segments of the steps that are measured.
const SEGMENTS: [u32; 4] = [1, 8, 32, 128];

/// An instance with one open connection, and the peer's side of it.
pub struct Bulk {
    instance: Box<dyn Instance>,
    outputs: Outputs,
    now: u64,
    connection: Handle,
    received: u64,
    peer: Remote,
}

impl Bulk {
    /// Starts the instance and opens a connection of it.
    ///
    /// # Errors
    /// Its fault; a broken rule where it does not answer as TCP does.
    pub fn new(mut instance: Box<dyn Instance>) -> Result<Self, Fault> {
        instance.start(&config())?;
        let peer = Remote { address: [10, 0, 0, 2], port: 1000, seq: 1000, ack: 0 };
        let mut bulk = Self {
            instance,
            outputs: Outputs::default(),
            now: 1_000_000,
            connection: Handle::INSTANCE,
            received: 0,
            peer,
        };
        bulk.open()?;
        Ok(bulk)
    }

    /// The handshake.
    fn open(&mut self) -> Result<(), Fault> {
        let no_tcp = || Fault::broken(Rule::Opening, "a SYN is not answered");
        let mut batch = self.batch();
        batch.calls.push(Call::Listen(Listen {
            listener: 1,
            local: local(),
            allow: 16,
            receive_first: WINDOW as u32,
            receive_max: WINDOW as u32,
            ..Listen::default()
        }));
        self.peer.say(&mut batch, SYN, 0);
        self.step(&batch)?;
        let (seq, _) = numbers(&self.outputs.headers, 0).ok_or_else(no_tcp)?;
        self.peer.ack = seq.wrapping_add(1);
        let mut batch = self.batch();
        self.peer.say(&mut batch, ACK, 0);
        self.step(&batch)?;
        let opened = self.outputs.events.iter().find_map(|event| match event {
            Event::Accepted(opening) => Some(opening.connection),
            _ => None,
        });
        self.connection = opened.ok_or_else(no_tcp)?;
        Ok(())
    }

    fn batch(&mut self) -> Batch {
        self.now += 100_000;
        Batch { now: self.now, room: Room { sends: 256, bytes: 2 << 20 }, ..Batch::default() }
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Fault> {
        self.instance.step(&batch.inputs(), &mut self.outputs)
    }

    /// A step's inputs: so many full segments, and the news that the application has read what came before.
    fn data(&mut self, segments: u32) -> Batch {
        let mut batch = self.batch();
        batch.positions.push(Position {
            connection: self.connection,
            consumed: self.received,
            limit: self.received + WINDOW,
            ..Position::default()
        });
        for _ in 0..segments {
            self.peer.say(&mut batch, ACK, MSS);
            self.received += u64::from(MSS);
        }
        batch
    }

    /// The mean time of a step with so many segments, in nanoseconds, over so many steps.
    ///
    /// # Errors
    /// The instance's fault; a broken rule where it does not place what is in order.
    pub fn time(&mut self, segments: u32, steps: u32) -> Result<f64, Fault> {
        let batches: Vec<Batch> = (0..steps).map(|_| self.data(segments)).collect();
        let start = Instant::now();
        for batch in &batches {
            self.step(batch)?;
        }
        let took = start.elapsed().as_nanos() as f64 / f64::from(steps.max(1));
        if self.outputs.places.len() != segments as usize {
            return Err(Fault::broken(Rule::PlaceBinding, "what is in order is not placed"));
        }
        Ok(took)
    }

    /// The mean time of a step with nothing in it but the time, in nanoseconds, over so many steps.
    ///
    /// # Errors
    /// The instance's fault.
    pub fn time_empty(&mut self, steps: u32) -> Result<f64, Fault> {
        let batch = self.batch();
        let start = Instant::now();
        for _ in 0..steps {
            self.step(&batch)?;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(steps.max(1)))
    }
}

/// What a step costs in the sandbox, natively, and beside the cheapest system call of this machine: each figure `runs` times, for
/// steps of 1 to 128 segments.
///
/// # Errors
/// The fault of an instance.
pub fn steps(wasm: Box<dyn Instance>, native: Box<dyn Instance>, runs: usize) -> Result<Results, Fault> {
    let (mut wasm, mut native) = (Bulk::new(wasm)?, Bulk::new(native)?);
    let mut results = Results::new(vec!["native".into(), "wasm".into()], runs);
    let call = median_of(runs, || {
        let start = Instant::now();
        (0..STEPS).for_each(|_| _ = black_box(std::os::unix::process::parent_id()));
        Ok(start.elapsed().as_nanos() as f64 / f64::from(STEPS))
    })?;
    let mut add = |name: &str, unit, column, value| {
        results.add(&Figure::less(name, unit), column, Some(value));
    };
    add("getppid", "ns", 0, call);
    add("an empty step", "ns", 0, median_of(runs, || native.time_empty(STEPS))?);
    add("an empty step", "ns", 1, median_of(runs, || wasm.time_empty(STEPS))?);
    for segments in SEGMENTS {
        let outside = median_of(runs, || native.time(segments, STEPS))?;
        let inside = median_of(runs, || wasm.time(segments, STEPS))?;
        let name = format!("a step of {segments}");
        for (column, value) in [outside, inside].into_iter().enumerate() {
            add(&name, "ns", column, value);
            add(&format!("{name}, getppids"), "", column, value / call);
        }
        let more = (inside - outside) / f64::from(segments);
        add(&format!("wasm minus native, a segment of {segments}"), "ns", 1, more);
        add(&format!("wasm minus native, a segment of {segments}, getppids"), "", 1, more / call);
    }
    Ok(results)
}

/// The median of so many runs.
fn median_of(runs: usize, mut run: impl FnMut() -> Result<f64, Fault>) -> Result<f64, Fault> {
    let mut values = (0..runs.max(1)).map(|_| run()).collect::<Result<Vec<f64>, Fault>>()?;
    values.sort_by(f64::total_cmp);
    Ok(median(&values).unwrap_or_default())
}
