//! Rules 8, 9, 13 and 14: acknowledgements, ends, what is said of nobody, and text.

use bulkhead::fault::Rule;
use bulkhead_tests::frames::ACK;
use bulkhead_tests::scripted::{A, B, Scene, arrived, from_peer, mark, place};
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Event, Failed, Finished, Handle, Info, Note, Reason, Urgent, limits};

fn acknowledged(up_to: u64, by: u32) -> Rule {
    Scene::broken(move |_, outputs| outputs.marks.push(mark(A, 0, up_to, by)))
}

#[test]
fn a_false_acknowledgement_breaks_rule_8() {
    assert_eq!(acknowledged(41, arrived::DATA_OF_A), Rule::Acknowledged, "more than the segment says");
    assert_eq!(acknowledged(60, arrived::DATA_OF_A), Rule::Acknowledged);
    assert_eq!(acknowledged(100, arrived::DATA_OF_A), Rule::Acknowledged, "more than was sent");
    assert_eq!(acknowledged(u64::MAX, arrived::DATA_OF_A), Rule::Acknowledged);
    for by in [arrived::DATA_OF_B, arrived::SYN, arrived::ECHO, arrived::FRAGMENT, arrived::HANDSHAKE, 8] {
        assert_eq!(acknowledged(1, by), Rule::Acknowledged, "by segment {by}");
    }
    let of_b = Scene::broken(|_, outputs| outputs.marks.push(mark(B, 0, 1, arrived::DATA_OF_B)));
    assert_eq!(of_b, Rule::Acknowledged, "nothing was sent");
}

#[test]
fn an_acknowledgement_that_goes_back_breaks_rule_8() {
    let mut scene = Scene::ready();
    scene.step(|_, outputs| outputs.marks.push(mark(A, 0, 40, arrived::DATA_OF_A))).expect("the truth");
    scene.arrive(&from_peer(1000, 0, 30, ACK).frame(b""));
    assert_eq!(scene.breaks(|_, outputs| outputs.marks.push(mark(A, 0, 30, 0))), Rule::Acknowledged);
}

fn finished(connection: Handle, at: u64, segment: u32) -> Rule {
    Scene::broken(move |_, outputs| {
        outputs.events.push(Event::Finished(Finished { connection, at, segment }));
    })
}

#[test]
fn a_false_end_of_stream_breaks_rule_9() {
    assert_eq!(finished(A, 50, arrived::DATA_OF_A), Rule::Finished, "no FIN");
    for at in [0, 50, 149, 151, 1 << 32 | 150, u64::MAX] {
        assert_eq!(finished(A, at, arrived::END_OF_A), Rule::Finished, "at {at}");
    }
    assert_eq!(finished(B, 150, arrived::END_OF_A), Rule::Finished, "another connection's");
    assert_eq!(finished(A, 150, 8), Rule::Finished);
    let twice = Scene::broken(|_, outputs| {
        let end = Event::Finished(Finished { connection: A, at: 150, segment: arrived::END_OF_A });
        outputs.events.resize(2, end);
    });
    assert_eq!(twice, Rule::Finished);
}

#[test]
fn an_end_before_bytes_that_are_there_breaks_rule_9() {
    let mut scene = Scene::ready();
    let first = scene.step(|_, outputs| {
        outputs.places.push(place(A, arrived::END_OF_A, 100, 50));
    });
    first.expect("the truth");
    scene.arrive(&from_peer(1000, 100, 0, ACK | bulkhead_tests::frames::FIN).frame(b""));
    let rule = scene.breaks(|_, outputs| {
        outputs.events.push(Event::Finished(Finished { connection: A, at: 100, segment: 0 }));
    });
    assert_eq!(rule, Rule::Finished);
}

#[test]
fn bytes_beyond_the_end_break_rule_9() {
    let mut scene = Scene::ready();
    let first = scene.step(|_, outputs| {
        outputs.events.push(Event::Finished(Finished { connection: A, at: 150, segment: arrived::END_OF_A }));
    });
    first.expect("the truth");
    scene.arrive(&from_peer(1000, 145, 0, ACK).frame(&[1; 10]));
    assert_eq!(scene.breaks(|_, outputs| outputs.places.push(place(A, 0, 145, 10))), Rule::Finished);
}

#[test]
fn words_about_nobody_break_rule_13() {
    let about = |event: fn(Handle) -> Event| {
        for of in [Handle::INSTANCE, Handle::by_module(1, 2), Handle::by_module(9, 1), Handle(u64::MAX)] {
            let rule = Scene::broken(move |_, outputs| outputs.events.push(event(of)));
            assert_eq!(rule, Rule::Handle, "{:?}", event(of));
        }
    };
    about(|connection| Event::Closed(Reason { connection, reason: reason::RESET, value: 0 }));
    about(|connection| Event::Warned(Reason { connection, reason: reason::PATH_MTU, value: 0 }));
    about(|connection| Event::Urgent(Urgent { connection, at: 0 }));
    about(|connection| Event::Finished(Finished { connection, at: 0, segment: 0 }));
    let marked = Scene::broken(|_, outputs| outputs.marks.push(mark(Handle::by_module(9, 1), 0, 0, 0)));
    assert_eq!(marked, Rule::Handle);
}

#[test]
fn words_about_the_dead_break_rule_13() {
    let closed = || Event::Closed(Reason { connection: B, reason: reason::RESET, value: 0 });
    let twice = Scene::broken(move |_, outputs| outputs.events.resize(2, closed()));
    assert_eq!(twice, Rule::Handle);
    let mut scene = Scene::ready();
    scene.step(move |_, outputs| outputs.events.push(closed())).expect("a connection may be killed");
    scene.streams.pop();
    scene.arrive(&from_peer(2000, 0, 0, ACK).frame(b"x"));
    assert_eq!(scene.breaks(|_, outputs| outputs.marks.push(mark(B, 0, 0, 0))), Rule::Handle);
}

#[test]
fn a_note_that_is_too_long_or_of_no_level_breaks_rule_14() {
    for (level, length) in [(3, limits::NOTE_BYTES + 1), (0, 1), (6, 1), (255, 1)] {
        let rule = Scene::broken(move |_, outputs| {
            outputs.notes.push(Note { level, connection: A, text: "x".repeat(length) });
        });
        assert_eq!(rule, Rule::Text, "level {level}, {length} bytes");
    }
}

#[test]
fn answers_that_nobody_asked_for_break_rule_14() {
    for of in [A, Handle::INSTANCE] {
        let rule =
            Scene::broken(move |_, outputs| outputs.events.push(Event::Info(Info { of, fields: vec![1] })));
        assert_eq!(rule, Rule::Text, "{of:?}");
    }
    let failed = Scene::broken(|inputs, outputs| {
        let call = inputs.calls.len() as u32;
        outputs.events.push(Event::Failed(Failed { call, reason: reason::INVALID }));
    });
    assert_eq!(failed, Rule::Text);
}

#[test]
fn an_answer_with_too_many_fields_breaks_rule_14() {
    let mut scene = Scene::ready();
    scene.stack.ask_info(None).expect("the instance is there");
    let rule = scene.breaks(|_, outputs| {
        let fields = vec![0; limits::INFO_FIELDS + 1];
        outputs.events.push(Event::Info(Info { of: Handle::INSTANCE, fields }));
    });
    assert_eq!(rule, Rule::Text);
}
