//! The stacks that serve the applications: one, or a shard for each queue of the interface.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bulkhead::device::shard::{Key, shards};
use bulkhead::net::{Builder, ConnectionInfo, Driver, Net, Summary, Taken};
use bulkhead::supervise::Reporter;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::arguments::{Run, Switch};
use super::capture::{self, Capture, Queues, numbered};
use super::module::Module;
use super::ready::{Home, Place, Resting, Serving};

/// The ports that modules choose from, as Linux has them.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// What serves.
pub(super) struct Stacks {
    nets: Vec<Net>,
    /// What drives each stack, until it is started.
    waiting: Vec<Driver>,
    /// Whose connections are whose.
    key: Key,
    /// The threads of shards; none, where there is a single stack.
    shards: Vec<Thread>,
    /// One for each stack, if it is recorded.
    recordings: Vec<Capture>,
}

/// A shard's thread, on which its applications run too.
struct Thread {
    runtime: Handle,
    /// It goes on until its stack has ended, and everybody who has one of these.
    stays: mpsc::Sender<()>,
}

/// An application that has ended, or stands still.
pub(super) type Ended = (Place, io::Result<Option<Resting>>);

/// What a predecessor leaves to stacks, beside the state of each.
pub(super) struct Inherited {
    pub(super) key: Key,
    pub(super) recordings: Vec<Capture>,
}

impl Stacks {
    /// Makes an instance for each queue.
    ///
    /// # Errors
    /// What the module or the system says.
    pub(super) fn new(run: &Run, queues: Queues, module: &Module) -> anyhow::Result<Self> {
        let mut stacks = Self::none(Key::random()?);
        for (index, builder) in stacks.builders(run, queues, module)?.into_iter().enumerate() {
            let builder = match &run.record {
                None => builder,
                Some(path) => {
                    let recording = capture::recording(&numbered(path, index))?;
                    stacks.recordings.push(recording.clone());
                    builder.record_to(recording)
                }
            };
            let (net, driver) = builder.build()?;
            stacks.add(net, driver);
        }
        Ok(stacks)
    }

    /// Makes an instance for each queue, that takes over what a predecessor has left.
    ///
    /// # Errors
    /// As [`new`](Self::new); as [`Builder::take_over`].
    pub(super) fn take_over(
        run: &Run,
        queues: Queues,
        module: &Module,
        states: &[&[u8]],
        inherited: Inherited,
    ) -> anyhow::Result<(Self, Vec<Taken>)> {
        let mut stacks = Self { recordings: inherited.recordings, ..Self::none(inherited.key) };
        let mut all = Vec::new();
        let builders = stacks.builders(run, queues, module)?;
        if builders.len() != states.len() {
            bail!("the predecessor has {} stacks, and {} queues of its device", states.len(), builders.len());
        }
        for (index, (builder, state)) in builders.into_iter().zip(states).enumerate() {
            let builder = match stacks.recordings.get(index) {
                None => builder,
                Some(recording) => builder.record_after(recording.clone()),
            };
            let (net, driver, taken) = builder.take_over(state)?;
            stacks.add(net, driver);
            all.push(taken);
        }
        Ok((stacks, all))
    }

    const fn none(key: Key) -> Self {
        Self { nets: Vec::new(), waiting: Vec::new(), key, shards: Vec::new(), recordings: Vec::new() }
    }

    fn add(&mut self, net: Net, driver: Driver) {
        self.nets.push(net);
        self.waiting.push(driver);
    }

    fn builders(&self, run: &Run, queues: Queues, module: &Module) -> anyhow::Result<Vec<Builder>> {
        let count = u16::try_from(queues.len()).unwrap_or(u16::MAX);
        let own = |queue| builder(run, Builder::new(queue), module);
        let builders: Vec<Builder> = if count == 1 {
            queues.into_iter().map(own).collect()
        } else {
            let shards = (0..).zip(shards(queues, EPHEMERAL, self.key)?);
            shards.map(|(index, shard)| own(Box::new(shard)).shard(index, count)).collect()
        };
        builders.into_iter().map(|builder| reported(run, builder.turns_in_calls(true))).collect()
    }

    /// Whose connections are whose.
    pub(super) const fn key(&self) -> Key {
        self.key
    }

    /// The files of recordings.
    pub(super) fn recordings(&self) -> &[Capture] {
        &self.recordings
    }

