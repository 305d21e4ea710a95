//! Segments in, segments out, manual time: handshakes, windows, timers, options.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::registry::{info, reason, setting};
use bulkhead_wit::*;
use common::peer::*;
use common::wire::Frame;
use common::{Host, MS, SECOND, Stream, config, v4};

fn stream(host: &Host, handle: Handle) -> &Stream {
    &host.streams[&handle]
}

fn set(key: u16, value: u64) -> Setting {
    Setting { key, value }
}

/// An open that the peer answers.
fn client(settings: Vec<Setting>) -> (Host, Peer, Handle, Frame) {
    let mut host = Host::new(config(v4(1), 6));
    let handle = host.open(Endpoint::new(v4(2), 80), settings);
    let syn = host.settle().remove(0);
    let wire = syn.wire();
    let mut peer = Peer::new(wire.source.port);
    peer.here.port = 80;
    peer.ack = wire.seq.wrapping_add(1);
    (host, peer, handle, syn)
}

#[test]
fn a_syn_has_linux_layout_and_comes_again() {
    let (mut host, _, handle, syn) = client(Vec::new());
    let wire = syn.wire();
    assert_eq!(wire.flags, SYN);
    assert_eq!(wire.window, 65_535);
    assert_eq!(wire.options[..8], [2, 4, 5, 180, 4, 2, 8, 10]);
    assert_eq!(wire.options[16..], [1, 3, 3, 7]);
    let mut gaps = Vec::new();
    for _ in 0..6 {
        let before = host.now;
        let again = host.at(host.deadline);
        assert_eq!(again[0].wire().seq, wire.seq);
        gaps.push((host.now - before) / SECOND);
    }
    assert_eq!(gaps, [1, 2, 4, 8, 16, 32]);
    host.at(host.deadline);
    assert_eq!(stream(&host, handle).closed, Some(reason::TIMED_OUT));
}

