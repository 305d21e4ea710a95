//! What a segment costs with few and with many connections. Prints figures, asserts none:
//! `cargo test --release -p bulkhead-tcp --test cost -- --ignored --nocapture`.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_tcp::Tcp;
use bulkhead_wit::*;
use common::peer::{ACK, SYN};
use common::wire::{Build, Frame};
use common::{SECOND, config, v4};
use std::time::Instant;

/// A connection as its peer sees it.
struct Remote {
    build: Build,
}

impl Remote {
    fn new(number: u32) -> Self {
        let source = Address::from_v4([10, 1 + (number >> 14) as u8, 0, 2]);
        let build = Build {
            source: Endpoint::new(source, 1024 + (number & 0x3fff) as u16),
            destination: Endpoint::new(v4(1), 80),
            seq: number,
            window: 65_535,
            ..Build::default()
        };
        Self { build }
    }

    fn frame(&mut self, flags: u8, length: u32) -> Frame {
        self.build.flags = flags;
        self.build.length = length;
        let frame = self.build.frame();
        self.build.seq = self.build.seq.wrapping_add(length + u32::from(flags & SYN != 0));
        frame
    }
}

struct Driver {
    tcp: Tcp,
    batch: Batch,
    outputs: Outputs,
    /// The most that any connection has written.
    written: u64,
}

impl Driver {
    fn inject(&mut self, frame: &Frame) {
        let header = self.batch.headers.len() as u32;
        self.batch.headers.extend_from_slice(&frame.header);
        self.batch.segments.push(Segment {
            header,
            payload: frame.length,
            header_length: frame.header.len() as u16,
            transport: 20,
            mss: 1460,
            count: frame.length.div_ceil(1460).max(1) as u16,
            protocol: 6,
            ..Segment::default()
        });
    }

    fn step(&mut self) {
        self.outputs.clear();
        self.tcp.step(&self.batch.inputs(), &mut self.outputs);
        self.batch.clear();
        self.batch.now += 10_000;
    }

    /// A step, and the nanoseconds that it took.
    fn timed_step(&mut self) -> u64 {
        let before = Instant::now();
        self.step();
        before.elapsed().as_nanos() as u64
    }

    fn write(&mut self, connection: Handle, written: u64) {
        self.written = self.written.max(written);
        self.batch.positions.push(Position { connection, written, limit: 1 << 30, ..Position::default() });
    }

    /// The peers have got what was sent in the last step; how many segments that was.
    fn take_acknowledgements(&self, remotes: &mut [Remote], handles: &[Handle]) -> u64 {
        let mut segments = 0;
        for send in self.outputs.sends.iter().filter(|send| send.source == Source::Queue) {
            // Places are taken in order, the lowest first.
            let which = Handle(send.of).slot() as usize;
            assert_eq!(handles[which].0, send.of);
            let at = send.header as usize + 24;
            let seq = u32::from_be_bytes(self.outputs.headers[at..at + 4].try_into().expect("four"));
            remotes[which].build.ack = seq.wrapping_add(send.length);
            segments += u64::from(send.length.div_ceil(1460));
        }
        segments
    }
}

/// Bytes of memory that this process holds (Linux; 0 elsewhere).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn open(number: u32) -> (Driver, Vec<Remote>, Vec<Handle>) {
    let mut config = config(v4(1), 1);
    config.connections = 1 << 20;
    let mut tcp = Tcp::new();
    tcp.start(&config).expect("starts");
    let mut driver = Driver { tcp, batch: Batch::default(), outputs: Outputs::default(), written: 0 };
    driver.batch.now = SECOND;
    driver.batch.room = Room { sends: 1024, bytes: 64 << 20 };
    driver.batch.calls.push(Call::Listen(Listen {
        listener: 1,
        local: Endpoint::new(v4(1), 80),
        allow: u64::MAX,
        receive_first: 1 << 30,
        receive_max: 1 << 30,
        ..Listen::default()
    }));
    driver.step();
    let mut remotes: Vec<Remote> = (0..number).map(Remote::new).collect();
    let mut handles = Vec::new();
    for chunk in remotes.chunks_mut(200) {
        for remote in &mut *chunk {
            let mut syn = remote.build.clone();
            syn.options = vec![2, 4, 5, 180, 1, 3, 3, 14];
            syn.flags = SYN;
            remote.build.seq = remote.build.seq.wrapping_add(1);
            driver.inject(&syn.frame());
        }
        driver.step();
        for (remote, send) in chunk.iter_mut().zip(&driver.outputs.sends) {
            let at = send.header as usize + 24;
            let iss = u32::from_be_bytes(driver.outputs.headers[at..at + 4].try_into().expect("four"));
            remote.build.ack = iss.wrapping_add(1);
        }
        for remote in &mut *chunk {
            let frame = remote.frame(ACK, 0);
            driver.inject(&frame);
        }
        driver.step();
        handles.extend(driver.outputs.events.iter().filter_map(|event| match event {
            Event::Accepted(opening) => Some(opening.connection),
            _ => None,
        }));
    }
    assert_eq!(handles.len(), number as usize);
    (driver, remotes, handles)
}

