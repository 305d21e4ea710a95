//! Connections that are decided about before they exist: what a gateway does, which connects before it accepts.

use super::handle::Net;
use super::stream::TcpStream;
use crate::error::StreamError;
use crate::stack::{Accepted, ListenerId, StreamId};
use bulkhead_wit::Verdict;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// Listens to SYNs and answers none by itself: see [`Net::offers`]. Dropping it ends the listener; offers that were taken
/// go on.
#[derive(Debug)]
pub struct Offers {
    net: Net,
    id: ListenerId,
}

impl Offers {
    pub(super) fn new(net: Net, id: ListenerId) -> Self {
        Self { net, id }
    }

    /// The next connection that somebody wants to open.
    ///
    /// # Errors
    /// The stack has ended: no offer will come any more.
    ///
    /// # Cancellation
    /// No offer is lost.
    pub async fn next(&self) -> io::Result<Offer> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<Offer>> {
        let offered = self.net.shared().call(|state, wake| {
            if let Some(offered) = state.stack.next_offer() {
                state.slots.add(offered.stream);
                return Poll::Ready(Ok(offered));
            }
            if let Err(error) = state.alive() {
                return Poll::Ready(Err(error));
            }
            if let Err(error) = state.stack.is_listening(self.id) {
                return Poll::Ready(Err(error.into()));
            }
            state.slots.wait_listener(self.id, context.waker(), wake);
            Poll::Pending
        });
        offered.map_ok(|Accepted { stream, local, remote }| Offer {
            net: self.net.clone(),
            id: Some(stream),
            local: local.into(),
            peer: remote.into(),
        })
    }
}

impl Drop for Offers {
    fn drop(&mut self) {
        self.net.shared().call(|state, _| state.unlisten(self.id));
    }
}

/// A SYN that nobody has answered. Dropping it says nothing to the peer, which will ask again.
#[derive(Debug)]
pub struct Offer {
    net: Net,
    /// `None` once it is decided.
    id: Option<StreamId>,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Offer {
    /// Where the peer wants to connect to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Who wants to connect.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Goes on with the handshake, and waits for its end.
    ///
    /// # Errors
    /// The peer has gone away meanwhile, or the stack has.
    ///
    /// # Cancellation
    /// The connection is reset.
    pub async fn accept(mut self) -> io::Result<TcpStream> {
        let Some(id) = self.decide(Verdict::Accept, 0) else { return Err(StreamError::Unknown.into()) };
        let mut stream = TcpStream::opening(self.net.clone(), id);
        poll_fn(|context| stream.poll_opened(context)).await?;
        Ok(stream)
    }

    /// Refuses by a reset, as a port where nobody listens does.
    pub fn reset(mut self) {
        self.decide(Verdict::Reset, 0);
    }

    /// Refuses by an ICMP "destination unreachable" with this code, of the version of IP that the peer uses.
    pub fn unreachable(mut self, code: u8) {
        self.decide(Verdict::Unreachable, code.into());
    }

    fn decide(&mut self, verdict: Verdict, code: u16) -> Option<StreamId> {
        let id = self.id.take()?;
        self.net.shared().call(|state, _| {
            state.stack.decide(id, verdict, code);
            if verdict != Verdict::Accept {
                state.slots.remove(id);
            }
        });
        Some(id)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.decide(Verdict::Drop, 0);
    }
}
