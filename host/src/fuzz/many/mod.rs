//! The same campaign on many cores and many machines, by LibAFL: its scheduling and its havoc around our executor, cases and
//! eyes, and its message passing (LLMP) between workers and brokers.
//!
//! A machine has one process with a broker, workers and connections to other brokers, each a thread: a module that traps is an
//! error value, so there is nothing that a process of its own would save. A worker tells its broker of each case that
//! has shown something new; the broker tells the others, and each runs it and keeps it if it is new to him too. Findings
//! are confirmed, made small and kept by the machine that has them.
//!
//! - `input`, `mutator`, `runner`, `worker`: LibAFL's fuzzer, with our parts in its traits;
//! - `pages`, `broker`: LLMP within the machine; `hub`: what its threads share;
//! - `wire`, `link`: between brokers.

mod broker;
mod hub;
mod input;
mod limits;
mod link;
mod mutator;
mod pages;
mod runner;
mod wire;
mod worker;

use std::fmt;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

pub use hub::Reach;

use self::hub::Hub;
use super::campaign::{Campaign, Progress};

/// Where a broker meets others.
#[derive(Debug, Default)]
pub struct Meeting {
    /// Where other brokers find this one.
    pub listener: Option<TcpListener>,
    /// Brokers to connect to, as in `host:port`.
    pub peers: Vec<String>,
}

/// Why a campaign on many cores and machines could not be run.
#[derive(Debug)]
pub enum ManyError {
    /// Another broker does not answer, or does not go together with this one.
    Peer {
        /// As it was given.
        peer: String,
        /// What is wrong.
        why: String,
    },
    /// The broker or a worker has failed.
    System(String),
}

impl fmt::Display for ManyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { peer, why } => write!(f, "{peer} {why}"),
            Self::System(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ManyError {}

/// How long the cases of the brokers that were joined are waited for, before the workers begin.
const AWAITED: Duration = Duration::from_secs(10);
/// How often is looked whether they are there.
const LOOKED: Duration = Duration::from_millis(10);

type Handle<'s> = ScopedJoinHandle<'s, Result<(), libafl_bolts::Error>>;

impl Campaign {
    /// As [`run`](Self::run), with LibAFL's loop in each thread, and together with other brokers.
    ///
    /// # Errors
    /// Where another broker is not to be had, or the machine fails.
    pub fn run_many(
        &mut self,
        meeting: &Meeting,
        mut tell: impl FnMut(&Progress) -> bool,
    ) -> Result<Progress, ManyError> {
        self.begin();
        let campaign = &*self;
        let hub = &Hub::new(&campaign.common);
        let progress = || {
            let progress = campaign.progress();
            hub.tell(&progress);
            Progress { reach: Some(hub.reach()), ..progress }
        };
        let mut streams = Vec::new();
        for peer in &meeting.peers {
            let mut is_stopped = false;
            let dialled = link::dial(hub, peer, true, &mut || {
                is_stopped = !tell(&progress());
                !is_stopped
            });
            match dialled {
                Ok(stream) => streams.push((peer, stream)),
                Err(_) if is_stopped => return Ok(progress()),
                Err(why) => return Err(ManyError::Peer { peer: peer.clone(), why: why.to_string() }),
            }
        }
        let jobs = campaign.common.options.jobs.max(1) as u64;
        let most = campaign.common.options.runs.map(|runs| runs.div_ceil(jobs));
        std::thread::scope(|scope| {
            let (opened, port) = mpsc::channel();
            let broker = scope.spawn(move || broker::serve(hub, &opened));
            let Ok(port) = port.recv() else { return finish([broker]) };
            // Links and listeners belong to an inner scope: the broker outlives them.
            let result = std::thread::scope(|links| {
                let joined = streams.len();
                for (peer, stream) in streams {
                    links.spawn(move || link::keep(hub, port, peer, stream));
                }
                if let Some(listener) = &meeting.listener {
                    links.spawn(move || link::listen(links, hub, port, listener));
                }
                let begun = Instant::now();
                let lacks = || hub.caught_up.load(Ordering::Relaxed) < joined || !hub.is_even();
                while lacks() && begun.elapsed() < AWAITED && !broker.is_finished() {
                    if !tell(&progress()) {
                        campaign.common.stop.store(true, Ordering::Relaxed);
                        break;
                    }
                    std::thread::sleep(LOOKED);
                }
                let workers: Vec<Handle<'_>> = (0..jobs)
                    .map(|number| links.spawn(move || worker::work(hub, port, number, most)))
                    .collect();
                let is_over = || workers.iter().all(ScopedJoinHandle::is_finished);
                campaign.watch(is_over, || tell(&progress()) && !broker.is_finished());
                let result = finish(workers);
                drop(progress());
                hub.closing.store(true, Ordering::Relaxed);
                result
            });
            hub.over.store(true, Ordering::Relaxed);
            result.and(finish([broker]))
        })?;
        Ok(progress())
    }
}

/// The first failure of these threads.
fn finish<'s>(threads: impl IntoIterator<Item = Handle<'s>>) -> Result<(), ManyError> {
    let mut first = Ok(());
    for thread in threads {
        let result = match thread.join() {
            Ok(result) => result.map_err(|error| ManyError::System(error.to_string())),
            Err(_) => Err(ManyError::System("a thread has panicked".into())),
        };
        first = first.and(result);
    }
    first
}
