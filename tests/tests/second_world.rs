//! A module of the second world that reads messages and hold slots ([`reading_core`]), natively and in the sandbox: what it is
//! given is what applications and peers have sent, its recording has that, and both do the same with it.

use bulkhead::StreamError;
use bulkhead::artifact::Artifact;
use bulkhead::device::link::{Impairments, LinkConfig};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::record::{End, Entry, Reader, Replay};
use bulkhead::stack::BindOptions;
use bulkhead::supervise::{Factory, FaultFigures};
use bulkhead_tests::Tape;
use bulkhead_tests::faults::guest;
use bulkhead_tests::meddling::Meddled;
use bulkhead_tests::world::{Plan, V4, V6, World};
use bulkhead_udp::Udp;
use bulkhead_wit::{Endpoint, Source, limits};
use reading_core::{Reading, said_of};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

fn artifact() -> &'static Artifact {
    static ARTIFACT: OnceLock<Artifact> = OnceLock::new();
    ARTIFACT.get_or_init(|| guest("reading-guest"))
}

fn native() -> Box<dyn Instance> {
    Box::new(Native::new(Box::new(Reading::default())))
}

fn sandboxed() -> Box<dyn Instance> {
    Box::new(artifact().instance().expect("an instance"))
}

const PLACEMENTS: [fn() -> Box<dyn Instance>; 2] = [native, sandboxed];

/// What has happened at the host that reads.
struct Done {
    /// What its application was sent, and has sent back.
    said: Vec<Vec<u8>>,
    tape: Vec<u8>,
    steps: u64,
    figures: FaultFigures,
}

/// A datagram of each of these lengths comes to the second host, whose application sends back what it was sent, over a link
/// that reorders: so fragments wait for each other. What comes back is backwards, for that is what the module makes of messages.
fn echoed(addresses: [IpAddr; 2], module: &dyn Fn() -> Box<dyn Instance>, factory: Option<Factory>) -> Done {
    let way = Impairments {
        reorder: 300_000,
        reorder_delay: 3 * limits::MILLISECOND,
        delay: 2 * limits::MILLISECOND,
        ..Impairments::default()
    };
    let link = LinkConfig { there: way, back: way, ..LinkConfig::default() };
    let is_first = Cell::new(true);
    let instance = || -> Box<dyn Instance> {
        if is_first.replace(false) { Box::new(Native::new(Box::new(Udp::new()))) } else { module() }
    };
    let mut world = World::new(&Plan { link, seed: 5, addresses, instance: &instance, options: &|_| {} });
    let tape = Tape::default();
    world.b.stack.record_to(Box::new(tape.clone())).expect("a tape takes everything");
    factory.into_iter().for_each(|factory| world.b.stack.supervise(factory));
    let [client, server] = addresses.map(|address| Endpoint::from(SocketAddr::new(address, 4000)));
    let here = world.a.stack.bind(client, BindOptions::default()).unwrap();
    let there = world.b.stack.bind(server, BindOptions::default()).unwrap();
    world.settle();
    let (mut into, mut said) = (vec![0; limits::DATAGRAM], Vec::new());
    for (round, length) in [0, 1, 1452, 9000, 40_000, 3, 20_000, 65_000].into_iter().enumerate() {
        // None of them is zero, which is what a hold slot has where nothing has arrived.
        let sent: Vec<u8> = (0..length).map(|at| 1 + ((at * 31 + round) % 255) as u8).collect();
        world.a.stack.send_to(here, &sent, Endpoint::default(), server).unwrap();
        let mut back = None;
        world.run(world.now + 10 * limits::SECOND, |world| {
            if let Ok((count, from, _)) = world.b.stack.receive_from(there, &mut into, false) {
                assert!(into[..count] == sent, "{length} bytes arrived as {count} others");
                world.b.stack.send_to(there, &into[..count], Endpoint::default(), from).unwrap();
            }
            back = match world.a.stack.receive_from(here, &mut into, false) {
                Ok((count, ..)) => Some(into[..count].to_vec()),
                Err(StreamError::WouldBlock) => None,
                Err(error) => panic!("{error}"),
            };
            back.is_some()
        });
        let mut back = back.unwrap_or_else(|| panic!("round {round}: nothing has come back"));
        back.reverse();
        assert!(back == sent, "round {round}: {length} bytes came back as {} others", back.len());
        said.push(sent);
    }
    let (steps, figures) = (world.b.stack.cost().steps, world.b.stack.fault_figures());
    world.b.stack.end_recording();
    let tape = tape.0.lock().unwrap().clone();
    Done { said, tape, steps, figures }
}

