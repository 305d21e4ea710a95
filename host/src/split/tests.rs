use super::build::*;
use super::network::{ICMP, ICMPV6, TCP, UDP};
use super::*;
use crate::device::{Offload, random::Random};
use bulkhead_wit::Kind;

fn split_one(frame: &[u8], offload: Offload) -> Result<(Batch, Arrived), Dropped> {
    let (mut split, mut batch, mut arrived) = (Split::new(3), Batch::default(), Vec::new());
    let result = split.split(Frame::from_bytes(frame, offload), &mut batch, &mut arrived);
    match result {
        Ok(()) => {
            assert_eq!((split.counters().passed, split.counters().dropped_in_all()), (1, 0));
            check(&batch, &arrived);
            Ok((batch, arrived.remove(0)))
        }
        Err(reason) => {
            assert_eq!((split.counters().dropped(reason), split.counters().dropped_in_all()), (1, 1));
            assert!(batch.is_empty() && batch.headers.is_empty() && arrived.is_empty());
            Err(reason)
        }
    }
}

/// What the contract promises of every segment (D3).
fn check(batch: &Batch, arrived: &[Arrived]) {
    assert_eq!(batch.segments.len(), arrived.len());
    for (segment, arrived) in batch.segments.iter().zip(arrived) {
        let end = segment.header as usize + usize::from(segment.header_length);
        assert!(end <= batch.headers.len());
        assert!((limits::HEADER_MIN..=limits::HEADER).contains(&usize::from(segment.header_length)));
        assert!(segment.transport <= segment.header_length);
        assert_eq!(segment.payload as usize, arrived.payload.len());
        assert!(segment.payload <= 65_535 && segment.mss >= 1 && segment.count >= 1);
        assert_eq!(segment.kind == Kind::Fragment, matches!(arrived.facts, Facts::Fragment(_)));
    }
}

fn plain(frame: &[u8]) -> Result<(Batch, Arrived), Dropped> {
    split_one(frame, Offload::default())
}

fn dropped(frame: &[u8]) -> Dropped {
    plain(frame).expect_err("dropped")
}

/// Frames of all kinds that pass.
fn good() -> Vec<Vec<u8>> {
    let quoted4 = v4(TCP, &[], &tcp(16, &[], b"secret", true));
    let quoted6 = v6(UDP, &[], &udp(b"secret", false));
    let hop = [TCP, 0, 1, 4, 0, 0, 0, 0];
    let mut first = v4(UDP, &[], &[9; 64]);
    first[6..8].copy_from_slice(&[0x20, 0]);
    fix_v4(&mut first);
    vec![
        v4(TCP, &[], &tcp(2, &[2, 4, 5, 180], b"", true)),
        v4(TCP, &[1, 1, 1, 0], &tcp(24, &[1; 40], b"hello", true)),
        v6(TCP, &[], &tcp(24, &[], b"hello", false)),
        v6(0, &hop, &tcp(17, &[], b"hello!", false)),
        v4(UDP, &[], &udp(b"query", true)),
        v6(UDP, &[], &udp(b"query", false)),
        v4(ICMP, &[], &icmp(8, b"ping data", true)),
        v6(ICMPV6, &[], &icmp(128, b"ping data", false)),
        v4(ICMP, &[], &icmp(3, &quoted4, true)),
        v6(ICMPV6, &[], &icmp(1, &quoted6, false)),
        first,
        v6(44, &[UDP, 0, 0, 8, 1, 2, 3, 4], &[7; 40]),
        v4(132, &[], b"no idea what this is"),
    ]
}

#[test]
fn a_tcp_segment_is_cut_behind_its_options() {
    let frame = v4(TCP, &[1, 1, 1, 0], &tcp(0x13, &[1, 1, 1, 1], b"hello", true));
    let (batch, arrived) = plain(&frame).unwrap();
    let expected = Segment {
        header: 0,
        payload: 5,
        header_length: 48,
        transport: 24,
        mss: 5,
        count: 1,
        protocol: TCP,
        kind: Kind::Whole,
        evidence: Evidence::Verified,
        device: 3,
    };
    assert_eq!(batch.segments, [expected]);
    assert_eq!(batch.headers, frame[..48]);
    assert_eq!(&*arrived.payload, b"hello");
    assert_eq!(arrived.ends.source, Endpoint::new(Address::from_v4(THERE4), 1000));
    assert_eq!(arrived.ends.destination, Endpoint::new(Address::from_v4(HERE4), 80));
    let facts = arrived.facts.tcp().unwrap();
    assert_eq!((facts.seq, facts.ack), (0x0102_0304, 0x0506_0708));
    assert_eq!((facts.syn, facts.fin, facts.rst, facts.ack_flag), (true, true, false, true));
    assert_eq!(facts.first_byte(), 0x0102_0305);
}