#[test]
fn without_options_the_syn_is_short() {
    let off = [setting::TIMESTAMPS, setting::SACK, setting::WINDOW_SCALE].map(|key| set(key, 0));
    let (.., syn) = client(off.to_vec());
    assert_eq!(syn.wire().options, [2, 4, 5, 180]);
    let (.., syn) = client(vec![set(setting::TIMESTAMPS, 0)]);
    assert_eq!(syn.wire().options, [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
}

#[test]
fn an_open_is_answered_refused_or_acknowledged_wrongly() {
    let (mut host, mut peer, handle, _) = client(Vec::new());
    let answer = peer.says(&mut host, SYN | ACK, 0);
    assert_eq!((answer.len(), answer[0].flags), (1, ACK));
    assert!(stream(&host, handle).open);

    let (mut host, mut peer, handle, _) = client(Vec::new());
    assert!(peer.says(&mut host, RST | ACK, 0).is_empty());
    assert_eq!(stream(&host, handle).closed, Some(reason::REFUSED));

    let (mut host, mut peer, handle, _) = client(Vec::new());
    peer.ack = peer.ack.wrapping_add(7);
    let answer = peer.says(&mut host, SYN | ACK, 0);
    assert_eq!((answer[0].flags, answer[0].seq), (RST, peer.ack));
    peer.ack = peer.ack.wrapping_sub(7);
    assert!(peer.says(&mut host, RST, 0).is_empty(), "a reset without ACK means nothing here");
    assert_eq!(stream(&host, handle).closed, None);
}

#[test]
fn simultaneous_open() {
    let (mut host, mut peer, handle, syn) = client(Vec::new());
    let answer = peer.says(&mut host, SYN, 0);
    assert_eq!(answer[0].flags, SYN | ACK);
    assert_eq!(answer[0].seq, syn.wire().seq);
    assert!(!stream(&host, handle).open);
    // The peer's SYN again, now with its ACK.
    let frame = peer.at(peer.seq.wrapping_sub(1), SYN | ACK, 0);
    host.inject(&frame);
    host.settle();
    assert!(stream(&host, handle).open);
    host.write(handle, 10);
    let sent = host.settle();
    assert_eq!(sent[0].length, 10);
}

#[test]
fn an_open_to_nowhere_fails_with_a_reason() {
    let mut host = Host::new(config(v4(1), 6));
    for (remote, local) in [
        (Endpoint::new(v4(2), 0), Endpoint::default()),
        (Endpoint::new(Address::from_v4([224, 0, 0, 1]), 80), Endpoint::default()),
        (Endpoint::new(v4(2), 80), Endpoint::new(v4(9), 1)),
        (Endpoint::new(Address::from_v6([9; 16]), 80), Endpoint::default()),
    ] {
        host.open_from(local, remote, Vec::new());
        host.settle();
        assert!(matches!(host.events.pop(), Some(Event::Failed(_))));
    }
}

#[test]
fn nobody_listens_and_nobody_is_told_twice() {
    let mut host = Host::new(config(v4(1), 5));
    let mut peer = Peer::new(81);
    let answer = peer.says(&mut host, SYN, 0);
    assert_eq!((answer[0].flags, answer[0].seq, answer[0].ack), (RST | ACK, 0, 1001));
    peer.ack = 77;
    let answer = peer.says(&mut host, ACK, 5);
    assert_eq!((answer[0].flags, answer[0].seq), (RST, 77));
    assert!(peer.says(&mut host, RST, 0).is_empty());
    // Not to us at all.
    peer.there.address = v4(77);
    assert!(peer.says(&mut host, SYN, 0).is_empty());
}

#[test]
fn a_half_open_connection_repeats_itself_and_gives_up() {
    let mut host = Host::new(config(v4(1), 5));
    host.listen(80);
    host.settle();
    let mut peer = Peer::new(80);
    let first = peer.says(&mut host, SYN, 0);
    let same = peer.at(1000, SYN, 0);
    host.inject(&same);
    assert_eq!(wires(host.settle())[0].seq, first[0].seq, "the same SYN, the same answer");
    let mut again = 0;
    while host.deadline != NEVER {
        again += host.at(host.deadline).len();
    }
    assert!((4..=5).contains(&again), "{again}");
    // A reset at the right place ends one at once.
    peer.says(&mut host, SYN, 0);
    let reset = peer.at(peer.seq, RST, 0);
    host.inject(&reset);
    host.settle();
    assert_eq!(host.deadline, NEVER);
}

#[test]
fn credit_holds_accepts_back() {
    let mut host = Host::new(config(v4(1), 5));
    host.listen_with(Listen {
        listener: 1,
        local: Endpoint::new(v4(1), 80),
        allow: 0,
        receive_first: 1000,
        receive_max: 1000,
        ..Listen::default()
    });
    host.settle();
    let mut peer = Peer::new(80);
    let answer = peer.says(&mut host, SYN, 0);
    peer.ack = answer[0].seq.wrapping_add(1);
    peer.says(&mut host, ACK, 0);
    assert!(host.events.is_empty());
    host.call(Call::Allow(Allow { listener: 1, up_to: 1 }));
    host.settle();
    let data = peer.at(peer.seq, ACK | PSH, 9);
    host.inject(&data);
    host.settle();
    let handle = host.accepted();
    assert_eq!(stream(&host, handle).exposed, 9);
}

#[test]
fn out_of_order_data_is_placed_once_and_acknowledged_at_once() {
    let (mut host, mut peer, handle) = {
        let mut host = Host::new(config(v4(1), 5));
        host.listen(80);
        host.settle();
        let mut peer = Peer::new(80);
        let handle = peer.connect_with(&mut host, syn_options(7));
        peer.options = timestamps(8, 0);
        (host, peer, handle)
    };
    let base = peer.seq;
    let sack = |wire: &common::wire::Wire| wire.options.get(16..).unwrap_or(&[]).to_vec();
    for (offset, length) in [(2000, 500), (1000, 500), (2000, 500), (900, 2000)] {
        let frame = peer.at(base + offset, ACK, length);
        host.inject(&frame);
        let answer = wires(host.settle());
        assert_eq!(answer.len(), 1);
        assert_eq!(answer[0].ack, base);
        assert!(!sack(&answer[0]).is_empty());
    }
    let frame = peer.at(base, ACK, 900);
    host.inject(&frame);
    let answer = wires(host.settle());
    assert_eq!(answer[0].ack, base + 2900);
    assert_eq!(stream(&host, handle).exposed, 2900);
    // A duplicate is reported (D-SACK, RFC 2883).
    let frame = peer.at(base + 100, ACK, 200);
    host.inject(&frame);
    let answer = wires(host.settle());
    let block = sack(&answer[0]);
    assert_eq!(block[block.len() - 8..block.len() - 4], (base + 100).to_be_bytes());
    assert_eq!(block[block.len() - 4..], (base + 300).to_be_bytes());
    peer.seq = base + 2900;
}

#[test]
fn acknowledgements_are_delayed_but_for_the_start() {
    let (mut host, mut peer, _) = server();
    for _ in 0..16 {
        peer.says(&mut host, ACK, 1000);
    }
    // Quick acknowledgements are used up: now every second full segment.
    assert!(peer.says(&mut host, ACK, 1000).is_empty());
    assert_eq!(host.deadline, host.now + 40 * MS);
    assert_eq!(peer.says(&mut host, ACK, 1000).len(), 1);
    assert!(peer.says(&mut host, ACK, 10).is_empty());
    let answer = wires(host.at(host.deadline));
    assert_eq!(answer[0].ack, peer.seq);
    // A super-segment counts for what it stands for.
    let mut big = peer.build(peer.seq, ACK, 4000);
    (big.mss, big.count) = (1000, 4);
    host.inject(&big.frame());
    assert_eq!(host.settle().len(), 1);
}

#[test]
fn zero_window_is_probed_until_it_opens() {
    let (mut host, mut peer, handle) = server();
    peer.window = 0;
    peer.says(&mut host, ACK, 0);
    host.write(handle, 3000);
    assert!(host.settle().is_empty());
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let before = host.now;
        let probe = wires(host.at(host.deadline));
        assert_eq!(probe.len(), 1);
        assert_eq!(probe[0].seq, peer.ack.wrapping_sub(1));
        gaps.push(host.now - before);
        peer.says(&mut host, ACK, 0);
    }
    assert!(gaps.windows(2).all(|pair| pair[1] == pair[0] * 2), "{gaps:?}");
    peer.window = 4000;
    let frame = peer.segment(ACK, 0);
    host.inject(&frame);
    let sent = host.settle();
    assert_eq!(sent.iter().map(|frame| frame.length).sum::<u32>(), 3000);
}

#[test]
fn a_probe_into_a_window_that_has_just_opened_is_no_longer_than_a_datagram() {
    let (mut host, mut peer, handle) = server();
    peer.window = 0;
    peer.says(&mut host, ACK, 0);
    host.write(handle, 100_000);
    assert!(host.settle().is_empty());
    // The window opens in the very step in which the probe is due.
    peer.window = 65_535;
    let frame = peer.segment(ACK, 0);
    host.inject(&frame);
    let sent = host.at(host.deadline);
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|frame| frame.header.len() as u32 + frame.length <= 65_535));
}

