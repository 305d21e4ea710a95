//! The UDP module in C, examples/c-module, beside the one in Rust: it keeps the contract, carries datagrams, and does the
//! same to the byte, so that either takes over from the other and replays what the other was given.
//!
//! It is built where there is a clang. Where it was not, these tests say so and pass.

use bulkhead::artifact::Artifact;
use bulkhead::conformance::contract::{Finding, check_contract};
use bulkhead::device::link::{Impairments, LinkConfig};
use bulkhead::net::{Builder, pair};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::record::{End, Reader, Replay};
use bulkhead::stack::BindOptions;
use bulkhead::swap::Newcomer;
use bulkhead_tests::Tape;
use bulkhead_tests::faults::guest_if_built;
use bulkhead_tests::world::{Plan, V4, V6, World};
use bulkhead_udp::Udp;
use bulkhead_wit::registry::{protocol, reason, setting};
use bulkhead_wit::{
    Address, Batch, Bind, Call, Change, Close, Config, Endpoint, Handle, Kind, Listening, Message, Outputs,
    Prefix, Reason, Room, Segment, Setting, limits,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

fn artifact() -> Option<&'static Artifact> {
    static ARTIFACT: OnceLock<Option<Artifact>> = OnceLock::new();
    let artifact = ARTIFACT.get_or_init(|| guest_if_built("c-module")).as_ref();
    if artifact.is_none() {
        println!("skipped: c-module.wasm was not built; `cargo xtask guests` says why");
    }
    artifact
}

fn in_c() -> Box<dyn Instance> {
    Box::new(artifact().expect("looked for by each test").instance().expect("an instance"))
}

fn in_rust() -> Box<dyn Instance> {
    Box::new(Native::new(Box::new(Udp::new())))
}

#[test]
fn the_contract_is_kept() {
    if artifact().is_none() {
        return;
    }
    let checks = check_contract(&|| Ok(in_c())).expect("an instance");
    let failed = checks.iter().filter(|check| matches!(check.finding, Finding::Fails(_)));
    assert_eq!(failed.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let held = checks.iter().filter(|check| matches!(check.finding, Finding::Holds(_))).count();
    assert!(held >= 12, "{held} questions of those about UDP");
}

#[tokio::test]
async fn it_stands_beside_tcp_and_serves_the_sockets() {
    let Some(artifact) = artifact() else { return };
    let (first, second) = pair(1500).unwrap();
    let there = |device, host: &str, seed| {
        let builder = Builder::new(device).address(host.parse().unwrap(), 24).seed([seed, 2, 3, 4]);
        builder.artifact_beside(artifact.clone()).spawn().unwrap()
    };
    let (server, client) = (there(first, "10.9.0.1", 1), there(second, "10.9.0.2", 2));
    let echo = server.bind_udp("10.9.0.1:7".parse().unwrap()).unwrap();
    let socket = client.connect_udp(echo.local_addr()).unwrap();
    let mut into = vec![0; 70_000];
    // Whole frames, fragments, and the longest datagram that there is.
    for length in [0, 1, 1472, 1473, 40_000, 65_507] {
        let sent: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        socket.send(&sent).await.unwrap();
        let (count, from) = echo.recv_from(&mut into).await.unwrap();
        echo.send_to(&into[..count], from).await.unwrap();
        let count = socket.recv(&mut into).await.unwrap();
        assert!(into[..count] == sent, "{length} bytes came back as {count} others");
    }
    drop(echo);
    socket.send(b"nobody").await.unwrap();
    let refused = socket.recv(&mut into).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "by ICMP");
}

// ---- the same as in Rust

/// Xorshift: the same inputs every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

const OURS: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 9]];
const PEERS: [[u8; 4]; 3] = [[10, 0, 0, 2], [192, 0, 2, 1], [224, 0, 0, 1]];

fn v6(last: u8) -> Address {
    let mut octets = [0; 16];
    (octets[0], octets[15]) = (0xfd, last);
    Address::from_v6(octets)
}

