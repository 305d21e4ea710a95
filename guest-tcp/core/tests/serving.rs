//! Listeners under pressure: cookies, offers, deferred accepts; and what both ends agree on: ECN, buffer sizes.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::registry::{census, reason, setting};
use bulkhead_wit::*;
use common::peer::*;
use common::{Host, MS, SECOND, config, v4};

const ECE: u8 = 64;
const CWR: u8 = 128;

fn host_with(change: impl FnOnce(&mut Config), how: Listening, settings: Vec<Setting>) -> Host {
    let mut config = config(v4(1), 5);
    change(&mut config);
    let mut host = Host::new(config);
    host.listen_with(Listen {
        listener: 1,
        local: Endpoint::new(Address::UNSPECIFIED, 80),
        how: how.with(Listening::DUAL_STACK),
        allow: 1000,
        receive_first: 65_535,
        receive_max: 6 << 20,
        settings,
    });
    host.settle();
    host
}

fn peer(port: u16) -> Peer {
    let mut peer = Peer::new(80);
    peer.here.port = port;
    peer
}

fn census(host: &mut Host) -> Vec<u64> {
    host.info(Handle::INSTANCE)
}

#[test]
fn a_flood_is_answered_with_cookies_that_cost_nothing() {
    let mut host = host_with(|config| config.embryos = 4, Listening::default(), Vec::new());
    for port in 1..500 {
        assert_eq!(peer(port).says(&mut host, SYN, 0).len(), 1);
    }
    let counts = census(&mut host);
    assert_eq!(counts[usize::from(census::SYN_RECEIVED)], 4);
    assert_eq!(counts[usize::from(census::COOKIES_SENT)], 495);
    // An honest client gets in.
    let mut honest = peer(9000);
    let handle = honest.connect_with(&mut host, syn_options(100));
    honest.options = timestamps(101, 0);
    let fields = host.info(handle);
    assert_eq!(fields[usize::from(registry::info::OPTIONS)] & 7, 0, "its ACK came without timestamps");
    honest.says(&mut host, ACK, 100);
    assert_eq!(host.streams[&handle].exposed, 100);
}

#[test]
fn a_cookie_carries_options_in_the_timestamp() {
    let mut host = host_with(|config| config.embryos = 0, Listening::default(), Vec::new());
    let mut honest = peer(9000);
    let mut frame = honest.build(honest.seq, SYN, 0);
    frame.options = syn_options(100);
    host.inject(&frame.frame());
    let answer = wires(host.settle()).remove(0);
    let value = u32::from_be_bytes(answer.options[8..12].try_into().expect("TSval"));
    honest.seq += 1;
    honest.ack = answer.seq.wrapping_add(1);
    honest.options = timestamps(101, value);
    host.now += 20 * SECOND;
    honest.says(&mut host, ACK, 0);
    let handle = host.accepted();
    let fields = host.info(handle);
    assert_eq!(fields[usize::from(registry::info::OPTIONS)] & 7, 7);
    assert_eq!(fields[usize::from(registry::info::WSCALES)] >> 4, 7);
    assert_eq!(host.streams[&handle].mss, 1440 - 12 + 20);
}

#[test]
fn a_stale_or_forged_cookie_is_reset() {
    let mut host = host_with(|config| config.embryos = 0, Listening::default(), Vec::new());
    let mut late = peer(9000);
    let answer = late.says(&mut host, SYN, 0);
    late.ack = answer[0].seq.wrapping_add(2);
    let forged = late.at(late.seq, ACK, 0);
    host.inject(&forged);
    assert_eq!(wires(host.settle())[0].flags, RST);
    late.ack -= 1;
    host.now += 200 * SECOND;
    assert_eq!(late.says(&mut host, ACK, 0)[0].flags, RST);
}

