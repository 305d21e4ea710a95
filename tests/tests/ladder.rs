//! The recovery ladder with real faults: at every step, by every kind, under load.

use bulkhead::device::link::{Impairments, LinkConfig};
use bulkhead::fault::{Fault, Rule, Trap};
use bulkhead::placement::{Identity, Instance, StepCost};
use bulkhead::record::{End, Reader, Replay};
use bulkhead::supervise::{Factory, KEPT, Reporter};
use bulkhead::{ConnectOptions, Options, Stack};
use bulkhead_tests::faults::{Arena, Load, hostile, hostile_factory};
use bulkhead_tests::meddling::{Meddled, Taken};
use bulkhead_tests::world::{Plan, V4, World, native, transfer};
use bulkhead_wit::{Config, Description, Handle, Inputs, Mark, Outputs, Summary, Time, limits};
use hostile_core::Defect;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How a step fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// Before it has done anything.
    Before,
    /// After everything is done, and nothing told.
    After,
    /// By outputs that break a rule.
    Rule,
}

/// The native core, as if behind a wall, that fails once: in the call with this number, over all instances.
struct Faulty {
    inner: Box<dyn Instance>,
    calls: Arc<AtomicU64>,
    at: u64,
    how: How,
}

impl Instance for Faulty {
    fn description(&self) -> &Description {
        self.inner.description()
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.inner.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        let is_due = self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.at;
        let trap = || Fault::Trap(Box::new(Trap { code: "unreachable".into(), ..Trap::default() }));
        if is_due && self.how == How::Before {
            return Err(trap());
        }
        self.inner.step(inputs, outputs)?;
        if is_due && self.how == How::After {
            return Err(trap());
        }
        if is_due {
            outputs.marks.push(Mark { connection: Handle::by_module(77, 77), ..Mark::default() });
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.inner.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.inner.load(config, now, state)
    }

    fn cost(&self) -> StepCost {
        self.inner.cost()
    }

    fn identity(&self) -> Identity {
        Identity::default()
    }
}

/// A run whose server fails in its step `at`; gives its steps. Bytes are compared by the transfer itself.
fn run(at: u64, how: How) -> u64 {
    let calls = Arc::new(AtomicU64::new(0));
    let faulty = {
        let calls = Arc::clone(&calls);
        move || Box::new(Faulty { inner: native(), calls: Arc::clone(&calls), at, how }) as Box<dyn Instance>
    };
    let lossy = Impairments {
        loss: 10_000,
        delay: 2 * limits::MILLISECOND,
        rate: 50_000_000,
        ..Impairments::default()
    };
    let link = LinkConfig { there: lossy, back: lossy, ..LinkConfig::default() };
    let mut world = World::new(&Plan { link, seed: 9, addresses: V4, instance: &native, options: &|_| {} });
    let options = Options::new(V4[1], 64, 1500, [9, 2, 3, 4]);
    world.b.stack = Stack::new(faulty(), options).unwrap();
    let factory: Factory = Box::new(move || Ok(faulty()));
    world.b.stack.supervise(factory);
    transfer(&mut world, 4, 300_000, 300_000, 60 * limits::SECOND);
    let figures = world.b.stack.fault_figures();
    let expected = u64::from(at <= calls.load(Ordering::Relaxed) && at > 0);
    assert_eq!((figures.faults, figures.recovered, figures.streams), (expected, expected, 0), "step {at}");
    for incident in world.b.stack.incidents() {
        assert!(incident.restarted && incident.recovered && incident.left_out.is_empty(), "{incident:?}");
        assert_eq!(incident.fault.rule().is_some(), how == How::Rule, "{incident:?}");
    }
    world.b.stack.cost().steps
}

/// A fault of the instance's own, that is in no input and no part of its state: from some step on it fails over every
/// segment with bytes, or in every step. It lasts until one goes on that was loaded. That one fails once more, for no reason.
#[test]
fn a_sick_instance_hands_on_its_state_and_others_wait() {
    for in_every_step in [false, true] {
        hand_on(in_every_step);
    }
}

fn hand_on(in_every_step: bool) {
    /// What all instances share.
    #[derive(Default)]
    struct Seen {
        has_failed_again: AtomicBool,
        loads: AtomicU64,
    }

    let seen = Arc::new(Seen::default());
    let make = {
        let seen = Arc::clone(&seen);
        move || {
            let seen = Arc::clone(&seen);
            let meddle = move |taken: &Taken<'_>, _: &mut Outputs| {
                seen.loads.fetch_max(taken.loads.into(), Ordering::Relaxed);
                let mut segments = taken.inputs.segments.iter();
                let fails = match taken.loads {
                    0 => taken.number > 60 && (in_every_step || segments.any(|segment| segment.payload > 0)),
                    _ => taken.number > 30 && !seen.has_failed_again.swap(true, Ordering::Relaxed),
                };
                if fails { Err(Fault::Ended) } else { Ok(()) }
            };
            Meddled::always(native(), Box::new(meddle))
        }
    };
    let slow = Impairments { delay: 2 * limits::MILLISECOND, rate: 50_000_000, ..Impairments::default() };
    let link = LinkConfig { there: slow, back: slow, ..LinkConfig::default() };
    let mut world = World::new(&Plan { link, seed: 9, addresses: V4, instance: &native, options: &|_| {} });
    world.b.stack = Stack::new(make(), Options::new(V4[1], 64, 1500, [9, 2, 3, 4])).unwrap();
    world.b.stack.supervise(Box::new(move || Ok(make())));
    transfer(&mut world, 4, 300_000, 300_000, 60 * limits::SECOND);
    let figures = world.b.stack.fault_figures();
    assert_eq!((figures.recovered, figures.streams), (figures.faults, 0), "{figures:?}");
    // A few segments are dropped before it is clear who is to blame, and then it is as ever.
    assert!((2..=5).contains(&figures.faults), "{figures:?}");
    assert!(seen.has_failed_again.load(Ordering::Relaxed));
    // The one that goes on has loaded twice before it counted.
    assert_eq!(seen.loads.load(Ordering::Relaxed), 3);
    // The test, the factory, the one that runs, and two that wait; they go when there was no fault for a minute.
    assert_eq!(Arc::strong_count(&seen), 5);
    world.now += 61 * limits::SECOND;
    let server = world.server(80);
    world.a.stack.connect(server, ConnectOptions::default()).unwrap();
    world.settle();
    let until = world.now + limits::SECOND;
    world.run(until, |_| false);
    assert_eq!(Arc::strong_count(&seen), 3);
}

