//! Datagrams in pieces: held, handed back, given up.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::*;
use common::wire::Frame;
use common::{Host, Random, SECOND, config, v4};

fn fragment(id: u16, offset: u32, length: u32, more: bool) -> Frame {
    let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    let mut header = vec![0x45, 0, 0, 0];
    header.extend_from_slice(&id.to_be_bytes());
    header.extend_from_slice(&field.to_be_bytes());
    header.extend_from_slice(&[64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    Frame { header, length, kind: Kind::Fragment, ..Frame::default() }
}

fn send(host: &mut Host, frames: &[Frame]) {
    for frame in frames {
        host.inject(frame);
    }
    host.settle();
}

#[test]
fn pieces_in_any_order_make_a_whole() {
    let mut host = Host::new(config(v4(1), 5));
    send(&mut host, &[fragment(7, 2000, 500, false)]);
    send(&mut host, &[fragment(8, 0, 800, true), fragment(7, 0, 1000, true)]);
    assert!(host.resubmitted.is_empty());
    send(&mut host, &[fragment(7, 0, 1000, true), fragment(7, 1000, 1000, true)]);
    assert_eq!(host.resubmitted, [(0, 2500)]);
    assert_eq!(host.holds.len(), 1, "the other datagram waits on");
    // Its time is over after 30 seconds.
    host.at(host.deadline);
    assert!(host.holds.is_empty());
    assert_eq!(host.now, 31 * SECOND);
}

#[test]
fn a_slot_given_back_is_not_used_in_the_same_step() {
    let mut host = Host::new(config(v4(1), 5));
    send(
        &mut host,
        &[
            fragment(1, 0, 800, true),
            fragment(1, 800, 8, false),
            fragment(2, 0, 800, true),
            fragment(2, 800, 8, false),
        ],
    );
    assert_eq!(host.resubmitted, [(0, 808), (1, 808)]);
}

#[test]
fn overlaps_and_contradictions_end_a_datagram() {
    for bad in [fragment(1, 400, 800, true), fragment(1, 400, 16, false), fragment(1, 1600, 8, true)] {
        let mut host = Host::new(config(v4(1), 5));
        send(&mut host, &[fragment(1, 0, 800, true), fragment(1, 1200, 80, false)]);
        send(&mut host, &[bad]);
        assert!(host.holds.is_empty() && host.resubmitted.is_empty());
    }
}

#[test]
fn tiny_first_fragments_are_dropped() {
    let mut host = Host::new(config(v4(1), 5));
    send(&mut host, &[fragment(1, 0, 8, true), fragment(2, 8, 80, false), fragment(3, 0, 81, true)]);
    assert!(host.holds.is_empty());
}

#[test]
fn ipv6_fragments_are_found_behind_extensions() {
    let six = Address::from_v6([9; 16]);
    let mut host = Host::new(config(six, 5));
    let make = |offset: u16, length, more: u16| {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
        header.extend_from_slice(&[7; 16]);
        header.extend_from_slice(&[9; 16]);
        header.extend_from_slice(&[44, 0, 1, 4, 0, 0, 0, 0]);
        header.extend_from_slice(&[6, 0]);
        header.extend_from_slice(&(offset | more).to_be_bytes());
        header.extend_from_slice(&[0, 0, 0, 5]);
        Frame { header, length, kind: Kind::Fragment, ..Frame::default() }
    };
    send(&mut host, &[make(1000, 100, 0), make(0, 1000, 1)]);
    assert_eq!(host.resubmitted, [(0, 1100)]);
}

#[test]
fn storms_stay_within_bounds() {
    let mut random = Random(3);
    let mut host = Host::new(config(v4(1), 5));
    for round in 0..2000 {
        host.reload = round % 100 == 0;
        host.now += random.below(SECOND);
        for _ in 0..5 {
            let offset = random.below(8000) as u32 * 8;
            let id = random.below(100) as u16;
            host.inject(&fragment(id, offset, random.below(3000) as u32, random.chance(80)));
        }
        host.settle();
        assert!(host.holds.len() <= 64);
        let end = |runs: &Vec<(u64, u64)>| runs.iter().map(|run| run.1).max().unwrap_or(0);
        assert!(host.holds.values().map(end).sum::<u64>() <= 1 << 20);
    }
}

/// The same from another source.
fn from(last: u8, id: u16) -> Frame {
    let mut frame = fragment(id, 0, 800, true);
    frame.header[15] = last;
    frame
}

#[test]
fn one_source_cannot_have_all_slots() {
    let mut host = Host::new(config(v4(1), 5));
    for id in 0..100 {
        send(&mut host, &[fragment(id, 0, 800, true)]);
    }
    assert_eq!(host.holds.len(), 16);
    send(&mut host, &[from(9, 1)]);
    assert_eq!(host.holds.len(), 17);
}

#[test]
fn the_oldest_makes_way_once_it_has_had_its_time() {
    let mut host = Host::new(config(v4(1), 5));
    for source in 0..64 {
        send(&mut host, &[from(100 + source, 1)]);
    }
    assert_eq!(host.holds.len(), 64);
    // Not at once: an honest datagram may be on its way.
    send(&mut host, &[from(9, 1)]);
    assert_eq!(host.holds.len(), 64);
    host.at(host.now + 2 * SECOND);
    send(&mut host, &[from(9, 1)]);
    assert_eq!(host.holds.len(), 63);
    send(&mut host, &[from(9, 1)]);
    assert_eq!(host.holds.len(), 64);
}

#[test]
fn bytes_given_back_are_free_only_after_the_step() {
    let mut host = Host::new(config(v4(1), 5));
    // Sixteen that reach to the end of their slots leave no room for another one.
    for id in 0..16 {
        send(&mut host, &[fragment(id, 65_504, 24, true)]);
    }
    assert_eq!(host.holds.len(), 16);
    let mut other = fragment(1, 65_504, 24, true);
    other.header[15] = 9;
    // One is given up over a contradiction; for the host it is there until the end of the step.
    send(&mut host, &[fragment(0, 24, 16, false), other.clone()]);
    assert_eq!(host.holds.len(), 15);
    send(&mut host, &[other]);
    assert_eq!(host.holds.len(), 16);
}
