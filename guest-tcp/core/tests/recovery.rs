//! Two stacks over a bottleneck: loss recovery and congestion control as a whole, in virtual time.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::registry::info;
use bulkhead_wit::*;
use common::flight::Flight;
use common::wire::Frame;
use common::{Host, MS, Random, SECOND, config, v4};

const PORT: u16 = 80;

/// A link of one rate, delay and queue in each direction.
struct Link {
    flight: Flight,
    delay: Time,
    /// Bytes per second, and bytes that wait for their turn at most.
    rate: u64,
    queue: u64,
    free_at: [Time; 2],
    /// Frames of the first host that are lost: decided by its number among its frames with data.
    lose: fn(u64) -> bool,
    data: u64,
    /// Frames of the first host that are longer are lost without a word.
    largest: usize,
    random: Random,
    loss_in_thousand: u64,
    /// Nothing arrives between these times; it waits for the second.
    outage: (Time, Time),
    handles: [Handle; 2],
    /// Sends of the first host with data, and those among them that are longer than a segment.
    sends: u64,
    long_sends: u64,
    /// Whether the receiving application reads.
    reads: bool,
}

impl Link {
    fn new(seed: u64) -> Self {
        Self {
            flight: Flight::new([0, 1].map(|i| Host::new(config(v4(i + 1), seed * 2 + u64::from(i))))),
            delay: 10 * MS,
            rate: 12_500_000,
            queue: 500_000,
            free_at: [0; 2],
            lose: |_| false,
            data: 0,
            largest: usize::MAX,
            random: Random(seed),
            loss_in_thousand: 0,
            outage: (0, 0),
            handles: [Handle::INSTANCE; 2],
            sends: 0,
            long_sends: 0,
            reads: true,
        }
    }

    /// Opens the connection; both ends are known afterwards.
    fn connect(mut self, settings: Vec<Setting>) -> Self {
        let remote = self.flight.hosts[1].config.addresses[0].address;
        self.flight.hosts[1].listen(PORT);
        self.step(1);
        self.handles[0] = self.flight.hosts[0].open(Endpoint::new(remote, PORT), settings);
        self.step(0);
        while !self.flight.hosts[1].events.iter().any(|event| matches!(event, Event::Accepted(_))) {
            assert!(self.advance(), "stalled");
        }
        self.handles[1] = self.flight.hosts[1].accepted();
        self
    }

    fn step(&mut self, which: usize) {
        let frames = self.flight.hosts[which].settle();
        self.fly(which, frames);
    }

    fn fly(&mut self, from: usize, frames: Vec<Frame>) {
        let now = self.flight.hosts[from].now;
        for frame in frames {
            if from == 0 && frame.length > 0 {
                self.sends += 1;
                self.long_sends += u64::from(frame.mss > 0 && frame.length > u32::from(frame.mss));
            }
            for piece in frame.cut() {
                let carries = from == 0 && (piece.length > 0 || piece.wire().fin);
                self.data += u64::from(carries);
                let backlog = self.free_at[from].saturating_sub(now) * self.rate / SECOND;
                let length = piece.length as usize + piece.header.len();
                let lost = carries && ((self.lose)(self.data) || length > self.largest);
                if lost || backlog > self.queue || self.random.below(1000) < self.loss_in_thousand {
                    continue;
                }
                let bytes = u64::from(piece.length) + piece.header.len() as u64;
                self.free_at[from] = self.free_at[from].max(now) + bytes * SECOND / self.rate;
                let mut at = self.free_at[from] + self.delay;
                if (self.outage.0..self.outage.1).contains(&at) {
                    at = self.outage.1;
                }
                self.flight.launch(at, 1 - from, piece);
            }
        }
    }

    fn advance(&mut self) -> bool {
        let Some(now) = self.flight.pass() else { return false };
        while let Some(full) = self.flight.deliver(now) {
            self.step(full);
        }
        for which in 0..2 {
            if self.flight.is_due(which, now) {
                self.step(which);
            }
        }
        self.read();
        true
    }

    /// The second host's application reads.
    fn read(&mut self) {
        let handle = self.handles[1];
        let behind =
            self.flight.hosts[1].streams.get(&handle).is_some_and(|stream| stream.exposed > stream.consumed);
        if self.reads && behind {
            self.flight.hosts[1].read_all(handle, 4 << 20);
            self.step(1);
        }
    }

    /// The first host writes `bytes` in one go and waits until all is acknowledged; how long it took.
    fn transfer(&mut self, bytes: u64) -> Time {
        let started = self.flight.hosts[0].now;
        let handle = self.handles[0];
        self.flight.hosts[0].write(handle, bytes);
        self.step(0);
        let mut rounds = 0_u64;
        while self.stream(0).acknowledged < self.stream(0).written {
            assert!(self.advance(), "stalled");
            rounds += 1;
            assert!(rounds < 5_000_000, "no progress");
        }
        self.flight.hosts[0].now - started
    }

    fn stream(&self, which: usize) -> &common::Stream {
        &self.flight.hosts[which].streams[&self.handles[which]]
    }

    fn wait_until(&mut self, at: Time) {
        while self.flight.hosts[0].now < at && self.advance() {}
        self.flight.hosts.iter_mut().for_each(|host| host.now = host.now.max(at));
    }

