//! A witness at both ends of a load whose programs check neither what arrives nor for how long nothing does. The programs
//! speak to it, and it speaks through the stacks to itself: so it knows every byte that is under way.
//!
//! - [`flight`]: what is under way in one direction of a connection, and for how long nothing of it has arrived;
//! - [`relay`]: the connections that are handed on.
//!
//! Each connection begins with a number, by which the far end finds what the near end knows of it, and by which the server
//! sees them in the order in which the clients opened them: some programs tell by it which is which, and two that are opened
//! at once may overtake each other between the stacks.

mod flight;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::place::Ends;
use flight::Flight;

/// What the programs' ports are above those that the stacks know.
const ABOVE: u16 = 20_000;

/// A connection: what is under way in each direction.
struct Pair {
    /// From the client to the server, and back.
    ways: [Flight; 2],
    /// A program has reset it, or could not be reached: from now on bytes may be missing.
    is_aborted: AtomicBool,
}

/// What all connections have in common.
struct Shared {
    stall: Duration,
    /// By their numbers, until the far end has found them and reached the server.
    pairs: Mutex<BTreeMap<u64, Arc<Pair>>>,
    /// There is one less of them.
    is_less: Condvar,
    number: AtomicU64,
    bytes: AtomicU64,
    longest_ns: AtomicU64,
    /// The first thing that was wrong.
    wrong: Mutex<Option<String>>,
    /// The programs are done.
    is_over: AtomicBool,
}

impl Shared {
    fn new(stall: Duration) -> Self {
        Self {
            stall,
            pairs: Mutex::default(),
            is_less: Condvar::new(),
            number: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            longest_ns: AtomicU64::new(0),
            wrong: Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }

    fn wrong(&self) -> Option<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }
}

/// What was seen.
pub(crate) struct Seen {
    connections: u64,
    bytes: u64,
    longest: Duration,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mib, longest) = (self.bytes as f64 / f64::from(1 << 20), self.longest.as_secs_f64());
        write!(
            f,
            "{} connections, {mib:.1} MiB as they were sent, longest wait {longest:.2} s",
            self.connections
        )
    }
}

/// Runs a load between two witnesses.
///
/// # Errors
/// Those of the load; where bytes arrived as others, or were missing, or made no progress for `stall`; where a connection
/// did not end after the programs had.
pub(crate) fn around(
    ends: &Ends<'_>,
    stall: Duration,
    load: impl FnOnce(&Ends<'_>) -> anyhow::Result<String>,
) -> anyhow::Result<(String, Seen)> {
    let local = |at: SocketAddr| {
        let address = if at.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        SocketAddr::new(address, at.port() + ABOVE)
    };
    let inner = Ends {
        server: ends.server,
        listen: local(ends.listen),
        client: ends.client,
        target: local(ends.target),
        servers: ends.servers,
    };
    let shared = Shared::new(stall);
    let bind = |at| TcpListener::bind(at).with_context(|| format!("the witness cannot listen at {at}"));
    let back = ends.server.inside(|| bind(ends.listen))??;
    let front = ends.client.inside(|| bind(inner.target))??;
    let said = std::thread::scope(|scope| {
        let (server, listen, client, target) = (ends.server, inner.listen, ends.client, ends.target);
        let (shared, back, front) = (&shared, &back, &front);
        let far = scope.spawn(move || server.inside(|| relay::back(back, listen, shared)));
        let near = scope.spawn(move || client.inside(|| relay::front(front, target, shared)));
        let said = load(&inner);
        shared.is_over.store(true, Ordering::Relaxed);
        for end in [far, near] {
            match end.join() {
                Ok(result) => result??,
                Err(_) => bail!("the witness failed"),
            }
        }
        said
    });
    // It knows better than a program why that did not like what it got.
    if let Some(wrong) = shared.wrong() {
        bail!("{wrong}");
    }
    let seen = Seen {
        connections: shared.number.into_inner(),
        bytes: shared.bytes.into_inner(),
        longest: Duration::from_nanos(shared.longest_ns.into_inner()),
    };
    Ok((said?, seen))
}
