//! The other side of an upgrade: a process that takes over.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, bail};
use bulkhead::device::adopted;
use bulkhead::device::shard::Key;
use serde_json::{Value, json};

use super::channel::{Channel, Message};
use super::pack::Unpacker;
use super::{READY, STANDING, TAKING};
use crate::apps::counted::Counts;
use crate::cli::arguments::Run;
use crate::cli::capture::{Capture, Frames, numbered};
use crate::cli::control::Control;
use crate::cli::module::Module;
use crate::cli::outside::Outside;
use crate::cli::ready::Ready;
use crate::cli::running::Running;
use crate::cli::stacks::{Inherited, Stacks};

/// Counts of an application, in this order.
type Five = (u64, u64, u64, u64, u64);

/// What applications have counted.
pub(super) fn counts(ready: &[Ready]) -> Vec<Five> {
    let all = ready.iter().map(|ready| ready.counters.counts());
    all.map(|one| (one.accepted, one.ended, one.failed, one.bytes_in, one.bytes_out)).collect()
}

/// What a predecessor says first: what it serves, and the descriptors of its device, of its files and of those who ask.
///
/// # Errors
/// What the system says.
pub(super) fn greeting(running: &Running) -> io::Result<Message> {
    let applications: Vec<String> = running.ready.iter().map(|ready| ready.application.to_string()).collect();
    let Outside { queues, control, metrics } = &running.outside;
    let mut descriptors = queues.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>()?;
    for file in running.files() {
        descriptors.push(file.descriptor()?);
    }
    let (Key(key), frames) = (running.stacks.key(), &running.frames);
    if let Some(metrics) = metrics {
        descriptors.push(metrics.try_clone()?.into());
    }
    if let Some(control) = control {
        descriptors.push(control.descriptor()?);
    }
    let head = json!({
        "hello": env!("CARGO_PKG_VERSION"), "applications": applications, "queues": queues.len(), "key": key,
        "frames": frames.files.len(), "origin": frames.origin, "recordings": running.stacks.recordings().len(),
        "control": control.as_ref().map(Control::path), "metrics": metrics.is_some(),
    });
    Ok(Message { head, body: Vec::new(), descriptors })
}

/// Whom this process takes over from.
#[derive(Debug)]
pub(in crate::cli) struct Predecessor {
    channel: Channel,
}

impl Predecessor {
    /// The one at the other end of the standard input.
    ///
    /// # Errors
    /// A line about the command line.
    pub(in crate::cli) fn new() -> anyhow::Result<Self> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.peer_addr().context("--take-over is for the program that `bulkhead upgrade` starts")?;
        Ok(Self { channel: Channel::new(stream) })
    }

    /// Tells the predecessor why it has to go on.
    pub(in crate::cli) fn fail(&mut self, error: &anyhow::Error) {
        self.channel.fail(&format!("{error:#}"));
    }
}