#[test]
fn segments_without_payload_count_one_and_hold_no_memory() {
    let (batch, arrived) = plain(&v6(TCP, &[], &tcp(16, &[], b"", false))).unwrap();
    let segment = batch.segments[0];
    assert_eq!((segment.payload, segment.mss, segment.count, segment.header_length), (0, 1, 1, 60));
    assert_eq!(arrived.payload.memory(), 0);
}

#[test]
fn all_kinds_pass_into_one_batch() {
    let (mut split, mut batch, mut arrived) = (Split::new(0), Batch::default(), Vec::new());
    let frames = good();
    for frame in &frames {
        // Ethernet pads short frames; what stands beyond the datagram is not looked at.
        let mut padded = frame.clone();
        padded.extend_from_slice(&[0xee; 6]);
        split.split(Frame::from_bytes(&padded, Offload::default()), &mut batch, &mut arrived).unwrap();
    }
    check(&batch, &arrived);
    for (frame, (segment, arrived)) in frames.iter().zip(batch.segments.iter().zip(&arrived)) {
        let start = segment.header as usize;
        let mut joined = batch.headers[start..start + usize::from(segment.header_length)].to_vec();
        joined.extend_from_slice(&arrived.payload);
        assert_eq!(&joined, frame);
    }
}

#[test]
fn lengths_that_lie_are_dropped() {
    let frame = v4(TCP, &[], &tcp(16, &[], b"hello", true));
    let with = |at: usize, value: &[u8]| {
        let mut frame = frame.clone();
        frame[at..at + value.len()].copy_from_slice(value);
        frame
    };
    let fixed = |at: usize, value: &[u8]| {
        let mut frame = with(at, value);
        fix_v4(&mut frame);
        frame
    };
    assert_eq!(dropped(&[]), Dropped::Truncated);
    assert_eq!(dropped(&with(0, &[0x55])), Dropped::Version);
    assert_eq!(dropped(&with(0, &[0x44])), Dropped::HeaderLength);
    assert_eq!(dropped(&fixed(2, &[0, 19])), Dropped::TotalLength);
    assert_eq!(dropped(&fixed(2, &[0, 46])), Dropped::TotalLength);
    assert_eq!(dropped(&fixed(2, &[0xff, 0xff])), Dropped::TotalLength);
    assert_eq!(dropped(&with(8, &[63])), Dropped::HeaderChecksum);
    assert_eq!(dropped(&fixed(2, &[0, 30])), Dropped::Truncated);
    assert_eq!(dropped(&with(32, &[0x40])), Dropped::TransportLength);
    assert_eq!(dropped(&with(32, &[0xf0])), Dropped::TransportLength);
    assert_eq!(dropped(&with(40, b"j")), Dropped::TransportChecksum);
    // A total length that hides the last byte changes what the checksum covers.
    assert_eq!(dropped(&fixed(2, &[0, 44])), Dropped::TransportChecksum);
    let mut six = v6(UDP, &[], &udp(b"x", false));
    six[5] = 10;
    assert_eq!(dropped(&six), Dropped::TotalLength);
    let mut short = v4(UDP, &[], &udp(b"query", true));
    short[25] = 7;
    assert_eq!(dropped(&short), Dropped::TransportLength);
    short[25] = 14;
    assert_eq!(dropped(&short), Dropped::TransportLength);
}

#[test]
fn udp_checksums_may_be_missing_over_ipv4_only() {
    let mut datagram = udp(b"query", true);
    datagram[6..8].fill(0);
    let (batch, _) = plain(&v4(UDP, &[], &datagram)).unwrap();
    assert_eq!(batch.segments[0].evidence, Evidence::Absent);
    let mut datagram = udp(b"query", false);
    datagram[6..8].fill(0);
    assert_eq!(dropped(&v6(UDP, &[], &datagram)), Dropped::NoChecksum);
}