fn config(random: &mut Random) -> Config {
    let mut addresses: Vec<Prefix> =
        OURS.map(|octets| Prefix { address: Address::from_v4(octets), length: 120 }).into();
    addresses.push(Prefix { address: v6(1), length: 64 });
    let ttl = Setting { key: setting::TTL, value: random.below(300) };
    Config {
        addresses,
        mtu: 1500,
        any_address: random.below(4) == 0,
        holds: random.one_of(&[0, 2, 64]),
        settings: if random.below(2) == 0 { vec![ttl] } else { Vec::new() },
        ..Config::default()
    }
}

fn endpoint(random: &mut Random) -> Endpoint {
    let mut addresses: Vec<Address> = OURS.iter().chain(&PEERS).map(|v4| Address::from_v4(*v4)).collect();
    addresses.extend([Address::UNSPECIFIED, Address::from_v4([0; 4]), v6(1), v6(2), v6(3)]);
    // Two of the ports have a bucket of the C module's table in common.
    Endpoint::new(random.one_of(&addresses), random.one_of(&[0, 7, 53, 263]))
}

fn handle(random: &mut Random) -> Handle {
    if random.below(10) == 0 { Handle::INSTANCE } else { Handle::by_host(random.below(24) as u32, 1) }
}

fn call(random: &mut Random) -> Call {
    match random.below(14) {
        0..=5 => Call::Bind(Bind {
            socket: handle(random),
            local: endpoint(random),
            remote: if random.below(3) == 0 { endpoint(random) } else { Endpoint::default() },
            how: random.one_of(&[
                Listening::default(),
                Listening::DUAL_STACK,
                Listening::ANY_ADDRESS,
                Listening::DUAL_STACK.with(Listening::ANY_ADDRESS),
            ]),
        }),
        6 => Call::Abort(handle(random)),
        7 => Call::Close(Close { connection: handle(random), linger: 0 }),
        8 => {
            let key = random.one_of(&[setting::TTL, setting::TRAFFIC_CLASS, setting::NODELAY]);
            Call::Set(Change { of: handle(random), setting: Setting { key, value: random.below(300) } })
        }
        9 => Call::Query(handle(random)),
        10 => Call::Configure(config(random)),
        11 | 12 => {
            let said = [reason::PORT_UNREACHABLE, reason::REFUSED, reason::PROHIBITED, reason::TIMED_OUT];
            let said = random
                .one_of(&[&said[..], &[reason::NETWORK_UNREACHABLE, reason::HOST_UNREACHABLE]].concat());
            Call::Report(Reason { connection: handle(random), reason: said, value: 0 })
        }
        _ => random.one_of(&[
            Call::Shutdown(Handle::by_host(1, 1)),
            Call::Unlisten(9),
            Call::Reseed((1, 2, 3, 4)),
        ]),
    }
}

fn message(random: &mut Random) -> Message {
    Message {
        socket: handle(random),
        length: random.one_of(&[0, 1, 1472, 5000, 65_507]),
        hop_limit: random.one_of(&[0, 0, 9]),
        traffic_class: random.one_of(&[0, 0, 0xb8]),
        source: if random.below(3) == 0 { endpoint(random) } else { Endpoint::default() },
        to: endpoint(random),
    }
}

