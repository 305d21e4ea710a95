//! What an idle connection takes of memory. Prints figures, asserts none:
//! `cargo test --release -p bulkhead-tcp --test memory -- --ignored --nocapture`.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_tcp::Tcp;
use bulkhead_wit::*;
use common::peer::{ACK, SYN};
use common::wire::{Build, Frame};
use common::{SECOND, config, v4};

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
    let mut driver = Driver { tcp, batch: Batch::default(), outputs: Outputs::default() };
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
