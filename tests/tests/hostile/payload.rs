//! Modules of the second world: what they read and stage is bounded, is of this step and of their own connections, and goes
//! where endpoints and granted memory allow.

use bulkhead::fault::Rule;
use bulkhead_tests::frames::{FIN, Tcp, echo_request};
use bulkhead_tests::scripted::{
    A, B, OURS, PEER, SEND_BASE, Scene, arrived, mark, place, queue, send, to_peer,
};
use bulkhead_wit::{Handle, Outputs, Payload, Place, Send, Source, Target, limits};

/// The rule that a module with payload access breaks when it does this.
fn broken(act: impl FnOnce(&mut Outputs, &mut dyn Payload) + std::marker::Send + 'static) -> Rule {
    Scene::ready_with_payload().breaks_with(|_, outputs, payload| act(outputs, payload))
}

fn passes(act: impl FnOnce(&mut Outputs, &mut dyn Payload) + std::marker::Send + 'static) -> Scene {
    let mut scene = Scene::ready_with_payload();
    scene.step_with(|_, outputs, payload| act(outputs, payload)).expect("what it may do");
    scene
}

fn staged(of: Handle, number: u32, at: u64, length: u32) -> Place {
    Place { source: Source::Staged, ..place(of, number, at, length) }
}

fn sent(number: u32, at: u64, length: u32) -> Send {
    Send { of: number.into(), at, length, source: Source::Staged, ..Send::default() }
}

#[test]
fn what_is_there_is_read_and_nothing_beyond_its_end() {
    passes(|_, payload| {
        assert_eq!(payload.read(Source::Segment, arrived::DATA_OF_A.into(), 0, 50), [1; 50]);
        assert_eq!(payload.read(Source::Segment, arrived::DATA_OF_A.into(), 40, u32::MAX), [1; 10]);
        assert_eq!(payload.read(Source::Segment, arrived::DATA_OF_B.into(), 0, 4), [9; 4]);
        assert_eq!(payload.read(Source::Segment, arrived::ECHO.into(), 0, 100), [5; 32]);
        assert_eq!(payload.read(Source::Queue, A.0, 0, 1000), [b'a'; 100]);
        assert_eq!(payload.read(Source::Queue, A.0, 98, 7), [b'a'; 2]);
        assert_eq!(payload.read(Source::Queue, B.0, 0, 1000), [b'b'; 30]);
        for at in [50, 51, u64::from(u32::MAX), u64::MAX] {
            assert!(payload.read(Source::Segment, arrived::DATA_OF_A.into(), at, 10).is_empty());
            assert!(payload.read(Source::Queue, B.0, at, 10).is_empty());
        }
    });
}

#[test]
fn what_is_acknowledged_is_read_no_more() {
    let mut scene = passes(|outputs, _| outputs.marks.push(mark(A, 0, 40, arrived::DATA_OF_A)));
    scene.arrive(&echo_request(PEER, OURS, b"x"));
    let next = scene.step_with(|_, _, payload| {
        assert!(payload.read(Source::Queue, A.0, 39, 10).is_empty());
        assert_eq!(payload.read(Source::Queue, A.0, 40, 1000), [b'a'; 60]);
    });
    next.expect("what it may do");
}

#[test]
fn what_a_module_was_not_told_of_is_not_there_to_be_read() {
    for (source, of, rule) in [
        (Source::Segment, 8, Rule::Payload),
        (Source::Segment, u64::MAX, Rule::Payload),
        (Source::Message, 0, Rule::Payload),
        (Source::Hold, 0, Rule::Payload),
        (Source::Hold, u64::MAX, Rule::Payload),
        (Source::Nothing, 0, Rule::Payload),
        (Source::Staged, 0, Rule::Payload),
        (Source::Queue, Handle::by_module(3, 1).0, Rule::Handle),
        (Source::Queue, Handle::by_module(1, 2).0, Rule::Handle),
        (Source::Queue, Handle::by_host(0, 1).0, Rule::Handle),
        (Source::Queue, 0, Rule::Handle),
    ] {
        let read = broken(move |_, payload| drop(payload.read(source, of, 0, 1)));
        assert_eq!(read, rule, "{source:?} {of}");
    }
}

#[test]
fn reading_and_staging_are_bounded() {
    let reads = broken(|_, payload| {
        for _ in 0..=limits::READS {
            payload.read(Source::Queue, A.0, 0, 1);
        }
    });
    assert_eq!(reads, Rule::Counts);
    let all = broken(|_, payload| {
        // The fewest reads that come to more than there may be: each has 100 bytes.
        for _ in 0..=limits::READ_BYTES / 100 {
            payload.read(Source::Queue, A.0, 0, 100);
        }
    });
    assert_eq!(all, Rule::Counts);
    let runs = broken(|_, payload| {
        for _ in 0..=limits::STAGES {
            payload.stage(b"x");
        }
    });
    assert_eq!(runs, Rule::Counts);
    let bytes = broken(|_, payload| {
        for _ in 0..=limits::STAGED_BYTES / limits::DATAGRAM {
            payload.stage(&[0; limits::DATAGRAM]);
        }
    });
    assert_eq!(bytes, Rule::Counts);
    let one = broken(|_, payload| _ = payload.stage(&[0; limits::DATAGRAM + 1]));
    assert_eq!(one, Rule::Counts);
}

