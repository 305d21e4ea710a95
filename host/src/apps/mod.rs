//! Applications that `bulkhead run` serves on the sandboxed stack.
//!
//! Each is written against [`Connection`] and knows nothing of the stack below, so that the same code is tested over
//! a pipe in memory and over the kernel's sockets.

pub(crate) mod carried;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use carried::{Carried, End, Left, Rest, Standing};
use counted::{Counted, Counters};
pub(crate) use stop::{Stop, Stopper};

/// A byte stream with a peer at the other end.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for S {}

/// Where connections come from.
pub(crate) trait Listener: Send + 'static {
    /// What it gives.
    type Stream: Carried;

    /// The next connection, with its peer.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Whether an error of [`accept`](Self::accept) is for good; otherwise it is tried again.
    fn is_final(error: &io::Error) -> bool;
}

/// What is done with a connection.
pub(crate) trait Service: Send + Sync + 'static {
    /// Serves a connection to its end, from where it was `left`. Once told to stop, it ends its side in order and waits for
    /// the peer's end; whoever called it drops the future when that takes too long. Told to stand still, it says where it
    /// stands as soon as that can be said.
    fn serve<S: Connection>(
        &self,
        stream: S,
        left: Left,
        stop: Stop,
    ) -> impl Future<Output = io::Result<End<S>>> + Send;
}

/// Goes on with what is open, takes connections and serves each in a task, until told to stop; then waits until all have
/// ended. Told to stand still, it waits until all connections do, and returns them with the listener; where the sign is
/// taken back before that, it goes on. Dropping the future drops what is still open.
///
/// # Errors
/// What the listener failed with, for good. Connections that are open go on until then.
pub(crate) async fn serve<L: Listener, S: Service>(
    rest: Rest<L>,
    service: Arc<S>,
    counters: Arc<Counters>,
    stop: Stop,
) -> io::Result<Option<Rest<L>>> {
    let Rest { mut listener, open: mut standing } = rest;
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let mut open = JoinSet::new();
    let mut signs = stop.clone();
    loop {
        for one in standing.drain(..) {
            let place = Arc::clone(&places).try_acquire_owned().ok();
            open.spawn(served(one, place, Arc::clone(&service), Arc::clone(&counters), stop.clone()));
        }
        if accepting(&mut listener, &places, &mut open, (&service, &counters, &stop)).await? {
            break;
        }
        let all_stand = async {
            while let Some(ended) = open.join_next().await {
                standing.extend(ended.ok().flatten());
            }
        };
        tokio::select! {
            biased;
            () = all_stand => return Ok(Some(Rest { listener, open: standing })),
            () = signs.goes() => {}
        }
    }
    // Nobody is listening any more: new connections are refused while those that are open come to their end.
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(None)
}

/// What serves connections: the service, its counters, and the signs.
type Serving<'a, S> = (&'a Arc<S>, &'a Arc<Counters>, &'a Stop);

/// Takes connections until told to stop (then it says so) or to stand still.
async fn accepting<L: Listener, S: Service>(
    listener: &mut L,
    places: &Arc<Semaphore>,
    open: &mut JoinSet<Option<Standing<L::Stream>>>,
    (service, counters, stop): Serving<'_, S>,
) -> io::Result<bool> {
    let (mut end, mut stand) = (stop.clone(), stop.clone());
    loop {
        // Ended tasks are forgotten as we go, so that the set holds no more than what is open. One that stands already is
        // ahead of us: the sign is there.
        let mut early = Vec::new();
        while let Some(ended) = open.try_join_next() {
            early.extend(ended.ok().flatten());
        }
        if !early.is_empty() {
            early.into_iter().for_each(|one| drop(open.spawn(std::future::ready(Some(one)))));
            return Ok(false);
        }
        let accepted = tokio::select! {
            biased;
            () = end.begun() => return Ok(true),
            () = stand.stands() => return Ok(false),
            accepted = async {
                // A semaphore that is never closed gives a permit.
                let place = Arc::clone(places).acquire_owned().await.ok();
                listener.accept().await.map(|accepted| (accepted, place))
            } => accepted,
        };
        match accepted {
            Ok(((stream, peer), place)) => {
                tracing::info!(%peer, "accepted");
                counters.accepted();
                let one = Standing { stream, peer, left: Left::default() };
                open.spawn(served(one, place, Arc::clone(service), Arc::clone(counters), stop.clone()));
            }
            Err(error) if L::is_final(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// After an accept that failed, so that a lasting shortage does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves one connection; returns it if it stands.
async fn served<S: Service, C: Carried>(
    one: Standing<C>,
    place: Option<OwnedSemaphorePermit>,
    service: Arc<S>,
    counters: Arc<Counters>,
    stop: Stop,
) -> Option<Standing<C>> {
    let Standing { stream, peer, left } = one;
    let counted = Counted::new(stream, Arc::clone(&counters));
    let end = service.serve(counted, left, stop).await;
    drop(place);
    match end {
        Ok(End::Over) => tracing::info!(%peer, "ended"),
        Ok(End::Stands(counted, left)) => {
            return Some(Standing { stream: counted.into_inner(), peer, left });
        }
        Ok(End::Broken(counted, error)) => {
            counted.reset();
            counters.failed();
            tracing::info!(%peer, %error, "reset");
        }
        Err(error) => {
            counters.failed();
            tracing::info!(%peer, %error, "failed");
        }
    }
    None
}

/// Reads what the peer still sends and drops it, to the end of its side.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; limits::DRAIN_BYTES];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests;
