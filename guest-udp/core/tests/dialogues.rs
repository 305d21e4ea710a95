//! The core by itself: datagrams in, places and headers out.

use bulkhead_udp::Udp;
use bulkhead_wit::registry::{protocol, reason};
use bulkhead_wit::{
    Address, Batch, Bind, Call, Config, Endpoint, Event, Handle, Kind, Listening, Message, Module as _,
    Outputs, Prefix, Reason, Room, Segment, Source, Target,
};

const OURS: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];

fn started() -> Udp {
    let mut udp = Udp::new();
    let addresses = vec![
        Prefix { address: Address::from_v4(OURS), length: 120 },
        Prefix { address: Address::from_v6([0xfd; 16]), length: 64 },
    ];
    udp.start(&Config { addresses, mtu: 1500, holds: 64, ..Config::default() }).unwrap();
    udp
}

fn end(address: [u8; 4], port: u16) -> Endpoint {
    Endpoint::new(Address::from_v4(address), port)
}

fn bind(slot: u32, local: Endpoint, remote: Endpoint) -> Call {
    Call::Bind(Bind { socket: Handle::by_host(slot, 1), local, remote, how: Listening::default() })
}

fn step(udp: &mut Udp, now: u64, fill: impl FnOnce(&mut Batch)) -> Outputs {
    let mut batch = Batch { now, room: Room { sends: 64, bytes: 1 << 20 }, ..Batch::default() };
    fill(&mut batch);
    let mut outputs = Outputs::default();
    udp.step(&batch.inputs(), &mut outputs);
    outputs
}

/// A datagram from the peer, or a fragment with this flags field.
fn arrives(batch: &mut Batch, from: u16, to: u16, payload: u32, fragment: Option<u16>) {
    let header = batch.headers.len() as u32;
    let flags = fragment.unwrap_or(0).to_be_bytes();
    batch.headers.extend([0x45, 0, 0, 0, 0, 7, flags[0], flags[1], 64, 17, 0, 0]);
    batch.headers.extend(PEER);
    batch.headers.extend(OURS);
    if fragment.is_none() {
        batch.headers.extend(from.to_be_bytes().into_iter().chain(to.to_be_bytes()).chain([0; 4]));
    }
    batch.segments.push(Segment {
        header,
        payload,
        header_length: (batch.headers.len() as u32 - header) as u16,
        transport: 20,
        mss: payload.max(1) as u16,
        count: 1,
        protocol: protocol::UDP,
        kind: if fragment.is_some() { Kind::Fragment } else { Kind::Whole },
        ..Segment::default()
    });
}

#[test]
fn the_socket_that_says_the_most_gets_the_datagram() {
    let mut udp = started();
    let any = end([0; 4], 53);
    let outputs = step(&mut udp, 0, |batch| {
        batch.calls.extend([
            bind(0, any, Endpoint::default()),
            bind(1, end(OURS, 53), end(PEER, 9)),
            bind(2, any, Endpoint::default()),
            bind(3, end([9, 9, 9, 9], 1), Endpoint::default()),
        ]);
        arrives(batch, 9, 53, 100, None);
        arrives(batch, 10, 53, 0, None);
    });
    let to: Vec<u64> = outputs.places.iter().map(|place| place.of).collect();
    assert_eq!(to, [Handle::by_host(1, 1).0, Handle::by_host(0, 1).0]);
    assert!(outputs.places.iter().all(|place| place.target == Target::Datagram && place.skip == 0));
    let failed: Vec<(u32, u16)> = outputs
        .events
        .iter()
        .filter_map(
            |event| if let Event::Failed(failed) = event { Some((failed.call, failed.reason)) } else { None },
        )
        .collect();
    assert_eq!(failed, [(2, reason::IN_USE), (3, reason::NOT_AVAILABLE)]);
}

#[test]
fn a_port_without_a_socket_is_unreachable_a_hundred_times_a_second() {
    let mut udp = started();
    let outputs = step(&mut udp, 1, |batch| (0..150).for_each(|_| arrives(batch, 9, 54, 10, None)));
    assert_eq!((outputs.places.len(), outputs.sends.len()), (0, 64), "the room of a step");
    let send = outputs.sends[0];
    let header = &outputs.headers[send.header as usize..][..usize::from(send.header_length)];
    assert_eq!((header[9], header[20], header[21]), (protocol::ICMP, 3, 3));
    assert_eq!(&header[28..32], &[0x45, 0, 0, 0], "the quote");
    let more = step(&mut udp, 2, |batch| (0..150).for_each(|_| arrives(batch, 9, 54, 10, None)));
    assert_eq!(more.sends.len(), 36);
    let later = step(&mut udp, 50_000_001, |batch| (0..150).for_each(|_| arrives(batch, 9, 54, 10, None)));
    assert_eq!(later.sends.len(), 5);
}

