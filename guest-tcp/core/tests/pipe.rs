//! Two stacks joined by a seeded pipe that loses, delays, reorders and duplicates; lengths only, positions checked.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::*;
use common::flight::Flight;
use common::wire::Frame;
use common::{Host, MS, Random, SECOND, config, v4};

struct Pipe {
    flight: Flight,
    random: Random,
    loss: u64,
    jitter: Time,
    duplicate: u64,
    delay: Time,
    merge: bool,
}

impl Pipe {
    fn new(seed: u64, addresses: [Address; 2]) -> Self {
        let hosts = [0, 1].map(|i| Host::new(config(addresses[i], seed * 2 + i as u64)));
        Self {
            flight: Flight::new(hosts),
            random: Random(seed),
            loss: 0,
            jitter: 0,
            duplicate: 0,
            delay: 5 * MS,
            merge: false,
        }
    }

    fn fly(&mut self, from: usize, frames: Vec<Frame>) {
        let now = self.flight.hosts[from].now;
        for frame in frames {
            let cut = if self.merge {
                let count = if frame.mss == 0 { 1 } else { frame.length.div_ceil(u32::from(frame.mss)) };
                let mss = if frame.mss == 0 { frame.length.max(1) as u16 } else { frame.mss };
                vec![Frame { count: count as u16, mss, ..frame }]
            } else {
                frame.cut()
            };
            for frame in cut {
                if self.random.chance(self.loss) {
                    continue;
                }
                let copies = 1 + u64::from(self.random.chance(self.duplicate));
                for _ in 0..copies {
                    let at = now + self.delay + self.random.below(self.jitter + 1);
                    self.flight.launch(at, 1 - from, frame.clone());
                }
            }
        }
    }

    fn step(&mut self, which: usize) {
        let frames = self.flight.hosts[which].settle();
        self.fly(which, frames);
    }

    /// Moves to the next thing that happens; false if nothing ever will.
    fn advance(&mut self) -> bool {
        let Some(now) = self.flight.pass() else { return false };
        while let Some(full) = self.flight.deliver(now) {
            self.step(full);
        }
        for which in 0..2 {
            if self.flight.is_due(which, now) {
                self.step(which);
            }
        }
        true
    }
}

/// Both sides send `bytes`, read what comes, and end their streams; all of it must arrive, and both must close.
fn transfer(pipe: &mut Pipe, bytes: u64) -> u64 {
    let remote = pipe.flight.hosts[1].config.addresses[0].address;
    pipe.flight.hosts[1].listen(80);
    pipe.step(1);
    let a = pipe.flight.hosts[0].open(Endpoint::new(remote, 80), Vec::new());
    pipe.step(0);
    let started = pipe.flight.hosts[0].now;
    let mut handles = [Some(a), None];
    let mut left = [bytes; 2];
    let mut ended = [false; 2];
    let mut rounds = 0_u64;
    loop {
        for which in 0..2 {
            if handles[which].is_none() && !pipe.flight.hosts[1].events.is_empty() {
                let found =
                    pipe.flight.hosts[1].events.iter().any(|event| matches!(event, Event::Accepted(_)));
                handles[which] = found.then(|| pipe.flight.hosts[1].accepted());
            }
            let Some(handle) = handles[which] else { continue };
            let host = &mut pipe.flight.hosts[which];
            let stream = host.streams[&handle].clone();
            if stream.closed.is_some() {
                continue;
            }
            let mut act = false;
            if stream.exposed > stream.consumed {
                host.read_all(handle, 256 << 10);
                act = true;
            }
            if stream.open && left[which] > 0 && stream.written - stream.acknowledged < 200_000 {
                let chunk = left[which].min(70_000);
                left[which] -= chunk;
                host.batch.positions.clear();
                host.write(handle, chunk);
                act = true;
            }
            if stream.open && left[which] == 0 && !ended[which] {
                ended[which] = true;
                host.call(Call::Shutdown(handle));
                act = true;
            }
            if act {
                pipe.step(which);
            }
        }
        let over = handles
            .iter()
            .zip(&pipe.flight.hosts)
            .all(|(handle, host)| handle.is_some_and(|handle| host.streams[&handle].closed.is_some()));
        if over {
            break;
        }
        rounds += 1;
        assert!(rounds < 2_000_000, "no progress");
        assert!(pipe.advance(), "stalled");
    }
    for (handle, host) in handles.iter().zip(&pipe.flight.hosts) {
        let stream = &host.streams[&handle.expect("opened")];
        assert_eq!(stream.closed, Some(registry::reason::NORMAL), "{stream:?}");
        assert_eq!(stream.exposed, bytes);
        assert_eq!(stream.acknowledged, bytes);
        assert_eq!(stream.finished, Some(bytes));
    }
    pipe.flight.hosts[0].now - started
}

#[test]
fn a_clean_pipe_carries_everything_quickly() {
    let mut pipe = Pipe::new(1, [v4(1), v4(2)]);
    let took = transfer(&mut pipe, 3_000_000);
    assert!(took < 3 * SECOND, "{took}");
}

#[test]
fn super_segments_arrive_whole() {
    let mut pipe = Pipe::new(2, [v4(1), v4(2)]);
    pipe.merge = true;
    transfer(&mut pipe, 3_000_000);
}

#[test]
fn ipv6_carries_it_too() {
    let mut pipe = Pipe::new(3, [Address::from_v6([1; 16]), Address::from_v6([2; 16])]);
    transfer(&mut pipe, 300_000);
}

#[test]
fn loss_reordering_and_duplication_lose_nothing() {
    for seed in 0..30 {
        let mut pipe = Pipe::new(seed, [v4(1), v4(2)]);
        pipe.loss = [0, 1, 5, 15][seed as usize % 4];
        pipe.jitter = [0, 3, 20][seed as usize % 3] * MS;
        pipe.duplicate = [0, 2][seed as usize % 2];
        pipe.merge = seed % 5 == 0;
        transfer(&mut pipe, 200_000);
    }
}

#[test]
fn little_room_is_enough() {
    for seed in 0..5 {
        let mut pipe = Pipe::new(seed, [v4(1), v4(2)]);
        pipe.loss = 2;
        for host in &mut pipe.flight.hosts {
            host.room = Room { sends: 1, bytes: 4000 };
        }
        transfer(&mut pipe, 100_000);
    }
}

#[test]
fn a_module_reloaded_at_every_step_does_the_same() {
    let run = |reload| {
        let mut pipe = Pipe::new(7, [v4(1), v4(2)]);
        pipe.loss = 3;
        pipe.jitter = 4 * MS;
        pipe.flight.hosts.iter_mut().for_each(|host| host.reload = reload);
        let took = transfer(&mut pipe, 100_000);
        (took, pipe.flight.hosts[0].tcp.save(), pipe.flight.hosts[1].tcp.save())
    };
    assert_eq!(run(false), run(true));
}