    fn field(&mut self, key: u16) -> u64 {
        let handle = self.handles[0];
        self.flight.hosts[0].info(handle)[usize::from(key)]
    }
}

#[test]
fn a_bottleneck_is_filled() {
    let mut link = Link::new(1).connect(Vec::new());
    let took = link.transfer(30_000_000);
    // 2.4 s at the rate of the link, 4.7 % headers.
    assert!(took < 3200 * MS, "{took}");
    assert!(link.field(info::TOTAL_RETRANS) < 1000);
    assert!(link.field(info::MIN_RTT) >= 20 * MS);
}

#[test]
fn a_short_fast_path_is_filled_with_super_segments() {
    let mut link = Link::new(2);
    link.delay = 20_000;
    link.rate = 1_250_000_000;
    link.queue = 4 << 20;
    let mut link = link.connect(Vec::new());
    let took = link.transfer(200_000_000);
    // 160 ms at the rate of the link.
    assert!(took < 250 * MS, "{took}");
    assert!(link.sends < 200_000_000 / 15_000, "{} sends", link.sends);
}

#[test]
fn rfc8985_7_a_lost_tail_costs_two_round_trips() {
    let mut link = Link::new(3);
    link.lose = |number| (8..=10).contains(&number);
    let mut link = link.connect(Vec::new());
    let took = link.transfer(14_000);
    assert!(took < 200 * MS, "{took}");
    assert_eq!(link.field(info::BACKOFF), 0);
}

#[test]
fn a_burst_of_losses_is_sent_again_in_super_segments() {
    let mut link = Link::new(4);
    link.queue = 5_000_000;
    link.lose = |number| (300..340).contains(&number);
    let mut link = link.connect(Vec::new());
    link.transfer(3_000_000);
    assert_eq!(link.field(info::TOTAL_RETRANS), 40);
    assert_eq!(link.field(info::BACKOFF), 0);
    assert!(link.long_sends > link.sends / 2, "{} of {}", link.long_sends, link.sends);
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut link = Link::new(5);
    link.lose = |number| number == 4;
    let mut link = link.connect(Vec::new());
    link.transfer(3 * 1448);
    let handle = link.handles[0];
    link.flight.hosts[0].call(Call::Shutdown(handle));
    link.step(0);
    let started = link.flight.hosts[0].now;
    while link.stream(1).finished.is_none() {
        assert!(link.advance(), "stalled");
    }
    assert!(link.flight.hosts[0].now - started < 500 * MS);
}

#[test]
fn rfc5682_a_spike_of_delay_is_undone() {
    let mut link = Link::new(6);
    link.queue = 5_000_000;
    let mut link = link.connect(Vec::new());
    link.transfer(2_000_000);
    let cwnd = link.field(info::CWND);
    let from = link.flight.hosts[0].now + 15 * MS;
    link.outage = (from, from + 700 * MS);
    link.transfer(2_000_000);
    assert!(link.field(info::UNDONE) >= 1);
    assert!(link.field(info::CWND) >= cwnd);
}

#[test]
fn rfc4821_7_7_a_path_that_swallows_large_segments_is_found_out() {
    let mut link = Link::new(10);
    link.largest = 1400;
    let mut link = link.connect(Vec::new());
    let took = link.transfer(500_000);
    assert!(took < 10 * SECOND, "{took}");
    assert_eq!(link.field(info::PMTU), 1280);
}

#[test]
fn rfc7661_an_application_that_sends_little_gains_no_window() {
    let mut link = Link::new(7).connect(Vec::new());
    for _ in 0..200 {
        link.transfer(2000);
    }
    assert!(link.field(info::CWND) <= 20, "{}", link.field(info::CWND));
}

#[test]
fn rfc9293_3_8_6_1_a_closed_window_is_probed_and_opens() {
    let mut link = Link::new(8);
    link.reads = false;
    let mut link = link.connect(Vec::new());
    let handle = link.handles[0];
    link.flight.hosts[0].write(handle, 300_000);
    link.step(0);
    link.wait_until(30 * SECOND);
    assert!(link.stream(0).acknowledged < 300_000);
    assert_eq!(link.stream(0).closed, None);
    assert_eq!(link.field(info::TOTAL_RETRANS), 0);
    link.reads = true;
    link.read();
    while link.stream(0).acknowledged < 300_000 {
        assert!(link.advance(), "stalled");
    }
}

#[test]
fn every_congestion_control_survives_every_loss() {
    let reno = Setting { key: registry::setting::CONGESTION, value: 0x6f6e_6572 };
    let no_sack = Setting { key: registry::setting::SACK, value: 0 };
    let no_timestamps = Setting { key: registry::setting::TIMESTAMPS, value: 0 };
    for settings in [vec![], vec![reno], vec![no_sack], vec![no_timestamps], vec![no_sack, no_timestamps]] {
        for loss in [1, 10, 50, 100] {
            for seed in 1..=3 {
                let mut link = Link::new(seed).connect(settings.clone());
                link.loss_in_thousand = loss;
                link.transfer(300_000);
            }
        }
    }
}

#[test]
fn a_set_pacing_rate_is_kept() {
    let rate = Setting { key: registry::setting::MAX_PACING_RATE, value: 1_000_000 };
    let mut link = Link::new(9).connect(vec![rate]);
    let took = link.transfer(2_000_000);
    assert!((1900 * MS..2200 * MS).contains(&took), "{took}");
}