fn offered(host: &Host) -> Handle {
    match host.events.last() {
        Some(Event::Offered(opening)) => opening.connection,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offer_waits_for_the_host() {
    let mut host = host_with(|_| {}, Listening::DEFER, Vec::new());
    let decide = |connection, verdict| Call::Decide(Decide { connection, verdict, code: 1 });
    let mut first = peer(1);
    assert!(first.says(&mut host, SYN, 0).is_empty());
    let handle = offered(&host);
    let again = first.at(first.seq - 1, SYN, 0);
    host.inject(&again);
    assert!(host.settle().is_empty(), "not decided yet");
    host.call(decide(handle, Verdict::Accept));
    let answer = wires(host.settle());
    assert_eq!(answer[0].flags, SYN | ACK);
    first.ack = answer[0].seq.wrapping_add(1);
    first.says(&mut host, ACK, 10);
    assert_eq!(host.accepted(), handle);
    assert_eq!(host.streams[&handle].exposed, 10);

    for (verdict, answers) in [(Verdict::Reset, 1), (Verdict::Drop, 0)] {
        let mut other = peer(2 + answers as u16);
        other.says(&mut host, SYN, 0);
        let handle = offered(&host);
        host.call(decide(handle, verdict));
        let sent = wires(host.settle());
        assert_eq!(sent.len(), answers);
        assert!(sent.iter().all(|wire| wire.flags == RST | ACK && wire.ack == 1001));
        assert_eq!(host.streams[&handle].closed, Some(reason::REFUSED));
    }
    peer(4).says(&mut host, SYN, 0);
    let handle = offered(&host);
    // Undecided for too long.
    host.at(host.now + 61 * SECOND);
    assert_eq!(host.streams[&handle].closed, Some(reason::TIMED_OUT));
    // Decided, and the stranger never comes back.
    peer(5).says(&mut host, SYN, 0);
    let handle = offered(&host);
    host.call(decide(handle, Verdict::Accept));
    host.settle();
    while host.streams[&handle].closed.is_none() {
        host.at(host.deadline);
    }
    assert_eq!(host.streams[&handle].closed, Some(reason::TIMED_OUT));
}

#[test]
fn an_accepted_offer_can_be_given_up_before_the_stranger_answers() {
    let mut host = host_with(|config| config.offers = 1, Listening::DEFER, Vec::new());
    let calls: [fn(Handle) -> Call; 2] =
        [|connection| Call::Close(Close { connection, linger: NEVER }), Call::Abort];
    for (port, call) in (1..).zip(calls) {
        peer(port).says(&mut host, SYN, 0);
        let connection = offered(&host);
        host.call(Call::Decide(Decide { connection, verdict: Verdict::Accept, code: 0 }));
        assert_eq!(wires(host.settle())[0].flags, SYN | ACK);
        host.call(call(connection));
        assert_eq!(wires(host.settle())[0].flags, RST | ACK);
        assert_eq!(host.streams[&connection].closed, Some(reason::ABORTED));
    }
    // Its place is free.
    peer(3).says(&mut host, SYN, 0);
    offered(&host);
}

#[test]
fn offers_are_bounded() {
    let mut host = host_with(|config| config.offers = 3, Listening::DEFER, Vec::new());
    for port in 1..10 {
        peer(port).says(&mut host, SYN, 0);
    }
    assert_eq!(host.events.iter().filter(|event| matches!(event, Event::Offered(_))).count(), 3);
    host.call(Call::Unlisten(1));
    host.settle();
    assert_eq!(host.streams.values().filter(|stream| stream.closed.is_some()).count(), 3);
}

#[test]
fn a_deferred_accept_waits_for_data() {
    let defer = vec![Setting { key: setting::DEFER_ACCEPT, value: 5 * SECOND }];
    let mut host = host_with(|_| {}, Listening::default(), defer);
    let mut first = peer(1);
    let answer = first.says(&mut host, SYN, 0);
    first.ack = answer[0].seq.wrapping_add(1);
    first.says(&mut host, ACK, 0);
    assert!(host.events.is_empty());
    host.now += SECOND;
    first.says(&mut host, ACK, 10);
    assert_eq!(host.streams[&host.accepted()].exposed, 10);
    // Without data it is accepted late.
    host.events.clear();
    let mut second = peer(2);
    let answer = second.says(&mut host, SYN, 0);
    second.ack = answer[0].seq.wrapping_add(1);
    second.says(&mut host, ACK, 0);
    let again = wires(host.at(host.deadline));
    assert_eq!(again[0].flags, SYN | ACK);
    second.says(&mut host, ACK, 0);
    assert!(matches!(host.events.last(), Some(Event::Accepted(_))));
}

#[test]
fn ecn_is_answered_and_echoed_until_cwr() {
    let mut host = host_with(|_| {}, Listening::default(), Vec::new());
    let mut first = peer(1);
    let answer = first.says(&mut host, SYN | ECE | CWR, 0);
    assert_eq!(answer[0].flags, SYN | ACK | ECE);
    first.ack = answer[0].seq.wrapping_add(1);
    first.says(&mut host, ACK, 0);
    let handle = host.accepted();
    let mut marked = first.build(first.seq, ACK, 100);
    marked.traffic_class = 3;
    host.inject(&marked.frame());
    first.seq += 100;
    assert_ne!(wires(host.settle())[0].flags & ECE, 0);
    assert_ne!(first.says(&mut host, ACK, 100)[0].flags & ECE, 0, "until CWR");
    assert_eq!(first.says(&mut host, ACK | CWR, 100)[0].flags & ECE, 0);
    // Our data is ECN-capable; after an echo the window shrinks once, and CWR says so.
    host.write(handle, 14_000);
    let sent = host.settle();
    assert!(sent.iter().all(|frame| frame.wire().traffic_class & 3 == 2));
    let before = host.info(handle)[usize::from(registry::info::CWND)];
    first.ack = first.ack.wrapping_add(2920);
    host.write(handle, 100_000);
    let frame = first.segment(ACK | ECE, 0);
    host.now += 10 * MS;
    host.inject(&frame);
    let mut sent = host.settle();
    while sent.is_empty() {
        sent = host.at(host.deadline);
    }
    assert_ne!(sent[0].wire().flags & CWR, 0);
    let after = host.info(handle)[usize::from(registry::info::CWND)];
    assert!(after <= before, "{before} {after}");
}

#[test]
fn ecn_is_asked_for_only_where_set() {
    let mut host = Host::new(config(v4(1), 6));
    host.open(Endpoint::new(v4(2), 80), vec![Setting { key: setting::ECN, value: 1 }]);
    assert_eq!(host.settle()[0].wire().flags, SYN | ECE | CWR);
    assert_eq!(host.at(host.deadline)[0].wire().flags, SYN, "without an answer it asks no more");
    host.open(Endpoint::new(v4(2), 80), Vec::new());
    assert_eq!(host.settle()[0].wire().flags, SYN);
}

#[test]
fn buffers_grow_with_what_is_read_and_sent() {
    let mut host = host_with(|_| {}, Listening::default(), Vec::new());
    let mut first = peer(1);
    let handle = first.connect_with(&mut host, vec![2, 4, 5, 180, 1, 3, 3, 7]);
    for _ in 0..400 {
        for _ in 0..20 {
            first.says(&mut host, ACK, 1460);
        }
        host.now += 5 * MS;
        let wanted = u64::from(host.streams[&handle].wants.0).max(65_535);
        host.read_all(handle, wanted);
        host.settle();
    }
    assert!(host.streams[&handle].wants.0 > 60_000, "{:?}", host.streams[&handle].wants);
    assert!(host.streams[&handle].wants.1 > 20_000);
}

#[test]
fn both_families_are_served_by_one_listener() {
    let six = Address::from_v6([0xfd; 16]);
    let mut host = host_with(
        |config| config.addresses.push(Prefix { address: six, length: 64 }),
        Listening::default(),
        Vec::new(),
    );
    peer(1).connect(&mut host);
    let mut other = peer(2);
    other.here.address = Address::from_v6([0xfe; 16]);
    other.there.address = six;
    other.connect(&mut host);
}

#[test]
fn a_protocol_that_nobody_speaks_is_told_a_hundred_times_a_second() {
    let mut host = host_with(|_| {}, Listening::default(), Vec::new());
    let header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 132, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    let mut answers = 0;
    for _ in 0..300 {
        let frame = common::wire::Frame { header: header.clone(), length: 40, ..Default::default() };
        host.inject(&frame);
        for answer in host.step() {
            // RFC 792: unreachable, protocol; it quotes the header and eight bytes.
            assert_eq!((answer.header[9], answer.header[20], answer.header[21]), (1, 3, 2));
            assert_eq!((&answer.header[28..48], answer.length), (&header[..], 8));
            answers += 1;
        }
    }
    assert_eq!(answers, 100);
}

#[test]
fn a_datagram_that_no_module_takes_finds_no_port() {
    let mut host = host_with(|_| {}, Listening::default(), Vec::new());
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    header.extend_from_slice(&[0x30, 0x39, 0, 53, 0, 40, 0, 0]);
    let datagram =
        |header: &[u8]| common::wire::Frame { header: header.to_vec(), length: 32, ..Default::default() };
    host.inject(&datagram(&header));
    let answers = host.step();
    assert_eq!((answers[0].header[20], answers[0].header[21]), (3, 3));
    assert_eq!(answers[0].header[28..56], header[..]);
    // Nothing about what was sent to another, or by nobody in particular (RFC 1122 3.2.2).
    for (at, byte) in [(19, 9), (12, 224)] {
        let mut other = header.clone();
        other[at] = byte;
        host.inject(&datagram(&other));
        assert!(host.step().is_empty());
    }
}

#[test]
fn a_source_has_its_share_of_half_open_connections() {
    let mut host = host_with(|config| config.embryos = 100, Listening::default(), Vec::new());
    for port in 1..60 {
        peer(port).says(&mut host, SYN, 0);
    }
    let counts = census(&mut host);
    assert_eq!(counts[usize::from(census::SYN_RECEIVED)], 25);
    let mut other = peer(1);
    other.here.address = v4(77);
    other.says(&mut host, SYN, 0);
    assert_eq!(census(&mut host)[usize::from(census::SYN_RECEIVED)], 26);
}
