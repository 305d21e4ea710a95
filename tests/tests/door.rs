//! The policy under memory pressure, budgets of sources, and throttling of whoever kills the module.

use bulkhead::device::Capabilities;
use bulkhead::device::Offload;
use bulkhead::device::link::LinkConfig;
use bulkhead::device::queue::QueueDevice;
use bulkhead::fault::Fault;
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::stack::Level;
use bulkhead::stack::door::{PINNED, SHORT_WRITE, STRIKES};
use bulkhead::{ConnectOptions, ListenOptions, ListenerId, Options, Sizes, Stack, StreamError, StreamId};
use bulkhead_tests::frames::{ACK, SYN, Tcp};
use bulkhead_tests::meddling::Meddled;
use bulkhead_tests::world::{Plan, V4, V6, World, native};
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::{
    Config, Description, Endpoint, Inputs, Module, NEVER, Outputs, Segment, Summary, Time, registry,
};

const BUDGET: usize = 200_000;
const SIZES: Sizes = Sizes {
    receive_first: 60_000,
    receive_max: 1 << 20,
    send_first: 60_000,
    send_max: 1 << 20,
    unsent_max: 1 << 20,
};

/// Two hosts with these options, of which the second listens.
fn listening(options: &dyn Fn(&mut Options)) -> (World, Endpoint, ListenerId) {
    let plan = Plan { link: LinkConfig::default(), seed: 1, addresses: V4, instance: &native, options };
    let mut world = World::new(&plan);
    let server = world.server(80);
    let listener = world.b.stack.listen(server, ListenOptions::default()).unwrap();
    world.settle();
    (world, server, listener)
}

/// Two hosts, of which the second has little memory, and connections between them.
fn connected(count: usize) -> (World, ListenerId, Vec<StreamId>, Vec<StreamId>) {
    let options = |options: &mut Options| {
        if options.config.addresses[0].address == V4[1].into() {
            options.memory = BUDGET;
        }
        options.sizes = SIZES;
    };
    let (mut world, server, listener) = listening(&options);
    let clients: Vec<StreamId> =
        (0..count).map(|_| world.a.stack.connect(server, ConnectOptions::default()).unwrap()).collect();
    let mut servers = Vec::new();
    world.run(SECOND, |world| {
        while let Ok(accepted) = world.b.stack.accept(listener) {
            servers.push(accepted.stream);
        }
        servers.len() == count
    });
    assert_eq!(servers.len(), count);
    (world, listener, clients, servers)
}

/// Everybody writes as much as there is space for, and nobody reads, for so long.
fn fill(world: &mut World, clients: &[StreamId], time: Time) {
    let until = world.now + time;
    world.run(until, |world| {
        for client in clients {
            while world.a.stack.write(*client, &[7; 8192]).is_ok() {}
        }
        assert!(world.b.stack.stream_memory() <= world.b.stack.memory_bound());
        world.now >= until
    });
}

#[test]
fn memory_stays_within_its_bound_and_everybody_gets_on_afterwards() {
    let (mut world, _, clients, servers) = connected(20);
    fill(&mut world, &clients, 20 * SECOND);
    // Twenty windows of 60,000 bytes were promised: the budget is used up, and a quarter more.
    assert_eq!(world.b.stack.level(), Level::Full);
    assert!(world.b.stack.stream_memory() < BUDGET + BUDGET / 4 + 20 * 70_000);
    let dropped = world.b.stack.door_counters().text_dropped;
    assert!(dropped > 0, "arriving text was dropped");
    // The applications read again: all that was written arrives.
    let mut read = 0_u64;
    let mut buffer = [0; 65_536];
    let mut written = 0;
    for client in &clients {
        written += world.a.stack.unacknowledged(*client).unwrap();
        world.a.stack.shutdown(*client).unwrap();
    }
    let mut ended = 0;
    let done = world.run(600 * SECOND, |world| {
        for server in &servers {
            while let Ok(count) = world.b.stack.read(*server, &mut buffer) {
                read += count as u64;
                ended += usize::from(count == 0);
                if count == 0 {
                    break;
                }
            }
        }
        ended >= servers.len()
    });
    assert!(done && read > written, "{read} bytes were read");
    assert_eq!(world.b.stack.level(), Level::Calm);
}

#[test]
fn a_short_stack_refuses_connections_and_lets_writers_wait() {
    let (mut world, _, clients, servers) = connected(10);
    fill(&mut world, &clients, 5 * SECOND);
    assert!(world.b.stack.level() >= Level::Short);
    let peer = Endpoint::new(world.a.address.into(), 99);
    let refused = world.b.stack.connect(peer, ConnectOptions::default());
    assert!(matches!(refused, Err(StreamError::Exhausted)));
    // A writer with an empty queue is given a little, so that everybody moves.
    assert_eq!(world.b.stack.write(servers[0], &[1; 50_000]).unwrap(), SHORT_WRITE as usize);
    assert!(matches!(world.b.stack.write(servers[0], &[1; 10]), Err(StreamError::WouldBlock)));
    // Who knocks is not heard.
    let server = world.server(80);
    world.a.stack.connect(server, ConnectOptions::default()).ok();
    let until = world.now + 3 * SECOND;
    world.run(until, |_| false);
    assert!(world.b.stack.level() >= Level::Short, "{}", world.b.stack.stream_memory());
    let refused = world.b.stack.door_counters().connections_refused;
    assert!(refused > 1, "{refused}");
}

