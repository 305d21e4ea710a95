//! Applications that `bulkhead run` serves on the sandboxed stack.
//!
//! Each is written against [`Connection`] and knows nothing of the stack below, so that the same code is tested over
//! a pipe in memory and over the kernel's sockets.

pub(crate) mod connect;
pub(crate) mod counted;
pub(crate) mod discard;
pub(crate) mod echo;
pub(crate) mod forward;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod perf;
pub(crate) mod socks5;
pub(crate) mod source;
mod stop;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use counted::{Counted, Counters};
pub(crate) use stop::{Stop, Stopper};

/// A byte stream with a peer at the other end.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for S {}

/// Where connections come from.
pub(crate) trait Listener: Send + 'static {
    /// What it gives.
    type Stream: Connection;

    /// The next connection, with its peer.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Whether an error of [`accept`](Self::accept) is for good; otherwise it is tried again.
    fn is_final(error: &io::Error) -> bool;
}

/// What is done with a connection.
pub(crate) trait Service: Send + Sync + 'static {
    /// Serves a connection to its end. Once told to stop, it ends its side in order and waits for the peer's end; whoever
    /// called it drops the future when that takes too long.
    fn serve<S: Connection>(&self, stream: S, stop: Stop) -> impl Future<Output = io::Result<()>> + Send;
}

/// Takes connections and serves each in a task, until told to stop; then waits until all have ended. Dropping the
/// future drops what is still open.
///
/// # Errors
/// What the listener failed with, for good. Connections that are open go on until then.
pub(crate) async fn serve<L: Listener, S: Service>(
    mut listener: L,
    service: Arc<S>,
    counters: Arc<Counters>,
    stop: Stop,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let mut open = JoinSet::new();
    let mut waiting = stop.clone();
    loop {
        // Ended tasks are forgotten as we go, so that the set holds no more than what is open.
        while open.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = waiting.begun() => break,
            accepted = async {
                // A semaphore that is never closed gives a permit.
                let place = Arc::clone(&places).acquire_owned().await.ok();
                listener.accept().await.map(|accepted| (accepted, place))
            } => accepted,
        };
        match accepted {
            Ok(((stream, peer), place)) => {
                let (service, counters, stop) = (Arc::clone(&service), Arc::clone(&counters), stop.clone());
                open.spawn(async move {
                    one(stream, peer, &*service, counters, stop).await;
                    drop(place);
                });
            }
            Err(error) if L::is_final(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Nobody is listening any more: new connections are refused while those that are open come to their end.
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(())
}

/// After an accept that failed, so that a lasting shortage does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn one<S: Service>(
    stream: impl Connection,
    peer: SocketAddr,
    service: &S,
    counters: Arc<Counters>,
    stop: Stop,
) {
    tracing::info!(%peer, "accepted");
    let counting = Arc::clone(&counters);
    match service.serve(Counted::new(stream, counting), stop).await {
        Ok(()) => tracing::info!(%peer, "ended"),
        Err(error) => {
            counters.failed();
            tracing::info!(%peer, %error, "failed");
        }
    }
}

/// Reads what the peer still sends and drops it, to the end of its side.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; limits::DRAIN_BYTES];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests;
