//! Transfers over a bottleneck.

use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::info;

use super::super::*;
use super::network::{Network, Simulation};

const PERCENT: u64 = 10_000;

fn modern() -> Parameters {
    Parameters { mss: 1000, sack: true, timestamps: true, ..Parameters::default() }
}

fn without_sack() -> Parameters {
    Parameters { sack: false, timestamps: false, ..modern() }
}

#[test]
fn a_clean_path_is_filled_and_nothing_is_sent_twice() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let network = Network { queue: 5_000_000, ..Network::default() };
        let mut simulation = Simulation::new(Parameters { algorithm, ..modern() }, network);
        simulation.window = 900_000;
        assert!(simulation.transfer(50_000_000, 60 * SECOND));
        let outcome = &simulation.outcome;
        assert_eq!((outcome.resent, outcome.timeouts), (0, 0), "{outcome:?}");
        // 50 MB at 12.5 MB/s are 4 s, and 4 % headers.
        let time = outcome.finished_at - SECOND;
        assert!(time < 5 * SECOND, "{algorithm:?}: {time}");
    }
}

#[test]
fn a_full_queue_is_survived_without_timeouts() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let mut simulation = Simulation::new(Parameters { algorithm, ..modern() }, Network::default());
        assert!(simulation.transfer(100_000_000, 60 * SECOND));
        let outcome = &simulation.outcome;
        assert_eq!(outcome.timeouts, 0, "{outcome:?}");
        let time = outcome.finished_at - SECOND;
        assert!(time < 10 * SECOND, "{algorithm:?}: {time}, {outcome:?}");
        assert!(outcome.cwnd_max < 4_000_000, "{outcome:?}");
        assert!(outcome.resent < outcome.segments / 20, "{outcome:?}");
    }
}

#[test]
fn progress_under_loss_for_every_seed() {
    for (name, parameters) in [("sack", modern()), ("no sack", without_sack())] {
        for loss in [0, 1, 2, 5, 10] {
            for seed in 1..=8 {
                let network = Network { loss: loss * PERCENT, seed, ..Network::default() };
                let mut simulation = Simulation::new(parameters, network);
                let done = simulation.transfer(1_000_000, 600 * SECOND);
                assert!(done, "{name}, {loss} %, seed {seed}: {:?}", simulation.outcome);
            }
        }
    }
}

#[test]
fn loss_of_a_percent_costs_few_timeouts() {
    let mut timeouts = 0;
    for seed in 1..=10 {
        let network = Network { loss: PERCENT, seed, ..Network::default() };
        let mut simulation = Simulation::new(modern(), network);
        assert!(simulation.transfer(2_000_000, 600 * SECOND));
        timeouts += simulation.outcome.timeouts;
        let needless = simulation.outcome.needless;
        assert!(needless <= 10, "seed {seed}: {:?}", simulation.outcome);
    }
    assert!(timeouts <= 4, "{timeouts}");
}

#[test]
fn rfc8985_7_a_lost_tail_is_found_by_a_probe() {
    // The SYN is segment 1; the last of ten data segments is lost.
    let network = Network { lost_segments: [11].into(), ..Network::default() };
    let mut simulation = Simulation::new(modern(), network);
    assert!(simulation.transfer(10_000, 10 * SECOND));
    let outcome = &simulation.outcome;
    assert_eq!((outcome.timeouts, outcome.probes, outcome.resent), (0, 1, 1), "{outcome:?}");
    // The whole tail of a longer flight: the probe brings SACK, which brings RACK.
    let network = Network { lost_segments: (9..=11).collect(), ..Network::default() };
    let mut simulation = Simulation::new(modern(), network);
    assert!(simulation.transfer(10_000, 10 * SECOND));
    let outcome = &simulation.outcome;
    assert_eq!((outcome.timeouts, outcome.resent), (0, 3), "{outcome:?}");
}

#[test]
fn without_sack_the_tail_takes_a_timeout_and_the_middle_does_not() {
    let network = Network { lost_segments: [11].into(), ..Network::default() };
    let mut simulation = Simulation::new(without_sack(), network);
    assert!(simulation.transfer(10_000, 10 * SECOND));
    assert_eq!(simulation.outcome.timeouts, 1);
    let network = Network { lost_segments: [4, 6].into(), ..Network::default() };
    let mut simulation = Simulation::new(without_sack(), network);
    assert!(simulation.transfer(30_000, 10 * SECOND));
    let outcome = &simulation.outcome;
    assert_eq!((outcome.timeouts, outcome.resent), (0, 2), "{outcome:?}");
}

