//! Recordings: what a run was given is kept exactly, in memory and in files, and gives the same again in every placement.

use bulkhead::artifact::Artifact;
use bulkhead::device::link::{Impairments, LinkConfig};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::record::{End, Entry, Found, Outcome, ReadError, Reader, Replay, checkpoint_before, redact};
use bulkhead_tests::Tape;
use bulkhead_tests::meddling::Meddled;
use bulkhead_tests::world::{Plan, V4, V6, World, native, transfer};
use bulkhead_wit::{Call, Outputs, limits};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

fn wasm() -> Box<dyn Instance> {
    Box::new(Artifact::bundled().expect("the bundled module").instance().expect("an instance"))
}

const PLACEMENTS: [fn() -> Box<dyn Instance>; 2] = [native, wasm];

/// Two hosts with a bad link between them, both recorded.
fn world(instance: &dyn Fn() -> Box<dyn Instance>, addresses: [IpAddr; 2], tape: &Tape) -> World {
    let bad = Impairments {
        loss: 10_000,
        duplicate: 10_000,
        reorder: 30_000,
        reorder_delay: 5 * limits::MILLISECOND,
        delay: 10 * limits::MILLISECOND,
        ..Impairments::default()
    };
    let link = LinkConfig { there: bad, back: bad, ..LinkConfig::default() };
    let mut world = World::new(&Plan { link, seed: 11, addresses, instance, options: &|_| {} });
    world.b.stack.record_to(Box::new(tape.clone())).expect("a tape takes everything");
    world
}

/// A run of several seconds of virtual time, recorded at the server; what is on the tape, and what was in memory.
fn recorded(instance: &dyn Fn() -> Box<dyn Instance>, addresses: [IpAddr; 2]) -> (Vec<u8>, Vec<u8>, u64) {
    let tape = Tape::default();
    let mut world = world(instance, addresses, &tape);
    transfer(&mut world, 3, 4_000_000, 1_000_000, 300 * limits::SECOND);
    let memory = world.b.stack.recording().expect("it is kept");
    let steps = world.b.stack.cost().steps;
    world.b.stack.end_recording();
    let bytes = tape.0.lock().unwrap().clone();
    (bytes, memory, steps)
}

fn replay(bytes: &[u8], make: fn() -> Box<dyn Instance>, from: Option<u64>) -> Result<Outcome, ReadError> {
    let mut make = || Ok(make());
    let mut reader = Reader::new(bytes)?;
    Replay::new(&mut make, true).run(&mut reader, from, u64::MAX, &mut |_, _, _| {})
}

#[test]
fn a_real_run_replays_equally_in_every_placement_from_the_start_and_from_every_checkpoint() {
    for (recorder, addresses) in [(PLACEMENTS[1], V4), (PLACEMENTS[0], V6)] {
        let (tape, memory, steps) = recorded(&recorder, addresses);
        let last = checkpoint_before(&mut Reader::new(&tape[..]).unwrap(), u64::MAX).unwrap();
        let (last, after) = last.expect("seconds have passed");
        for player in PLACEMENTS {
            let outcome = replay(&tape, player, None).unwrap();
            assert_eq!((outcome.steps, &outcome.end), (steps, &End::Complete));
            assert_eq!(outcome.checkpoints, last + 1);
            for number in [0, last / 2, last] {
                let outcome = replay(&tape, player, Some(number)).unwrap();
                assert_eq!((outcome.steps, outcome.checkpoints), (steps, last - number), "from {number}");
                assert_eq!(
                    outcome.end,
                    End::Complete,
                    "from checkpoint {number} of {last}, the last after {after}"
                );
            }
            let outcome = replay(&memory, player, None).unwrap();
            assert_eq!((outcome.steps, outcome.end), (steps, End::Complete), "what is in memory");
        }
    }
}

#[test]
fn the_first_step_that_differs_is_found() {
    let (tape, _, steps) = recorded(&native, V4);
    for step in [1, 2, 77, steps] {
        let mut reader = Reader::new(&tape[..]).unwrap();
        let wants_more = |outputs: &mut Outputs| {
            outputs.unfinished = !outputs.unfinished;
            Ok(())
        };
        let mut make = || Ok(Meddled::boxed(native(), step, wants_more));
        let mut watched = 0;
        let outcome = Replay::new(&mut make, true)
            .run(&mut reader, None, u64::MAX, &mut |number, inputs, outputs| {
                watched += 1;
                assert!(number == watched && inputs.now > 0 || number == 1 && outputs.is_ok());
            })
            .unwrap();
        let End::Diverged(divergence) = outcome.end else { panic!("{outcome:?}") };
        assert_eq!((divergence.step, watched), (step, step));
        assert!(matches!(divergence.recorded, Found::Outputs(_)) && divergence.recorded != divergence.now);
    }
    let mut make = || Ok(native());
    let mut reader = Reader::new(&tape[..]).unwrap();
    let outcome = Replay::new(&mut make, true).run(&mut reader, None, 50, &mut |_, _, _| {}).unwrap();
    assert_eq!((outcome.steps, outcome.end), (50, End::Until));
}

