//! The stacks that serve the applications: one, or a shard for each queue of the interface.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead::device::Device;
use bulkhead::device::shard::shards;
use bulkhead::net::{Builder, ConnectionInfo, Driver, Net, Summary, Taken};
use bulkhead::supervise::Reporter;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::arguments::{Run, Switch};
use super::capture::{self, Capture};
use super::device;
use super::module::Module;
use super::ready::{Place, Resting, Serving};

/// The ports that modules choose from, as Linux has them.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// What serves.
pub(super) struct Stacks {
    nets: Vec<Net>,
    /// What is to run beside each stack, until it is started.
    waiting: Vec<Waiting>,
    /// Applications of the host's, which connect through the first stack.
    beside: Vec<(Place, Serving)>,
    recordings: Vec<Capture>,
}

/// A stack that is not started yet.
struct Waiting {
    driver: Driver,
    serving: Vec<(Place, Serving)>,
}

/// An application that has ended, or stands still; without a place where it was a shard's.
pub(super) type Ended = (Option<Place>, io::Result<Option<Resting>>);

impl Stacks {
    /// Makes an instance for each queue.
    ///
    /// # Errors
    /// What the module or the system says.
    pub(super) fn new(run: &Run, queues: Vec<Box<dyn Device>>, module: &Module) -> anyhow::Result<Self> {
        let mut stacks = Self::none();
        for builder in stacks.builders(run, queues, module)? {
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
        queues: Vec<Box<dyn Device>>,
        module: &Module,
        states: &[&[u8]],
    ) -> anyhow::Result<(Self, Vec<Taken>)> {
        let mut stacks = Self::none();
        let mut all = Vec::new();
        for (builder, state) in stacks.builders(run, queues, module)?.into_iter().zip(states) {
            let (net, driver, taken) = builder.take_over(state)?;
            stacks.add(net, driver);
            all.push(taken);
        }
        Ok((stacks, all))
    }

    const fn none() -> Self {
        Self { nets: Vec::new(), waiting: Vec::new(), beside: Vec::new(), recordings: Vec::new() }
    }

    fn add(&mut self, net: Net, driver: Driver) {
        self.nets.push(net);
        self.waiting.push(Waiting { driver, serving: Vec::new() });
    }

    fn builders(
        &mut self,
        run: &Run,
        queues: Vec<Box<dyn Device>>,
        module: &Module,
    ) -> anyhow::Result<Vec<Builder>> {
        let count = u16::try_from(queues.len()).unwrap_or(u16::MAX);
        let own = |queue| builder(run, Builder::new(queue), module);
        let builders: Vec<Builder> = if count == 1 {
            queues.into_iter().map(own).collect()
        } else {
            let shards = (0..).zip(shards(queues, EPHEMERAL)?);
            shards.map(|(index, shard)| own(Box::new(shard)).shard(index, count)).collect()
        };
        builders.into_iter().map(|builder| self.recorded(run, builder.turns_in_calls(true))).collect()
    }

    /// The stack is recorded into a file of its own, and its faults are reported, if that is asked for.
    fn recorded(&mut self, run: &Run, builder: Builder) -> anyhow::Result<Builder> {
        let builder = match &run.reports {
            None => builder,
            Some(folder) => {
                let failed = || format!("{}: cannot write reports there", folder.display());
                builder.report_to(Reporter::new(folder).with_context(failed)?)
            }
        };
        let Some(path) = &run.record else { return Ok(builder) };
        let recording = capture::recording(&device::numbered(path, self.recordings.len()))?;
        self.recordings.push(recording.clone());
        Ok(builder.record_to(recording))
    }

    /// The files of recordings are written out.
    pub(super) fn end_recordings(&mut self) {
        self.recordings.drain(..).for_each(Capture::end);
    }

    /// An application is to run beside its stack.
    pub(super) fn serve(&mut self, place: Place, serving: Serving) {
        if let Some(waiting) = self.waiting.get_mut(place.stack) {
            waiting.serving.push((place, serving));
        }
    }

    /// An application is to run on the caller's runtime.
    pub(super) fn serve_beside(&mut self, place: Place, serving: Serving) {
        self.beside.push((place, serving));
    }

    /// Everything runs from here on: applications of a single stack on the caller's runtime, those of a shard on its own
    /// thread. The tasks end as the applications do.
    ///
    /// # Errors
    /// What the system says to a new thread.
    pub(super) fn start(&mut self) -> anyhow::Result<JoinSet<Ended>> {
        let mut tasks = JoinSet::new();
        let is_single = self.waiting.len() == 1;
        for (index, Waiting { driver, serving }) in self.waiting.drain(..).enumerate() {
            if is_single {
                start_alone(driver)?;
                serving.into_iter().for_each(|(place, serving)| place_task(&mut tasks, place, serving));
                continue;
            }
            let (tell_end, end) = oneshot::channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || {
                    runtime.block_on(shard(driver, serving, tell_end));
                    runtime.shutdown_background();
                })
                .context("cannot start a thread for a shard")?;
            // A thread that panicked says nothing.
            let ended = async { end.await.unwrap_or_else(|_| Err(io::Error::other("a shard has failed"))) };
            tasks.spawn(async { (None, ended.await.map(|()| None)) });
        }
        self.beside.drain(..).for_each(|(place, serving)| place_task(&mut tasks, place, serving));
        Ok(tasks)
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

/// An application of a single stack, as a task.
pub(super) fn place_task(tasks: &mut JoinSet<Ended>, place: Place, serving: Serving) {
    tasks.spawn(async move { (Some(place), serving.await) });
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

/// A shard's thread: applications and stack take turns on it.
async fn shard(driver: Driver, serving: Vec<(Place, Serving)>, end: oneshot::Sender<io::Result<()>>) {
    let driving = tokio::spawn(driver.run());
    let mut tasks = JoinSet::new();
    serving.into_iter().for_each(|(_, serving)| drop(tasks.spawn(serving)));
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        result = ended.unwrap_or_else(|error| Err(io::Error::other(error))).map(drop);
        if result.is_err() {
            break;
        }
    }
    // The program may have ended without us.
    let _ = end.send(result);
    // Connections end in kind after the applications have.
    match driving.await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%error, "the driver cannot wait on its device"),
        Err(error) => tracing::error!(%error, "a shard has failed"),
    }
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