#[test]
fn an_acknowledgement_of_more_tells_its_window_whatever_its_sequence_number() {
    let (mut host, mut peer, handle) = server();
    host.write(handle, 3000);
    let sent = host.settle().iter().map(|frame| frame.length).sum::<u32>();
    assert_eq!(sent, 3000);
    // What comes behind a hole is the latest by SND.WL1.
    let frame = peer.at(peer.seq + 1000, ACK, 10);
    host.inject(&frame);
    host.settle();
    peer.ack += sent;
    peer.window = 0;
    peer.says(&mut host, ACK, 0);
    host.write(handle, 3000);
    assert!(host.settle().is_empty());
}

#[test]
fn our_window_closes_and_opens_without_silliness() {
    let (mut host, mut peer, handle) = server();
    let mut sent = 0;
    let mut last = 0;
    while sent < 65_535 {
        let length = (65_535 - sent).min(1460);
        if let Some(answer) = peer.says(&mut host, ACK, length).last() {
            last = answer.window;
        }
        sent += length;
    }
    host.at(host.now + 50 * MS);
    assert_eq!(stream(&host, handle).exposed, 65_535);
    // A probe of a byte is answered, not taken.
    let probe = peer.at(peer.seq, ACK, 1);
    host.inject(&probe);
    let answer = wires(host.settle());
    assert_eq!((answer[0].ack, answer[0].window), (peer.seq, 0), "{last}");
    // A few bytes read: no news. All of it read: news at once.
    let now = host.streams.get_mut(&handle).expect("known");
    now.consumed = 10;
    now.limit = 65_545;
    host.position(handle, MarkAt::default());
    assert!(host.settle().is_empty());
    host.read_all(handle, 65_535);
    let answer = wires(host.settle());
    assert_eq!(answer[0].window, 65_535);
}

