//! smoltcp behind the contract, in the world with payload access: natively and in the sandbox, against our own TCP.

use bulkhead::artifact::Artifact;
use bulkhead::conformance::contract::{Finding, check_contract};
use bulkhead::device::link::{Impairments, LinkConfig};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::record::{End, Entry, Outcome, Reader, Replay, redact};
use bulkhead::supervise::Factory;
use bulkhead::swap::{Newcomer, SwapError};
use bulkhead::{ConnectOptions, ListenOptions, Readiness, StreamError};
use bulkhead_smoltcp::Smoltcp;
use bulkhead_tests::Tape;
use bulkhead_tests::faults::guest;
use bulkhead_tests::meddling::Meddled;
use bulkhead_tests::world::{Plan, V4, V6, World, native, transfer};
use bulkhead_wit::limits;
use bulkhead_wit::registry::reason;
use std::cell::Cell;
use std::net::IpAddr;
use std::sync::OnceLock;

fn artifact() -> &'static Artifact {
    static ARTIFACT: OnceLock<Artifact> = OnceLock::new();
    ARTIFACT.get_or_init(|| guest("smoltcp-module"))
}

fn smoltcp() -> Box<dyn Instance> {
    Box::new(Native::new(Box::new(Smoltcp::new())))
}

fn sandboxed() -> Box<dyn Instance> {
    Box::new(artifact().instance().expect("an instance"))
}

const PLACEMENTS: [fn() -> Box<dyn Instance>; 2] = [smoltcp, sandboxed];

/// A lossy way both ways.
fn bad() -> LinkConfig {
    let way = Impairments {
        loss: 10_000,
        duplicate: 10_000,
        reorder: 10_000,
        reorder_delay: 5 * limits::MILLISECOND,
        delay: 5 * limits::MILLISECOND,
        ..Impairments::default()
    };
    LinkConfig { there: way, back: way, ..LinkConfig::default() }
}

/// A world with these two modules in it.
fn world(link: LinkConfig, addresses: [IpAddr; 2], modules: [&dyn Fn() -> Box<dyn Instance>; 2]) -> World {
    let made = Cell::new(0);
    let instance = || {
        made.set(made.get() + 1);
        modules[made.get() - 1]()
    };
    World::new(&Plan { link, seed: 7, addresses, instance: &instance, options: &|_| {} })
}

#[test]
fn bytes_go_both_ways_with_our_tcp_at_either_end() {
    for module in PLACEMENTS {
        for addresses in [V4, V6] {
            let mut served = world(LinkConfig::default(), addresses, [&native, &module]);
            transfer(&mut served, 4, 300_000, 200_000, 600 * limits::SECOND);
            let mut opened = world(LinkConfig::default(), addresses, [&module, &native]);
            transfer(&mut opened, 4, 300_000, 200_000, 600 * limits::SECOND);
        }
    }
}

#[test]
fn bytes_arrive_on_a_bad_link_and_between_two_of_its_kind() {
    transfer(&mut world(bad(), V4, [&native, &smoltcp]), 3, 200_000, 200_000, 3600 * limits::SECOND);
    transfer(&mut world(bad(), V6, [&smoltcp, &sandboxed]), 3, 100_000, 100_000, 3600 * limits::SECOND);
}

