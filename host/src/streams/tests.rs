use super::*;
use crate::frame::FrameSlice;

fn pattern(at: u64, length: usize) -> Vec<u8> {
    (at..at + length as u64).map(|n| (n * 31 % 253) as u8).collect()
}

fn place(stream: &mut ReceiveStream, at: u64, length: usize, blocks: &mut Blocks) {
    stream.place(at, FrameSlice::from(&pattern(at, length)[..]), true, blocks);
}

#[test]
fn bytes_come_out_in_order_whatever_the_order_and_size_they_came_in() {
    let mut blocks = Blocks::default();
    let mut stream = ReceiveStream::default();
    for (at, length) in
        [(20_000u64, 9000usize), (0, 100), (5000, 100), (100, 4900), (5100, 14_900), (29_000, 1)]
    {
        place(&mut stream, at, length, &mut blocks);
    }
    assert_eq!(stream.peek(), b"", "nothing is readable before it is exposed");
    stream.expose(29_001);
    let mut all = vec![0; 40_000];
    assert_eq!(stream.copy_to(&mut all), 29_001);
    assert_eq!(all[..29_001], pattern(0, 29_001));
    let mut out = Vec::new();
    let mut part = [0; 777];
    loop {
        match stream.read(&mut part, &mut blocks) {
            0 => break,
            count => out.extend_from_slice(&part[..count]),
        }
    }
    assert_eq!(out, pattern(0, 29_001));
    assert_eq!((stream.held(), blocks.held()), (0, 0));
}

#[test]
fn what_lies_beyond_a_hole_stays_out_of_sight() {
    let mut blocks = Blocks::default();
    let mut stream = ReceiveStream::default();
    place(&mut stream, 0, 10, &mut blocks);
    place(&mut stream, 10, 10, &mut blocks);
    stream.expose(10);
    assert_eq!(stream.peek(), pattern(0, 10));
    let mut out = [0; 30];
    assert_eq!(stream.copy_to(&mut out), 10);
    assert_eq!(stream.read(&mut out, &mut blocks), 10);
    stream.expose(20);
    assert_eq!(stream.peek(), pattern(10, 10));
    stream.clear(&mut blocks);
    assert_eq!((stream.held(), blocks.held()), (0, 0));
}

#[test]
fn small_payloads_share_a_block_and_large_ones_keep_their_frame() {
    let mut blocks = Blocks::default();
    let mut stream = ReceiveStream::default();
    for n in 0..100u64 {
        place(&mut stream, n * 10, 10, &mut blocks);
    }
    assert_eq!(blocks.held(), 2048);
    place(&mut stream, 1000, KEEP_MIN, &mut blocks);
    assert_eq!((blocks.held(), stream.held()), (2048, 2048 + KEEP_MIN));
    let bytes = FrameSlice::from(&pattern(1000 + KEEP_MIN as u64, 60_000)[..]);
    stream.place(1000 + KEEP_MIN as u64, bytes, false, &mut blocks);
    assert_eq!(blocks.held(), 2048 + 65_536, "a copy where frames must not be held");
}

#[test]
fn a_limit_never_shrinks_and_waits_while_memory_is_crowded() {
    let sizes =
        Sizes { receive_first: 1000, receive_max: 5000, send_first: 10, send_max: 20, ..Sizes::default() };
    let mut stream = Stream::new(&sizes);
    assert_eq!((stream.limit(u64::MAX), stream.has_grant()), (1000, false));
    stream.tune(9000, 15);
    assert_eq!((stream.limit(u64::MAX), stream.space(0), stream.has_grant()), (5000, 15, true));
    stream.tune(100, 1);
    assert_eq!((stream.limit(u64::MAX), stream.space(0)), (5000, 15));
    let mut blocks = Blocks::default();
    stream.limit_told = 5000;
    // Frames of 64 KiB, each held by a payload of 4 KiB: credit counts memory held.
    let mut frames = crate::frame::FramePool::default();
    for n in 0..3 {
        let bytes = pattern(n * 4096, 4096);
        let parts = [std::io::IoSlice::new(&bytes)];
        let frame = frames.copy(&parts, crate::device::Offload::default()).unwrap();
        stream.receive.place(n * 4096, frame.bytes, true, &mut blocks);
    }
    stream.receive.expose(3 * 4096);
    stream.receive.consume(1000, &mut blocks);
    assert_eq!(stream.limit(u64::MAX), 5000, "three frames are held for a window of 5000");
    stream.receive.consume(4096, &mut blocks);
    assert_eq!(stream.limit(u64::MAX), 10_096, "a frame less: room for a window again");
}

#[test]
fn a_small_window_opens_again_although_blocks_are_larger_than_what_is_in_them() {
    let sizes =
        Sizes { receive_first: 4000, receive_max: 4000, send_first: 10, send_max: 20, ..Sizes::default() };
    let (mut stream, mut blocks) = (Stream::new(&sizes), Blocks::default());
    for n in 0..4 {
        place(&mut stream.receive, n * 1000, 1000, &mut blocks);
    }
    stream.receive.expose(4000);
    stream.receive.consume(500, &mut blocks);
    assert!(stream.has_grant());
}

#[test]
fn what_was_not_sent_is_bounded_and_what_was_sent_is_not() {
    let sizes = Sizes { receive_first: 1, receive_max: 1, send_first: 1000, send_max: 1000, unsent_max: 300 };
    let (mut stream, mut blocks) = (Stream::new(&sizes), Blocks::default());
    assert_eq!(stream.send.write(&[7; 250], stream.space(0), &mut blocks), 250);
    assert_eq!((stream.space(0), stream.space(100), stream.space(250)), (50, 150, 300));
    assert_eq!(stream.send.write(&[7; 900], stream.space(250), &mut blocks), 300);
    stream.wait_for_space();
    assert!(!stream.take_writable(300), "a third of the bound is not free");
    assert!(stream.take_writable(350));
    // The queue itself is full before what is not sent is too much.
    assert_eq!(stream.send.write(&[7; 900], stream.space(550), &mut blocks), 300);
    assert_eq!((stream.space(850), stream.send.held()), (150, 850));
    // Of a connection that is gone everything counts as sent.
    assert_eq!(stream.space(u64::MAX), 150);
}
