//! Rule 10: how a connection begins.

use bulkhead::ConnectOptions;
use bulkhead::fault::Rule;
use bulkhead_tests::scripted::{A, OURS, PEER, Scene, arrived, opening};
use bulkhead_wit::{Address, Choosing, Endpoint, Event, Handle, Opening, limits};

const FRESH: Handle = Handle::by_module(3, 1);

/// The true opening of port 3000's connection.
fn stranger() -> Opening {
    Opening { receive_base: 9001, send_base: 7001, ..opening(FRESH, arrived::HANDSHAKE) }
}

fn accepted(opening: Opening) -> Rule {
    Scene::broken(move |_, outputs| outputs.events.push(Event::Accepted(opening)))
}

#[test]
fn a_handle_that_the_module_may_not_number_breaks_rule_10() {
    for connection in [
        Handle::INSTANCE,
        Handle::by_host(3, 1),
        Handle::by_module(limits::CONNECTIONS, 1),
        Handle::by_module(0xff_ffff, 1),
        Handle(FRESH.0 | 1 << 60),
        Handle(u64::MAX),
        Handle::by_module(1, 2),
        Handle::by_module(1, 0),
        A,
    ] {
        assert_eq!(accepted(Opening { connection, ..stranger() }), Rule::Opening, "{connection:?}");
    }
    let twice = Scene::broken(|_, outputs| outputs.events.resize(2, Event::Accepted(stranger())));
    assert_eq!(twice, Rule::Opening);
}

#[test]
fn a_segment_that_opens_nothing_breaks_rule_10() {
    for segment in [arrived::SYN, arrived::ECHO, arrived::FRAGMENT, arrived::DATA_OF_B, 8, u32::MAX] {
        assert_eq!(accepted(Opening { segment, ..stranger() }), Rule::Opening, "segment {segment}");
    }
}

#[test]
fn endpoints_in_use_break_rule_10() {
    let again = Opening { connection: FRESH, send_base: 5041, ..opening(FRESH, arrived::DATA_OF_A) };
    assert_eq!(accepted(again), Rule::Opening);
}

#[test]
fn wrong_bases_break_rule_10() {
    for (receive_base, send_base) in [(9002, 7001), (1 << 31, 7001), (9001, 7000), (9001, 7002), (9001, 0)] {
        let wrong = Opening { receive_base, send_base, ..stranger() };
        assert_eq!(accepted(wrong), Rule::Opening, "bases {receive_base} and {send_base}");
    }
    assert_eq!(accepted(Opening { mss: 0, ..stranger() }), Rule::Opening);
}

#[test]
fn a_listener_that_does_not_exist_breaks_rule_10() {
    for listener in [0, 2, u32::MAX] {
        assert_eq!(accepted(Opening { listener, ..stranger() }), Rule::Opening, "listener {listener}");
    }
}

#[test]
fn an_offer_of_a_listener_that_does_not_defer_breaks_rule_10() {
    let offer = Opening { send_base: 0, receive_base: 9001, ..opening(FRESH, arrived::SYN) };
    let rule = Scene::broken(move |_, outputs| outputs.events.push(Event::Offered(offer)));
    assert_eq!(rule, Rule::Opening);
}

/// A scene in which the application wants to connect from any port; the handle of that.
fn connecting() -> Scene {
    let mut scene = Scene::ready();
    let remote = Endpoint::new(Address::from_v4(PEER), 7);
    let stream = scene.stack.connect(remote, ConnectOptions::default()).expect("a place for it");
    scene.streams.push(stream);
    scene
}

/// The handle in the step's `open`.
fn asked(inputs: &bulkhead_wit::Inputs<'_>) -> Handle {
    let open = inputs.calls.iter().find_map(|call| match call {
        bulkhead_wit::Call::Open(open) => Some(open.connection),
        _ => None,
    });
    open.expect("an open was asked for")
}

#[test]
fn a_local_end_that_may_not_be_chosen_breaks_rule_10() {
    for (address, port) in [([10, 9, 9, 9], 40_000), (OURS, 80), (OURS, 0), (OURS, 61_000), (PEER, 40_000)] {
        let local = Endpoint::new(Address::from_v4(address), port);
        let rule = connecting().breaks(move |inputs, outputs| {
            outputs.events.push(Event::Choosing(Choosing { connection: asked(inputs), local }));
        });
        assert_eq!(rule, Rule::Opening, "{local}");
    }
    let local = Endpoint::new(Address::from_v4(OURS), 40_000);
    let of_a = Scene::broken(move |_, outputs| {
        outputs.events.push(Event::Choosing(Choosing { connection: A, local }));
    });
    assert_eq!(of_a, Rule::Opening);
}

#[test]
fn an_open_that_no_segment_answers_breaks_rule_10() {
    for segment in [arrived::HANDSHAKE, arrived::SYN, arrived::DATA_OF_A, 8] {
        let rule = connecting().breaks(move |inputs, outputs| {
            let connection = asked(inputs);
            let local = Endpoint::new(Address::from_v4(OURS), 40_000);
            outputs.events.push(Event::Choosing(Choosing { connection, local }));
            let opened = Opening { connection, listener: 0, segment, ..stranger() };
            outputs.events.push(Event::Opened(opened));
        });
        assert_eq!(rule, Rule::Opening, "segment {segment}");
    }
    let of_a = Scene::broken(|_, outputs| {
        outputs.events.push(Event::Opened(Opening { listener: 0, ..opening(A, arrived::DATA_OF_A) }));
    });
    assert_eq!(of_a, Rule::Opening);
    let of_nobody = Scene::broken(|_, outputs| outputs.events.push(Event::Opened(stranger())));
    assert_eq!(of_nobody, Rule::Handle);
}

#[test]
fn more_connections_than_the_backlog_break_rule_10() {
    let mut scene = Scene::new();
    let most = 128;
    for port in 0..=most {
        let segment = bulkhead_tests::scripted::from_peer(1000 + port, 0, 0, bulkhead_tests::frames::ACK);
        scene.arrive(&segment.frame(b""));
        let act = move |_: &bulkhead_wit::Inputs<'_>, outputs: &mut bulkhead_wit::Outputs| {
            let connection = Handle::by_module(u32::from(port), 1);
            outputs.events.push(Event::Accepted(opening(connection, 0)));
        };
        if port < most {
            scene.step(act).expect("within the backlog");
        } else {
            let fault = scene.step(act).expect_err("beyond the backlog");
            assert_eq!(fault.rule(), Some(Rule::Opening), "{fault}");
        }
    }
}
