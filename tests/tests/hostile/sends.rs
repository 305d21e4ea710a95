//! Rules 1 to 5 and 12: what a module sends, how much of everything it gives, and when it wants to be called.

use bulkhead::fault::Rule;
use bulkhead_tests::frames::{ACK, FIN, Tcp, URG, icmp_header};
use bulkhead_tests::scripted::{A, B, OURS, PEER, Scene, arrived, mark, place, queue, send, to_peer};
use bulkhead_wit::{Event, Hold, Inputs, MarkAt, Note, Outputs, Send as Sent, Source, limits};

fn nothing() -> Sent {
    Sent::default()
}

/// The rule that one send under this header breaks.
fn header(header: Vec<u8>) -> Rule {
    Scene::broken(move |_, outputs| send(outputs, &header, nothing()))
}

/// The rule that is broken by a header of A with a change in it.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Rule {
    let mut bytes = to_peer(1000, 0).header();
    change(&mut bytes);
    header(bytes)
}

#[test]
fn more_of_anything_than_allowed_breaks_rule_1() {
    fn many(fill: fn(&Inputs<'_>, &mut Outputs)) {
        assert_eq!(Scene::broken(fill), Rule::Counts);
    }
    many(|inputs, outputs| {
        let header = to_peer(1000, 0).header();
        (0..=inputs.room.sends).for_each(|_| send(outputs, &header, nothing()));
    });
    many(|inputs, outputs| {
        // Each is a super-segment as long as may be; together they are more than there is room for.
        let length = (limits::DATAGRAM - 40) as u32;
        for _ in 0..=inputs.room.bytes / length {
            send(outputs, &to_peer(1000, 0).header(), Sent { mss: 1460, ..queue(A, 0, length) });
        }
    });
    many(|_, outputs| outputs.headers.resize(limits::HEADER_BYTES + 1, 0));
    many(|_, outputs| outputs.places.resize(limits::PLACES + 1, place(A, 0, 0, 1)));
    many(|_, outputs| outputs.marks.resize(limits::MARKS + 1, mark(A, 0, 0, 0)));
    many(|_, outputs| outputs.events.resize(limits::EVENTS + 1, Event::Resubmit(Hold::default())));
    many(|_, outputs| outputs.notes.resize(limits::NOTES + 1, Note { level: 3, ..Note::default() }));
    many(|_, outputs| {
        let one = |at| place(A, arrived::DATA_OF_A, u64::from(at), 1);
        outputs.places.extend((0..5).map(|at| bulkhead_wit::Place { skip: at, ..one(at) }));
    });
    many(|_, outputs| outputs.marks.resize(2, mark(A, 0, 0, 0)));
}

#[test]
fn a_send_that_is_too_large_breaks_rule_1() {
    fn large(sent: Sent) {
        let act =
            move |_: &Inputs<'_>, outputs: &mut Outputs| send(outputs, &to_peer(1000, 0).header(), sent);
        assert_eq!(Scene::broken(act), Rule::Counts, "{sent:?}");
    }
    large(queue(A, 0, 1461));
    large(Sent { mss: 1461, ..queue(A, 0, 2000) });
    large(Sent { mss: 1, ..queue(A, 0, limits::FRAMES_PER_SEND as u32 + 1) });
    large(Sent { mss: 1460, ..queue(A, 0, limits::DATAGRAM as u32) });
    large(Sent { mss: 1460, ..queue(A, 0, u32::MAX) });
}

#[test]
fn a_malformed_header_breaks_rule_2() {
    let cases: [fn(&mut Vec<u8>); 15] = [
        |header| header.clear(),
        |header| header.truncate(39),
        |header| header.resize(limits::HEADER + 1, 0),
        |header| header[0] = 0x55,
        |header| header[0] = 0x46,
        |header| header[0] = 0x44,
        |header| header[0] = 0x65,
        |header| header[3] = 40,
        |header| header[5] = 1,
        |header| header[6] = 0x20,
        |header| header[7] = 1,
        |header| header[11] = 1,
        |header| header[32] = 0x60,
        |header| header[32] = 0x40,
        |header| header[37] = 1,
    ];
    for (number, case) in cases.into_iter().enumerate() {
        assert_eq!(changed(case), Rule::Header, "case {number}");
    }
    assert_eq!(changed(|header| header[9] = 17), Rule::Header, "a protocol that is not in `sends`");
    assert_eq!(changed(|header| header[9] = 58), Rule::Header, "ICMPv6 over IPv4");
    let mut short = icmp_header(0, OURS, PEER);
    short.truncate(27);
    assert_eq!(header(short), Rule::Header);
}

#[test]
fn a_header_outside_the_header_bytes_breaks_rule_2() {
    for (at, length) in [(1, 40), (u32::MAX, 40), (0, 41), (0, u16::MAX), (u32::MAX - 8, u16::MAX)] {
        let rule = Scene::broken(move |_, outputs| {
            send(outputs, &to_peer(1000, 0).header(), nothing());
            (outputs.sends[0].header, outputs.sends[0].header_length) = (at, length);
        });
        assert_eq!(rule, Rule::Header, "header at {at}, {length} bytes");
    }
    for transport in [0, 19, 24, 40, u16::MAX] {
        let rule = Scene::broken(move |_, outputs| {
            send(outputs, &to_peer(1000, 0).header(), nothing());
            outputs.sends[0].transport = transport;
        });
        assert_eq!(rule, Rule::Header, "transport header at {transport}");
    }
}

#[test]
fn a_forged_source_breaks_rule_3() {
    for source in [[10, 9, 9, 9], [10, 0, 0, 2], [0; 4], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
        let forged = Tcp { source: (source, 80), ..to_peer(1000, 0) };
        assert_eq!(header(forged.header()), Rule::Address, "from {source:?}");
    }
}

#[test]
fn a_destination_that_nobody_may_send_to_breaks_rule_3() {
    for destination in [[0; 4], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
        let header_of = Tcp { destination: (destination, 1000), ..to_peer(1000, 0) };
        assert_eq!(header(header_of.header()), Rule::Address, "to {destination:?}");
    }
}

/// The rule that this send breaks under A's header at `offset`.
fn sent(offset: u32, sent: Sent) -> Rule {
    Scene::broken(move |_, outputs| send(outputs, &to_peer(1000, offset).header(), sent))
}

#[test]
fn a_range_outside_the_send_queue_breaks_rule_4() {
    assert_eq!(sent(60, queue(A, 60, 41)), Rule::Payload);
    assert_eq!(sent(100, queue(A, 100, 1)), Rule::Payload);
    assert_eq!(sent(0, queue(A, 1 << 32, 10)), Rule::Payload);
    assert_eq!(sent(0, queue(A, u64::MAX, 10)), Rule::Payload);
    assert_eq!(sent(0, queue(A, 0, 0)), Rule::Payload);
}

#[test]
fn bytes_that_were_acknowledged_are_gone_and_sending_them_breaks_rule_4() {
    let mut scene = Scene::ready();
    scene.step(|_, outputs| outputs.marks.push(mark(A, 0, 40, arrived::DATA_OF_A))).expect("the truth");
    let stream = scene.streams[0];
    scene.stack.write(stream, b"more").expect("space");
    let rule = scene.breaks(|_, outputs| send(outputs, &to_peer(1000, 39).header(), queue(A, 39, 10)));
    assert_eq!(rule, Rule::Payload);
}

#[test]
fn a_payload_that_does_not_exist_breaks_rule_4() {
    for source in [Source::Message, Source::Staged] {
        assert_eq!(sent(0, Sent { source, length: 10, ..nothing() }), Rule::Payload, "{source:?}");
    }
    for (of, at, length) in [(0, 0, 10), (1, 0, 0), (0, 1, 0)] {
        assert_eq!(sent(0, Sent { of, at, length, ..nothing() }), Rule::Payload, "{of} {at} {length}");
    }
    let echo = |of: u64, at, length| {
        Scene::broken(move |_, outputs| {
            let sent = Sent { of, at, length, source: Source::Segment, ..nothing() };
            send(outputs, &icmp_header(0, OURS, PEER), sent);
        })
    };
    let request = u64::from(arrived::ECHO);
    for (of, at, length) in [
        (8, 0, 10),
        (u64::MAX, 0, 10),
        (1 << 32 | request, 0, 10),
        (request, 0, 33),
        (request, 32, 1),
        (request, u64::MAX, 10),
    ] {
        assert_eq!(echo(of, at, length), Rule::Payload, "{length} bytes at {at} of segment {of}");
    }
}

#[test]
fn another_connections_bytes_break_rule_5() {
    assert_eq!(sent(0, queue(B, 0, 30)), Rule::SendBinding, "B's bytes to A's peer");
    let to_stranger = Scene::broken(|_, outputs| {
        send(outputs, &to_peer(4000, 0).header(), queue(A, 0, 10));
    });
    assert_eq!(to_stranger, Rule::SendBinding);
    let from_another_port = Scene::broken(|_, outputs| {
        let header = Tcp { source: (OURS, 81), ..to_peer(1000, 0) };
        send(outputs, &header.header(), queue(A, 0, 10));
    });
    assert_eq!(from_another_port, Rule::SendBinding);
}

#[test]
fn bytes_under_a_wrong_sequence_number_break_rule_5() {
    assert_eq!(sent(61, queue(A, 60, 10)), Rule::SendBinding);
    assert_eq!(sent(0, queue(A, 60, 10)), Rule::SendBinding);
    let with_syn = Scene::broken(|_, outputs| {
        let header = Tcp { flags: bulkhead_tests::frames::SYN, ..to_peer(1000, 60) };
        send(outputs, &header.header(), queue(A, 60, 10));
    });
    assert_eq!(with_syn, Rule::SendBinding);
}

#[test]
fn a_segments_bytes_to_a_third_party_break_rule_5() {
    let rule = Scene::broken(|_, outputs| {
        let sent = Sent { of: u64::from(arrived::ECHO), length: 32, source: Source::Segment, ..nothing() };
        send(outputs, &icmp_header(0, OURS, [10, 0, 0, 3]), sent);
    });
    assert_eq!(rule, Rule::SendBinding);
}

#[test]
fn bytes_that_no_application_wrote_in_a_stream_break_rule_5() {
    let reflected = Scene::broken(|_, outputs| {
        let sent =
            Sent { of: u64::from(arrived::DATA_OF_A), length: 50, source: Source::Segment, ..nothing() };
        send(outputs, &to_peer(1000, 60).header(), sent);
    });
    assert_eq!(reflected, Rule::SendBinding, "the peer's own bytes");
    assert_eq!(sent(60, Sent { source: Source::Hold, length: 10, ..nothing() }), Rule::SendBinding);
}

#[test]
fn a_false_end_of_our_stream_breaks_rule_5() {
    for (offset, length) in [(0, 0), (60, 0), (60, 10), (60, 40), (100, 0), (101, 0)] {
        let rule = Scene::broken(move |_, outputs| {
            let header = Tcp { flags: ACK | FIN, ..to_peer(1000, offset) }.header();
            let body = if length == 0 { nothing() } else { queue(A, u64::from(offset), length) };
            send(outputs, &header, body);
        });
        assert_eq!(rule, Rule::SendBinding, "{length} bytes at {offset}");
    }
    let mut scene = Scene::ready();
    scene.stack.shutdown(scene.streams[0]).expect("an open stream");
    let rule = scene.breaks(|_, outputs| {
        send(outputs, &Tcp { flags: ACK | FIN, ..to_peer(1000, 60) }.header(), queue(A, 60, 39));
    });
    assert_eq!(rule, Rule::SendBinding, "a byte too early");
    let mut scene = Scene::ready();
    scene.stack.shutdown(scene.streams[0]).expect("an open stream");
    let truth = scene.step(|_, outputs| {
        send(outputs, &Tcp { flags: ACK | FIN, ..to_peer(1000, 60) }.header(), queue(A, 60, 40));
        send(outputs, &Tcp { flags: ACK | FIN, ..to_peer(1000, 100) }.header(), nothing());
    });
    assert_eq!(truth, Ok(()));
}

#[test]
fn urgent_data_that_no_application_sent_breaks_rule_5() {
    fn urgent(_: &Inputs<'_>, outputs: &mut Outputs) {
        send(outputs, &Tcp { flags: ACK | URG, ..to_peer(1000, 60) }.header(), queue(A, 60, 10));
    }
    assert_eq!(Scene::broken(urgent), Rule::SendBinding);
    let mut scene = Scene::ready();
    let stream = scene.streams[0];
    scene.stack.write_marked(stream, b"!", MarkAt::URGENT).expect("space");
    assert_eq!(scene.step(urgent), Ok(()));
}

#[test]
fn a_deadline_that_is_due_already_breaks_rule_12() {
    fn deadline(set: fn(&Inputs<'_>) -> u64) {
        assert_eq!(Scene::broken(move |inputs, outputs| outputs.deadline = set(inputs)), Rule::Deadline);
    }
    deadline(|_| 0);
    deadline(|inputs| inputs.now);
    deadline(|inputs| inputs.now + limits::DEADLINE_MIN - 1);
}
