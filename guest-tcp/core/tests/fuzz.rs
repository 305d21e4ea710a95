//! Seeded nonsense: no panic, and every rule of the contract holds in what comes out.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::*;
use common::peer::*;
use common::wire::Build;
use common::{Host, MS, Random, SECOND, config, v4};

fn random_options(random: &mut Random) -> Vec<u8> {
    let mut options = Vec::new();
    while random.chance(60) && options.len() < 36 {
        match random.below(6) {
            0 => options.extend_from_slice(&timestamps(random.below(5000) as u32, random.next() as u32)),
            1 => {
                options.extend_from_slice(&[1, 1, 5, 10]);
                let left = random.next() as u32;
                options.extend_from_slice(&left.to_be_bytes());
                options.extend_from_slice(&left.wrapping_add(random.below(3000) as u32).to_be_bytes());
            }
            2 => options.extend_from_slice(&[2, 4, random.next() as u8, random.next() as u8]),
            3 => options.extend_from_slice(&[1, 3, 3, random.next() as u8]),
            _ => options.push(random.next() as u8),
        }
    }
    options.truncate(40);
    while !options.len().is_multiple_of(4) {
        options.push(random.below(2) as u8);
    }
    options
}

/// Numbers near the ones that matter, or anywhere.
fn near(random: &mut Random, center: u32) -> u32 {
    match random.below(10) {
        0 => random.next() as u32,
        1..=5 => center,
        _ => center.wrapping_add(random.below(5000) as u32).wrapping_sub(2500),
    }
}

