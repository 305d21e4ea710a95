//! Two stacks over the in-memory link, in virtual time: whatever the link does, what was written is what is read.

use bulkhead::device::link::{Impairments, LinkConfig};
use bulkhead_tests::world::{Plan, V4, V6, World, native, transfer};
use bulkhead_wit::limits::{MILLISECOND, SECOND};

const MINUTE: u64 = 60 * SECOND;

fn world(link: LinkConfig, seed: u64) -> World {
    World::new(&Plan { link, seed, addresses: V4, instance: &native, options: &|_| {} })
}

/// Both directions of a link with 5 ms of delay, this share of loss (in millionths), and reordering.
fn rough(loss: u32) -> LinkConfig {
    let way = Impairments {
        loss,
        delay: 5 * MILLISECOND,
        jitter: MILLISECOND,
        reorder: loss,
        reorder_delay: 3 * MILLISECOND,
        ..Impairments::default()
    };
    LinkConfig { there: way, back: way, ..LinkConfig::default() }
}

#[test]
fn a_perfect_link() {
    let mut world = world(LinkConfig::default(), 1);
    transfer(&mut world, 1, 3_000_000, 1_000_000, MINUTE);
}

#[test]
fn nothing_to_say() {
    let mut world = world(LinkConfig::default(), 2);
    transfer(&mut world, 1, 0, 0, MINUTE);
}

#[test]
fn super_segments() {
    let mut world = world(LinkConfig { offload: true, ..LinkConfig::default() }, 3);
    transfer(&mut world, 4, 2_000_000, 2_000_000, MINUTE);
}

#[test]
fn over_ipv6() {
    let plan = Plan { link: rough(10_000), seed: 4, addresses: V6, instance: &native, options: &|_| {} };
    transfer(&mut World::new(&plan), 2, 300_000, 300_000, 10 * MINUTE);
}

#[test]
fn loss_and_reordering() {
    for (share, seeds) in [(0, 3), (10_000, 8), (50_000, 8)] {
        for seed in 0..seeds {
            let mut world = world(rough(share), seed);
            transfer(&mut world, 2, 400_000, 100_000, 30 * MINUTE);
        }
    }
}

#[test]
fn duplicates_and_flipped_bits() {
    for seed in 0..6 {
        let way = Impairments {
            duplicate: 20_000,
            corrupt: 20_000,
            loss: 5000,
            delay: 10 * MILLISECOND,
            ..Impairments::default()
        };
        let mut world = world(LinkConfig { there: way, back: way, ..LinkConfig::default() }, seed);
        transfer(&mut world, 2, 300_000, 300_000, 30 * MINUTE);
    }
}

#[test]
fn a_narrow_link_with_a_short_queue() {
    let way =
        Impairments { delay: 10 * MILLISECOND, rate: 20_000_000, queue: 60_000, ..Impairments::default() };
    let mut world = world(LinkConfig { there: way, back: way, ..LinkConfig::default() }, 7);
    transfer(&mut world, 3, 2_000_000, 0, 10 * MINUTE);
}

#[test]
fn a_hundred_at_once() {
    let mut world = world(rough(1000), 8);
    transfer(&mut world, 100, 20_000, 20_000, 30 * MINUTE);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = world(rough(20_000), seed);
        let time = transfer(&mut world, 2, 200_000, 50_000, 30 * MINUTE);
        (time, world.a.stack.cost().steps, world.b.stack.cost().steps)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
