use super::*;
use crate::checksum::Sum;
use crate::device::queue::QueueDevice;
use crate::device::random::Random;
use crate::frame::Frame;
use crate::join::layout::{FIN, PSH, get_u16, put_u16};
use crate::split::build::{self, HERE4, THERE4};
use crate::split::network::{ICMP, ICMPV6, Network};
use crate::split::{Arrived, Facts, Split};
use bulkhead_wit::{Batch, Kind, Source};

/// The header of a finished frame as a module writes it: lengths, identification and checksums zero.
fn blank(frame: &[u8], transport: usize, length: usize) -> Vec<u8> {
    let mut header = frame[..length].to_vec();
    let is_v4 = header[0] >> 4 == 4;
    let protocol = if is_v4 { header[9] } else { Network::parse(frame, false).unwrap().protocol };
    let zero: &[usize] = if is_v4 { &[2, 4, 10] } else { &[4] };
    let more: &[usize] = match protocol {
        TCP => &[16],
        UDP => &[4, 6],
        _ => &[2],
    };
    zero.iter().for_each(|at| put_u16(&mut header, *at, 0));
    more.iter().for_each(|at| put_u16(&mut header, transport + *at, 0));
    header
}

fn send(header: &[u8], transport: usize, length: usize, mss: u16) -> Send {
    Send {
        length: length as u32,
        header_length: header.len() as u16,
        transport: transport as u16,
        mss,
        source: if length == 0 { Source::Nothing } else { Source::Queue },
        ..Send::default()
    }
}

/// Everything that the device was given.
fn frames(device: &mut QueueDevice) -> Vec<(Vec<u8>, Offload)> {
    std::iter::from_fn(|| device.take()).collect()
}

/// Splits whole frames; every checksum must be right.
fn split(frames: &[(Vec<u8>, Offload)]) -> (Batch, Vec<Arrived>) {
    let (mut split, mut batch, mut arrived) = (Split::new(0), Batch::default(), Vec::new());
    for (bytes, offload) in frames {
        split.split(Frame::from_bytes(bytes, *offload), &mut batch, &mut arrived).expect("a right frame");
    }
    (batch, arrived)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 256) as u8).collect()
}

/// A TCP header over IPv4 or IPv6 with all flags that segmentation has to do with.
fn tcp_header(is_v4: bool, flags: u8) -> (Vec<u8>, usize) {
    let segment = build::tcp(flags, &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], b"", is_v4);
    let (frame, transport) =
        if is_v4 { (build::v4(TCP, &[], &segment), 20) } else { (build::v6(TCP, &[], &segment), 40) };
    (blank(&frame, transport, transport + 32), transport)
}

#[test]
fn what_join_makes_split_takes_apart() {
    let payload = bytes(333);
    let hop = [ICMPV6, 0, 1, 4, 0, 0, 0, 0];
    let cases = [
        (build::v4(TCP, &[], &build::tcp(24, &[1; 8], &payload, true)), 20, 48),
        (build::v4(TCP, &[1; 4], &build::tcp(24, &[], &payload, true)), 24, 44),
        (build::v6(TCP, &[], &build::tcp(24, &[1; 8], &payload, false)), 40, 68),
        (build::v4(UDP, &[], &build::udp(&payload, true)), 20, 28),
        (build::v6(UDP, &[], &build::udp(&payload, false)), 40, 48),
        (build::v4(ICMP, &[], &build::icmp(0, &payload, true)), 20, 28),
        (build::v6(ICMPV6, &[], &build::icmp(129, &payload, false)), 40, 48),
        (build::v6(0, &hop, &build::icmp(129, &payload, false)), 48, 56),
    ];
    let mut join = Join::new(0x1234);
    for (number, (mut frame, transport, length)) in cases.into_iter().enumerate() {
        let header = blank(&frame, transport, length);
        let mut device = QueueDevice::new(Capabilities::plain(1500));
        // In pieces of odd lengths, and in more pieces than a frame can have.
        for size in [333, 111, 1] {
            let slices: Vec<&[u8]> = payload.chunks(size).collect();
            let joined = join.join(&send(&header, transport, 333, 0), &header, &slices, &mut device).unwrap();
            assert_eq!(joined, Joined { frames: 1, dropped: 0, bytes: (length + 333) as u32 });
            let (made, offload) = device.take().unwrap();
            assert_eq!(offload.checksum, ChecksumState::None);
            if frame[0] >> 4 == 4 {
                frame[4..6].copy_from_slice(&made[4..6]);
                build::fix_v4(&mut frame);
            }
            assert_eq!(made, frame, "case {number}");
            let (_, arrived) = split(&[(made, offload)]);
            assert_eq!(&*arrived[0].payload, payload);
        }
    }
    assert_eq!(join.counters().frames, 24);
}

