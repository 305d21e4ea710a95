//! What a module does before there is any application: its life, and what must not end it.

use super::pair::{Host, options};
use super::{Factory, need};
use crate::conformance::{parse, run};
use crate::device::queue::QueueDevice;
use crate::device::random::Random;
use crate::device::{Capabilities, Offload};
use crate::fault::Fault;
use crate::placement::Instance;
use crate::{ConnectOptions, Stack};
use bulkhead_wit::limits::{self, MILLISECOND, SECOND};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Call, Endpoint, Handle, Inputs, NEVER, Open, Outputs, Room};

/// Frames of rubbish.
const RUBBISH: u64 = 5000;
/// What a step may send where nothing hinders it.
const ROOM: Room = Room { sends: 256, bytes: 1 << 20 };
/// The link's MTU, in bytes.
const MTU: u32 = 1500;
/// RFC 1122 3.2.2.6, in the scripts' own language.
const ECHO: &str = "\
0   < icmp echo_request id 7 seq 1 len 56
+0  > icmp echo_reply id 7 seq 1 len 56
+1  < icmp echo_request id 7 seq 2 len 0
+0  > icmp echo_reply id 7 seq 2 len 0
";

fn failed(what: &str) -> impl Fn(Fault) -> String {
    move |fault| format!("{what}: {fault}")
}

fn started(factory: &Factory<'_>) -> Result<Box<dyn Instance>, String> {
    let mut instance = factory()?;
    instance.start(&options(Host::Client, false, MTU).config).map_err(failed("start"))?;
    Ok(instance)
}

pub(super) fn describes(factory: &Factory<'_>) -> Result<String, String> {
    let description = factory()?.description().clone();
    need(!description.name.is_empty() && description.name.len() <= limits::NAME_BYTES, "it has no name")?;
    need(!description.serves.is_empty(), "it serves nothing")?;
    need(description.serves.len() <= limits::SERVICES, "it serves too much")?;
    need(description.settings.len() <= limits::SETTINGS, "it knows too many settings")?;
    let plain = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect::<String>();
    Ok(format!("{} {}", plain(&description.name), plain(&description.version)))
}

pub(super) fn starts(factory: &Factory<'_>) -> Result<String, String> {
    for is_v6 in [false, true] {
        let mut instance = factory()?;
        instance.start(&options(Host::Client, is_v6, MTU).config).map_err(failed("start"))?;
    }
    Ok(String::new())
}

pub(super) fn empty_step(factory: &Factory<'_>) -> Result<String, String> {
    let mut instance = started(factory)?;
    let before = instance.save().map_err(failed("save"))?;
    let mut outputs = Outputs::default();
    for now in [0, SECOND, 2 * SECOND] {
        instance
            .step(&Inputs { now, room: ROOM, ..Inputs::default() }, &mut outputs)
            .map_err(failed("step"))?;
        let is_silent = outputs.sends.is_empty() && outputs.marks.is_empty() && outputs.events.is_empty();
        need(is_silent, "it has outputs without an input")?;
        need(!outputs.unfinished, "it has more to do without an input")?;
        need(outputs.deadline >= now + limits::DEADLINE_MIN, "its deadline is too close")?;
    }
    let after = instance.save().map_err(failed("save"))?;
    Ok(format!("a state of {} bytes, {} after", before.len(), after.len()))
}

/// A call about what is not there has an answer, and no other effect.
pub(super) fn unknown_calls(factory: &Factory<'_>) -> Result<String, String> {
    let mut instance = started(factory)?;
    let nobody = Handle::by_host(77, 7);
    let calls =
        [Call::Shutdown(nobody), Call::Abort(nobody), Call::Unlisten(99), Call::Query(Handle::INSTANCE)];
    let mut outputs = Outputs::default();
    let inputs = Inputs { room: ROOM, calls: &calls, ..Inputs::default() };
    instance.step(&inputs, &mut outputs).map_err(failed("step"))?;
    need(outputs.sends.is_empty(), "it sends about a connection that never was")?;
    let answers = |event: &&bulkhead_wit::Event| matches!(event, bulkhead_wit::Event::Info(_));
    need(outputs.events.iter().filter(answers).count() == 1, "a query of the instance has no answer")?;
    Ok(String::new())
}