#[test]
fn addresses_that_nobody_has_are_dropped() {
    let from = |source: [u8; 4], destination: [u8; 4], protocol| {
        let mut frame = v4(protocol, &[], &tcp(2, &[], b"", true));
        frame[12..16].copy_from_slice(&source);
        frame[16..20].copy_from_slice(&destination);
        fix_v4(&mut frame);
        split_one(&frame, Offload { checksum: ChecksumState::Verified, ..Offload::default() }).err()
    };
    assert_eq!(from(THERE4, HERE4, TCP), None);
    assert_eq!(from([224, 0, 0, 1], HERE4, TCP), Some(Dropped::Source));
    assert_eq!(from([255; 4], HERE4, 99), Some(Dropped::Source));
    assert_eq!(from([127, 0, 0, 1], HERE4, 99), Some(Dropped::Source));
    assert_eq!(from([0; 4], HERE4, TCP), Some(Dropped::Source));
    assert_eq!(from([0; 4], HERE4, 99), None);
    assert_eq!(from(THERE4, [255; 4], TCP), Some(Dropped::Destination));
    assert_eq!(from(THERE4, [239, 1, 1, 1], 99), None);
    assert_eq!(from(THERE4, [127, 0, 0, 1], 99), Some(Dropped::Destination));
    // The "land" attack: a SYN from itself.
    let mut land = v4(TCP, &[], &tcp(2, &[], b"", true));
    land[12..16].copy_from_slice(&HERE4);
    land[20..22].copy_from_slice(&[0, 80]);
    fix_v4(&mut land);
    assert_eq!(dropped(&land), Dropped::Land);
    // An IPv4 address in IPv6 clothes.
    let mut mapped = v6(TCP, &[], &tcp(2, &[], b"", false));
    mapped[8..24].copy_from_slice(&Address::from_v4(THERE4).octets());
    assert_eq!(dropped(&mapped), Dropped::Source);
}

#[test]
fn extension_headers_are_walked_within_bounds() {
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let chain = |count: usize| {
        let mut extensions = Vec::new();
        for left in (0..count).rev() {
            extensions.extend_from_slice(&options(if left == 0 { TCP } else { 60 }));
        }
        v6(60, &extensions, &tcp(16, &[], b"hi", false))
    };
    let (batch, arrived) = plain(&chain(8)).unwrap();
    assert_eq!((batch.segments[0].transport, batch.segments[0].header_length), (104, 124));
    assert_eq!(&*arrived.payload, b"hi");
    assert_eq!(dropped(&chain(9)), Dropped::Extensions);
    let mut long = vec![TCP, 31];
    long.resize(256, 0);
    assert!(plain(&v6(60, &long, &tcp(16, &[], b"hi", false))).is_ok());
    long[1] = 32;
    long.resize(264, 0);
    assert_eq!(dropped(&v6(60, &long, &tcp(16, &[], b"hi", false))), Dropped::Extensions);
    let mut late = options(0).to_vec();
    late.extend_from_slice(&options(TCP));
    assert_eq!(dropped(&v6(60, &late, &tcp(16, &[], b"hi", false))), Dropped::ExtensionOrder);
    let routing = [TCP, 0, 4, 1, 0, 0, 0, 0];
    assert_eq!(dropped(&v6(43, &routing, &tcp(16, &[], b"hi", false))), Dropped::Routing);
    // An atomic fragment is a whole datagram (RFC 6946).
    let atomic = v6(44, &[TCP, 0, 0, 0, 0, 0, 0, 9], &tcp(16, &[], b"hi", false));
    let (batch, _) = plain(&atomic).unwrap();
    assert_eq!((batch.segments[0].kind, batch.segments[0].transport), (Kind::Whole, 48));
}

