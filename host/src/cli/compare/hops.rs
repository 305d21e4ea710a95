//! A call into the stack by itself, beside what else takes a thread somewhere and back.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bulkhead::compare::{Bulk, Figure, Results, Usage, pin};

use super::super::arguments::COMPARE_SERVE;
use super::progress;
use super::subject::context;
use super::variant::Variant;

/// Operations in one run: of those that stay, and of those that go elsewhere.
const STAYS: u32 = 20_000;
const GOES: u32 = 2_000;
/// Steps in one run; of a full one the segments.
const STEPS: u32 = 1_000;
const FULL: u32 = 32;

/// What a thread goes to and comes back from, without any stack.
const HOPS: [&str; 5] =
    ["system call", "thread, same CPU", "process, same CPU", "thread, other CPU", "process, other CPU"];

pub(super) const EMPTY: &str = "a step with nothing in it";
pub(super) const ONE: &str = "a step with one segment";
pub(super) const MANY: &str = "a step with 32 segments";
pub(super) const START: &str = "start of an instance";
pub(super) const INSTANCE: &str = "memory of an instance";

/// The mean time of one operation, in nanoseconds.
fn mean(count: u32, mut operation: impl FnMut() -> std::io::Result<()>) -> std::io::Result<f64> {
    let begun = Instant::now();
    for _ in 0..count {
        operation()?;
    }
    Ok(begun.elapsed().as_nanos() as f64 / f64::from(count))
}

/// What this machine takes for a system call, a thread, a process, here and (where it has others) on another processor:
/// without any stack.
pub(super) fn hops(has_others: bool, repetitions: usize) -> anyhow::Result<Results> {
    let mut results = Results::new(HOPS.map(str::to_owned).to_vec(), repetitions);
    let figure = Figure::less("there and back", "ns");
    for repetition in 0..repetitions {
        progress(&format!("the machine {}/{repetitions}", repetition + 1));
        let call = mean(STAYS, || {
            black_box(std::os::unix::process::parent_id());
            Ok(())
        })?;
        let mut times = vec![call, thread(0)?, process(0)?];
        if has_others {
            times.extend([thread(1)?, process(1)?]);
        }
        times.into_iter().enumerate().for_each(|(column, time)| results.add(&figure, column, Some(time)));
    }
    Ok(results)
}

fn thread(processor: usize) -> std::io::Result<f64> {
    let (ask, asked) = sync_channel::<()>(1);
    let (answer, answered) = sync_channel::<()>(1);
    let answering = std::thread::spawn(move || {
        pin(None, Some(processor));
        while asked.recv().is_ok() && answer.send(()).is_ok() {}
    });
    let gone = |_| std::io::ErrorKind::BrokenPipe;
    let time = mean(GOES, || {
        ask.send(()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(answered.recv().map_err(gone)?)
    });
    drop(ask);
    let _ = answering.join();
    time
}

fn process(processor: usize) -> std::io::Result<f64> {
    let mut child = Command::new("/proc/self/exe")
        .args([COMPARE_SERVE, "hop"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Usage(child.id()).pin(Some(processor));
    let (Some(mut ask), Some(mut answer)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    };
    let mut hop = || {
        ask.write_all(&[1])?;
        answer.read_exact(&mut [0])
    };
    let time = mean(GOES / 10, &mut hop).and_then(|_| mean(GOES, &mut hop));
    // The end of its input is its own.
    drop(ask);
    let _ = child.wait();
    time
}

/// A call into each placement: empty, with one segment, with many; and what it takes to make an instance.
pub(super) fn calls(variants: &[Variant], repetitions: usize, results: &mut Results) -> anyhow::Result<()> {
    for repetition in 0..repetitions {
        for (column, variant) in variants.iter().enumerate() {
            progress(&format!("a call {}/{repetitions}: {}", repetition + 1, variant.name()));
            let memory = Usage::own().memory(false);
            let begun = Instant::now();
            let (instance, id) = variant.instance(true).map_err(context(*variant))?;
            let mut bulk = Bulk::new(instance).map_err(context(*variant))?;
            let start = begun.elapsed().as_secs_f64() * 1e3;
            results.add(&Figure::less(START, "ms"), column, Some(start));
            let mut add =
                |name: &str, value: f64| results.add(&Figure::less(name, "ns"), column, Some(value));
            bulk.time(1, STEPS / 10).map_err(context(*variant))?;
            add(EMPTY, bulk.time_empty(STEPS).map_err(context(*variant))?);
            add(ONE, bulk.time(1, STEPS).map_err(context(*variant))?);
            add(MANY, bulk.time(FULL, STEPS / 10).map_err(context(*variant))?);
            let more = Usage::own().memory(false) - memory;
            let server = id.map_or(0.0, |id| Usage(id).memory(false));
            let memory = (more.max(0.0) + server) / f64::from(1 << 20);
            // The first one warms up what all of them share.
            results.add(&Figure::less(INSTANCE, "MiB"), column, Some(memory).filter(|_| repetition > 0));
        }
    }
    Ok(())
}