/// Takes over. What it returns runs from here on; the predecessor does not any more.
///
/// # Errors
/// Why not; the predecessor goes on.
pub(in crate::cli) fn take_over(
    run: &Run,
    ready: Vec<Ready>,
    module: &Module,
    predecessor: &mut Predecessor,
) -> anyhow::Result<Running> {
    let channel = &mut predecessor.channel;
    let hello = channel.expect("hello", TAKING)?;
    let mut descriptors = hello.descriptors.into_iter();
    compare(&ready, &hello.head)?;
    let count = |of: &str| hello.head[of].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let queues: Vec<OwnedFd> = descriptors.by_ref().take(count("queues")).collect();
    let mut files = |of: &str, path: Option<&Path>| -> Vec<Capture> {
        let own = descriptors.by_ref().take(count(of)).enumerate();
        own.map(|(index, file)| Capture::inherited(file, &numbered(path.unwrap_or(Path::new(of)), index)))
            .collect()
    };
    let origin = hello.head["origin"].as_u64().unwrap_or(0);
    let frames = Frames { files: files("frames", run.pcap.as_deref()), origin };
    let key = serde_json::from_value(hello.head["key"].clone()).context("there is no key")?;
    let inherited = Inherited { key: Key(key), recordings: files("recordings", run.record.as_deref()) };
    let mut next = |what: &str| descriptors.next().with_context(|| format!("there is no {what}"));
    let has_metrics = hello.head["metrics"].as_bool().unwrap_or(false);
    let metrics = if has_metrics { Some(next("socket for figures")?.into()) } else { None };
    let control = match hello.head["control"].as_str() {
        Some(path) => Some(Control::new(path.into(), next("control socket")?.into())?),
        None => None,
    };
    let mut outside = Abandoned(Some(Outside { queues, control, metrics }));
    let devices =
        outside.get()?.queues.iter().map(|queue| adopted::inherited(queue.try_clone()?).map_err(Into::into));
    let devices = devices.collect::<anyhow::Result<Vec<_>>>()?;
    let (devices, frames) = frames.go_on(devices);
    channel.say(json!({ "ready": env!("CARGO_PKG_VERSION") }))?;

    let given = channel.expect("state", READY + STANDING)?;
    continue_counts(&ready, &given.head)?;
    let (states, texts) = cut(&given)?;
    let (stacks, taken) = Stacks::take_over(run, devices, module, &states, inherited)?;
    let connections: usize = stacks.nets().iter().map(|net| net.connections().len()).sum();
    let plan = given.head["plan"].as_array().context("there is no plan")?;
    let mut unpacker = Unpacker::new(taken, given.descriptors, texts);
    let resting = unpacker.unpack(plan)?;
    for (place, _) in &resting {
        ready.get(place.application).context("an application too many")?;
        stacks.nets().get(place.stack).context("no such stack")?;
    }
    let version = env!("CARGO_PKG_VERSION");
    channel.say(json!({ "taken": { "version": version, "connections": connections } }))?;
    channel.expect("go", TAKING).context("the predecessor goes on")?;
    let outside = outside.0.take().context("there is nothing outside")?;
    let running = Running::start(stacks, ready, resting, outside, frames)?;
    running.files().for_each(Capture::begin);
    Ok(running)
}

/// Until the predecessor has let go, its control socket is its own.
struct Abandoned(Option<Outside>);

impl Abandoned {
    fn get(&self) -> anyhow::Result<&Outside> {
        self.0.as_ref().context("there is nothing outside")
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(control) = self.0.take().and_then(|outside| outside.control) {
            control.forget();
        }
    }
}

/// The states of the stacks, and the texts of applications.
fn cut(given: &Message) -> anyhow::Result<(Vec<&[u8]>, Vec<u8>)> {
    let mut rest = &*given.body;
    let mut states = Vec::new();
    for length in given.head["state"].as_array().into_iter().flatten() {
        let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).context("no length")?;
        let (state, others) = rest.split_at_checked(length).context("a state that is cut off")?;
        states.push(state);
        rest = others;
    }
    Ok((states, rest.to_vec()))
}

/// The applications are the same.
fn compare(ready: &[Ready], head: &Value) -> anyhow::Result<()> {
    let theirs: Vec<&str> =
        head["applications"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let ours: Vec<String> = ready.iter().map(|ready| ready.application.to_string()).collect();
    if theirs == ours {
        return Ok(());
    }
    bail!("the predecessor serves {}, and this program {}", theirs.join(", "), ours.join(", "))
}

/// They go on counting.
fn continue_counts(ready: &[Ready], head: &Value) -> anyhow::Result<()> {
    let counts: Vec<Five> = serde_json::from_value(head["counts"].clone()).context("there are no counts")?;
    for (one, (accepted, ended, failed, bytes_in, bytes_out)) in ready.iter().zip(counts) {
        one.counters.continue_from(Counts { accepted, ended, failed, bytes_in, bytes_out });
    }
    Ok(())
}
