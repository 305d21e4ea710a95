//! What the wall costs: nanoseconds a step with 1 to 128 segments, in the sandbox and natively, beside a system call on
//! the same machine.
//!
//! `cargo bench -p bulkhead --bench step`. Both placements get the same steps of one connection that receives bulk data:
//! full segments in order, and an application that reads everything at once. Each figure is the median of many runs.
//! With `-- FILE.wasm` it measures that module. As a test (`cargo test --benches`) everything runs once, and nothing is measured.

use std::hint::black_box;
use std::time::Instant;

use bulkhead::artifact::Artifact;
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{
    Address, Batch, Call, Config, Endpoint, Event, Handle, Listen, Outputs, Position, Prefix, Room, Segment,
};

/// Steps in one run.
const STEPS: usize = 64;
/// Runs, of which the median counts.
const RUNS: usize = 301;
/// Payload bytes of a segment.
const MSS: u32 = 1448;
/// Bytes that the application's window is open for.
const WINDOW: u64 = 4 << 20;
const OURS: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];
const SYN: u8 = 2;
const ACK: u8 = 16;

/// An instance with one open connection, and the peer's side of it.
struct Bulk {
    instance: Box<dyn Instance>,
    outputs: Outputs,
    now: u64,
    connection: Handle,
    received: u64,
    peer_seq: u32,
    our_seq: u32,
}

fn header(seq: u32, ack: u32, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0];
    header.extend(PEER);
    header.extend(OURS);
    header.extend(1000u16.to_be_bytes());
    header.extend(80u16.to_be_bytes());
    header.extend(seq.to_be_bytes());
    header.extend(ack.to_be_bytes());
    header.extend([0x50 + ((options.len() as u8 / 4) << 4), flags, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend(options);
    header
}

fn push(batch: &mut Batch, bytes: &[u8], payload: u32) {
    batch.segments.push(Segment {
        header: batch.headers.len() as u32,
        payload,
        header_length: bytes.len() as u16,
        transport: 20,
        mss: payload.max(1) as u16,
        count: 1,
        protocol: protocol::TCP,
        ..Segment::default()
    });
    batch.headers.extend_from_slice(bytes);
}

impl Bulk {
    fn new(mut instance: Box<dyn Instance>) -> Self {
        let address = Address::from_v4(OURS);
        let config = Config {
            addresses: vec![Prefix { address, length: 120 }],
            mtu: 1500,
            seed: (1, 2, 3, 4),
            shards: 1,
            ports_first: 32_768,
            ports_last: 60_999,
            connections: 1 << 20,
            embryos: 1024,
            offers: 256,
            islands: 64,
            holds: 64,
            ..Config::default()
        };
        instance.start(&config).expect("it starts");
        let mut bulk = Self {
            instance,
            outputs: Outputs::default(),
            now: 1_000_000,
            connection: Handle::INSTANCE,
            received: 0,
            peer_seq: 1000,
            our_seq: 0,
        };
        bulk.open(Endpoint::new(address, 80));
        bulk
    }

    /// The handshake.
    fn open(&mut self, local: Endpoint) {
        let mut batch = self.batch();
        batch.calls.push(Call::Listen(Listen {
            listener: 1,
            local,
            allow: 16,
            receive_first: WINDOW as u32,
            receive_max: WINDOW as u32,
            ..Listen::default()
        }));
        // MSS 1460, window scale 7.
        push(&mut batch, &header(1000, 0, SYN, &[2, 4, 5, 0xb4, 1, 3, 3, 7]), 0);
        self.step(&batch);
        let answer = self.outputs.headers.get(24..28).expect("a SYN is answered");
        self.our_seq = u32::from_be_bytes(answer.try_into().expect("four bytes")).wrapping_add(1);
        self.peer_seq = 1001;
        let mut batch = self.batch();
        push(&mut batch, &header(self.peer_seq, self.our_seq, ACK, &[]), 0);
        self.step(&batch);
        let opened = self.outputs.events.iter().find_map(|event| match event {
            Event::Accepted(opening) => Some(opening.connection),
            _ => None,
        });
        self.connection = opened.expect("the handshake is complete");
    }

    fn batch(&mut self) -> Batch {
        self.now += 100_000;
        Batch { now: self.now, room: Room { sends: 256, bytes: 2 << 20 }, ..Batch::default() }
    }

    fn step(&mut self, batch: &Batch) {
        self.instance.step(&batch.inputs(), &mut self.outputs).expect("no fault");
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
            push(&mut batch, &header(self.peer_seq, self.our_seq, ACK, &[]), MSS);
            self.peer_seq = self.peer_seq.wrapping_add(MSS);
            self.received += u64::from(MSS);
        }
        batch
    }

    /// The median time of a step with so many segments, in nanoseconds.
    fn measure(&mut self, segments: u32) -> f64 {
        median(|| {
            let batches: Vec<Batch> = (0..STEPS).map(|_| self.data(segments)).collect();
            let start = Instant::now();
            batches.iter().for_each(|batch| self.step(batch));
            let took = start.elapsed().as_nanos() as f64 / STEPS as f64;
            assert_eq!(self.outputs.places.len(), segments as usize, "everything in order is placed");
            took
        })
    }

    /// The median time of a step with nothing in it but the time.
    fn measure_empty(&mut self) -> f64 {
        median(|| {
            let batch = self.batch();
            let start = Instant::now();
            (0..STEPS).for_each(|_| self.step(&batch));
            start.elapsed().as_nanos() as f64 / STEPS as f64
        })
    }
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let runs = if std::env::args().any(|argument| argument == "--bench") { RUNS } else { 1 };
    let mut times: Vec<f64> = (0..runs).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let file = std::env::args().skip(1).find(|argument| argument.ends_with(".wasm"));
    let artifact =
        file.map_or_else(Artifact::bundled, |file| Artifact::from_file(file.as_ref())).expect("a module");
    println!("module loaded in {:?}, from the cache: {}", artifact.loading().took, artifact.loading().cached);
    let start = Instant::now();
    let instance = artifact.instance().expect("an instance");
    println!("instance made in {:?}", start.elapsed());
    let mut wasm = Bulk::new(Box::new(instance));
    let mut native = Bulk::new(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))));
    let call = median(|| {
        let start = Instant::now();
        (0..STEPS).for_each(|_| _ = black_box(std::os::unix::process::parent_id()));
        start.elapsed().as_nanos() as f64 / STEPS as f64
    });
    println!("getppid {call:.0} ns");
    println!(
        "segments   wasm ns  native ns   difference a segment   in getppids (step, difference a segment)"
    );
    let (inside, outside) = (wasm.measure_empty(), native.measure_empty());
    println!("{:>8} {inside:>9.0} {outside:>10.0}", "empty");
    for segments in [1, 8, 32, 128] {
        let (inside, outside) = (wasm.measure(segments), native.measure(segments));
        let each = (inside - outside) / f64::from(segments);
        let (step, more) = (inside / call, each / call);
        println!("{segments:>8} {inside:>9.0} {outside:>10.0} {each:>22.1} {step:>14.2} {more:>8.2}");
    }
}