/// A network header with this protocol and these ends, which are of one version or the other.
fn network(random: &mut Random, protocol: u8, (from, to): (Address, Address), headers: &mut Vec<u8>) {
    if let (Some(from), Some(to)) = (from.v4(), to.v4()) {
        let options = random.below(4) == 0;
        let fragment = (random.one_of(&[0u16, 0x2000]) | random.one_of(&[0, 1, 2, 185, 8191])).to_be_bytes();
        let name = random.below(3) as u8;
        headers.extend([if options { 0x46 } else { 0x45 }, 0, 0, 0, 0, name]);
        headers.extend(fragment);
        headers.extend([64, protocol, 0, 0]);
        headers.extend(from.into_iter().chain(to));
        headers.extend(if options { &[1, 1, 1, 1][..] } else { &[] });
    } else {
        let extended = random.one_of(&[None, Some(44), Some(0), Some(60)]);
        headers.extend([0x60, 0, 0, 0, 0, 0, extended.unwrap_or(protocol), 64]);
        headers.extend(from.octets().into_iter().chain(to.octets()));
        if let Some(kind) = extended {
            let field = random.one_of(&[0u16, 1, 8, 9, 1480, 0xfff8]).to_be_bytes();
            let next = if kind == 44 { protocol } else { 44 };
            let length = if kind == 44 { 0 } else { random.one_of(&[0, 0, 1, 255]) };
            headers.extend([next, length, field[0], field[1], 0, 0, 0, random.below(3) as u8]);
            if kind != 44 {
                headers.extend([protocol, 0, 0, 1, 0, 0, 0, random.below(3) as u8]);
            }
        }
    }
}

fn segment(random: &mut Random, headers: &mut Vec<u8>) -> Segment {
    let start = headers.len();
    let (local, remote) = (endpoint(random), endpoint(random));
    let remote = if local.address.is_v4() == remote.address.is_v4() { remote } else { local };
    let kind = random.one_of(&[Kind::Whole, Kind::Whole, Kind::Fragment, Kind::Fragment, Kind::IcmpError]);
    let udp = |headers: &mut Vec<u8>, (from, to): (Endpoint, Endpoint)| {
        headers.extend(from.port.to_be_bytes().into_iter().chain(to.port.to_be_bytes()).chain([0; 4]));
    };
    let carried = if random.below(10) == 0 { protocol::TCP } else { protocol::UDP };
    network(random, carried, (remote.address, local.address), headers);
    let transport = headers.len() - start;
    match kind {
        Kind::Whole => udp(headers, (remote, local)),
        Kind::IcmpError => {
            headers.extend([random.one_of(&[1, 2, 3, 11]), random.below(14) as u8, 0, 0, 0, 0, 0, 0]);
            network(random, protocol::UDP, (local.address, remote.address), headers);
            udp(headers, (local, remote));
        }
        _ => {}
    }
    let payload = random.one_of(&[0, 1, 8, 16, 1480, 65_528]);
    Segment {
        header: start as u32,
        payload,
        header_length: (headers.len() - start) as u16,
        transport: transport as u16,
        mss: payload.max(1) as u16,
        count: random.one_of(&[1, 1, 3]),
        protocol: if kind == Kind::IcmpError { protocol::ICMP } else { carried },
        kind,
        ..Segment::default()
    }
}

fn batch(random: &mut Random, now: u64) -> Batch {
    let room = Room { sends: random.below(20) as u32, bytes: random.one_of(&[0, 3000, 1 << 20]) };
    let mut batch = Batch { now, room, ..Batch::default() };
    batch.calls = (0..random.below(4)).map(|_| call(random)).collect();
    batch.messages = (0..random.below(6)).map(|_| message(random)).collect();
    for _ in 0..random.below(12) {
        let segment = segment(random, &mut batch.headers);
        batch.segments.push(segment);
    }
    batch
}

/// What came of many steps, so that a run in which nothing happens does not pass for one in which all is equal.
#[derive(Debug, Default)]
struct Seen {
    sends: usize,
    places: usize,
    events: usize,
    longest_state: usize,
}