    /// The stacks run from here on: a single one beside its applications, shards each with theirs, on a thread of their own.
    ///
    /// # Errors
    /// What the system says to a new thread.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let is_single = self.waiting.len() == 1;
        for (index, driver) in self.waiting.drain(..).enumerate() {
            if is_single {
                start_alone(driver)?;
            } else {
                self.shards.push(start_shard(index, driver)?);
            }
        }
        Ok(())
    }

    /// Runs an application: on the caller's runtime, or where it is a shard's, on the shard's thread. The task ends as the
    /// application does.
    pub(super) fn serve(&self, tasks: &mut JoinSet<Ended>, place: Place, home: Home, serving: Serving) {
        let thread = self.shards.get(place.stack).filter(|_| home == Home::Stack);
        let Some(Thread { runtime, stays }) = thread else {
            tasks.spawn(async move { (place, serving.await) });
            return;
        };
        let stays = stays.clone();
        let task = runtime.spawn(async move {
            let result = serving.await;
            drop(stays);
            result
        });
        let failed = |error: JoinError| Err(io::Error::other(error));
        tasks.spawn(async move { (place, task.await.unwrap_or_else(failed)) });
    }

    /// Each stack.
    pub(super) fn nets(&self) -> &[Net] {
        &self.nets
    }

    /// For somebody who asks them.
    pub(super) fn asked(&self) -> Asked {
        Asked { nets: self.nets.clone() }
    }

    /// Ends all of them in kind, as [`Net::shutdown`] does.
    pub(super) async fn shutdown(&self, drain: Duration) -> Summary {
        let mut ending = JoinSet::new();
        for net in &self.nets {
            let net = net.clone();
            ending.spawn(async move { net.shutdown(drain).await });
        }
        let mut all = None;
        while let Some(one) = ending.join_next().await {
            all = added(all, one.ok());
        }
        all.unwrap_or_else(|| self.stat())
    }

    /// What was done so far.
    pub(super) fn stat(&self) -> Summary {
        self.asked().stat()
    }
}

/// The stacks as somebody knows them who only asks.
pub(super) struct Asked {
    nets: Vec<Net>,
}

impl Asked {
    /// Each of them.
    pub(super) fn nets(&self) -> impl Iterator<Item = &Net> {
        self.nets.iter()
    }

    /// Connections of all stacks, at most `most` of each.
    pub(super) fn connection_infos(&self, most: usize) -> Vec<ConnectionInfo> {
        self.nets.iter().flat_map(|net| net.connection_infos(most)).collect()
    }

    /// Where listeners are.
    pub(super) fn listeners(&self) -> Vec<SocketAddr> {
        self.nets.first().map(Net::listeners).unwrap_or_default()
    }

    /// What was done so far.
    pub(super) fn stat(&self) -> Summary {
        let all = self.nets.iter().fold(None, |all, net| added(all, Some(net.stat())));
        // There is always one.
        all.unwrap_or_default()
    }
}

fn added(all: Option<Summary>, one: Option<Summary>) -> Option<Summary> {
    match (all, one) {
        (Some(all), Some(one)) => Some(all.plus(one)),
        (all, one) => all.or(one),
    }
}

/// A single stack has a thread of its own, and its applications have not.
fn start_alone(driver: Driver) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let work = move || {
        if let Err(error) = runtime.block_on(driver.run()) {
            tracing::error!(%error, "the driver cannot wait on its device");
        }
    };
    std::thread::Builder::new()
        .name("bulkhead".into())
        .spawn(work)
        .context("cannot start a thread for the stack")?;
    Ok(())
}

/// A shard has a thread on which applications and stack take turns.
fn start_shard(index: usize, driver: Driver) -> anyhow::Result<Thread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stays, mut all_gone) = mpsc::channel(1);
    let thread = Thread { runtime: runtime.handle().clone(), stays };
    let work = async move {
        // It is a task, so that what it fails with is told, and applications hear of it.
        match tokio::spawn(driver.run()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the driver cannot wait on its device"),
            Err(error) => tracing::error!(%error, "a shard has failed"),
        }
        while all_gone.recv().await.is_some() {}
    };
    std::thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            runtime.block_on(work);
            runtime.shutdown_background();
        })
        .context("cannot start a thread for a shard")?;
    Ok(thread)
}

/// The faults of a stack are reported, if that is asked for.
fn reported(run: &Run, builder: Builder) -> anyhow::Result<Builder> {
    let Some(folder) = &run.reports else { return Ok(builder) };
    let failed = || format!("{}: cannot write reports there", folder.display());
    Ok(builder.report_to(Reporter::new(folder).with_context(failed)?))
}

fn builder(run: &Run, builder: Builder, module: &Module) -> Builder {
    let mut builder = module.give_to(builder).busy_poll(Duration::from_micros(run.busy_poll));
    builder = builder.recording(run.recording == Switch::On);
    for own in &run.address {
        builder = builder.address(own.address, own.length);
    }
    for setting in &run.setting {
        builder = builder.setting(setting.key, setting.value);
    }
    if let Some(seed) = run.seed {
        builder = builder.seed([seed, !seed, seed.rotate_left(32), seed ^ 0x5851_f42d_4c95_7f2d]);
    }
    builder
}