#[test]
fn nagle_holds_the_second_small_segment() {
    let (mut host, mut peer, handle) = server();
    host.write(handle, 10);
    assert_eq!(host.settle().len(), 1);
    host.write(handle, 10);
    assert!(host.settle().is_empty());
    peer.ack += 10;
    let answer = peer.says(&mut host, ACK, 0);
    assert_eq!(answer.len(), 1);
    host.call(Call::Set(Change { of: handle, setting: set(setting::NODELAY, 1) }));
    host.write(handle, 10);
    assert_eq!(host.settle().len(), 1);
}

#[test]
fn cork_and_records() {
    let (mut host, mut peer, handle) = server();
    host.call(Call::Set(Change { of: handle, setting: set(setting::CORK, 1) }));
    host.write(handle, 100);
    assert!(host.settle().is_empty());
    assert_eq!(host.deadline, host.now + 200 * MS);
    let sent = host.at(host.deadline);
    assert_eq!(sent[0].length, 100);
    peer.takes(&sent);
    peer.says(&mut host, ACK, 0);
    host.call(Call::Set(Change { of: handle, setting: set(setting::CORK, 0) }));
    host.write_marked(handle, 100, MarkAt::END_OF_RECORD);
    host.write_marked(handle, 50, MarkAt::END_OF_RECORD);
    host.write(handle, 25);
    let lengths: Vec<u32> = host.settle().iter().map(|frame| frame.length).collect();
    assert_eq!(lengths, [100, 50], "records stand alone; the rest waits for Nagle");
    // MSG_MORE holds back as a cork does.
    peer.ack += 150;
    assert_eq!(peer.says(&mut host, ACK, 0).len(), 1);
}

#[test]
fn urgent_data_is_pointed_at_and_told() {
    let (mut host, peer, handle) = server();
    host.write_marked(handle, 4000, MarkAt::URGENT);
    let sent = host.settle();
    for frame in &sent {
        let wire = frame.wire();
        assert_ne!(wire.flags & URG, 0);
        let offset = wire.seq.wrapping_sub(peer.ack);
        assert_eq!(offset + u32::from(wire.urgent), 4000);
        assert!(frame.length <= 1460, "each frame has a pointer of its own");
    }
    let mut frame = peer.build(peer.seq, ACK | URG, 20);
    frame.urgent = 15;
    host.inject(&frame.frame());
    host.settle();
    assert_eq!(stream(&host, handle).urgent, Some(15));
}

#[test]
fn paws_drops_old_duplicates() {
    let mut host = Host::new(config(v4(1), 5));
    host.listen(80);
    host.settle();
    let mut peer = Peer::new(80);
    let handle = peer.connect_with(&mut host, syn_options(1000));
    peer.options = timestamps(1001, 0);
    peer.says(&mut host, ACK, 100);
    assert_eq!(stream(&host, handle).exposed, 100);
    peer.options = timestamps(900, 0);
    let old = peer.at(peer.seq, ACK, 50);
    host.inject(&old);
    let answer = wires(host.settle());
    assert_eq!(answer[0].ack, peer.seq);
    assert_eq!(stream(&host, handle).exposed, 100);
    // TS.Recent is echoed.
    assert_eq!(answer[0].options[8..12], 1001_u32.to_be_bytes());
    // After 24 days of silence an old timestamp means nothing any more.
    host.now += 25 * 24 * 3600 * SECOND;
    peer.says(&mut host, ACK, 50);
    assert_eq!(stream(&host, handle).exposed, 150);
}

#[test]
fn keepalive_asks_and_then_ends() {
    let (mut host, mut peer, handle) = server();
    for (key, value) in [
        (setting::KEEPALIVE_INTERVAL, SECOND),
        (setting::KEEPALIVE_COUNT, 3),
        (setting::KEEPALIVE_IDLE, 10 * SECOND),
    ] {
        host.call(Call::Set(Change { of: handle, setting: set(key, value) }));
    }
    let start = host.now;
    host.settle();
    let probe = wires(host.at(host.deadline));
    assert_eq!(host.now, start + 10 * SECOND);
    assert_eq!(probe[0].seq, peer.ack.wrapping_sub(1));
    peer.says(&mut host, ACK, 0);
    assert_eq!(host.deadline, host.now + 10 * SECOND);
    for _ in 0..3 {
        assert_eq!(wires(host.at(host.deadline))[0].flags, ACK);
    }
    let end = wires(host.at(host.deadline));
    assert_eq!(end[0].flags & RST, RST);
    assert_eq!(stream(&host, handle).closed, Some(reason::KEEPALIVE));
}