/// What a recording has of reads of one source: whose bytes, and the bytes.
fn reads(tape: &[u8], of: Source) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::new(tape).expect("a recording");
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().expect("it can be read") {
        let Entry::Payload(mut rest) = entry else { continue };
        // Source, number, place, length, how many bytes there were, and these.
        while let [source, fields @ ..] = rest {
            let number = u64::from_le_bytes(fields[..8].try_into().unwrap());
            let count = u32::from_le_bytes(fields[20..24].try_into().unwrap()) as usize;
            let bytes;
            (bytes, rest) = fields[24..].split_at(count);
            if *source == of as u8 {
                found.push((number, bytes.to_vec()));
            }
        }
    }
    found
}

#[test]
fn a_module_reads_messages_and_what_waits_in_hold_slots() {
    for addresses in [V4, V6] {
        for module in PLACEMENTS {
            let done = echoed(addresses, &module, None);
            let messages = reads(&done.tape, Source::Message);
            assert!(messages.into_iter().map(|(_, bytes)| bytes).eq(done.said.iter().cloned()));
            let holds = reads(&done.tape, Source::Hold);
            let mut longest = 0;
            for (slot, bytes) in &holds {
                // UDP's header, and of its datagram what has arrived.
                let is_part = |said: &&Vec<u8>| {
                    let text = bytes.get(8..).unwrap_or_default();
                    text.len() <= said.len()
                        && text.iter().zip(*said).all(|(own, said)| *own == 0 || own == said)
                };
                assert!(
                    done.said.iter().any(|said| is_part(&said)),
                    "slot {slot}: {} bytes of nobody",
                    bytes.len()
                );
                longest = longest.max(bytes.iter().filter(|byte| **byte != 0).count());
            }
            assert!(holds.len() > 5 && longest > 20_000, "{} reads, {longest} bytes at most", holds.len());
            assert_eq!(done.figures, FaultFigures::default());
        }
    }
}

#[test]
fn what_it_has_read_replays_equally_in_either_placement() {
    for recorder in PLACEMENTS {
        let Done { tape, steps, .. } = echoed(V4, &recorder, None);
        let said: Vec<String> =
            reads(&tape, Source::Hold).iter().map(|(slot, bytes)| said_of(*slot, bytes)).collect();
        for player in PLACEMENTS {
            let (mut make, mut notes) = (|| Ok(player()), Vec::new());
            let mut reader = Reader::new(&tape[..]).expect("a recording");
            let outcome = Replay::new(&mut make, true)
                .run(&mut reader, None, u64::MAX, &mut |_, _, outputs| {
                    let outputs = outputs.as_ref().expect("it does not fail");
                    notes.extend(outputs.notes.iter().map(|note| note.text.clone()));
                })
                .expect("it can be read");
            assert_eq!((outcome.steps, outcome.end), (steps, End::Complete));
            // By its own account, too: what came to it is what was written down.
            assert_eq!(notes, said);
        }
    }
}

#[test]
fn a_fault_is_recovered_from_with_messages_and_hold_slots_as_they_were() {
    let mut recovered = 0;
    for step in (4..64).step_by(4) {
        let failing = || -> Box<dyn Instance> { Meddled::failing(sandboxed(), step) };
        let factory: Factory = Box::new(|| Ok(Box::new(artifact().fresh()?) as Box<dyn Instance>));
        let FaultFigures { faults, recovered: mended, .. } = echoed(V4, &failing, Some(factory)).figures;
        assert_eq!(faults, mended, "in step {step}");
        recovered += mended;
    }
    assert!(recovered > 8, "{recovered} faults");
}
