//! Rules 6, 7 and 11: where arrived bytes go.

use bulkhead::fault::Rule;
use bulkhead_tests::frames::ACK;
use bulkhead_tests::scripted::{A, B, Scene, arrived, from_peer, mark, place};
use bulkhead_wit::{Event, Handle, Hold, Place, Source, Target, Urgent, limits};

fn placed(place: Place) -> Rule {
    Scene::broken(move |_, outputs| outputs.places.push(place))
}

#[test]
fn a_payload_that_did_not_arrive_breaks_rule_6() {
    for (segment, skip, length) in [
        (8, 0, 1),
        (u32::MAX, 0, 1),
        (arrived::DATA_OF_A, 0, 51),
        (arrived::DATA_OF_A, 50, 1),
        (arrived::DATA_OF_A, u32::MAX, 50),
        (arrived::DATA_OF_A, 0, u32::MAX),
        (arrived::DATA_OF_A, 0, 0),
    ] {
        let of_a = Place { skip, ..place(A, segment, u64::from(skip), length) };
        assert_eq!(placed(of_a), Rule::PlaceBinding, "{length} bytes after {skip} of segment {segment}");
    }
    for source in [Source::Nothing, Source::Queue, Source::Message, Source::Hold, Source::Staged] {
        let from = Place { source, ..place(A, arrived::DATA_OF_A, 0, 50) };
        assert_eq!(placed(from), Rule::PlaceBinding, "from {source:?}");
    }
}

#[test]
fn another_connections_bytes_break_rule_6() {
    assert_eq!(placed(place(B, arrived::DATA_OF_A, 0, 50)), Rule::PlaceBinding);
    assert_eq!(placed(place(A, arrived::DATA_OF_B, 0, 10)), Rule::PlaceBinding);
    assert_eq!(placed(place(A, arrived::ECHO, 0, 10)), Rule::PlaceBinding);
    assert_eq!(placed(place(A, arrived::FRAGMENT, 0, 10)), Rule::PlaceBinding);
}

#[test]
fn a_wrong_stream_offset_breaks_rule_6() {
    for at in [1, 50, 1 << 31, u64::MAX] {
        assert_eq!(placed(place(A, arrived::DATA_OF_A, at, 50)), Rule::PlaceBinding, "at {at}");
    }
    assert_eq!(placed(place(A, arrived::END_OF_A, 50, 50)), Rule::PlaceBinding, "into the hole");
    let skipped = Place { skip: 10, ..place(A, arrived::DATA_OF_A, 0, 40) };
    assert_eq!(placed(skipped), Rule::PlaceBinding);
}

#[test]
fn an_offset_that_is_right_modulo_2_to_the_32_breaks_rule_7() {
    assert_eq!(placed(place(A, arrived::DATA_OF_A, 1 << 32, 50)), Rule::ReceiveMemory);
}

#[test]
fn bytes_placed_twice_break_rule_7() {
    let twice = Scene::broken(|_, outputs| outputs.places.resize(2, place(A, arrived::DATA_OF_A, 0, 50)));
    assert_eq!(twice, Rule::ReceiveMemory);
    let overlap = Scene::broken(|_, outputs| {
        outputs.places.push(Place { skip: 10, ..place(A, arrived::DATA_OF_A, 10, 10) });
        outputs.places.push(place(A, arrived::DATA_OF_A, 0, 11));
    });
    assert_eq!(overlap, Rule::ReceiveMemory);
}

#[test]
fn bytes_that_were_exposed_are_not_placed_again() {
    let mut scene = Scene::ready();
    let first = scene.step(|_, outputs| {
        outputs.places.push(place(A, arrived::DATA_OF_A, 0, 50));
        outputs.marks.push(mark(A, 50, 0, 0));
    });
    first.expect("the truth");
    scene.arrive(&from_peer(1000, 0, 0, ACK).frame(&[66; 50]));
    let mut bytes = [0; 50];
    let stream = scene.streams[0];
    assert_eq!(scene.stack.read(stream, &mut bytes).expect("bytes"), 50);
    assert_eq!(scene.breaks(|_, outputs| outputs.places.push(place(A, 0, 0, 50))), Rule::ReceiveMemory);
}

#[test]
fn bytes_beyond_the_limit_break_rule_7() {
    let mut scene = Scene::ready();
    scene.idle().expect("nothing happens");
    let limit = scene.stack.options().sizes.receive_first;
    scene.arrive(&from_peer(1000, limit - 9, 0, ACK).frame(&[1; 10]));
    let rule = scene.breaks(move |_, outputs| outputs.places.push(place(A, 0, u64::from(limit) - 9, 10)));
    assert_eq!(rule, Rule::ReceiveMemory);
}

#[test]
fn exposing_a_hole_breaks_rule_7() {
    fn exposed(to: u64) -> Rule {
        Scene::broken(move |_, outputs| {
            outputs.places.push(place(A, arrived::DATA_OF_A, 0, 50));
            outputs.places.push(place(A, arrived::END_OF_A, 100, 50));
            outputs.marks.push(mark(A, to, 0, 0));
        })
    }
    for to in [51, 100, 150, u64::MAX] {
        assert_eq!(exposed(to), Rule::ReceiveMemory, "up to {to}");
    }
    let nothing_placed = Scene::broken(|_, outputs| outputs.marks.push(mark(A, 1, 0, 0)));
    assert_eq!(nothing_placed, Rule::ReceiveMemory);
}