#[test]
fn a_recording_that_is_cut_off_replays_as_far_as_it_goes() {
    let (tape, _, steps) = recorded(&native, V4);
    for cut in (0..tape.len()).step_by(tape.len() / 40) {
        match replay(&tape[..cut], native, None) {
            Ok(outcome) => {
                assert_eq!(outcome.end, End::CutOff, "{cut}");
                assert!(outcome.steps <= steps);
            }
            Err(error) => assert!(cut < 1000, "{cut} of {}: {error}", tape.len()),
        }
    }
}

#[test]
fn a_recording_that_was_altered_is_told_apart() {
    let (_, tape, _) = recorded(&native, V4);
    for at in (0..tape.len()).step_by(tape.len() / 150) {
        let mut bent = tape.clone();
        bent[at] ^= 1 << (at % 8);
        let mut reader = match Reader::new(&bent[..]) {
            Ok(reader) => reader,
            Err(error) => {
                assert!(matches!(error, ReadError::Malformed(_)), "{error}");
                continue;
            }
        };
        let whole = loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => break !reader.is_cut_off(),
                Err(_) => break false,
            }
        };
        assert!(!whole, "byte {at} of {} was altered, and nobody noticed", tape.len());
    }
    for nonsense in
        [&b""[..], b"\0asm", b"bulkrec\n\x02\0\0\0\0\0\0\0", b"bulkrec\n\x01\0\0\0\xff\xff\xff\xff"]
    {
        assert!(Reader::new(nonsense).is_err());
    }
}

/// What is promised need not come: a length alone takes no memory.
#[test]
fn a_length_beyond_the_file_takes_no_memory() {
    let (_, tape, _) = recorded(&native, V4);
    let mut reader = Reader::new(&tape[..]).unwrap();
    let first = reader.position() as usize;
    assert!(matches!(reader.next_entry(), Ok(Some(Entry::Load(_) | Entry::Start(_)))));
    let mut bent = tape[..first].to_vec();
    bent.extend([2, 0, 0, 0, 4]);
    let mut reader = Reader::new(&bent[..]).unwrap();
    assert!(matches!(reader.next_entry(), Ok(None)) && reader.is_cut_off());
    bent.truncate(first);
    bent.extend([2, 0, 0, 0, 0xff]);
    assert!(Reader::new(&bent[..]).unwrap().next_entry().is_err());
}

/// A disk with room for so many bytes.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_nothing_else() {
    let mut world = world(&native, V4, &Tape::default());
    world.a.stack.record_to(Box::new(Disk(20_000))).unwrap();
    transfer(&mut world, 3, 600_000, 200_000, 300 * limits::SECOND);
    assert!(world.a.stack.record_to(Box::new(Disk(10))).is_err());
}

#[test]
fn no_application_byte_is_in_a_recording() {
    // Both streams count in words that depend on their seed; eight bytes in a row of either would show.
    let (tape, memory, _) = recorded(&native, V4);
    for stream in [0, 1, 2, !0, !1, !2] {
        for at in [0, 4096, 100_000] {
            let bytes: Vec<u8> = (at..at + 16).map(|at| bulkhead_tests::world::byte(stream, at)).collect();
            assert!(!tape.windows(16).any(|window| window == bytes));
            assert!(!memory.windows(16).any(|window| window == bytes));
        }
    }
}

/// What is shared says nothing of whose it is, and everything of what went in.
#[test]
fn a_redacted_copy_names_nobody() {
    for addresses in [V4, V6] {
        let (tape, memory, _) = recorded(&native, addresses);
        for original in [tape, memory] {
            let mut copy = Vec::new();
            let steps = redact(&mut Reader::new(&original[..]).unwrap(), &mut copy).unwrap();
            assert!(steps > 0);
            compare_inputs(&original, &copy, addresses);
            let again = replay(&copy, native, None);
            assert!(matches!(again, Err(ReadError::Redacted)), "{again:?}");
        }
    }
}