#[test]
fn rfc5682_a_timeout_by_a_delay_spike_is_undone() {
    for (name, parameters) in [
        ("timestamps", modern()),
        ("sack only", Parameters { timestamps: false, ..modern() }),
        ("neither", without_sack()),
    ] {
        let network = Network { queue: 5_000_000, ..Network::default() };
        let mut simulation = Simulation::new(parameters, network);
        simulation.window = 200_000;
        assert!(simulation.transfer(3_000_000, 60 * SECOND));
        let (cwnd, before) = (simulation.recovery.cwnd(), simulation.outcome.resent);
        let from = simulation.now + 20 * MILLISECOND;
        simulation.network.outage = Some((from, from + 900 * MILLISECOND));
        assert!(simulation.transfer(3_000_000, 60 * SECOND));
        let outcome = &simulation.outcome;
        assert!(outcome.timeouts >= 1, "{name}: {outcome:?}");
        assert!(outcome.undone >= 1, "{name}: {outcome:?}");
        assert!(outcome.resent - before <= 5, "{name}: {outcome:?}");
        assert!(simulation.recovery.cwnd() >= cwnd, "{name}: {outcome:?}");
    }
}

#[test]
fn rfc8985_6_2_reordering_is_learned() {
    let network =
        Network { reorder: 2 * PERCENT, reorder_by: 8 * MILLISECOND, queue: 5_000_000, ..Network::default() };
    let mut simulation = Simulation::new(modern(), network);
    simulation.window = 400_000;
    assert!(simulation.transfer(5_000_000, 60 * SECOND));
    assert!(simulation.field(info::REORD_SEEN) > 0);
    let learned = simulation.outcome.resent;
    assert!(simulation.transfer(20_000_000, 60 * SECOND));
    let outcome = &simulation.outcome;
    assert_eq!(outcome.timeouts, 0, "{outcome:?}");
    // 400 segments were reordered in this part.
    assert!(outcome.resent - learned <= 20, "{learned}, {outcome:?}");
}

#[test]
fn an_idle_window_decays_and_starts_again() {
    let network = Network { queue: 5_000_000, ..Network::default() };
    let mut simulation = Simulation::new(modern(), network);
    simulation.window = 900_000;
    assert!(simulation.transfer(5_000_000, 60 * SECOND));
    let used = simulation.recovery.cwnd();
    assert!(used > 300_000, "{used}");
    simulation.idle(60 * SECOND);
    let supply = Supply { end: simulation.end + 100_000, window_end: u64::MAX, small: true, fin: false };
    assert!(matches!(simulation.recovery.next(simulation.now, &supply), Next::Send(_)));
    assert_eq!(simulation.recovery.cwnd(), 10_000);
}

#[test]
fn a_short_path_is_bound_by_its_rate_alone() {
    let network = Network {
        rtt: 100_000,
        rate: 1_250_000_000, // 10 Gbit/s
        queue: 2_000_000,
        ..Network::default()
    };
    let mut simulation = Simulation::new(modern(), network);
    simulation.window = 1_000_000;
    assert!(simulation.transfer(200_000_000, 10 * SECOND));
    // 160 ms at the full rate, 4 % headers.
    let time = simulation.outcome.finished_at - SECOND;
    assert!(time < 200 * MILLISECOND, "{time} {:?}", simulation.outcome);
}

#[test]
#[ignore = "a table for people: throughput against loss"]
fn table() {
    extern crate std;
    use std::println;
    println!(
        "sizes {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}",
        size_of::<Recovery>(),
        size_of::<Traits>(),
        size_of::<Window>(),
        size_of::<Control>(),
        size_of::<Scoreboard>(),
        size_of::<Rtt>(),
        size_of::<Rack>(),
        size_of::<Tlp>(),
        size_of::<NewReno>(),
        size_of::<Prr>(),
        size_of::<Undo>(),
        size_of::<Pacing>(),
        size_of::<Rate>(),
        size_of::<Usage>(),
        size_of::<Counters>(),
        size_of::<Busy>(),
    );
    for (name, parameters) in [
        ("cubic", modern()),
        ("reno", Parameters { algorithm: Algorithm::Reno, ..modern() }),
        ("no sack", without_sack()),
        ("unpaced", Parameters { pacing: false, ..modern() }),
    ] {
        for loss in [0, 1, 5, 10, 20, 50, 100] {
            let (mut time, mut timeouts, mut resent, mut needless, mut undone, mut probes) =
                (0, 0, 0, 0, 0, 0);
            for seed in 1..=10 {
                let network = Network { loss: loss * PERCENT / 10, seed, ..Network::default() };
                let mut simulation = Simulation::new(parameters, network);
                assert!(simulation.transfer(5_000_000, 6000 * SECOND));
                time += simulation.outcome.finished_at - SECOND;
                timeouts += simulation.outcome.timeouts;
                resent += simulation.outcome.resent;
                needless += simulation.outcome.needless;
                undone += simulation.outcome.undone;
                probes += simulation.outcome.probes;
            }
            println!(
                "{name:8} {loss:3} 0/00: {:6} kB/s, timeouts {timeouts}, probes {probes}, resent {resent}, needless {needless}, undone {undone}",
                5_000_000 * 10 * 1000 / (time / MILLISECOND) / 1000
            );
        }
    }
}