#[test]
fn a_silent_peer_runs_into_the_user_timeout() {
    let (mut host, _, handle) = server();
    host.call(Call::Set(Change { of: handle, setting: set(setting::USER_TIMEOUT, 3 * SECOND) }));
    host.write(handle, 100);
    host.settle();
    let start = host.now;
    while stream(&host, handle).closed.is_none() {
        host.at(host.deadline);
    }
    assert_eq!(stream(&host, handle).closed, Some(reason::TIMED_OUT));
    assert_eq!(host.now, start + 3 * SECOND);
}

#[test]
fn data_is_retransmitted_and_counted() {
    let (mut host, mut peer, handle) = server();
    host.write(handle, 1000);
    let first = host.settle();
    let mut again = Vec::new();
    while again.is_empty() {
        again = host.at(host.deadline);
    }
    assert_eq!(again[0].wire().seq, first[0].wire().seq);
    let fields = host.info(handle);
    assert_eq!(fields[usize::from(info::TOTAL_RETRANS)], 1);
    assert_eq!(fields[usize::from(info::STATE)], 4);
    peer.takes(&again);
    peer.says(&mut host, ACK, 0);
    assert_eq!(stream(&host, handle).acknowledged, 1000);
    host.call(Call::Query(Handle::INSTANCE));
    host.step();
    let Some(Event::Info(census)) = host.events.pop() else { panic!("an answer") };
    assert_eq!(census.fields[usize::from(registry::census::ESTABLISHED)], 1);
    assert_eq!(census.fields[usize::from(registry::census::RETRANS)], 1);
}

#[test]
fn icmp_errors_count_only_with_a_number_in_flight() {
    let (mut host, mut peer, handle) = server();
    host.write(handle, 1460);
    let sent = host.settle();
    let icmp = |seq_shift: u32, mtu: u16| {
        let quoted = &sent[0].header;
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1];
        header.extend_from_slice(&[3, 4, 0, 0, 0, 0]);
        header.extend_from_slice(&mtu.to_be_bytes());
        header.extend_from_slice(&quoted[..28]);
        let at = header.len() - 4;
        let seq = u32::from_be_bytes(header[at..].try_into().expect("four")).wrapping_add(seq_shift);
        header[at..].copy_from_slice(&seq.to_be_bytes());
        Frame { header, kind: Kind::IcmpError, ..Frame::default() }
    };
    host.inject(&icmp(5000, 1000));
    assert!(host.settle().is_empty(), "not in flight: forged");
    host.inject(&icmp(0, 1000));
    let again = host.settle();
    assert!(again.iter().all(|frame| frame.length.min(u32::from(frame.mss.max(1))) <= 960));
    assert!(host.events.iter().any(|event| matches!(event,
        Event::Warned(warned) if warned.reason == reason::PATH_MTU && warned.value == 1000)));
    assert_eq!(again.iter().map(|frame| frame.length).sum::<u32>(), 1460);
    peer.takes(&again);
    peer.says(&mut host, ACK, 0);
    assert_eq!(stream(&host, handle).acknowledged, 1460);
}

#[test]
fn echo_is_answered_with_its_own_data() {
    let mut host = Host::new(config(v4(1), 5));
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    header.extend_from_slice(&[8, 0, 9, 9, 1, 2, 3, 4]);
    host.inject(&Frame { header, length: 56, ..Frame::default() });
    let answer = host.settle();
    assert_eq!(answer[0].header[20..], [0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(answer[0].length, 56);
}

/// Found by the fuzz test: a SYN and a FIN in one segment of a simultaneous open.
#[test]
fn a_fin_beside_a_known_syn_is_not_taken() {
    let (mut host, mut peer, handle, _) = client(Vec::new());
    peer.says(&mut host, SYN, 0);
    let both = peer.at(peer.seq.wrapping_sub(1), SYN | ACK | FIN, 0);
    host.inject(&both);
    host.settle();
    assert!(stream(&host, handle).open);
    assert_eq!(stream(&host, handle).finished, None);
    peer.says(&mut host, FIN | ACK, 0);
    assert_eq!(stream(&host, handle).finished, Some(0));
}
