//! What recording costs: the time of a server's turns with and without it, in bulk and at one segment a step, and what a
//! checkpoint takes with more and more connections.
//!
//! `cargo bench --workspace --bench record`. The module runs in the sandbox; only the server's turns are measured, beside
//! nothing that a device would cost. As a test everything runs once, and nothing is measured.

use std::time::{Duration, Instant};

use bulkhead::artifact::Artifact;
use bulkhead::device::link::{Link, LinkConfig, LinkEnd};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::{ConnectOptions, ListenOptions, ListenerId, Options, Stack, StreamId};
use bulkhead_wit::{Address, Endpoint, Time};

/// Runs with and without, in turns, of which the medians count.
const RUNS: usize = 15;
const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 2];

fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Two hosts, and the time of the server's turns.
struct Pair {
    server: Stack,
    client: Stack,
    ends: (LinkEnd, LinkEnd),
    link: Link,
    listener: ListenerId,
    streams: Vec<(StreamId, StreamId)>,
    now: Time,
    spent: Duration,
}

impl Pair {
    fn new(instance: Box<dyn Instance>, recording: bool, connections: usize, offload: bool) -> Self {
        let mut options = Options::new(SERVER.into(), 24, 1500, [1, 2, 3, 4]);
        options.recording = recording;
        let mut server = Stack::new(instance, options).expect("it starts");
        let native = Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new())));
        let mut options = Options::new(CLIENT.into(), 24, 1500, [5, 6, 7, 8]);
        options.recording = false;
        let client = Stack::new(native, options).expect("it starts");
        let local = Endpoint::new(Address::from_v4(SERVER), 80);
        let listener = server
            .listen(local, ListenOptions { backlog: 4096, ..ListenOptions::default() })
            .expect("it listens");
        let (link, one, other) = Link::new(LinkConfig { offload, ..LinkConfig::default() }, 1);
        let mut pair = Self {
            server,
            client,
            ends: (one, other),
            link,
            listener,
            streams: Vec::new(),
            now: 0,
            spent: Duration::ZERO,
        };
        pair.tick();
        while pair.streams.len() < connections {
            let opened = pair.client.connect(local, ConnectOptions::default()).expect("a place");
            let accepted = loop {
                pair.tick();
                if let Ok(accepted) = pair.server.accept(pair.listener) {
                    break accepted.stream;
                }
            };
            pair.streams.push((opened, accepted));
        }
        pair.spent = Duration::ZERO;
        pair
    }

    fn tick(&mut self) {
        self.now += 20_000;
        self.link.advance(self.now);
        self.client.turn(self.now, &mut self.ends.1).expect("no fault");
        self.link.advance(self.now);
        let from = Instant::now();
        self.server.turn(self.now, &mut self.ends.0).expect("no fault");
        self.spent += from.elapsed();
        while self.client.next_ready().is_some() || self.server.next_ready().is_some() {}
    }

    /// So many bytes into the server over the first connection; gives the nanoseconds a byte.
    fn bulk(&mut self, bytes: usize) -> f64 {
        let (client, server) = self.streams[0];
        let block = vec![7; 256 << 10];
        let mut into = vec![0; 1 << 20];
        let (mut read, from) = (0, self.spent);
        while read < bytes {
            let _ = self.client.write(client, &block);
            self.tick();
            while let Ok(count) = self.server.read(server, &mut into) {
                read += count;
            }
        }
        (self.spent - from).as_nanos() as f64 / read as f64
    }

    /// So many requests of one byte, each answered with one; gives the nanoseconds of the server's turns for each.
    fn echo(&mut self, count: usize) -> f64 {
        let (client, server) = self.streams[0];
        let mut byte = [0];
        let from = self.spent;
        for _ in 0..count {
            self.client.write(client, &byte).expect("space");
            while self.server.read(server, &mut byte).is_err() {
                self.tick();
            }
            self.server.write(server, &byte).expect("space");
            while self.client.read(client, &mut byte).is_err() {
                self.tick();
            }
        }
        (self.spent - from).as_nanos() as f64 / count as f64
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Medians without and with recording.
fn compare(artifact: &Artifact, offload: bool, measure: impl Fn(&mut Pair) -> f64) -> (f64, f64) {
    let make = |recording| {
        let mut pair = Pair::new(Box::new(artifact.instance().expect("an instance")), recording, 1, offload);
        measure(&mut pair);
        pair
    };
    let (mut without, mut with) = (make(false), make(true));
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..if is_bench() { RUNS } else { 1 } {
        off.push(measure(&mut without));
        on.push(measure(&mut with));
    }
    (median(&mut off), median(&mut on))
}

fn main() {
    let artifact = Artifact::bundled().expect("the bundled module");
    let (bytes, count) = if is_bench() { (64 << 20, 20_000) } else { (1 << 20, 100) };
    for (what, (off, on)) in [
        ("bulk by super-segments, ns a KiB", compare(&artifact, true, |pair| pair.bulk(bytes) * 1024.0)),
        ("bulk, 1500 bytes, ns a KiB", compare(&artifact, false, |pair| pair.bulk(bytes) * 1024.0)),
        ("1 byte and its echo, ns", compare(&artifact, false, |pair| pair.echo(count))),
    ] {
        println!("{what:<34} without {off:>9.1}, recorded {on:>9.1}: {:+.1} %", (on / off - 1.0) * 100.0);
    }
    println!("connections   checkpoint bytes   it takes us   recording holds KiB");
    for connections in if is_bench() { &[1, 10, 100, 1000, 4000][..] } else { &[1][..] } {
        let mut pair =
            Pair::new(Box::new(artifact.instance().expect("an instance")), true, *connections, false);
        pair.echo(count / 4);
        let figures = pair.server.recording_figures();
        println!(
            "{connections:>11} {:>18} {:>13.1} {:>21}",
            figures.checkpoint_bytes,
            figures.checkpoint_ns as f64 / 1e3,
            figures.memory >> 10
        );
    }
}