#[test]
fn whoever_pins_memory_is_reset_when_it_is_short() {
    let (mut world, _, clients, servers) = connected(8);
    // The second host writes to peers who never read: their windows are shut, and its queues stay full.
    let until = world.now + PINNED + 20 * SECOND;
    world.run(until, |world| {
        for server in &servers {
            while world.b.stack.write(*server, &[7; 8192]).is_ok() {}
        }
        world.now >= until
    });
    let evicted = world.b.stack.door_counters().evicted;
    assert!(evicted > 0, "level {:?}", world.b.stack.level());
    assert!(evicted < 8, "one after the other, and no more than had to be");
    let alive = servers.iter().filter(|server| world.b.stack.end_of(**server).is_none()).count();
    assert_eq!(alive as u64, 8 - evicted);
    drop(clients);
}

#[test]
fn a_source_has_as_many_connections_as_its_budget() {
    let options = |options: &mut Options| options.per_source = 3;
    let (mut world, server, listener) = listening(&options);
    let clients: Vec<StreamId> =
        (0..3).map(|_| world.a.stack.connect(server, ConnectOptions::default()).unwrap()).collect();
    world.run(SECOND, |_| false);
    assert_eq!(world.b.stack.connections().count(), 3);
    let fourth = world.a.stack.connect(server, ConnectOptions::default()).unwrap();
    let until = world.now + SECOND / 2;
    world.run(until, |_| false);
    assert!(!world.a.stack.is_open(fourth).unwrap());
    assert!(world.b.stack.door_counters().source_refused > 0);
    // One ends: the fourth's next SYN is heard.
    world.a.stack.abort(clients[0]);
    let until = world.now + 5 * SECOND;
    world.run(until, |_| false);
    assert!(world.a.stack.is_open(fourth).unwrap());
    while world.b.stack.accept(listener).is_ok() {}
}

/// A module that fails at each TCP segment from port 666, and else says nothing.
struct Touchy;

impl Module for Touchy {
    fn describe(&self) -> Description {
        let tcp = bulkhead_wit::Service {
            kind: registry::service::IP_PROTOCOL,
            value: u16::from(registry::protocol::TCP),
        };
        Description { name: "touchy".into(), serves: vec![tcp], sends: vec![tcp], ..Description::default() }
    }

    fn start(&mut self, _: &Config) -> Result<(), String> {
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        outputs.deadline = NEVER;
        for segment in inputs.segments {
            let at = segment.header as usize + usize::from(segment.transport);
            assert_ne!(inputs.headers[at..at + 2], 666_u16.to_be_bytes(), "poison");
        }
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, _: &Config, _: Time, _: &[u8]) -> Result<Vec<Summary>, String> {
        Ok(Vec::new())
    }
}

#[test]
fn a_source_of_poison_is_not_heard_for_a_while() {
    let ours = [10, 0, 0, 2];
    let mut stack =
        Stack::new(Box::new(Native::new(Box::new(Touchy))), Options::new(ours.into(), 24, 1500, [1; 4]))
            .unwrap();
    stack.supervise(Box::new(|| Ok(Box::new(Native::new(Box::new(Touchy))))));
    let mut device = QueueDevice::new(Capabilities::plain(1500));
    let mut send = |now, source: [u8; 4], port| {
        let segment =
            Tcp { source: (source, port), destination: (ours, 80), seq: 1, ack: 0, flags: SYN | ACK };
        device.inject(&segment.frame(b""), Offload::default());
        stack.turn(now, &mut device).expect("served on");
        (stack.fault_figures().faults, stack.door_counters().throttled, stack.split_counters().passed)
    };
    let (bad, good) = ([10, 0, 0, 9], [10, 0, 0, 8]);
    for strike in 1..=u64::from(STRIKES) {
        assert_eq!(send(SECOND, bad, 666).0, strike);
    }
    // Whatever it sends now is not heard; others are.
    for _ in 0..20 {
        assert_eq!(send(2 * SECOND, bad, 666).0, u64::from(STRIKES));
    }
    assert_eq!(send(2 * SECOND, bad, 1).1, 21);
    assert_eq!(send(2 * SECOND, good, 1).1, 21);
    // After a minute it is heard again, and throttled again if it goes on.
    assert_eq!(send(70 * SECOND, bad, 666).0, u64::from(STRIKES) + 1);
    assert_eq!(send(71 * SECOND, bad, 666).0, u64::from(STRIKES) + 2);
    assert_eq!(send(72 * SECOND, bad, 666).0, u64::from(STRIKES) + 2);
}

