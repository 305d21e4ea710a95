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
fn cost_of_a_segment() {
    for (number, active) in [(10_u32, 10_usize), (1000, 10), (100_000, 10), (1000, 1000), (100_000, 100_000)]
    {
        let started = Instant::now();
        let (mut driver, mut remotes, handles) = open(number);
        let opening = started.elapsed().as_nanos() as u64 / u64::from(number);
        let mut segments = 0_u64;
        let mut inside = 0_u64;
        let mut at = 0;
        let rounds = (200_000 / 32).max(active / 32);
        for _ in 0..rounds {
            for _ in 0..32 {
                let frame = remotes[at % active].frame(ACK, 1460);
                driver.inject(&frame);
                at += 1;
            }
            let before = Instant::now();
            driver.step();
            inside += before.elapsed().as_nanos() as u64;
            segments += 32;
        }
        let mut saved = driver.tcp.save().len() as u64 / u64::from(number);
        saved = saved.max(1);
        let received = inside / segments;
        // Now the other way: 64 KiB written, and its acknowledgements.
        let mut written = vec![0_u64; active];
        let (mut sends, mut inside) = (0_u64, 0_u64);
        for round in 0..(20_000.max(active)) {
            let which = round % active;
            written[which] += 65_536;
            driver.batch.positions.push(Position {
                connection: handles[which],
                written: written[which],
                limit: 1 << 30,
                ..Position::default()
            });
            let before = Instant::now();
            driver.step();
            inside += before.elapsed().as_nanos() as u64;
            sends += driver.outputs.sends.len() as u64;
            // Whatever was sent is acknowledged.
            for send in &driver.outputs.sends {
                if send.source == Source::Queue {
                    let owner = handles.iter().position(|handle| handle.0 == send.of);
                    let Some(owner) = owner.filter(|_| active <= 1000) else { continue };
                    let seq = send.header as usize + 24;
                    let seq =
                        u32::from_be_bytes(driver.outputs.headers[seq..seq + 4].try_into().expect("four"));
                    let build = &mut remotes[owner].build;
                    build.ack = seq.wrapping_add(send.length);
                }
            }
            let frame = remotes[which].frame(ACK, 0);
            driver.inject(&frame);
        }
        println!(
            "{number} connections, {active} active: open {opening} ns, data in {received} ns a segment, \
             64 KiB out and its ACK {} ns ({sends} sends), saved {saved} bytes a connection",
            inside / 20_000.max(active as u64)
        );
    }
}