fn random_call(random: &mut Random, host: &Host) -> Call {
    let handles: Vec<Handle> = host.streams.keys().copied().collect();
    let handle = match handles.get(random.below(handles.len() as u64 + 1) as usize) {
        Some(&handle) => handle,
        None => Handle(random.next()),
    };
    match random.below(12) {
        0 => Call::Shutdown(handle),
        1 => Call::Close(Close { connection: handle, linger: [0, SECOND, NEVER][random.below(3) as usize] }),
        2 => Call::Abort(handle),
        3..=6 => Call::Set(Change {
            of: handle,
            setting: Setting { key: random.below(30) as u16, value: random.below(3) << random.below(40) },
        }),
        7 => Call::Report(Reason {
            connection: handle,
            reason: random.below(20) as u16,
            value: random.below(3000) as u32,
        }),
        8 => Call::Query(handle),
        9 => Call::Allow(Allow { listener: random.below(3) as u32, up_to: random.next() }),
        10 => Call::Decide(Decide {
            connection: handle,
            verdict: [Verdict::Accept, Verdict::Reset, Verdict::Unreachable, Verdict::Drop]
                [random.below(4) as usize],
            code: 1,
        }),
        _ => Call::Reseed((random.next(), 0, 0, 0)),
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let mut config = config(v4(1), seed);
    config.islands = random.below(65) as u16;
    config.embryos = 1 + random.below(20) as u32;
    config.connections = 1 + random.below(20) as u32;
    let mut host = Host::new(config);
    host.reload = seed.is_multiple_of(10);
    host.listen(80);
    host.open(Endpoint::new(v4(2), 40_000), Vec::new());
    let mut known: Vec<(u16, u32, u32)> = vec![(80, 1000, 0)];
    for _ in 0..300 {
        if random.chance(20) {
            host.room = Room { sends: random.below(4) as u32, bytes: random.below(5000) as u32 };
        } else {
            host.room = Room { sends: 100, bytes: 1 << 20 };
        }
        host.now += random.below(3) * random.below(200) * MS;
        for _ in 0..random.below(4) {
            let (port, seq, ack) = known[random.below(known.len() as u64) as usize];
            let flags = match random.below(8) {
                0 => random.next() as u8,
                1 => SYN,
                2 => FIN | ACK,
                3 => RST,
                _ => ACK,
            };
            let length = if random.chance(50) { random.below(4000) as u32 } else { 0 };
            let build = Build {
                source: Endpoint::new(v4(2), 40_000),
                destination: Endpoint::new(v4(1), port),
                seq: near(&mut random, seq),
                ack: near(&mut random, ack),
                flags,
                window: random.next() as u16 >> random.below(16),
                urgent: random.below(100) as u16,
                options: random_options(&mut random),
                length,
                mss: 1 + random.below(1460) as u16,
                count: 1 + random.below(5) as u16,
                traffic_class: random.next() as u8,
            };
            let mut frame = build.frame();
            if random.chance(3) {
                let at = random.below(frame.header.len() as u64 - 20) as usize + 20;
                frame.header[at] = random.next() as u8;
            }
            host.inject(&frame);
        }
        while random.chance(30) {
            let call = random_call(&mut random, &host);
            host.call(call);
        }
        let handles: Vec<Handle> = host.streams.keys().copied().collect();
        for handle in handles {
            if random.chance(30) && host.streams[&handle].closed.is_none() && host.streams[&handle].open {
                let marks = MarkAt(random.below(32) as u8);
                host.write_marked(handle, random.below(6000), marks);
                host.batch.positions.pop();
                host.read_all(handle, 1 << 16);
            }
        }
        if random.chance(2) {
            // A position of something that does not exist.
            let connection = Handle(random.next());
            host.batch.positions.push(Position { connection, written: random.next(), ..Position::default() });
        }
        for frame in host.step() {
            if frame.header[0] == 0x45 && frame.header[9] == 6 {
                let wire = frame.wire();
                let entry = (wire.source.port, wire.ack, wire.seq.wrapping_add(1));
                if wire.destination.port == 40_000 && !wire.rst {
                    known.retain(|(port, ..)| *port != wire.source.port);
                    known.push(entry);
                    known.push(entry);
                }
            }
        }
        if known.is_empty() {
            known.push((80, 1000, 0));
        }
    }
}

#[test]
fn random_segments_and_calls_break_nothing() {
    for seed in 0..1000 {
        run(seed);
    }
}

#[test]
fn lying_lists_break_nothing() {
    let mut random = Random(99);
    for _ in 0..200 {
        let mut tcp = bulkhead_tcp::Tcp::new();
        tcp.start(&config(v4(1), 3)).expect("starts");
        let headers: Vec<u8> = (0..random.below(300)).map(|_| random.next() as u8).collect();
        let mut batch = Batch { now: random.next(), headers, ..Batch::default() };
        for _ in 0..20 {
            batch.segments.push(Segment {
                header: random.below(400) as u32,
                payload: random.next() as u32,
                header_length: random.next() as u16,
                transport: random.next() as u16,
                mss: random.next() as u16,
                count: random.next() as u16,
                protocol: [6, 1, 58, 17][random.below(4) as usize],
                kind: [Kind::Whole, Kind::Fragment, Kind::IcmpError, Kind::Frame][random.below(4) as usize],
                ..Segment::default()
            });
            batch.positions.push(Position {
                connection: Handle(random.next()),
                written: random.next(),
                consumed: random.next(),
                limit: random.next(),
                marks: MarkAt(random.next() as u8),
            });
        }
        batch.room = Room { sends: random.next() as u32, bytes: random.next() as u32 };
        let mut outputs = Outputs::default();
        for _ in 0..3 {
            outputs.clear();
            tcp.step(&batch.inputs(), &mut outputs);
        }
    }
}

#[test]
fn damaged_states_are_refused_or_survived() {
    let mut host = Host::new(config(v4(1), 5));
    host.listen(80);
    host.settle();
    let mut peer = Peer::new(80);
    let handle = peer.connect_with(&mut host, syn_options(5));
    host.write(handle, 100_000);
    host.settle();
    let saved = host.tcp.save();
    for cut in 0..saved.len() {
        let loaded = bulkhead_tcp::Tcp::new().load(&host.config, host.now, &saved[..cut]);
        assert!(loaded.is_err(), "{cut}");
    }
    let mut random = Random(4);
    for _ in 0..2000 {
        let mut bent = saved.clone();
        let at = random.below(bent.len() as u64) as usize;
        bent[at] ^= 1 << random.below(8);
        let mut tcp = bulkhead_tcp::Tcp::new();
        if tcp.load(&host.config, host.now, &bent).is_ok() {
            let mut outputs = Outputs::default();
            let inputs = Inputs { now: host.now + SECOND, room: host.room, ..Inputs::default() };
            tcp.step(&inputs, &mut outputs);
        }
    }
}
