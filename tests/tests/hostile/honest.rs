//! The scene's own check: a module that keeps to the rules is not called a liar.

use bulkhead_tests::frames::{echo_request, icmp_header};
use bulkhead_tests::scripted::{
    A, B, OURS, PEER, SEND_BASE, Scene, arrived, mark, opening, place, queue, send, to_peer,
};
use bulkhead_wit::{Event, Finished, Handle, Note, Opening, Place, Send, Source, Target, limits};

#[test]
fn everything_at_once_passes_when_it_is_true() {
    let mut scene = Scene::ready();
    let step = scene.step(|inputs, outputs| {
        assert_eq!(inputs.segments.len(), 8);
        let stranger = Opening {
            receive_base: 9001,
            send_base: 7001,
            ..opening(Handle::by_module(3, 1), arrived::HANDSHAKE)
        };
        outputs.events.push(Event::Accepted(stranger));
        outputs.places.push(place(A, arrived::DATA_OF_A, 0, 50));
        outputs.places.push(place(A, arrived::END_OF_A, 100, 50));
        outputs.places.push(place(B, arrived::DATA_OF_B, 0, 10));
        let hold = Place { of: 0, target: Target::Hold, ..place(A, arrived::FRAGMENT, 0, 64) };
        outputs.places.push(hold);
        outputs.marks.push(mark(A, 50, 40, arrived::DATA_OF_A));
        outputs.marks.push(mark(B, 10, 0, 0));
        outputs.events.push(Event::Finished(Finished { connection: A, at: 150, segment: arrived::END_OF_A }));
        send(outputs, &to_peer(1000, 60).header(), queue(A, 60, 40));
        send(outputs, &to_peer(2000, 0).header(), queue(B, 0, 30));
        let echo =
            Send { of: u64::from(arrived::ECHO), length: 32, source: Source::Segment, ..Send::default() };
        send(outputs, &icmp_header(0, OURS, PEER), echo);
        outputs.notes.push(Note { level: 3, connection: A, text: "x".repeat(limits::NOTE_BYTES) });
        outputs.deadline = inputs.now + limits::DEADLINE_MIN;
    });
    assert_eq!(step, Ok(()));
    assert_eq!(scene.device.leaving(), 3);
    let (frame, _) = scene.device.take().expect("the bytes of A");
    assert_eq!(frame[24..28], (SEND_BASE + 60).to_be_bytes());
    assert_eq!(frame[40..], [b'a'; 40]);
    let mut bytes = [0; 64];
    for (stream, expected) in scene.streams.clone().into_iter().zip([[1; 50].as_slice(), &[9; 10]]) {
        assert_eq!(scene.stack.read(stream, &mut bytes).expect("bytes"), expected.len());
        assert_eq!(bytes[..expected.len()], *expected);
    }
    assert_eq!(scene.stack.connections().count(), 3);
}

#[test]
fn an_empty_answer_passes() {
    assert_eq!(Scene::ready().step(|_, _| {}), Ok(()));
}

#[test]
fn a_turn_full_of_nonsense_says_that_there_is_more() {
    let mut scene = Scene::new();
    (0..9).for_each(|_| scene.arrive(&[0xff; 65_535]));
    scene.arrive(&echo_request(PEER, OURS, b"behind it"));
    let mut turns = 0;
    let mut steps = 0;
    loop {
        let turn = scene.stack.turn(2 * limits::SECOND, &mut scene.device).expect("no fault");
        (turns, steps) = (turns + 1, steps + turn.steps);
        if !turn.again {
            break;
        }
    }
    assert_eq!((steps, scene.device.arriving()), (1, 0), "{turns} turns");
    assert!(turns > 1, "this was meant to be more than a turn takes");
}