#[test]
fn icmp_errors_are_all_header() {
    let quoted = build::v4(TCP, &[], &build::tcp(16, &[], b"", true));
    let frame = build::v4(ICMP, &[], &build::icmp(3, &quoted, true));
    let header = blank(&frame, 20, frame.len());
    let mut device = QueueDevice::new(Capabilities::full(1500));
    Join::new(0).join(&send(&header, 20, 0, 0), &header, &[], &mut device).unwrap();
    let (batch, _) = split(&frames(&mut device));
    assert_eq!(batch.segments[0].kind, Kind::IcmpError);
    assert_eq!(batch.headers[48..], frame[48..]);
}

#[test]
fn software_segments_as_a_card_does() {
    for is_v4 in [true, false] {
        let (header, transport) = tcp_header(is_v4, 16 | PSH | FIN | CWR);
        let payload = bytes(10_000);
        let slices: Vec<&[u8]> = payload.chunks(1537).collect();
        let mut device = QueueDevice::new(Capabilities::plain(1500));
        let mut join = Join::new(0xfffe);
        let joined =
            join.join(&send(&header, transport, 10_000, 1400), &header, &slices, &mut device).unwrap();
        assert_eq!((joined.frames, joined.dropped), (8, 0));
        let made = frames(&mut device);
        assert_eq!(made.iter().map(|frame| frame.0.len()).sum::<usize>(), joined.bytes as usize);
        let (batch, arrived) = split(&made);
        let mut at = 0;
        for (number, (segment, arrived)) in batch.segments.iter().zip(&arrived).enumerate() {
            let head = &batch.headers[segment.header as usize..];
            let facts = arrived.facts.tcp().unwrap();
            assert_eq!(facts.seq, 0x0102_0304 + at as u32);
            assert_eq!(&*arrived.payload, &payload[at..(at + 1400).min(10_000)]);
            let (is_first, is_last) = (number == 0, number == 7);
            let expected = 16 | if is_first { CWR } else { 0 } | if is_last { PSH | FIN } else { 0 };
            assert_eq!(head[transport + TCP_FLAGS], expected);
            assert_eq!(head[transport + 20..transport + 32], header[transport + 20..transport + 32]);
            if is_v4 {
                assert_eq!(get_u16(head, 4), 0xfffe_u16.wrapping_add(number as u16));
            }
            at += arrived.payload.len();
        }
        assert_eq!(at, 10_000);
    }
}

#[test]
fn the_urgent_pointer_is_stepped() {
    let (mut header, transport) = tcp_header(true, 16 | URG);
    put_u16(&mut header, transport + 18, 1500);
    let payload = bytes(3000);
    let mut device = QueueDevice::new(Capabilities::full(1500));
    Join::new(0).join(&send(&header, transport, 3000, 1000), &header, &[&payload], &mut device).unwrap();
    let made = frames(&mut device);
    let urgent: Vec<(bool, u16)> =
        made.iter().map(|(frame, _)| (frame[33] & URG != 0, get_u16(frame, 38))).collect();
    assert_eq!(urgent, [(true, 1500), (true, 500), (false, 0)]);
}