/// Step by step: the same but for names and what could tell them.
fn compare_inputs(original: &[u8], copy: &[u8], addresses: [IpAddr; 2]) {
    let (mut one, mut other) = (Reader::new(original).unwrap(), Reader::new(copy).unwrap());
    let (mut before, mut after) = (bulkhead_wit::Batch::default(), bulkhead_wit::Batch::default());
    let mut names = std::collections::HashMap::new();
    loop {
        match (one.next_entry().unwrap(), other.next_entry().unwrap()) {
            (None, None) => break,
            (Some(Entry::Step(one)), Some(Entry::Step(other))) => {
                bulkhead_wit::encoding::decode_inputs(one, &mut before).unwrap();
                bulkhead_wit::encoding::decode_inputs(other, &mut after).unwrap();
                assert_eq!((before.now, &before.segments), (after.now, &after.segments));
                assert_eq!((&before.positions, before.calls.len()), (&after.positions, after.calls.len()));
                for segment in &after.segments {
                    let network = &after.headers[segment.header as usize..];
                    let is_told = addresses.iter().any(|address| match address {
                        IpAddr::V4(own) => network[12..20].as_chunks().0.contains(&own.octets()),
                        IpAddr::V6(own) => network[8..40].as_chunks().0.contains(&own.octets()),
                    });
                    assert!(!is_told, "{segment:?}");
                }
                for call in &after.calls {
                    let is_told = |end: SocketAddr| addresses.contains(&end.ip()) || end.port() == 80;
                    assert!(
                        !matches!(call, Call::Listen(listen) if is_told(listen.local.into())),
                        "{call:?}"
                    );
                }
                for segment in before.segments.iter().filter(|segment| segment.protocol == 6) {
                    let at = segment.header as usize + usize::from(segment.transport);
                    let (ours, theirs) = (&before.headers[at..], &after.headers[at..]);
                    let ports = (ours[..4].to_vec(), theirs[..4].to_vec());
                    assert_eq!(*names.entry(ports.0).or_insert(ports.1.clone()), ports.1, "one name each");
                    assert_eq!(ours[4..16], theirs[4..16], "numbers, flags and window");
                    assert_eq!(theirs[16..18], [0, 0], "a checksum would tell");
                }
            }
            (Some(Entry::Load(_)), Some(Entry::Load(saved)))
            | (Some(Entry::Checkpoint(_)), Some(Entry::Checkpoint(saved))) => {
                assert!(saved.state.is_empty() && saved.config.seed == (0, 0, 0, 0));
            }
            (Some(Entry::Outputs(_)), Some(Entry::Outputs(hash))) => assert_eq!(hash, 0),
            (Some(Entry::Start(_)), Some(Entry::Start(config))) => assert_eq!(config.seed, (0, 0, 0, 0)),
            (one, other) => panic!("{one:?} became {other:?}"),
        }
    }
}

/// Secrets that a recording holds are worth nothing after it.
#[test]
fn a_reseeded_stack_goes_on_with_other_secrets() {
    let syn = |reseeded: bool| {
        let tape = Tape::default();
        let mut world = world(&native, V4, &tape);
        transfer(&mut world, 1, 10_000, 10_000, 300 * limits::SECOND);
        if reseeded {
            world.b.stack.reseed([9, 9, 9, 9]);
        }
        // Nobody listens there: what matters is the SYN that goes out.
        let nobody = SocketAddr::new(world.a.address, 9).into();
        world.b.stack.connect(nobody, bulkhead::ConnectOptions::default()).unwrap();
        world.settle();
        world.b.stack.end_recording();
        let bytes = tape.0.lock().unwrap().clone();
        let (mut make, mut last) = (|| Ok(wasm()), Vec::new());
        let outcome = Replay::new(&mut make, true)
            .run(&mut Reader::new(&bytes[..]).unwrap(), None, u64::MAX, &mut |_, _, result| {
                let Ok(outputs) = result else { return };
                for send in &outputs.sends {
                    let tcp = &outputs.headers[send.header as usize + usize::from(send.transport)..];
                    if tcp[13] & 0x12 == 2 {
                        last = tcp[..8].to_vec();
                    }
                }
            })
            .unwrap();
        assert_eq!(outcome.end, End::Complete, "it is an input like any other");
        (last, world.b.stack.options().config.seed)
    };
    let (one, other) = (syn(false), syn(true));
    assert!(one.0.len() == 8 && other.0.len() == 8);
    assert_ne!(one.0, other.0, "the same port and sequence number");
    assert_eq!(other.1, (9, 9, 9, 9), "a fresh instance would begin with it");
}

#[test]
fn recording_can_be_left_out() {
    let mut options = bulkhead::Options::new(V4[0], 24, 1500, [1, 2, 3, 4]);
    options.recording = false;
    let stack =
        bulkhead::Stack::new(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))), options).unwrap();
    assert!(stack.recording().is_none() && stack.recording_figures().memory == 0);
}
