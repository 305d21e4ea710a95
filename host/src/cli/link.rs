//! `bulkhead link`: two TUN devices joined by a link that loses, delays, reorders, and what else links do.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bulkhead::device::link::{Impairments, LinkConfig};
use bulkhead::device::relay::{Passed, Relay};
use bulkhead::device::{Device, DeviceError, OffloadTun, Tun, TunOptions};
use bulkhead_wit::{NEVER, Time, limits};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use super::link_arguments::{LinkEndArgument, LinkRun};
use super::report::{bytes, print};
use super::signals::Signals;

/// Joins the devices until asked to end.
///
/// # Errors
/// A line that says what to do.
pub(super) fn link(run: &LinkRun) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    listen_to_signals(&stop)?;
    let first = open(&run.a, run).with_context(|| format!("--a {}", run.a.name))?;
    let second = open(&run.b, run).with_context(|| format!("--b {}", run.b.name))?;
    let seed = run.seed.map_or_else(random, Ok)?;
    let [there, back] = run.impairments();
    let mtu = run.mtu.unwrap_or(limits::DATAGRAM as u32);
    let config = LinkConfig { mtu, offload: true, there, back };
    let mut relay = Relay::new(config, seed, first, second);
    eprintln!(
        "{} <-> {}, seed {seed}\n  there: {}\n  back:  {}\nCtrl-C ends it",
        run.a.name,
        run.b.name,
        describe(&there),
        describe(&back)
    );
    let begun = Instant::now();
    relay_until(&mut relay, &begun, &stop)?;
    let passed = relay.passed();
    if run.json {
        print(&format!("{:#}\n", to_json(&passed, seed, begun.elapsed().as_secs_f64())))?;
    } else {
        print(&table(&passed))?;
    }
    // Ctrl-C is the way to end a link.
    Ok(ExitCode::SUCCESS)
}

/// Pumps until the stop comes.
fn relay_until(
    relay: &mut Relay<Box<dyn Device>>,
    begun: &Instant,
    stop: &rustix::fd::OwnedFd,
) -> anyhow::Result<()> {
    loop {
        let now = || Time::try_from(begun.elapsed().as_nanos()).unwrap_or(NEVER);
        let again = relay.pump(now()).context("a device fails")?;
        let next = relay.next_event();
        let wait = if again { 0 } else { next.saturating_sub(now()) };
        let timeout = Timespec {
            tv_sec: (wait / limits::SECOND).min(3600).cast_signed(),
            tv_nsec: (wait % limits::SECOND).cast_signed(),
        };
        let devices = relay.devices();
        let mut waits = vec![PollFd::new(stop, PollFlags::IN)];
        let fds = devices.iter().filter_map(|device| device.as_fd());
        waits.extend(fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut waits, Some(&timeout)) {
            Ok(_) if waits.first().is_some_and(|wait| !wait.revents().is_empty()) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A thread of its own hears signals, and tells by the event descriptor.
fn listen_to_signals(stop: &Arc<rustix::fd::OwnedFd>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(signals.next());
        let _ = rustix::io::write(&stop, &1_u64.to_ne_bytes());
    })?;
    Ok(())
}

/// Opens a device, in the namespace that it is to be in. A descriptor stays what it is, wherever the thread goes.
fn open(end: &LinkEndArgument, run: &LinkRun) -> anyhow::Result<Box<dyn Device>> {
    let options = TunOptions {
        name: end.name.clone(),
        mtu: run.mtu,
        addresses: Vec::new(),
        up: true,
        multi_queue: false,
    };
    let Some(path) = &end.namespace else { return Ok(open_here(&options)?) };
    let handle = std::fs::File::open(path).with_context(|| {
        format!("{}: no such network namespace; `ip netns add NAME` makes one", path.display())
    })?;
    // Never the program's own thread: there is no way back that could not fail.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> anyhow::Result<Box<dyn Device>> {
            move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("{}: cannot enter it", path.display()))?;
            Ok(open_here(&options)?)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn open_here(options: &TunOptions) -> Result<Box<dyn Device>, DeviceError> {
    match OffloadTun::open(options) {
        // Where the kernel has no offload, or the interface was made without it.
        Err(DeviceError::NoOffload { .. } | DeviceError::OtherKind { .. }) => {
            Ok(Box::new(Tun::open(options)?))
        }
        other => Ok(Box::new(other?)),
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

fn describe(way: &Impairments) -> String {
    let mut words = Vec::new();
    let share = |millionths: u32| f64::from(millionths) / 10_000.0;
    let milliseconds = |time: Time| time as f64 / limits::MILLISECOND as f64;
    for (name, value) in
        [("loss", way.loss), ("duplicate", way.duplicate), ("corrupt", way.corrupt), ("reorder", way.reorder)]
    {
        if value > 0 {
            words.push(format!("{name} {} %", share(value)));
        }
    }
    for (name, value) in [("delay", way.delay), ("jitter", way.jitter)] {
        if value > 0 {
            words.push(format!("{name} {} ms", milliseconds(value)));
        }
    }
    if way.rate > 0 {
        words.push(format!("rate {} Mbit/s", way.rate as f64 / 1e6));
    }
    if way.queue > 0 {
        words.push(format!("queue {}", bytes(way.queue)));
    }
    if words.is_empty() { "nothing happens".into() } else { words.join(", ") }
}

const COLUMNS: [&str; 9] = [
    "frames",
    "lost",
    "queue full",
    "too long",
    "duplicated",
    "corrupted",
    "reordered",
    "delivered",
    "refused",
];

fn numbers(passed: &Passed) -> [u64; 9] {
    let link = &passed.link;
    [
        link.sent,
        link.lost,
        link.queue_drops,
        link.too_long,
        link.duplicated,
        link.corrupted,
        link.reordered,
        link.delivered,
        passed.refused,
    ]
}

fn table(passed: &[Passed; 2]) -> String {
    let mut text = format!("{:>12} {:>14} {:>14}\n", "", "there", "back");
    let [there, back] = passed.each_ref().map(numbers);
    for (name, (there, back)) in COLUMNS.iter().zip(there.iter().zip(&back)) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:>12} {there:>14} {back:>14}");
    }
    let [there, back] = passed.each_ref().map(|passed| bytes(passed.link.bytes));
    let _ = writeln!(text, "{:>12} {there:>14} {back:>14}", "bytes");
    text
}

fn to_json(passed: &[Passed; 2], seed: u64, seconds: f64) -> Value {
    let way = |passed: &Passed| {
        let mut all: serde_json::Map<String, Value> = COLUMNS
            .iter()
            .zip(numbers(passed))
            .map(|(name, value)| (name.replace(' ', "-"), value.into()))
            .collect();
        all.insert("bytes".into(), passed.link.bytes.into());
        Value::Object(all)
    };
    json!({ "seconds": seconds, "seed": seed, "there": way(&passed[0]), "back": way(&passed[1]) })
}