#[test]
fn the_contract_is_kept() {
    for module in PLACEMENTS {
        let checks = check_contract(&|| Ok(module())).expect("an instance");
        let failed = checks.iter().filter(|check| matches!(check.finding, Finding::Fails(_)));
        assert_eq!(failed.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    }
}

fn recorded(module: fn() -> Box<dyn Instance>) -> (Vec<u8>, u64) {
    let tape = Tape::default();
    let mut world = world(bad(), V4, [&native, &module]);
    world.b.stack.record_to(Box::new(tape.clone())).expect("a tape takes everything");
    transfer(&mut world, 2, 100_000, 100_000, 3600 * limits::SECOND);
    let steps = world.b.stack.cost().steps;
    world.b.stack.end_recording();
    let bytes = tape.0.lock().unwrap().clone();
    (bytes, steps)
}

fn replay(bytes: &[u8], make: fn() -> Box<dyn Instance>) -> Outcome {
    let mut make = || Ok(make());
    let mut reader = Reader::new(bytes).expect("a recording");
    Replay::new(&mut make, true).run(&mut reader, None, u64::MAX, &mut |_, _, _| {}).expect("it can be read")
}

/// The body of the first read that has bytes, in a recording.
fn entries(bytes: &[u8]) -> (usize, usize) {
    let mut reader = Reader::new(bytes).expect("a recording");
    let (mut reads, mut all) = (0, 0);
    while let Some(entry) = reader.next_entry().expect("it can be read") {
        reads += usize::from(matches!(entry, Entry::Payload(_)));
        all += 1;
    }
    (reads, all)
}

#[test]
fn its_recordings_hold_what_it_has_read_and_replay_equally_in_either_placement() {
    for recorder in PLACEMENTS {
        let (tape, steps) = recorded(recorder);
        assert!(Reader::new(&tape[..]).unwrap().header().has_payload);
        assert!(entries(&tape).0 > 20, "{:?}", entries(&tape));
        for player in PLACEMENTS {
            let outcome = replay(&tape, player);
            assert_eq!((outcome.steps, outcome.end), (steps, End::Complete));
        }
        let mut copy = Vec::new();
        redact(&mut Reader::new(&tape[..]).unwrap(), &mut copy).expect("a copy");
        assert!(!Reader::new(&copy[..]).unwrap().header().has_payload);
        assert_eq!(entries(&copy).0, 0, "nothing of it is in a copy for others");
    }
    // Our own TCP reads nothing, says other things, and is told apart by them.
    let (tape, _) = recorded(smoltcp);
    assert!(matches!(replay(&tape, native).end, End::Diverged(_)));
}

#[test]
fn a_fault_is_recovered_from_by_all_that_it_was_given_and_has_read() {
    let failing = || -> Box<dyn Instance> { Meddled::failing(sandboxed(), 60) };
    let mut world = world(bad(), V4, [&native, &failing]);
    let factory: Factory = Box::new(|| Ok(Box::new(artifact().fresh()?) as Box<dyn Instance>));
    world.b.stack.supervise(factory);
    transfer(&mut world, 2, 200_000, 200_000, 3600 * limits::SECOND);
    let figures = world.b.stack.fault_figures();
    assert_eq!((figures.faults, figures.recovered, figures.streams), (1, 1, 0));
}

/// Until the client's stream has ended; how.
fn ending(world: &mut World, stream: bulkhead::StreamId) -> StreamError {
    let mut end = None;
    world.run(world.now + 60 * limits::SECOND, |world| {
        end = world.a.stack.read(stream, &mut [0; 64]).err();
        end = end.take().filter(|error| !matches!(error, StreamError::WouldBlock));
        end.is_some()
    });
    end.expect("it ends")
}

#[test]
fn a_cold_swap_either_way_resets_in_kind_and_goes_on_listening() {
    let other = |module: fn() -> Box<dyn Instance>| Newcomer::new(module());
    for (first, second, name) in
        [(native as fn() -> _, sandboxed as fn() -> _, "smoltcp"), (sandboxed, native, "bulkhead")]
    {
        let mut world = world(LinkConfig::default(), V4, [&native, &first]);
        let server = world.server(80);
        let listener = world.b.stack.listen(server, ListenOptions::default()).expect("listens");
        world.settle();
        let stream = world.a.stack.connect(server, ConnectOptions::default()).expect("connects");
        let is_open = world.run(10 * limits::SECOND, |world| world.b.stack.accept(listener).is_ok());
        assert!(is_open);
        // A state goes neither way.
        let hot = world.b.stack.swap(&mut world.b.device, other(second)).expect_err("no state");
        assert!(matches!(hot, SwapError::Stateless(_) | SwapError::Refused(_)), "{hot}");
        let swapped = world.b.stack.swap_cold(&mut world.b.device, other(second)).expect("a cold swap");
        assert_eq!((swapped.connections, swapped.state), (1, None));
        assert!(swapped.to.starts_with(name), "{}", swapped.to);
        let end = ending(&mut world, stream);
        assert!(matches!(end, StreamError::Ended(reason::RESET)), "the peer is told in kind, not {end:?}");
        let again = world.a.stack.connect(server, ConnectOptions::default()).expect("connects");
        let mut is_open = false;
        world.run(world.now + 10 * limits::SECOND, |world| {
            is_open |= bulkhead_tests::world::news(&mut world.a.stack, again).intersects(Readiness::OPENED);
            is_open && world.b.stack.accept(listener).is_ok()
        });
        assert!(is_open, "the listener goes on");
    }
}