#[test]
fn fragments_cross_as_network_header_and_length() {
    let fragment = |flags: u16, length: usize| {
        let mut frame = v4(TCP, &[], &vec![5; length]);
        frame[6..8].copy_from_slice(&flags.to_be_bytes());
        fix_v4(&mut frame);
        frame
    };
    let (batch, arrived) = plain(&fragment(0x2000 | 185, 64)).unwrap();
    let segment = batch.segments[0];
    assert_eq!((segment.kind, segment.evidence), (Kind::Fragment, Evidence::Absent));
    assert_eq!((segment.transport, segment.header_length, segment.payload), (20, 20, 64));
    let facts = FragmentFacts { key_protocol: TCP, identification: 0x1234, offset: 1480, more: true };
    assert_eq!(arrived.facts, Facts::Fragment(facts));
    assert_eq!(arrived.fragment_key().unwrap().identification, 0x1234);
    assert!(plain(&fragment(1, 3)).is_ok());
    // Teardrop and its like: ragged, empty, beyond the end of the longest datagram.
    assert_eq!(dropped(&fragment(0x2000, 63)), Dropped::Fragment);
    assert_eq!(dropped(&fragment(0x2000, 0)), Dropped::Fragment);
    assert_eq!(dropped(&fragment(0x1fff, 8)), Dropped::Fragment);
    let six = v6(44, &[UDP, 0, 0x10, 1, 0xab, 0xcd, 0, 1], &[7; 40]);
    let (batch, arrived) = plain(&six).unwrap();
    assert_eq!((batch.segments[0].header_length, batch.segments[0].protocol), (48, UDP));
    let key = arrived.fragment_key().unwrap();
    assert_eq!((key.protocol, key.identification), (44, 0xabcd_0001));
}

#[test]
fn icmp_errors_cross_through_the_quoted_transport_header() {
    let quoted = v4(TCP, &[], &tcp(16, &[1; 4], b"not for the module", true));
    let (batch, arrived) = plain(&v4(ICMP, &[], &icmp(3, &quoted, true))).unwrap();
    let segment = batch.segments[0];
    assert_eq!((segment.kind, segment.protocol, segment.transport), (Kind::IcmpError, ICMP, 20));
    assert_eq!(segment.header_length, 20 + 8 + 20 + 24);
    assert_eq!(&*arrived.payload, b"not for the module");
    let Facts::IcmpError { protocol, quoted: ends } = arrived.facts else { panic!() };
    assert_eq!((protocol, ends.source.port, ends.destination.port), (TCP, 1000, 80));
    let (batch, _) = plain(&v4(ICMP, &[], &icmp(11, &quoted[..28], true))).unwrap();
    assert_eq!((batch.segments[0].header_length, batch.segments[0].payload), (56, 0));
    assert_eq!(dropped(&v4(ICMP, &[], &icmp(3, &quoted[..27], true))), Dropped::Quote);
    assert_eq!(dropped(&v4(ICMP, &[], &icmp(3, b"", true))), Dropped::Quote);
    let mut later = quoted;
    later[7] = 1;
    assert_eq!(dropped(&v4(ICMP, &[], &icmp(3, &later, true))), Dropped::QuotedFragment);
    let quoted = v6(UDP, &[], &udp(b"secret", false));
    let (batch, arrived) = plain(&v6(ICMPV6, &[], &icmp(2, &quoted, false))).unwrap();
    assert_eq!(batch.segments[0].header_length, 40 + 8 + 40 + 8);
    assert_eq!(&*arrived.payload, b"secret");
    // Headers that are all within bounds one by one, and too long together.
    let mut long = vec![TCP, 30];
    long.resize(248, 0);
    let quoted = v6(60, &long, &tcp(16, &[1; 40], b"", false));
    let mut outer = vec![ICMPV6, 30];
    outer.resize(248, 0);
    assert_eq!(dropped(&v6(60, &outer, &icmp(1, &quoted, false))), Dropped::LongHeader);
}

#[test]
fn echo_data_is_payload() {
    let (batch, arrived) = plain(&v4(ICMP, &[], &icmp(8, b"ping", true))).unwrap();
    assert_eq!((batch.segments[0].header_length, batch.segments[0].kind), (28, Kind::Whole));
    assert_eq!(&*arrived.payload, b"ping");
    let mut bad = v6(ICMPV6, &[], &icmp(128, b"ping", false));
    bad[50] ^= 1;
    assert_eq!(dropped(&bad), Dropped::TransportChecksum);
}

#[test]
fn a_device_vouches_for_checksums() {
    let mut frame = v4(TCP, &[], &tcp(16, &[], b"hello", true));
    frame[36] ^= 0x55;
    let with = |checksum| split_one(&frame, Offload { checksum, ..Offload::default() });
    assert_eq!(with(ChecksumState::None).unwrap_err(), Dropped::TransportChecksum);
    let trusted = |checksum| with(checksum).unwrap().0.segments[0].evidence == Evidence::Trusted;
    assert!(trusted(ChecksumState::Verified));
    assert!(trusted(ChecksumState::Needs { start: 20, offset: 16 }));
    let elsewhere = ChecksumState::Needs { start: 40, offset: 16 };
    assert_eq!(with(elsewhere).unwrap_err(), Dropped::TransportChecksum);
}