#[test]
fn a_fault_that_does_not_come_again_costs_nothing_whenever_it_comes() {
    let steps = run(0, How::Before);
    assert!(steps > 300, "{steps}");
    for at in (1..=steps).step_by(steps as usize / 20) {
        for how in [How::Before, How::After, How::Rule] {
            run(at, how);
        }
    }
}

/// Natively simulated, as if behind a wall: what differs from the sandbox is how the fault comes about, not what follows it.
#[test]
#[ignore = "slow"]
fn slow_a_fault_at_every_step_costs_nothing() {
    let steps = run(0, How::Before);
    for at in 1..=steps.min(2000) {
        run(at, [How::Before, How::After, How::Rule][at as usize % 3]);
    }
    println!("{} steps, each failed once", steps.min(2000));
}

fn load(connections: usize, defects: &'static [u8], most: u64, every: u64) -> Load {
    Load { connections, bytes: 400_000, every, most, defects, rate: 10_000_000, apart: 0, seed: 5 }
}

/// All kinds that stop at once but those that take their time to, by number.
const AT_ONCE: &[u8] = &[0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];

#[test]
fn poison_of_every_kind_costs_no_connection_and_no_byte() {
    let load = load(10, AT_ONCE, 90, 25);
    let tally =
        Arena::new(Box::new(hostile().fresh().unwrap()), hostile_factory(), load).run(600 * limits::SECOND);
    assert!(tally.is_done && tally.injected == 90 && tally.faults >= 20, "{tally:?}");
    assert_eq!((tally.recovered, tally.bytes), (tally.faults, 8_000_000), "{tally:?}");
    assert!(tally.is_whole(), "{tally:?}");
}

#[test]
fn an_endless_loop_and_endless_memory_cost_no_connection_either() {
    let load = load(10, &[Defect::Loop as u8, Defect::Memory as u8], 4, 100);
    let tally =
        Arena::new(Box::new(hostile().fresh().unwrap()), hostile_factory(), load).run(600 * limits::SECOND);
    assert!(tally.is_done && tally.faults >= 2, "{tally:?}");
    assert_eq!((tally.recovered, tally.bytes), (tally.faults, 8_000_000), "{tally:?}");
    assert!(tally.is_whole(), "{tally:?}");
}