/// Nanoseconds inside the module, for each of some things.
struct Figures {
    open: u64,
    receive: u64,
    exchange: u64,
    send: u64,
    alone: u64,
    saved: u64,
}

/// Segments of a step, as a busy device delivers them.
const BATCH: usize = 32;

/// What rounds took. The median of them counts: a busy machine takes the processor away in some.
fn median(mut rounds: Vec<u64>) -> u64 {
    rounds.sort_unstable();
    rounds.get(rounds.len() / 2).copied().unwrap_or(0)
}

/// One of `active` after the other: full segments in, nothing out but acknowledgements.
fn receive(driver: &mut Driver, remotes: &mut [Remote], active: usize) -> u64 {
    let (mut inside, mut at) = (Vec::new(), 0);
    for _ in 0..(200_000 / BATCH).max(active / BATCH) {
        for _ in 0..BATCH {
            let frame = remotes[at % active].frame(ACK, 1460);
            driver.inject(&frame);
            at += 1;
        }
        inside.push(driver.timed_step());
    }
    median(inside) / BATCH as u64
}

/// A full segment in, one out, and each acknowledges the one before: for a segment either way.
fn exchange(driver: &mut Driver, remotes: &mut [Remote], handles: &[Handle], active: usize) -> u64 {
    let (mut inside, mut segments, mut at) = (Vec::new(), 0, 0);
    let rounds = (200_000 / BATCH).max(2 * active / BATCH);
    let mut written = vec![0_u64; active];
    for _ in 0..rounds {
        for _ in 0..BATCH.min(active) {
            let which = at % active;
            at += 1;
            let frame = remotes[which].frame(ACK, 1460);
            driver.inject(&frame);
            written[which] += 1460;
            driver.write(handles[which], written[which]);
            segments += 1;
        }
        inside.push(driver.timed_step());
        segments += driver.take_acknowledgements(remotes, handles);
    }
    median(inside) * rounds as u64 / segments
}

/// Ten segments written at once, an initial window, and their acknowledgement, for `batch` connections in a step: with
/// one, nothing hides that its memory must be fetched.
fn send(
    driver: &mut Driver,
    remotes: &mut [Remote],
    handles: &[Handle],
    (active, batch): (usize, usize),
) -> u64 {
    let (mut inside, mut at, batch) = (Vec::new(), 0, batch.min(active));
    let mut written = vec![driver.written; active];
    for _ in 0..(20_000 / batch).max(active / batch) {
        let turn: Vec<usize> = (at..at + batch).map(|at| at % active).collect();
        at += batch;
        for &which in &turn {
            written[which] += 10 * 1460;
            driver.write(handles[which], written[which]);
        }
        let first = driver.timed_step();
        driver.take_acknowledgements(remotes, handles);
        for &which in &turn {
            let frame = remotes[which].frame(ACK, 0);
            driver.inject(&frame);
        }
        inside.push(first + driver.timed_step());
        driver.take_acknowledgements(remotes, handles);
    }
    median(inside) / batch as u64
}

fn measure(number: u32, active: usize) -> Figures {
    let started = Instant::now();
    let (mut driver, mut remotes, handles) = open(number);
    let open = started.elapsed().as_nanos() as u64 / u64::from(number);
    let receive = receive(&mut driver, &mut remotes, active);
    let saved = driver.tcp.save().len() as u64 / u64::from(number);
    let exchange = exchange(&mut driver, &mut remotes, &handles, active);
    let batched = send(&mut driver, &mut remotes, &handles, (active, BATCH));
    let alone = send(&mut driver, &mut remotes, &handles, (active, 1));
    Figures { open, receive, exchange, send: batched, alone, saved }
}

#[test]
#[ignore = "prints figures"]
fn cost_of_a_segment() {
    println!(
        "| connections | active | open | in | in and out | 10 out, and their ACK | the same alone | saved |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut first = None;
    for (number, active) in [(10_u32, 10_usize), (1000, 10), (100_000, 10), (1000, 1000), (100_000, 100_000)]
    {
        let figures = measure(number, active);
        let Figures { open, receive, exchange, send, alone, saved } = figures;
        let base = first.get_or_insert(figures);
        let times = |now: u64, then: u64| format!("{now} ns ({:.2}x)", now as f64 / then.max(1) as f64);
        println!(
            "| {number} | {active} | {open} ns | {} | {} | {} | {} | {saved} B |",
            times(receive, base.receive),
            times(exchange, base.exchange),
            times(send, base.send),
            times(alone, base.alone)
        );
    }
}

#[test]
#[ignore = "prints figures"]
fn memory_of_an_idle_connection() {
    const NUMBER: u32 = 100_000;
    // What the test itself keeps of each is measured by keeping it twice.
    let before = resident();
    let twice: Vec<Remote> = (0..NUMBER).map(Remote::new).collect();
    let own = resident() - before;
    let (driver, remotes, handles) = open(NUMBER);
    let all = resident() - before;
    let module = all.saturating_sub(2 * own + 8 * u64::from(NUMBER));
    println!("{NUMBER} idle connections: {} bytes each", module / u64::from(NUMBER));
    drop((driver, remotes, handles, twice));
}