#[test]
fn taking_exposed_bytes_back_breaks_rule_7() {
    let mut scene = Scene::ready();
    let first = scene.step(|_, outputs| {
        outputs.places.push(place(A, arrived::DATA_OF_A, 0, 50));
        outputs.marks.push(mark(A, 50, 0, 0));
    });
    first.expect("the truth");
    scene.arrive(&from_peer(1000, 50, 0, ACK).frame(b"x"));
    let mut bytes = [0; 50];
    let stream = scene.streams[0];
    assert_eq!(scene.stack.read(stream, &mut bytes).expect("bytes"), 50);
    assert_eq!(scene.breaks(|_, outputs| outputs.marks.push(mark(A, 49, 0, 0))), Rule::ReceiveMemory);
}

#[test]
fn more_islands_than_allowed_break_rule_7() {
    let mut scene = Scene::ready();
    scene.idle().expect("nothing happens");
    for island in 0..=limits::ISLANDS as u32 {
        scene.arrive(&from_peer(1000, 1 + island * 2, 0, ACK).frame(b"x"));
    }
    let rule = scene.breaks(|inputs, outputs| {
        for segment in 0..inputs.segments.len() as u32 {
            outputs.places.push(place(A, segment, u64::from(1 + segment * 2), 1));
        }
    });
    assert_eq!(rule, Rule::ReceiveMemory);
}

#[test]
fn urgent_data_beyond_any_window_breaks_rule_7() {
    let rule = Scene::broken(|_, outputs| {
        outputs.events.push(Event::Urgent(Urgent { connection: A, at: limits::WINDOW + 1 }));
    });
    assert_eq!(rule, Rule::ReceiveMemory);
}

/// Bytes of a segment into a hold slot.
fn held(slot: u64, segment: u32, at: u64, length: u32) -> Place {
    Place { of: slot, target: Target::Hold, ..place(A, segment, at, length) }
}

#[test]
fn what_is_no_fragment_in_a_hold_slot_breaks_rule_11() {
    assert_eq!(placed(held(0, arrived::DATA_OF_A, 0, 50)), Rule::Hold);
    assert_eq!(placed(held(0, arrived::ECHO, 0, 32)), Rule::Hold);
}

#[test]
fn a_hold_slot_is_bound_to_its_datagram_by_rule_11() {
    let mixed = Scene::broken(|_, outputs| {
        outputs.places.push(held(0, arrived::FRAGMENT, 0, 64));
        outputs.places.push(held(0, arrived::OTHER_FRAGMENT, 64, 64));
    });
    assert_eq!(mixed, Rule::Hold);
    for at in [8, 63, 64, limits::HOLD_BYTES as u64, u64::MAX] {
        assert_eq!(placed(held(0, arrived::FRAGMENT, at, 64)), Rule::Hold, "at {at}");
    }
    let twice = Scene::broken(|_, outputs| outputs.places.resize(2, held(0, arrived::FRAGMENT, 0, 64)));
    assert_eq!(twice, Rule::Hold);
}

#[test]
fn a_hold_slot_that_does_not_exist_breaks_rule_11() {
    for slot in [limits::HOLDS as u64, 1 << 32, u64::MAX] {
        assert_eq!(placed(held(slot, arrived::FRAGMENT, 0, 64)), Rule::Hold, "slot {slot}");
    }
    let released = Scene::broken(|_, outputs| outputs.events.push(Event::Release(u32::MAX)));
    assert_eq!(released, Rule::Hold);
    let free = Scene::broken(|_, outputs| outputs.events.push(Event::Release(0)));
    assert_eq!(free, Rule::Hold);
}

#[test]
fn resubmitting_what_is_not_all_there_breaks_rule_11() {
    for (slot, length) in [(0, 65), (0, 0), (1, 64), (u32::MAX, 64), (0, u32::MAX)] {
        let rule = Scene::broken(move |_, outputs| {
            outputs.places.push(held(0, arrived::FRAGMENT, 0, 64));
            outputs.events.push(Event::Resubmit(Hold { slot, length }));
        });
        assert_eq!(rule, Rule::Hold, "slot {slot}, {length} bytes");
    }
    let from_the_middle = Scene::broken(|_, outputs| {
        outputs.places.push(held(0, arrived::OTHER_FRAGMENT, 64, 64));
        outputs.events.push(Event::Resubmit(Hold { slot: 0, length: 128 }));
    });
    assert_eq!(from_the_middle, Rule::Hold);
}

#[test]
fn a_datagram_to_a_socket_that_does_not_exist_breaks_rule_13() {
    for of in [Handle::INSTANCE, A, Handle::by_host(1, 1), Handle(u64::MAX)] {
        let datagram = Place { target: Target::Datagram, ..place(of, arrived::ECHO, 0, 32) };
        assert_eq!(placed(datagram), Rule::Handle, "{of:?}");
    }
}

#[test]
fn bytes_for_an_unknown_connection_break_rule_13() {
    for of in [Handle::INSTANCE, Handle::by_module(1, 2), Handle::by_host(1, 1), Handle(u64::MAX)] {
        assert_eq!(placed(place(of, arrived::DATA_OF_A, 0, 50)), Rule::Handle, "{of:?}");
    }
}
