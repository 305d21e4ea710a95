//! How long a swap stops a stack: 1,000 connections with traffic, a hundred swaps.
//!
//! `cargo bench -p bulkhead --bench swap`. As a test it runs briefly, and nothing is measured.
use bulkhead::artifact::Artifact;
use bulkhead::device::Capabilities;
use bulkhead::device::queue::QueueDevice;
use bulkhead::placement::native::Native;
use bulkhead::swap::{Newcomer, Swapped};
use bulkhead::{ConnectOptions, ListenOptions, Options, Stack, StreamId};
use bulkhead_tcp::Tcp;
use std::time::{Duration, Instant};

/// Connections with traffic between two swaps, and bytes each sends.
const ACTIVE: usize = 100;
const BYTES: usize = 4000;

fn main() {
    let (connections, swaps) =
        if std::env::args().any(|word| word == "--bench") { (1000, 100) } else { (20, 3) };
    println!(
        "| {connections} connections, {swaps} swaps | state | pause p50 | p90 | p99 | CPU p50 | p90 | p99 | in the rehearsal p50 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let artifact = Artifact::bundled().unwrap();
    let sandboxed = || Newcomer::artifact(&artifact).unwrap();
    measure("wasm to wasm", connections, swaps, &mut |_| sandboxed());
    measure("native to native", connections, swaps, &mut |_| native());
    measure("between them", connections, swaps, &mut |n| if n % 2 == 0 { native() } else { sandboxed() });
}

fn native() -> Newcomer {
    Newcomer::new(Box::new(Native::new(Box::new(Tcp::new()))))
}

/// Two stacks, and what they have open.
struct Bench {
    clock: Instant,
    server: (Stack, QueueDevice),
    client: (Stack, QueueDevice),
    accepted: Vec<StreamId>,
    asking: Vec<StreamId>,
}

fn turn(clock: Instant, (stack, device): &mut (Stack, QueueDevice), peer: &mut QueueDevice) {
    while stack.turn(clock.elapsed().as_nanos() as u64, device).unwrap().again {}
    while let Some((bytes, offload)) = device.take() {
        peer.inject(&bytes, offload);
        device.recycle(bytes);
    }
}

impl Bench {
    fn new(connections: usize) -> Self {
        let stack = |last, seed| {
            let options = Options::new([10, 0, 0, last].into(), 24, 1500, [seed; 4]);
            let instance = Box::new(Native::new(Box::new(Tcp::new())));
            (Stack::new(instance, options).unwrap(), QueueDevice::new(Capabilities::full(1500)))
        };
        let (server, client) = (stack(1, 1), stack(2, 2));
        let mut bench =
            Self { clock: Instant::now(), server, client, accepted: Vec::new(), asking: Vec::new() };
        let to = std::net::SocketAddr::from(([10, 0, 0, 1], 7)).into();
        let listener = bench.server.0.listen(to, ListenOptions::default()).unwrap();
        while bench.accepted.len() < connections {
            bench.asking.push(bench.client.0.connect(to, ConnectOptions::default()).unwrap());
            bench.turns();
            bench.accepted.push(bench.server.0.accept(listener).unwrap().stream);
        }
        bench
    }

    fn turns(&mut self) {
        for _ in 0..3 {
            turn(self.clock, &mut self.client, &mut self.server.1);
            turn(self.clock, &mut self.server, &mut self.client.1);
        }
    }

    /// Some of the connections carry something; a part of it is on its way when the swap comes.
    fn traffic(&mut self, round: usize) {
        let mut bytes = [0; BYTES];
        for n in 0..ACTIVE.min(self.asking.len()) {
            let n = (round * ACTIVE + n) % self.asking.len();
            let _ = self.client.0.write(self.asking[n], &bytes);
            let _ = self.server.0.write(self.accepted[n], &bytes);
            let _ = self.client.0.read(self.asking[n], &mut bytes);
            let _ = self.server.0.read(self.accepted[n], &mut bytes);
        }
        turn(self.clock, &mut self.server, &mut self.client.1);
        turn(self.clock, &mut self.client, &mut self.server.1);
    }
}

fn measure(name: &str, connections: usize, swaps: usize, next: &mut dyn FnMut(usize) -> Newcomer) {
    let mut bench = Bench::new(connections);
    let (mut done, mut rehearsals): (Vec<Swapped>, Vec<Duration>) = (Vec::new(), Vec::new());
    // The first is a change from what the stack began with.
    for round in 0..=swaps {
        bench.traffic(round);
        let mut newcomer = next(round);
        let begin = Instant::now();
        let rehearsal = bench.server.0.rehearsal().unwrap();
        let saving = begin.elapsed();
        newcomer.rehearse(&rehearsal).unwrap();
        let swapped = bench.server.0.swap(&mut bench.server.1, newcomer).unwrap();
        assert_eq!(swapped.connections, connections);
        if round > 0 {
            done.push(swapped);
            rehearsals.push(saving);
        }
    }
    let at = |all: &mut Vec<Duration>, share: usize| {
        all.sort_unstable();
        format!("{:.2} ms", all[(all.len() * share / 100).min(all.len() - 1)].as_secs_f64() * 1e3)
    };
    let mut pauses: Vec<Duration> = done.iter().map(|swapped| swapped.pause).collect();
    let mut cpu: Vec<Duration> = done.iter().map(|swapped| swapped.cpu).collect();
    let state = done.last().and_then(|swapped| swapped.state).unwrap_or_default();
    let figures: Vec<String> = [&mut pauses, &mut cpu]
        .into_iter()
        .flat_map(|all| [50, 90, 99].map(|share| at(all, share)))
        .collect();
    println!("| {name} | {} KiB | {} | {} |", state / 1024, figures.join(" | "), at(&mut rehearsals, 50));
}
