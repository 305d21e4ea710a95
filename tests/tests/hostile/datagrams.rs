//! Rules 4 to 6 for datagrams: they go whole, between their own ends, and are of UDP.

use bulkhead::checksum::checksum;
use bulkhead::device::queue::QueueDevice;
use bulkhead::device::{Capabilities, Offload};
use bulkhead::fault::Rule;
use bulkhead::placement::native::Native;
use bulkhead::{BindOptions, Fault, Options, Stack};
use bulkhead_udp::Udp;
use bulkhead_wit::{Config, Description, Endpoint, Inputs, Module, Outputs, Summary, Time};
use std::net::SocketAddr;

type Twist = fn(&mut Outputs);

/// UDP whose outputs are twisted.
struct Twisted(Udp, Twist);

impl Module for Twisted {
    fn describe(&self) -> Description {
        self.0.describe()
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        self.0.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        self.0.step(inputs, outputs);
        self.1(outputs);
    }

    fn save(&self) -> Vec<u8> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.0.load(config, now, state)
    }
}

fn end(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

/// A datagram from the peer's port 9 to ours, without a checksum of its own.
fn frame(to: u16, payload: &[u8]) -> Vec<u8> {
    let length = (28 + payload.len()) as u16;
    let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend([0, 9].into_iter().chain(to.to_be_bytes()).chain((length - 20).to_be_bytes()).chain([0, 0]));
    bytes.extend(payload);
    bytes
}

/// The rule that this breaks where a datagram arrives for each of two sockets, and one is sent.
fn broken(twist: Twist) -> Option<Rule> {
    let native = Native::new(Box::new(Twisted(Udp::new(), twist)));
    let options = Options::new([10, 0, 0, 1].into(), 24, 1500, [1, 2, 3, 4]);
    let mut stack = Stack::new(Box::new(native), options).unwrap();
    let mut device = QueueDevice::new(Capabilities::plain(1500));
    let first = stack.bind(end("10.0.0.1:7"), BindOptions::default()).unwrap();
    stack.bind(end("10.0.0.1:8"), BindOptions::default()).unwrap();
    stack.turn(0, &mut device).unwrap();
    device.inject(&frame(7, b"seven"), Offload::default());
    device.inject(&frame(8, b"eight!"), Offload::default());
    stack.send_to(first, b"an answer", Endpoint::default(), end("10.0.0.2:9")).unwrap();
    match stack.turn(1_000_000, &mut device) {
        Ok(_) => None,
        Err(fault) => match &*fault {
            Fault::Broken(broken) => Some(broken.rule),
            other => panic!("{other}"),
        },
    }
}

#[test]
fn honest_datagrams_pass() {
    assert_eq!(broken(|_| {}), None);
}

#[test]
fn a_datagram_is_placed_whole_and_into_its_own_socket_or_breaks_rule_6() {
    let twists: [Twist; 5] = [
        |outputs| outputs.places.iter_mut().for_each(|place| place.length -= 1),
        |outputs| {
            outputs.places.iter_mut().for_each(|place| (place.skip, place.length) = (1, place.length - 1))
        },
        |outputs| outputs.places.iter_mut().for_each(|place| place.at = 1),
        |outputs| {
            if let [first, second] = &mut outputs.places[..] {
                std::mem::swap(&mut first.of, &mut second.of);
            }
        },
        |outputs| outputs.places.iter_mut().for_each(|place| place.length = 0),
    ];
    for (number, twist) in twists.into_iter().enumerate() {
        assert_eq!(broken(twist), Some(Rule::PlaceBinding), "{number}");
    }
    assert_eq!(
        broken(|outputs| outputs.places.iter_mut().for_each(|place| place.of += 2)),
        Some(Rule::Handle)
    );
}

#[test]
fn a_message_is_sent_whole_from_and_to_its_own_ends_or_breaks_rule_4_or_5() {
    let in_part: Twist = |outputs| outputs.sends.iter_mut().for_each(|send| send.length -= 1);
    assert_eq!(broken(in_part), Some(Rule::Payload));
    let to_another: Twist = |outputs| outputs.headers.iter_mut().skip(19).take(1).for_each(|byte| *byte = 3);
    assert_eq!(broken(to_another), Some(Rule::SendBinding));
    let to_another_port: Twist =
        |outputs| outputs.headers.iter_mut().skip(23).take(1).for_each(|byte| *byte = 10);
    assert_eq!(broken(to_another_port), Some(Rule::SendBinding));
    let from_another_port: Twist =
        |outputs| outputs.headers.iter_mut().skip(21).take(1).for_each(|byte| *byte = 8);
    assert_eq!(broken(from_another_port), Some(Rule::SendBinding));
}

#[test]
fn a_flood_of_flows_that_lead_nowhere_piles_nothing_up() {
    let options = bulkhead::Options::new([10, 0, 0, 1].into(), 24, 1500, [1; 4]);
    let mut stack = bulkhead::Stack::new(
        Box::new(bulkhead::placement::native::Native::new(Box::new(bulkhead_udp::Udp::new()))),
        options,
    )
    .unwrap();
    let end = |last, port| bulkhead_wit::Endpoint::from(std::net::SocketAddr::from(([10, 0, 0, last], port)));
    // Nobody takes a step meanwhile: what cannot be said soon is not kept.
    let why = bulkhead_wit::registry::reason::PORT_UNREACHABLE;
    let said = (0..10_000).take_while(|_| stack.unreachable(why, end(1, 9), end(2, 4711)).is_ok()).count();
    assert!((1..=bulkhead_wit::limits::CALLS).contains(&said), "{said}");
}