/// The count that says so can say something else.
#[test]
fn a_byte_that_is_not_the_one_that_was_written_is_counted() {
    use bulkhead_tests::world::Transfer;
    let mut world = World::new(&Plan {
        link: LinkConfig::default(),
        seed: 3,
        addresses: V4,
        instance: &native,
        options: &|_| {},
    });
    let server = world.server(80);
    let listener = world.b.stack.listen(server, bulkhead::ListenOptions::default()).unwrap();
    world.settle();
    let stream = world.a.stack.connect(server, bulkhead::ConnectOptions::default()).unwrap();
    // What is written are 100 bytes; what is expected are 120 others.
    let mut client = Transfer::new(stream, (7, 100), (1, 0));
    let mut served: Option<Transfer> = None;
    world.run(limits::SECOND, |world| {
        if let Ok(accepted) = world.b.stack.accept(listener) {
            served = Some(Transfer::new(accepted.stream, (1, 0), (8, 120)));
        }
        if world.a.stack.is_open(stream).is_ok_and(|open| open) {
            client.pump(&mut world.a.stack).unwrap();
        }
        if let Some(server) = &mut served {
            server.pump(&mut world.b.stack).unwrap();
        }
        served.as_ref().is_some_and(|server| server.ended)
    });
    let server = served.unwrap();
    assert!(server.altered > 50 && server.missing == 20, "{server:?}");
}

/// The module goes on with a state that is not its own: that may cost connections, and never a byte of what is read.
#[test]
fn silent_corruption_alters_no_byte() {
    for seed in 0..6 {
        let load = Load { seed, bytes: 100_000, ..load(10, &[Defect::BitFlip as u8], 30, 10) };
        let instance = Box::new(hostile().fresh().unwrap());
        let tally = Arena::new(instance, hostile_factory(), load).run(30 * limits::SECOND);
        assert!(tally.injected > 0 && tally.bytes > 0, "{tally:?}");
        assert_eq!((tally.altered, tally.missing), (0, 0), "{tally:?}");
    }
}

#[test]
fn a_recording_goes_on_over_a_recovery_and_replays_with_its_fault() {
    use std::io::Write;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Tape(Arc<Mutex<Vec<u8>>>);
    impl Write for Tape {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let tape = Tape::default();
    let load = load(3, &[Defect::Panic as u8, Defect::UnknownHandle as u8], 4, 50);
    let mut arena = Arena::new(Box::new(hostile().fresh().unwrap()), hostile_factory(), load);
    arena.server.record_to(Box::new(tape.clone())).unwrap();
    let tally = arena.run(600 * limits::SECOND);
    assert_eq!((tally.recovered, tally.lost), (tally.faults, 0), "{tally:?}");
    let bytes = tape.0.lock().unwrap().clone();
    let mut make = || Ok(Box::new(hostile().fresh()?) as Box<dyn Instance>);
    let outcome = Replay::new(&mut make, true)
        .run(&mut Reader::new(&bytes[..]).unwrap(), None, u64::MAX, &mut |_, _, _| {})
        .unwrap();
    assert!(matches!(outcome.end, End::Complete), "{:?}", outcome.end);
    // The fault itself, and once more as the input to blame was found.
    assert!(outcome.faults.len() as u64 > tally.faults, "{:?}", outcome.faults);
    let is_told = |text: &str| outcome.faults.iter().any(|(_, fault)| fault.contains(text));
    assert!(is_told("a defect that a test asked for") && is_told("hostile-core/src/lib.rs"));
    assert!(is_told(&Rule::Handle.to_string()));
}

/// Reports of real faults: each with a recording that does the fault again, for the owner alone, and not too many of them.
#[test]
fn each_fault_is_reported_with_a_recording_that_does_it_again() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = std::env::temp_dir().join(format!("bulkhead-reports-{}", std::process::id()));
    let load = load(10, AT_ONCE, 120, 10);
    let mut arena = Arena::new(Box::new(hostile().fresh().unwrap()), hostile_factory(), load);
    arena.server.report_to(Reporter::new(&folder).unwrap());
    let tally = arena.run(600 * limits::SECOND);
    assert!(tally.faults > KEPT as u64, "{tally:?}");
    let all = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let (recordings, texts): (Vec<_>, Vec<_>) =
        all.partition(|path| path.extension().is_some_and(|kind| kind == "rec"));
    assert!(!texts.is_empty() && texts.len() <= KEPT && recordings.len() == texts.len());
    for recording in recordings {
        let text = std::fs::read_to_string(recording.with_extension("txt")).unwrap();
        assert!(text.contains("recovered in") && text.contains("module     hostile 0.1.0, "), "{text}");
        assert_eq!(std::fs::metadata(&recording).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&recording).unwrap();
        let mut make = || Ok(Box::new(hostile().fresh()?) as Box<dyn Instance>);
        let outcome = Replay::new(&mut make, true)
            .run(&mut Reader::new(&bytes[..]).unwrap(), None, u64::MAX, &mut |_, _, _| {})
            .unwrap();
        let [(_, fault)] = &outcome.faults[..] else { panic!("{:?}: {text}", outcome.end) };
        assert!(text.contains(fault.lines().next().unwrap()), "{text}\n{fault}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