#[test]
fn super_segments_are_counted() {
    let super_segment = |gso, gso_size, length: usize| {
        let mut frame = v4(TCP, &[], &tcp(16, &[], &vec![1; length], true));
        // The length fields of a super-segment mean nothing.
        frame[2..4].fill(0);
        fix_v4(&mut frame);
        let checksum = ChecksumState::Verified;
        split_one(&frame, Offload { gso, gso_size, checksum, ..Offload::default() })
            .map(|(batch, _)| (batch.segments[0].payload, batch.segments[0].mss, batch.segments[0].count))
    };
    assert_eq!(super_segment(Gso::Tcp4, 1448, 65_000), Ok((65_000, 1448, 45)));
    assert_eq!(super_segment(Gso::Tcp4, 1448, 1448), Ok((1448, 1448, 1)));
    assert_eq!(super_segment(Gso::Tcp4, 1448, 100), Ok((100, 100, 1)));
    assert_eq!(super_segment(Gso::Tcp4, 1, 65_535), Ok((65_535, 1, 65_535)));
    assert_eq!(super_segment(Gso::Tcp4, 1448, 0), Ok((0, 1, 1)));
    assert_eq!(super_segment(Gso::Tcp4, 1448, 65_536), Err(Dropped::LongPayload));
    assert_eq!(super_segment(Gso::Tcp4, 0, 100), Err(Dropped::Gso));
    assert_eq!(super_segment(Gso::Tcp6, 1448, 100), Err(Dropped::Gso));
    assert_eq!(super_segment(Gso::Udp, 1448, 100), Err(Dropped::Gso));
}

#[test]
fn a_full_batch_takes_no_more() {
    let frame = v4(TCP, &[], &tcp(16, &[], b"", true));
    let (mut split, mut batch, mut arrived) = (Split::new(0), Batch::default(), Vec::new());
    while Split::has_room(&batch) {
        split.split(Frame::from_bytes(&frame, Offload::default()), &mut batch, &mut arrived).unwrap();
    }
    assert_eq!(batch.segments.len(), limits::SEGMENTS);
    let more = split.split(Frame::from_bytes(&frame, Offload::default()), &mut batch, &mut arrived);
    assert_eq!(more, Err(Dropped::BatchFull));
    assert_eq!(split.counters().iter().find(|counter| counter.0 == "batch-full"), Some(("batch-full", 1)));
}

#[test]
fn no_bytes_can_break_it() {
    let mut random = Random::new(7);
    let (mut split, mut batch, mut arrived) = (Split::new(0), Batch::default(), Vec::new());
    let mut feed = |bytes: &[u8], random: &mut Random| {
        if !Split::has_room(&batch) {
            check(&batch, &arrived);
            batch.clear();
            arrived.clear();
        }
        let gso = [Gso::None, Gso::None, Gso::Tcp4, Gso::Tcp6, Gso::Udp][random.below(5) as usize];
        let (start, offset) = (random.below(60) as u16, random.below(20) as u16);
        let checksum = [ChecksumState::None, ChecksumState::Needs { start, offset }, ChecksumState::Verified]
            [random.below(3) as usize];
        let offload = Offload { gso, gso_size: random.below(100) as u16, checksum, ..Offload::default() };
        let _ = split.split(Frame::from_bytes(bytes, offload), &mut batch, &mut arrived);
        check(&batch, &arrived);
    };
    for frame in good() {
        for length in 0..=frame.len() {
            feed(&frame[..length], &mut random);
        }
        for _ in 0..3_000 {
            let mut mutated = frame.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(mutated.len() as u64) as usize;
                mutated[at] = random.next() as u8;
            }
            if random.happens(200_000) {
                mutated.truncate(1 + random.below(mutated.len() as u64) as usize);
            }
            // Right sums, so that more than the first check is reached.
            if mutated.len() >= 60 && mutated[0] >> 4 == 4 {
                fix_v4(&mut mutated);
            }
            feed(&mutated, &mut random);
        }
    }
    for _ in 0..20_000 {
        let length = random.below(200) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if let Some(first) = bytes.first_mut() {
            *first = [0x45, 0x60, 0x4f, *first][random.below(4) as usize];
        }
        feed(&bytes, &mut random);
    }
    assert!(split.counters().passed > 1_000, "{:?}", split.counters());
}