pub(super) fn refuses_rubbish(factory: &Factory<'_>) -> Result<String, String> {
    let config = options(Host::Client, false, MTU).config;
    let whole = started(factory)?.save().map_err(failed("save"))?;
    let mut random = Random::new(11);
    let noise: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
    let cut = whole.get(..whole.len() / 2).unwrap_or_default().to_vec();
    let long = [whole.clone(), vec![1; 64]].concat();
    for state in [Vec::new(), noise, cut, long] {
        match factory()?.load(&config, 0, &state) {
            Err(Fault::Refused(_)) => {}
            Ok(_) => return Err(format!("a state of {} bytes of rubbish was loaded", state.len())),
            Err(fault) => return Err(format!("load: {fault}")),
        }
    }
    Ok(String::new())
}

pub(super) fn fresh_round_trip(factory: &Factory<'_>) -> Result<String, String> {
    let config = options(Host::Client, false, MTU).config;
    let state = started(factory)?.save().map_err(failed("save"))?;
    let mut second = factory()?;
    let summaries = second.load(&config, SECOND, &state).map_err(failed("load"))?;
    need(summaries.is_empty(), "it accounts for connections that never were")?;
    need(second.save().map_err(failed("save"))? == state, "what is saved after load is not what was loaded")?;
    Ok(format!("{} bytes", state.len()))
}

pub(super) fn echo(factory: &Factory<'_>) -> Result<String, String> {
    let script = parse("echo", ECHO).map_err(|error| error.to_string())?;
    run(&script, factory()?).map_err(|failure| format!("{} ({})", failure.why, failure.text))?;
    Ok(String::new())
}

/// Frames that begin like datagrams of a protocol that it may serve, and go on at random.
fn rubbish(random: &mut Random) -> Vec<u8> {
    let length = 20 + random.below(200) as usize;
    let mut frame: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    let protocols = [protocol::TCP, protocol::UDP, protocol::ICMP, random.next() as u8];
    let protocol = protocols[random.below(4) as usize % protocols.len()];
    // Version and length are right, or split would keep nearly all of it from the module.
    let total = (length as u16).to_be_bytes();
    let place = if random.happens(200_000) { [0x20, 0] } else { [0x40, 0] };
    let head = [0x45, 0, total[0], total[1], 0, random.next() as u8, place[0], place[1], 64, protocol, 0, 0];
    frame.splice(..12, head);
    frame.splice(12..20, [10, 0, 0, 2, 10, 0, 0, 1]);
    let sum = crate::checksum::checksum(frame.get(..20).unwrap_or_default()).to_be_bytes();
    frame.splice(10..12, sum);
    frame
}

pub(super) fn outlives_rubbish(factory: &Factory<'_>) -> Result<String, String> {
    let mut stack =
        Stack::new(factory()?, options(Host::Client, false, MTU)).map_err(|fault| fault.to_string())?;
    let mut device = QueueDevice::new(Capabilities::plain(MTU));
    let mut random = Random::new(12);
    // A device that vouches for checksums lets more of it through.
    let vouched = Offload { checksum: crate::device::ChecksumState::Verified, ..Offload::default() };
    for number in 0..RUBBISH {
        device.inject(&rubbish(&mut random), vouched);
        let now = number * MILLISECOND;
        while stack.turn(now, &mut device).map_err(|fault| fault.report().to_string())?.again {}
        while device.take().is_some() {}
    }
    need(stack.connections().next().is_none(), "a connection came of it")?;
    let passed = stack.split_counters().passed;
    Ok(format!("{passed} of them reached it"))
}

/// The SYN of an active open waits for room, and leaves once there is some.
pub(super) fn no_room(factory: &Factory<'_>) -> Result<String, String> {
    let mut instance = started(factory)?;
    let remote =
        Endpoint { address: options(Host::Server, false, MTU).config.addresses[0].address, port: 80 };
    let local = ConnectOptions::default().local;
    let open = Open {
        connection: Handle::by_host(1, 1),
        local,
        remote,
        receive_first: 65_536,
        receive_max: 65_536,
        settings: Vec::new(),
    };
    let mut outputs = Outputs::default();
    let calls = [Call::Open(open)];
    let inputs = Inputs { calls: &calls, ..Inputs::default() };
    instance.step(&inputs, &mut outputs).map_err(failed("step"))?;
    need(outputs.sends.is_empty(), "it sends where there is no room")?;
    need(outputs.deadline != NEVER || outputs.unfinished, "it has forgotten what it could not send")?;
    let inputs = Inputs { now: 5 * SECOND, room: ROOM, ..Inputs::default() };
    instance.step(&inputs, &mut outputs).map_err(failed("step"))?;
    need(!outputs.sends.is_empty(), "it does not send once there is room")?;
    Ok(String::new())
}
