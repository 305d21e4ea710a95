use super::*;
use crate::join::Join;
use crate::split::network::TCP;
use crate::split::{Split, build};
use bulkhead_wit::limits::{MICROSECOND, MILLISECOND, SECOND};
use bulkhead_wit::{Batch, Send};

fn send(end: &mut LinkEnd, bytes: &[u8]) {
    assert!(end.transmit(&[IoSlice::new(bytes)], Offload::default()).unwrap());
}

fn receive(end: &mut LinkEnd) -> Vec<Vec<u8>> {
    let mut pool = FramePool::default();
    std::iter::from_fn(|| end.receive(&mut pool).unwrap()).map(|frame| frame.bytes.to_vec()).collect()
}

fn one_way(there: Impairments, seed: u64) -> (Link, LinkEnd, LinkEnd) {
    Link::new(LinkConfig { there, ..LinkConfig::default() }, seed)
}

#[test]
fn a_perfect_link_delivers_at_once_and_in_order() {
    let (link, mut first, mut second) = Link::new(LinkConfig::default(), 0);
    assert_eq!(link.next_event(), NEVER);
    send(&mut first, b"one");
    send(&mut first, b"two");
    send(&mut second, b"back");
    assert_eq!(link.next_event(), 0);
    assert_eq!(receive(&mut second), [b"one", b"two"]);
    assert_eq!(receive(&mut first), [b"back"]);
    assert_eq!(link.next_event(), NEVER);
}

#[test]
fn delay_and_rate_are_exact() {
    // 1,000 bytes at 8 Mbit/s take a millisecond.
    let there =
        Impairments { delay: 10 * MILLISECOND, rate: 8_000_000, queue: 2_500, ..Impairments::default() };
    let (link, mut first, mut second) = one_way(there, 0);
    for number in 0..4 {
        send(&mut first, &[number; 1000]);
    }
    assert_eq!(link.counters(Direction::There).queue_drops, 2);
    assert_eq!(link.next_event(), 11 * MILLISECOND);
    link.advance(11 * MILLISECOND - 1);
    assert!(receive(&mut second).is_empty());
    link.advance(11 * MILLISECOND);
    assert_eq!(receive(&mut second), [[0; 1000]]);
    assert_eq!(link.next_event(), 12 * MILLISECOND);
    // Time does not go back, and at 12 ms the queue is empty again.
    link.advance(SECOND);
    link.advance(0);
    send(&mut first, &[9; 1000]);
    assert_eq!(receive(&mut second), [[1; 1000]]);
    assert_eq!(link.next_event(), SECOND + 11 * MILLISECOND);
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let numbers = |there: Impairments| {
        let (link, mut first, mut second) = one_way(there, 5);
        for number in 0..=255 {
            link.advance(u64::from(number) * 10 * MICROSECOND);
            send(&mut first, &[number]);
        }
        link.advance(SECOND);
        let numbers: Vec<u8> = receive(&mut second).iter().map(|frame| frame[0]).collect();
        assert_eq!(numbers.len(), 256);
        (numbers.is_sorted(), link.counters(Direction::There).reordered)
    };
    let jitter = Impairments { delay: MILLISECOND, jitter: MILLISECOND, ..Impairments::default() };
    assert_eq!(numbers(jitter), (true, 0));
    let reorder = Impairments { reorder: 100_000, reorder_delay: MILLISECOND, ..jitter };
    let (is_sorted, reordered) = numbers(reorder);
    assert!(!is_sorted && (10..50).contains(&reordered), "{reordered}");
}

#[test]
fn the_same_seed_has_the_same_luck_and_shares_are_kept() {
    let there =
        Impairments { loss: 50_000, duplicate: 20_000, corrupt: 10_000, delay: 5, ..Impairments::default() };
    let run = |seed| {
        let (link, mut first, mut second) = one_way(there, seed);
        for number in 0..20_000u32 {
            send(&mut first, &number.to_be_bytes());
        }
        link.advance(5);
        (receive(&mut second), link.counters(Direction::There))
    };
    let (frames, counters) = run(1);
    assert_eq!((frames.clone(), counters), run(1));
    assert_ne!(frames, run(2).0);
    assert!((800..1200).contains(&counters.lost), "{counters:?}");
    assert!((300..460).contains(&counters.duplicated), "{counters:?}");
    assert!((140..240).contains(&counters.corrupted), "{counters:?}");
    assert_eq!(counters.delivered, 20_000 - counters.lost + counters.duplicated);
}

#[test]
fn super_segments_are_cut_before_they_are_lost() {
    for offload in [true, false] {
        let (link, mut first, mut second) =
            Link::new(LinkConfig { offload, mtu: 1300, ..LinkConfig::default() }, 3);
        let mut frame = build::v6(TCP, &[], &build::tcp(24, &[], b"", false));
        frame[4..6].fill(0);
        frame[56..58].fill(0);
        let payload: Vec<u8> = (0..20_001u32).map(|at| (at / 3) as u8).collect();
        let mut order =
            Send { length: 20_001, header_length: 60, transport: 40, mss: 1240, ..Send::default() };
        let mut join = Join::new(0);
        join.join(&order, &frame, &[&payload], &mut first).unwrap();
        assert_eq!(u64::from(offload), join.counters().offloaded);
        // A lone segment has its checksum completed by the link, too.
        order.length = 7;
        join.join(&order, &frame, &[b"goodbye"], &mut first).unwrap();
        assert_eq!(link.counters(Direction::There).sent, 18);
        let (mut split, mut batch, mut arrived) = (Split::new(0), Batch::default(), Vec::new());
        let mut pool = FramePool::default();
        while let Some(frame) = second.receive(&mut pool).unwrap() {
            assert!(frame.bytes.len() <= 1300);
            split.split(frame, &mut batch, &mut arrived).unwrap();
        }
        let got: Vec<u8> = arrived.iter().flat_map(|arrived| arrived.payload.to_vec()).collect();
        assert_eq!((&got[..20_001], &got[20_001..]), (&payload[..], &b"goodbye"[..]));
        // The link becomes narrower: what is too long now is gone.
        link.set_mtu(1299);
        first.transmit(&[IoSlice::new(&[0x60; 1300])], Offload::default()).unwrap();
        assert_eq!(link.counters(Direction::There).too_long, 1);
        assert_eq!(second.capabilities().mtu, 1299);
    }
}