#[test]
fn offload_says_the_same_as_software() {
    for is_v4 in [true, false] {
        let (header, transport) = tcp_header(is_v4, 16 | PSH | CWR);
        let payload = bytes(60_000);
        let send = send(&header, transport, 60_000, 1400);
        let mut fast = QueueDevice::new(Capabilities::full(1500));
        let mut plain = QueueDevice::new(Capabilities::plain(1500));
        Join::new(5).join(&send, &header, &[&payload], &mut fast).unwrap();
        Join::new(5).join(&send, &header, &[&payload], &mut plain).unwrap();
        let (mut whole, offload) = fast.take().unwrap();
        assert!(fast.take().is_none());
        let gso = if is_v4 { Gso::Tcp4 } else { Gso::Tcp6 };
        assert_eq!((offload.gso, offload.gso_size, offload.cwr), (gso, 1400, true));
        assert_eq!(usize::from(offload.header_length), header.len());
        let ChecksumState::Needs { start, offset } = offload.checksum else { panic!() };
        assert_eq!((usize::from(start), offset), (transport, 16));
        // A receiver that gets the super-segment as it is.
        let (batch, _) = split(&[(whole.clone(), offload)]);
        assert_eq!((batch.segments[0].mss, batch.segments[0].count), (1400, 43));
        // Completing the checksum as a device does gives a right datagram...
        let mut sum = Sum::new();
        sum.add(&whole[transport..]);
        put_u16(&mut whole, transport + 16, sum.checksum());
        split(&[(whole.clone(), Offload::default())]);
        // ...and cutting it gives what software made.
        let layout = Layout::of(&whole[..header.len()], transport).unwrap();
        let (head, body) = whole.split_at_mut(header.len());
        let cut = Cut { payload: &[body], length: 60_000, mss: 1400, identification: 5 };
        let mut made = Vec::new();
        segment::segment(head, layout, cut, &mut |parts| {
            made.push(parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>());
            Ok(true)
        })
        .unwrap();
        assert_eq!(made, frames(&mut plain).into_iter().map(|frame| frame.0).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_longer_than_the_link_is_refused_or_fragmented() {
    let payload = bytes(4001);
    for (frame, transport, length) in [
        (build::v4(UDP, &[0x94, 4, 0, 0, 68, 4, 5, 0], &build::udp(&[], true)), 28, 36),
        (build::v6(0, &[UDP, 0, 1, 4, 0, 0, 0, 0], &build::udp(&[], false)), 48, 56),
    ] {
        let mut header = blank(&frame, transport, length);
        let mut send = send(&header, transport, 4001, 0);
        let mut device = QueueDevice::new(Capabilities::full(1300));
        let mut join = Join::new(77);
        let refused = join.join(&send, &header, &[&payload], &mut device);
        assert!(matches!(refused, Err(JoinError::TooLong { mtu: 1300, .. })));
        send.how = How::MAY_FRAGMENT;
        if transport == 28 {
            // DF is set.
            assert!(join.join(&send, &header, &[&payload], &mut device).is_err());
            header[6] = 0;
        }
        let slices: Vec<&[u8]> = payload.chunks(999).collect();
        let joined = join.join(&send, &header, &slices, &mut device).unwrap();
        assert_eq!((joined.frames, joined.dropped), (4, 0));
        let made = frames(&mut device);
        assert!(made.iter().all(|frame| frame.0.len() <= 1300));
        let (batch, arrived) = split(&made);
        let (mut whole, key) = (Vec::new(), arrived[0].fragment_key());
        for (segment, arrived) in batch.segments.iter().zip(&arrived) {
            let Facts::Fragment(facts) = arrived.facts else { panic!() };
            assert_eq!(usize::from(facts.offset), whole.len());
            assert_eq!(facts.more, whole.len() + arrived.payload.len() < 4009);
            assert_eq!(segment.protocol, UDP);
            assert!(arrived.fragment_key().is_some() && arrived.fragment_key() == key);
            whole.extend_from_slice(&arrived.payload);
        }
        // The copied option only, in later fragments.
        if transport == 28 {
            assert_eq!((made[0].0[0], made[1].0[0], &made[1].0[20..24]), (0x47, 0x46, &[0x94, 4, 0, 0][..]));
        }
        assert_eq!(&whole[8..], payload);
        let is_v4 = transport == 28;
        let mut fixed = whole.clone();
        build::fix(&mut fixed, 6, UDP, is_v4);
        assert_eq!(whole, fixed, "the checksum covers the whole datagram");
    }
}

#[test]
fn a_full_device_loses_the_rest() {
    let (header, transport) = tcp_header(true, 16);
    let payload = bytes(10_000);
    let mut device = QueueDevice::with_bound(Capabilities::plain(1500), 3);
    let mut join = Join::new(0);
    let joined =
        join.join(&send(&header, transport, 10_000, 1400), &header, &[&payload], &mut device).unwrap();
    assert_eq!((joined.frames, joined.dropped, join.counters().dropped), (3, 5, 5));
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    let mut header = blank(&build::v4(UDP, &[], &build::udp(&[0, 0], true)), 20, 28);
    header[12..16].copy_from_slice(&THERE4);
    header[16..20].copy_from_slice(&HERE4);
    let mut device = QueueDevice::new(Capabilities::plain(1500));
    let mut join = Join::new(0);
    join.join(&send(&header, 20, 2, 0), &header, &[&[0, 0]], &mut device).unwrap();
    let first = device.take().unwrap().0;
    // The payload that makes the sum all ones.
    let payload = get_u16(&first, 26).to_be_bytes();
    join.join(&send(&header, 20, 2, 0), &header, &[&payload], &mut device).unwrap();
    assert_eq!(get_u16(&device.take().unwrap().0, 26), 0xffff);
}

#[test]
fn no_send_can_break_it() {
    let mut random = Random::new(11);
    let payload = bytes(70_000);
    let mut join = Join::new(0);
    let samples = [
        tcp_header(true, 255).0,
        tcp_header(false, 255).0,
        blank(&build::v4(UDP, &[], &build::udp(&[], true)), 20, 28),
    ];
    for _ in 0..20_000 {
        let mut header = samples[random.below(3) as usize].clone();
        for _ in 0..random.below(4) {
            let at = random.below(header.len() as u64) as usize;
            header[at] = random.next() as u8;
        }
        let bound = [3, 2000, 70_000][random.below(3) as usize];
        let length = random.below(bound) as usize;
        let transport = [20, 40, random.next() as u16][random.below(3) as usize];
        let is_right = random.happens(700_000);
        let send = Send {
            header: if is_right { 0 } else { random.next() as u32 },
            length: length as u32,
            header_length: if is_right { header.len() as u16 } else { random.next() as u16 },
            transport,
            mss: [0, 1, 1400, random.next() as u16][random.below(4) as usize],
            how: How(random.next() as u8),
            ..Send::default()
        };
        let plain = Capabilities::plain(random.below(3000) as u32);
        let capabilities = if random.happens(500_000) { plain } else { Capabilities::full(1500) };
        let mut device = QueueDevice::with_bound(capabilities, 2000);
        let _ = join.join(&send, &header, &[&payload[..length]], &mut device);
    }
    assert!(join.counters().frames > 1000 && join.counters().fragmented > 100, "{:?}", join.counters());
}
