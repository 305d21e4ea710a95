use super::*;
use crate::save::codec::{Writer, put, take};
use alloc::vec::Vec;
use bulkhead_wit::limits::SECOND;

const MSS: u64 = 1000;
const RTT: Time = 40 * MILLISECOND;
/// Bytes a second.
const PATH: u64 = 1_000_000;

/// A path that delivers at most `PATH`, with a queue without end; a step is a round trip.
struct Path {
    bbr: Bbr,
    window: Window,
    now: Time,
    total: u64,
    queue: u64,
}

impl Path {
    fn new() -> Self {
        let window = Window { cwnd: 10 * MSS, ssthresh: u64::MAX, mss: MSS };
        Self { bbr: Bbr::default(), window, now: SECOND, total: 0, queue: 0 }
    }

    /// A round trip: what was sent in it is delivered, as far as the path takes it.
    fn round(&mut self, lost: u64) {
        let fits = PATH * RTT / SECOND;
        let rate = self.bbr.pacing_rate().unwrap_or(u64::MAX).min(1 << 30);
        let sent = self.window.cwnd.min((rate * RTT / SECOND).max(MSS));
        self.queue = sent.saturating_sub(fits);
        let delivered = sent.min(fits).saturating_sub(lost);
        let rtt = RTT + self.queue * SECOND / PATH;
        self.now += rtt;
        let sample = Sample {
            bytes_per_second: delivered * SECOND / RTT,
            app_limited: false,
            prior_delivered: self.total,
        };
        self.total += delivered;
        let heard = Heard {
            now: self.now,
            delivered,
            lost,
            total: self.total,
            in_flight: self.queue,
            rtt: Some(rtt),
            rate: Some(sample),
            recovering: lost > 0,
        };
        self.bbr.on_ack(&mut self.window, &heard);
    }
}

#[test]
fn it_finds_the_rate_of_the_path_and_leaves_startup() {
    let mut path = Path::new();
    for _ in 0..40 {
        path.round(0);
    }
    assert!(path.bbr.cycle.was_full());
    assert!(path.bbr.cycle.is_probing_bandwidth(), "{:?}", path.bbr.cycle);
    let rate = path.bbr.model.bandwidth();
    assert!((PATH * 9 / 10..=PATH * 11 / 10).contains(&rate), "{rate}");
    let fits = PATH * RTT / SECOND;
    assert!(path.window.cwnd >= fits && path.window.cwnd <= 4 * fits, "{}", path.window.cwnd);
}

#[test]
fn a_little_loss_costs_no_rate() {
    let mut path = Path::new();
    (0..40).for_each(|_| path.round(0));
    for round in 0..60 {
        path.round(if round % 10 == 0 { MSS / 4 } else { 0 });
    }
    assert!(path.bbr.model.bandwidth() > PATH * 7 / 10, "{:?}", path.bbr.model);
}

#[test]
fn the_round_trip_is_probed_and_all_states_are_saved() {
    let mut path = Path::new();
    let mut seen = Vec::new();
    for _ in 0..600 {
        path.round(0);
        if !seen.contains(&path.bbr.cycle.state()) {
            seen.push(path.bbr.cycle.state());
        }
        let mut out = Writer::default();
        put(&path.bbr, &mut out);
        let out = out.finish();
        let mut from = out.as_slice();
        assert_eq!(take(&mut from).as_ref(), Some(&path.bbr));
        assert!(from.is_empty());
    }
    for state in [State::Startup, State::Drain, State::Down, State::Cruise, State::Refill, State::Up] {
        assert!(seen.contains(&state), "{state:?} of {seen:?}");
    }
}