#[test]
fn it_does_the_same_as_the_one_in_rust_and_either_takes_over_from_the_other() {
    if artifact().is_none() {
        return;
    }
    let mut seen = Seen::default();
    for seed in 1..=32 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut both = [in_c(), in_rust()];
        let first = config(&mut random);
        both.iter_mut().for_each(|one| one.start(&first).expect("it starts"));
        let mut now = 0;
        for number in 0..1500 {
            now += random.one_of(&[0, limits::MILLISECOND, 20 * limits::MILLISECOND, 16 * limits::SECOND]);
            let batch = batch(&mut random, now);
            let [mut c, mut rust] = [Outputs::default(), Outputs::default()];
            both[0].step(&batch.inputs(), &mut c).expect("it takes a step");
            both[1].step(&batch.inputs(), &mut rust).expect("it takes a step");
            assert_eq!(c, rust, "seed {seed}, step {number}: {batch:?}");
            seen.sends += c.sends.len();
            seen.places += c.places.len();
            seen.events += c.events.len();
            if number % 16 == 0 {
                let states = both.each_mut().map(|one| one.save().expect("a state"));
                assert!(states[0] == states[1], "seed {seed}, step {number}: the states differ");
                seen.longest_state = seen.longest_state.max(states[0].len());
                // What one of them saved, the other goes on from.
                let config = config(&mut random);
                for (one, state) in both.iter_mut().zip(states.iter().rev()) {
                    one.load(&config, now, state).expect("the state of the other one");
                }
            }
        }
    }
    println!("{seen:?}");
    assert!(seen.sends > 1000 && seen.places > 1000 && seen.events > 1000, "{seen:?}");
    assert!(seen.longest_state > 1000, "{seen:?}");
}

#[test]
fn a_peer_is_told_the_same_of_what_the_host_has_found_out() {
    if artifact().is_none() {
        return;
    }
    let mut random = Random(7);
    let config = config(&mut random);
    let mut both = [in_c(), in_rust()];
    both.iter_mut().for_each(|one| one.start(&config).expect("it starts"));
    let v4 = |octets: [u8; 4], port| Endpoint::new(Address::from_v4(octets), port);
    let bind = |slot, local, remote| {
        Call::Bind(Bind { socket: Handle::by_host(slot, 1), local, remote, how: Listening::default() })
    };
    // Peers of both versions, one that is a group's, one of the other version than our end, and none.
    let binds = [
        bind(0, v4(OURS[0], 53), v4(PEERS[0], 4711)),
        bind(1, Endpoint::new(v6(1), 53), Endpoint::new(v6(2), 4711)),
        bind(2, v4(OURS[1], 53), v4(PEERS[2], 4711)),
        bind(3, Endpoint::new(v6(1), 54), v4(PEERS[1], 4711)),
        bind(4, v4(OURS[0], 54), Endpoint::default()),
    ];
    let (mut now, mut told) = (0, 0);
    let mut step = |calls: &[Call], room| {
        now += 7 * limits::MILLISECOND;
        let batch = Batch { now, room, calls: calls.to_vec(), ..Batch::default() };
        let outputs = both.each_mut().map(|one| {
            let mut outputs = Outputs::default();
            one.step(&batch.inputs(), &mut outputs).expect("it takes a step");
            outputs
        });
        assert_eq!(outputs[0], outputs[1], "{calls:?}");
        told += outputs[0].sends.len();
    };
    step(&binds, Room::default());
    for reason in 0..32 {
        for slot in 0..6 {
            let report = Call::Report(Reason { connection: Handle::by_host(slot, 1), reason, value: 9 });
            for room in [(0, 1500), (1, 0), (1, 75), (1, 76), (1, 96), (9, 9000)] {
                // More of them than are told in a second.
                step(&vec![report.clone(); 40], Room { sends: room.0, bytes: room.1 });
            }
        }
    }
    assert!(told > 100, "{told} errors");
}

#[test]
fn a_state_that_is_cut_or_altered_is_refused_or_read_but_never_a_fault() {
    if artifact().is_none() {
        return;
    }
    let mut random = Random(99);
    let (mut one, config) = (in_c(), config(&mut random));
    one.start(&config).unwrap();
    for _ in 0..400 {
        let batch = batch(&mut random, 1);
        one.step(&batch.inputs(), &mut Outputs::default()).unwrap();
    }
    let state = one.save().unwrap();
    let (mut refused, mut read) = (0, 0);
    for _ in 0..2000 {
        let mut other = state.clone();
        match random.below(2) {
            0 => other.truncate(random.below(state.len() as u64) as usize),
            _ => {
                let at = random.below(state.len() as u64) as usize;
                other[at] ^= 1 << random.below(8);
            }
        }
        match one.load(&config, 2, &other) {
            Ok(_) => {
                read += 1;
                let batch = batch(&mut random, 3);
                one.step(&batch.inputs(), &mut Outputs::default()).expect("what it has read, it lives with");
            }
            Err(bulkhead::Fault::Refused(_)) => refused += 1,
            Err(fault) => panic!("{fault}"),
        }
    }
    assert!(refused > 500 && read > 100, "{refused} refused, {read} read");
}

