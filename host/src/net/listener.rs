//! Passive opens.

use super::NetError;
use super::handle::Net;
use super::stream::TcpStream;
use crate::error::StreamError;
use crate::stack::ListenerId;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Accepts connections, for one task at a time. Dropping it resets connections that nobody has accepted.
#[derive(Debug)]
pub struct TcpListener {
    net: Net,
    id: ListenerId,
    local: SocketAddr,
}

impl TcpListener {
    pub(super) fn new(net: Net, id: ListenerId, local: SocketAddr) -> Self {
        Self { net, id, local }
    }

    pub(super) fn id(&self) -> ListenerId {
        self.id
    }

    /// The next connection that is open, and its peer.
    ///
    /// # Errors
    /// The stack has ended: no connection will come any more.
    ///
    /// # Cancellation
    /// No connection is lost.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As [`accept`](Self::accept), polled.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.net.shared().call(|state, wake| {
            let result = match state.stack.accept(self.id) {
                Err(StreamError::WouldBlock) => match state.alive() {
                    Ok(()) => {
                        state.slots.wait_listener(self.id, context.waker(), wake);
                        return Poll::Pending;
                    }
                    Err(error) => Err(error),
                },
                Err(StreamError::Unknown) if state.is_closing() => Err(NetError::Shutdown.into()),
                other => other.map_err(io::Error::from),
            };
            if let Ok(accepted) = &result {
                state.slots.add(accepted.stream);
            }
            Poll::Ready(result)
        });
        accepted.map_ok(|accepted| {
            let remote = accepted.remote.into();
            (TcpStream::open(self.net.clone(), accepted.stream), remote)
        })
    }

    /// The connections as a stream, which ends with the first error.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self, is_over: false }
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.net.shared().call(|state, _| state.unlisten(self.id));
    }
}

/// The connections of a listener: see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
    is_over: bool,
}

impl futures_core::Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let accepted = self.listener.poll_accept(context);
        self.is_over = matches!(accepted, Poll::Ready(Err(_)));
        accepted.map_ok(|(stream, _)| stream).map(Some)
    }
}
