//! What the threads of one machine's broker share, and what is known of the other machines.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

use super::limits;
use super::wire::{Hello, Status};
use crate::fuzz::campaign::{Common, Progress};
use crate::fuzz::coverage::Coverage;

/// How long a status is handed on.
const FRESH: Duration = Duration::from_secs(5);
/// How long a machine is known that says nothing more. Longer than news of it travel, so that it does not come back.
const KNOWN: Duration = Duration::from_secs(60);

/// What the machines of a campaign have come to together.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Connections to other brokers.
    pub brokers: usize,
    /// Machines that were heard of lately, this one included.
    pub machines: usize,
    /// Workers of all.
    pub workers: u64,
    /// Runs of all.
    pub runs: u64,
    /// Edges that the machine has seen that has seen the most.
    pub edges: u64,
    /// Findings of all; the same one of two machines counts twice.
    pub findings: u64,
    /// Cases that came from other machines and were not known.
    pub arrived: u64,
    /// Messages that were no cases, and cases that nobody can hand on any more.
    pub dropped: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// The last thing that went wrong with another broker.
    pub trouble: Option<String>,
}

/// Shared by the threads of a broker.
pub(super) struct Hub<'c> {
    pub(super) common: &'c Common,
    pub(super) hello: Hello,
    /// Workers are done, links may go.
    pub(super) closing: AtomicBool,
    /// Links are gone, the broker may go.
    pub(super) over: AtomicBool,
    pub(super) links: AtomicUsize,
    /// Links whose peer has sent all that it had.
    pub(super) caught_up: AtomicUsize,
    /// Cases that links have given the broker, and those that it has looked at: the difference is under way.
    pub(super) brought: AtomicU64,
    pub(super) taken: AtomicU64,
    pub(super) arrived: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    /// What the workers have seen in their instances; held while a case is put into the campaign's corpus.
    pub(super) keeping: Mutex<Coverage>,
    own: Mutex<Status>,
    others: Mutex<HashMap<u64, (Status, Instant)>>,
    trouble: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other broker has.
fn unique() -> u64 {
    let mut bytes = [0; 8];
    // Without it brokers of one moment are told apart by their process.
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => u64::from(std::process::id()),
    }
}

impl<'c> Hub<'c> {
    pub(super) fn new(common: &'c Common) -> Self {
        let hello = Hello { module: common.checker.target().facts().hash, machine: unique() };
        Self {
            common,
            hello,
            closing: AtomicBool::new(false),
            over: AtomicBool::new(false),
            links: AtomicUsize::new(0),
            caught_up: AtomicUsize::new(0),
            brought: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            keeping: Mutex::new(Coverage::new(common.probes())),
            own: Mutex::new(Status { machine: hello.machine, ..Status::default() }),
            others: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// Whether links should go.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether all that came has gone through the broker.
    pub(super) fn is_even(&self) -> bool {
        self.in_flight() == 0
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.brought.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Something is wrong with another broker.
    pub(super) fn complain(&self, text: String) {
        tracing::warn!("fuzzing on many machines: {text}");
        *lock(&self.trouble) = Some(text);
    }

    /// What this machine has come to.
    pub(super) fn tell(&self, progress: &Progress) {
        let mut own = lock(&self.own);
        own.number += 1;
        own.workers = self.common.options.jobs.max(1) as u64;
        own.runs = progress.runs;
        own.edges = progress.edges.into();
        own.findings = progress.findings.len() as u64;
    }

    /// What another machine says of one.
    pub(super) fn hear(&self, status: Status) {
        if status.machine == self.hello.machine {
            return;
        }
        let mut others = lock(&self.others);
        others.retain(|_, (_, at)| at.elapsed() < KNOWN);
        let is_known = others.get(&status.machine);
        let is_newer = is_known.is_none_or(|(before, _)| before.number < status.number);
        if is_newer && (is_known.is_some() || others.len() < limits::MACHINES) {
            others.insert(status.machine, (status, Instant::now()));
        }
    }

    /// What another broker should know: of this machine, and of those that were heard of a moment ago.
    pub(super) fn news(&self) -> Vec<Status> {
        let mut news = vec![*lock(&self.own)];
        let others = lock(&self.others);
        news.extend(others.values().filter(|(_, at)| at.elapsed() < FRESH).map(|(status, _)| *status));
        news
    }

    /// All machines together.
    pub(super) fn reach(&self) -> Reach {
        let own = *lock(&self.own);
        let others = lock(&self.others);
        let lately = others.values().filter(|(_, at)| at.elapsed() < KNOWN / 4).count();
        let sum = |part: fn(&Status) -> u64| {
            others.values().map(|(status, _)| part(status)).fold(part(&own), u64::saturating_add)
        };
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Reach {
            brokers: self.links.load(Ordering::Relaxed),
            machines: 1 + lately,
            workers: sum(|status| status.workers),
            runs: sum(|status| status.runs),
            edges: others.values().map(|(status, _)| status.edges).fold(own.edges, u64::max),
            findings: sum(|status| status.findings),
            arrived: count(&self.arrived),
            dropped: count(&self.dropped),
            refused: count(&self.refused),
            trouble: lock(&self.trouble).clone(),
        }
    }
}