// ---- over a link, with a swap and a replay

/// Datagrams of several sizes from the first host to the second and back over a link that reorders and repeats; halfway the second's
/// module gives way to `next`. Gives what the second was given, and in how many steps.
fn echoed(
    addresses: [IpAddr; 2],
    module: fn() -> Box<dyn Instance>,
    next: Option<fn() -> Box<dyn Instance>>,
) -> (Vec<u8>, u64) {
    let way = Impairments {
        reorder: 200_000,
        reorder_delay: 3 * limits::MILLISECOND,
        delay: 2 * limits::MILLISECOND,
        ..Impairments::default()
    };
    let link = LinkConfig { there: way, back: way, ..LinkConfig::default() };
    let instance = || module();
    let mut world = World::new(&Plan { link, seed: 5, addresses, instance: &instance, options: &|_| {} });
    let tape = Tape::default();
    world.b.stack.record_to(Box::new(tape.clone())).expect("a tape takes everything");
    let [client, server] = addresses.map(|address| Endpoint::from(SocketAddr::new(address, 4000)));
    let here = world.a.stack.bind(client, BindOptions::default()).unwrap();
    let there = world.b.stack.bind(server, BindOptions::default()).unwrap();
    world.settle();
    let mut into = vec![0; 65_535];
    for (round, length) in [0, 1, 1452, 9000, 40_000, 3, 20_000, 1].into_iter().enumerate() {
        if let Some(next) = next.filter(|_| round == 4) {
            let swapped = world.b.stack.swap(&mut world.b.device, Newcomer::new(next())).expect("a swap");
            assert!(swapped.state.is_some(), "the sockets go on");
        }
        let sent: Vec<u8> = (0..length).map(|at| (at * 31 + round) as u8).collect();
        world.a.stack.send_to(here, &sent, Endpoint::default(), server).unwrap();
        let is_back = world.run(world.now + 10 * limits::SECOND, |world| {
            if let Ok((count, from, _)) = world.b.stack.receive_from(there, &mut into, false) {
                world.b.stack.send_to(there, &into[..count], Endpoint::default(), from).unwrap();
            }
            match world.a.stack.receive_from(here, &mut into, false) {
                Ok((count, ..)) => {
                    assert!(into[..count] == sent, "{length} bytes came back as {count} others");
                    true
                }
                Err(_) => false,
            }
        });
        assert!(is_back, "round {round}");
    }
    let steps = world.b.stack.cost().steps;
    world.b.stack.end_recording();
    let bytes = tape.0.lock().unwrap().clone();
    (bytes, steps)
}

#[test]
fn either_takes_over_from_the_other_between_two_datagrams() {
    if artifact().is_none() {
        return;
    }
    for addresses in [V4, V6] {
        echoed(addresses, in_c, Some(in_rust));
        echoed(addresses, in_rust, Some(in_c));
    }
}

#[test]
fn what_one_was_given_replays_equally_in_the_other() {
    if artifact().is_none() {
        return;
    }
    const MODULES: [fn() -> Box<dyn Instance>; 2] = [in_c, in_rust];
    for recorder in MODULES {
        let (tape, steps) = echoed(V4, recorder, None);
        for player in MODULES {
            let mut make = || Ok(player());
            let mut reader = Reader::new(&tape[..]).expect("a recording");
            let replay = Replay::new(&mut make, true);
            let outcome = replay.run(&mut reader, None, u64::MAX, &mut |_, _, _| {}).expect("it can be read");
            assert_eq!((outcome.steps, outcome.end), (steps, End::Complete));
        }
    }
}