#[test]
fn the_peer_hears_what_the_host_has_found_out_about_the_way_on() {
    let mut udp = started();
    let v6 = |last: u8, port| Endpoint::new(Address::from_v6([last; 16]), port);
    let calls = [
        bind(1, end(OURS, 53), end(PEER, 4711)),
        bind(2, v6(0xfd, 53), v6(0xfe, 4711)),
        bind(3, end(OURS, 54), Endpoint::default()),
    ];
    step(&mut udp, 0, |batch| batch.calls.extend(calls));
    let report =
        |slot, reason| Call::Report(Reason { connection: Handle::by_host(slot, 1), reason, value: 0 });
    for (slot, why, code) in [
        (1, reason::PORT_UNREACHABLE, [3, 3]),
        (1, reason::HOST_UNREACHABLE, [3, 1]),
        (1, reason::PROHIBITED, [3, 13]),
        (2, reason::PORT_UNREACHABLE, [1, 4]),
        (2, reason::NETWORK_UNREACHABLE, [1, 0]),
    ] {
        let outputs = step(&mut udp, 1, |batch| batch.calls.push(report(slot, why)));
        let ip = if slot == 1 { 20 } else { 40 };
        assert_eq!((outputs.sends.len(), outputs.sends[0].length), (1, 0));
        let (outer, icmp) = outputs.headers.split_at(ip);
        assert_eq!(icmp[..2], code);
        let quoted = &icmp[8..];
        // Who is told is who sent it, and the quote says the same ports.
        let address = if slot == 1 { 4 } else { 16 };
        assert_eq!(outer[ip - address..], quoted[ip - 2 * address..ip - address]);
        assert_eq!(quoted[ip..], [0x12, 0x67, 0, 53, 0, 8, 0, 0]);
        assert_eq!(
            if slot == 1 { &quoted[2..4] } else { &quoted[4..6] },
            [0, if slot == 1 { 28 } else { 8 }]
        );
    }
    // Whom it should tell, a socket of any peer's does not know.
    let outputs = step(&mut udp, 2, |batch| {
        batch.calls.extend([report(3, reason::PORT_UNREACHABLE), report(4, reason::PORT_UNREACHABLE)]);
    });
    let told: Vec<_> = outputs
        .events
        .iter()
        .map(|event| match event {
            Event::Failed(failed) => failed.reason,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((told, outputs.sends.len()), (vec![reason::INVALID, reason::UNKNOWN], 0));
}

#[test]
fn messages_leave_from_an_address_of_the_right_version() {
    let mut udp = started();
    step(&mut udp, 0, |batch| {
        let how = Listening::DUAL_STACK;
        let local = Endpoint::new(Address::UNSPECIFIED, 700);
        batch.calls.push(Call::Bind(Bind { socket: Handle::by_host(0, 1), local, how, ..Bind::default() }));
    });
    let to = [end(PEER, 7), Endpoint::new(Address::from_v6([0xfd; 16]), 8)];
    let outputs = step(&mut udp, 1, |batch| {
        let message = Message { socket: Handle::by_host(0, 1), length: 5000, ..Message::default() };
        batch.messages.extend(to.map(|to| Message { to, ..message }));
        arrives(batch, 1, 700, 1, None);
    });
    assert_eq!(outputs.places.len(), 1, "dual stack");
    let shape = |n: usize| {
        let send = outputs.sends[n];
        let header = &outputs.headers[send.header as usize..][..usize::from(send.header_length)];
        assert_eq!((send.source, send.of, send.length, send.mss), (Source::Message, n as u64, 5000, 0));
        header.to_vec()
    };
    assert_eq!(shape(0)[12..20], [10, 0, 0, 1, 10, 0, 0, 2]);
    assert_eq!(shape(1)[8..24], [0xfd; 16]);
    assert_eq!(shape(1)[40..44], [700u16.to_be_bytes(), 8u16.to_be_bytes()].concat());
}

#[test]
fn fragments_wait_for_each_other_and_not_for_ever() {
    let mut udp = started();
    let first = step(&mut udp, 0, |batch| {
        arrives(batch, 0, 0, 8, Some(0x2000 | 1));
        arrives(batch, 0, 0, 8, Some(0x2000 | 1));
    });
    assert_eq!((first.places.len(), first.events.len()), (1, 0), "the second is the first again");
    assert_eq!(first.deadline, 30_000_000_000);
    let saved = udp.save();
    let mut other = started();
    let config = Config {
        holds: 64,
        addresses: vec![Prefix { address: Address::from_v4(OURS), length: 120 }],
        ..Config::default()
    };
    other.load(&config, 1, &saved).unwrap();
    assert_eq!(other.save(), saved);
    let whole = step(&mut other, 2, |batch| {
        arrives(batch, 0, 0, 5, Some(2));
        arrives(batch, 0, 0, 8, Some(0x2000));
    });
    assert!(matches!(whole.events[..], [Event::Resubmit(hold)] if hold.length == 21), "{:?}", whole.events);
    let late = step(&mut udp, 30_000_000_000, |_| {});
    assert_eq!(late.events, [Event::Release(0)]);
    // Overlapping fragments end their datagram (RFC 5722).
    let overlap = step(&mut udp, 31_000_000_000, |batch| {
        arrives(batch, 0, 0, 16, Some(0x2000));
        arrives(batch, 0, 0, 16, Some(0x2000 | 1));
    });
    assert_eq!(overlap.events, [Event::Release(0)]);
}

#[test]
fn bytes_given_back_are_free_only_after_the_step() {
    let piece = |batch: &mut Batch, name: u8, units: u16| {
        arrives(batch, 0, 0, 24, Some(units));
        let header = batch.segments.last().unwrap().header as usize;
        batch.headers[header + 5] = name;
    };
    let mut udp = started();
    // Sixteen that reach to the end of their slots leave no room for another one.
    let full = step(&mut udp, 0, |batch| (0..16).for_each(|name| piece(batch, name, 0x2000 | 8188)));
    assert_eq!(full.places.len(), 16);
    // One is given up over a contradiction; for the host it is there until the end of the step.
    let outputs = step(&mut udp, 1, |batch| {
        piece(batch, 0, 0);
        piece(batch, 99, 0x2000 | 8188);
    });
    assert_eq!((outputs.places.len(), outputs.events), (0, vec![Event::Release(0)]));
    assert_eq!(step(&mut udp, 2, |batch| piece(batch, 99, 0x2000 | 8188)).places.len(), 1);
}