/// The core, behind a wall as it were, that fails over what comes from port 666.
fn touchy() -> Box<dyn Instance> {
    let is_poison = |inputs: &Inputs<'_>, segment: &Segment| {
        let at = segment.header as usize + usize::from(segment.transport);
        inputs.headers[at..at + 2] == 666_u16.to_be_bytes()
    };
    Meddled::always(
        native(),
        Box::new(move |taken, _| {
            let mut segments = taken.inputs.segments.iter();
            if segments.any(|segment| is_poison(taken.inputs, segment)) { Err(Fault::Ended) } else { Ok(()) }
        }),
    )
}

/// Behind one address may be many, of whom one sends poison.
#[test]
fn what_is_open_goes_on_while_its_source_is_throttled() {
    let (mut world, server, _) = listening(&|_| {});
    world.b.stack = Stack::new(touchy(), Options::new(V4[1], 64, 1500, [1, 2, 3, 4])).expect("it starts");
    world.b.stack.supervise(Box::new(|| Ok(touchy())));
    let listener = world.b.stack.listen(server, ListenOptions::default()).unwrap();
    let client = world.a.stack.connect(server, ConnectOptions::default()).unwrap();
    let mut accepted = None;
    world.run(SECOND, |world| {
        accepted = world.b.stack.accept(listener).ok();
        accepted.is_some()
    });
    let served = accepted.expect("a connection").stream;
    let from = Endpoint { port: 666, address: V4[0].into() };
    let poison = ConnectOptions { local: from, ..ConnectOptions::default() };
    world.a.stack.connect(server, poison).unwrap();
    // Its SYN comes again and again, and is soon not heard any more.
    let until = world.now + 20 * SECOND;
    world.run(until, |world| world.b.stack.door_counters().throttled > 0);
    assert!(world.b.stack.door_counters().throttled > 0);
    let figures = world.b.stack.fault_figures();
    assert_eq!((figures.recovered, figures.streams), (figures.faults, 0), "{figures:?}");
    world.a.stack.write(client, b"still here").unwrap();
    let until = world.now + SECOND;
    assert!(world.run(until, |world| world.b.stack.readable(served) == Some((10, false))));
    // Somebody new is not heard.
    let new = world.a.stack.connect(server, ConnectOptions::default()).unwrap();
    let until = world.now + 5 * SECOND;
    world.run(until, |_| false);
    assert!(!world.a.stack.is_open(new).unwrap());
}

#[test]
fn addresses_may_change_while_connections_are_open() {
    let (mut world, listener, clients, servers) = connected(2);
    world.a.stack.write(clients[0], b"before").unwrap();
    world.run(SECOND, |_| false);
    let new = bulkhead_wit::Prefix { address: bulkhead_wit::Address::from_v4([10, 0, 0, 77]), length: 120 };
    world.b.stack.set_addresses(vec![new]);
    world.settle();
    for server in &servers {
        let end = world.b.stack.end_of(*server).expect("it has ended");
        assert!(matches!(end, StreamError::Ended(registry::reason::NOT_AVAILABLE)), "{end}");
    }
    // What arrived can still be read, and others connect to the new address.
    let mut buffer = [0; 16];
    assert_eq!(world.b.stack.read(servers[0], &mut buffer).unwrap(), 6);
    let again = Endpoint::new(new.address, 81);
    let other = world.b.stack.listen(again, ListenOptions::default()).unwrap();
    world.settle();
    let stream = world.a.stack.connect(again, ConnectOptions::default()).unwrap();
    let until = world.now + SECOND;
    world.run(until, |_| false);
    assert!(world.a.stack.is_open(stream).unwrap());
    assert!(world.b.stack.accept(other).is_ok());
    assert!(world.b.stack.accept(listener).is_err());
}

/// A gateway: whoever is sent to, and whatever port, is taken by one listener, which learns both ends.
#[test]
fn a_listener_on_any_address_and_any_port() {
    for (addresses, foreign) in [(V4, "192.0.2.77:4711"), (V6, "[2001:db8::77]:4711")] {
        let options = |options: &mut Options| options.config.any_address = true;
        let plan =
            Plan { link: LinkConfig::default(), seed: 1, addresses, instance: &native, options: &options };
        let mut world = World::new(&plan);
        let foreign: std::net::SocketAddr = foreign.parse().unwrap();
        let any = if foreign.is_ipv4() { bulkhead_wit::Address::from_v4([0; 4]) } else { Default::default() };
        let how = ListenOptions { any_address: true, ..ListenOptions::default() };
        let listener = world.b.stack.listen(Endpoint::new(any, 0), how).unwrap();
        world.settle();
        let local = Endpoint::new(addresses[0].into(), 0);
        let from = ConnectOptions { local, ..ConnectOptions::default() };
        let stream = world.a.stack.connect(foreign.into(), from).unwrap();
        world.a.stack.write(stream, b"to somebody else").unwrap();
        world.run(SECOND, |_| false);
        let accepted = world.b.stack.accept(listener).expect("taken");
        assert_eq!(accepted.local, foreign.into());
        let mut buffer = [0; 32];
        assert_eq!(world.b.stack.read(accepted.stream, &mut buffer).unwrap(), 16);
    }
}