#[test]
fn staged_bytes_are_what_the_application_reads() {
    let mut scene = passes(|outputs, payload| {
        let number = payload.stage(b"not what arrived");
        assert_eq!(payload.stage(b"second"), number + 1);
        outputs.places.push(Place { skip: 4, ..staged(A, number, 0, 4) });
        outputs.places.push(staged(A, number + 1, 4, 6));
        outputs.marks.push(mark(A, 10, 0, 0));
    });
    let (mut bytes, stream) = ([0; 64], scene.streams[0]);
    assert_eq!(scene.stack.read(stream, &mut bytes).expect("bytes"), 10);
    assert_eq!(&bytes[..10], b"whatsecond");
}

#[test]
fn staged_bytes_stay_within_what_was_staged_and_granted() {
    for (number, skip, length) in
        [(1, 0, 1), (u32::MAX, 0, 1), (0, 0, 6), (0, 5, 1), (0, u32::MAX, 5), (0, 0, 0)]
    {
        let rule = broken(move |outputs, payload| {
            payload.stage(b"bytes");
            outputs.places.push(Place { skip, ..staged(A, number, 0, length) });
        });
        assert_eq!(rule, Rule::PlaceBinding, "{length} bytes after {skip} of {number}");
    }
    let limit = u64::from(Scene::new().stack.options().sizes.receive_first);
    for at in [limit - 4, limit, u64::MAX] {
        let rule = broken(move |outputs, payload| {
            let number = payload.stage(b"bytes");
            outputs.places.push(staged(A, number, at, 5));
        });
        assert_eq!(rule, Rule::ReceiveMemory, "at {at}");
    }
    let twice = broken(|outputs, payload| {
        let number = payload.stage(b"bytes");
        outputs.places.resize(2, staged(A, number, 0, 5));
    });
    assert_eq!(twice, Rule::ReceiveMemory);
    for target in [Target::Datagram, Target::Hold] {
        let rule = broken(move |outputs, payload| {
            let number = payload.stage(b"bytes");
            outputs.places.push(Place { target, ..staged(A, number, 0, 5) });
        });
        assert_eq!(rule, Rule::PlaceBinding, "{target:?}");
    }
}

#[test]
fn staged_bytes_are_gone_after_their_step() {
    let mut scene = passes(|_, payload| assert_eq!(payload.stage(b"bytes"), 0));
    scene.arrive(&echo_request(PEER, OURS, b"x"));
    let rule = scene.breaks(|_, outputs| outputs.places.push(staged(A, 0, 0, 5)));
    assert_eq!(rule, Rule::PlaceBinding);
}

#[test]
fn a_foreign_connection_gets_no_staged_bytes() {
    for handle in [Handle::by_module(3, 1), Handle::by_module(1, 2), Handle::by_host(0, 1)] {
        let rule = broken(move |outputs, payload| {
            let number = payload.stage(b"bytes");
            outputs.places.push(staged(handle, number, 0, 5));
        });
        assert_eq!(rule, Rule::Handle, "{handle:?}");
    }
    // To a port of the peer's with which there is no connection.
    let rule = broken(|outputs, payload| {
        let number = payload.stage(b"bytes");
        send(outputs, &to_peer(4000, 0).header(), sent(number, 0, 5));
    });
    assert_eq!(rule, Rule::Handle);
}

#[test]
fn staged_bytes_are_sent_where_the_application_has_written() {
    let mut scene = passes(|outputs, payload| {
        let number = payload.stage(b"0123456789");
        send(outputs, &to_peer(1000, 90).header(), sent(number, 0, 10));
    });
    let (frame, _) = scene.device.take().expect("a frame");
    assert!(frame.ends_with(b"0123456789"), "{frame:?}");
    // Beyond what was written, and before what the queue still has.
    for (offset, length) in [(91, 10), (100, 1), (u32::MAX, 1)] {
        let rule = broken(move |outputs, payload| {
            let number = payload.stage(b"0123456789");
            let header = Tcp { seq: SEND_BASE.wrapping_add(offset), ..to_peer(1000, 0) }.header();
            send(outputs, &header, sent(number, 0, length));
        });
        assert_eq!(rule, Rule::Payload, "{length} bytes at {offset}");
    }
    for (number, at, length) in [(1, 0, 1), (u32::MAX, 0, 1), (0, 10, 1), (0, 0, 11), (0, u64::MAX, 1)] {
        let rule = broken(move |outputs, payload| {
            payload.stage(b"0123456789");
            send(outputs, &to_peer(1000, 0).header(), sent(number, at, length));
        });
        assert_eq!(rule, Rule::Payload, "{length} bytes after {at} of {number}");
    }
    let ended = broken(|outputs, payload| {
        let number = payload.stage(b"0123456789");
        let header = Tcp { flags: FIN, ..to_peer(1000, 90) }.header();
        send(outputs, &header, sent(number, 0, 10));
    });
    assert_eq!(ended, Rule::SendBinding);
}

#[test]
fn ranges_are_bound_as_in_the_first_world() {
    let rule = broken(|outputs, _| outputs.places.push(place(B, arrived::DATA_OF_A, 0, 50)));
    assert_eq!(rule, Rule::PlaceBinding);
    let rule = broken(|outputs, _| outputs.places.push(place(A, arrived::DATA_OF_A, 1, 50)));
    assert_eq!(rule, Rule::PlaceBinding);
    let rule = broken(|outputs, _| send(outputs, &to_peer(1000, 1).header(), queue(A, 0, 60)));
    assert_eq!(rule, Rule::SendBinding);
}

#[test]
fn a_blind_module_has_nothing_staged() {
    assert_eq!(Scene::broken(|_, outputs| outputs.places.push(staged(A, 0, 0, 1))), Rule::PlaceBinding);
    let sends = Scene::broken(|_, outputs| send(outputs, &to_peer(1000, 0).header(), sent(0, 0, 1)));
    assert_eq!(sends, Rule::Payload);
}
