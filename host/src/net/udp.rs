//! Datagram sockets.

use super::handle::Net;
use super::slots::{Side, Wake};
use super::state::State;
use crate::error::StreamError;
use crate::stack::{SocketId, Stack};
use bulkhead_wit::registry::{reason, setting};
use bulkhead_wit::{Endpoint, Setting};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// A datagram socket of the UDP module. Any number of tasks may send and receive on it at a time.
///
/// A datagram is sent and received whole or not at all. What arrives beyond
/// [`receive_max`](crate::BindOptions::receive_max) is dropped, and [counted](Self::dropped).
///
/// # Cancellation
/// A dropped receive has taken no datagram; a dropped send has sent none.
#[derive(Debug)]
pub struct UdpSocket {
    net: Net,
    of: (usize, SocketId),
    local: SocketAddr,
    peer: Option<SocketAddr>,
}

/// How much of a datagram was copied, who sent it, to which end of ours.
type Received = (usize, Endpoint, Endpoint);

impl UdpSocket {
    pub(super) fn new(net: Net, of: (usize, SocketId), local: SocketAddr, peer: Option<SocketAddr>) -> Self {
        Self { net, of, local, peer }
    }

    pub(super) fn id(&self) -> (usize, SocketId) {
        self.of
    }

    fn call<T>(&self, call: impl FnOnce(&mut Stack, SocketId) -> Result<T, StreamError>) -> io::Result<T> {
        let (module, id) = self.of;
        self.net.shared().call(|state, _| match call(state.module(module), id) {
            Err(StreamError::WouldBlock) => {
                state.alive().and_then(|()| Err(io::Error::from(StreamError::WouldBlock)))
            }
            other => other.map_err(io::Error::from),
        })
    }

    fn poll<T>(
        &self,
        side: Side,
        context: &mut Context<'_>,
        call: impl FnOnce(&mut Stack, SocketId) -> Result<T, StreamError>,
    ) -> Poll<io::Result<T>> {
        let (module, id) = self.of;
        self.net.shared().call(|state: &mut State, wake: &mut Wake| match call(state.module(module), id) {
            Err(StreamError::WouldBlock) => match state.alive() {
                Ok(()) => {
                    state.slots.wait_socket(self.of, side, context.waker(), wake);
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            },
            other => Poll::Ready(other.map_err(io::Error::from)),
        })
    }

    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    // ---- sending

    /// Sends a datagram of at most 65,507 bytes (65,487 over IPv6); one that is longer than the link takes goes out in
    /// fragments.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is too long; with one peer, what an ICMP error said of an earlier one
    /// ([`io::ErrorKind::ConnectionRefused`]); the module's fault or the stack's end.
    ///
    /// # Cancellation
    /// A dropped send has sent nothing.
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        poll_fn(|context| self.poll_send_to(context, bytes, to)).await
    }

    /// As [`send_to`](Self::send_to), polled.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let sent = self
            .poll(Side::Write, context, |stack, id| stack.send_to(id, bytes, Endpoint::default(), to.into()));
        sent.map_ok(|()| bytes.len())
    }

    /// As [`send_to`](Self::send_to), without waiting.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to), and [`io::ErrorKind::WouldBlock`] while too many bytes wait.
    pub fn try_send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.call(|stack, id| stack.send_to(id, bytes, Endpoint::default(), to.into()))?;
        Ok(bytes.len())
    }

    /// As [`send_to`](Self::send_to), from one of several ends of ours: the one that [`recv_between`](Self::recv_between)
    /// told.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    ///
    /// # Cancellation
    /// A dropped send has sent nothing.
    pub async fn send_between(&self, bytes: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<usize> {
        poll_fn(|context| {
            self.poll(Side::Write, context, |stack, id| stack.send_to(id, bytes, from.into(), to.into()))
        })
        .await?;
        Ok(bytes.len())
    }

    /// Tells `to` by an ICMP error why what it sends to `from` does not arrive, as the router does that a gateway stands for:
    /// [`io::ErrorKind::ConnectionRefused`], [`HostUnreachable`](io::ErrorKind::HostUnreachable),
    /// [`NetworkUnreachable`](io::ErrorKind::NetworkUnreachable) or [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    /// So many a second leave, the rest is not said (RFC 1812 4.3.2.8, RFC 4443 2.4).
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for any other kind, [`io::ErrorKind::WouldBlock`] while too many wait to be said; the
    /// module's fault or the stack's end.
    pub fn unreachable_between(
        &self,
        why: io::ErrorKind,
        from: SocketAddr,
        to: SocketAddr,
    ) -> io::Result<()> {
        let reason = match why {
            io::ErrorKind::ConnectionRefused => reason::PORT_UNREACHABLE,
            io::ErrorKind::HostUnreachable => reason::HOST_UNREACHABLE,
            io::ErrorKind::NetworkUnreachable => reason::NETWORK_UNREACHABLE,
            io::ErrorKind::PermissionDenied => reason::PROHIBITED,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        self.call(|stack, _| stack.unreachable(reason, from.into(), to.into()))
    }

    /// Sends to the only peer.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to), and [`io::ErrorKind::NotConnected`] if there is none.
    ///
    /// # Cancellation
    /// A dropped send has sent nothing.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_to(bytes, self.peer()?).await
    }

    // ---- receiving

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        into: &mut [u8],
        peek: bool,
    ) -> Poll<io::Result<Received>> {
        self.poll(Side::Read, context, |stack, id| stack.receive_from(id, into, peek))
    }

    /// The next datagram, and who sent it. What does not fit into `into` is lost.
    ///
    /// # Errors
    /// With one peer, what an ICMP error said ([`io::ErrorKind::ConnectionRefused`]); the module's fault or the stack's
    /// end.
    ///
    /// # Cancellation
    /// A dropped receive has taken nothing: the datagram stays.
    pub async fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, from, _) = poll_fn(|context| self.poll_receive(context, into, false)).await?;
        Ok((count, from.into()))
    }

    /// As [`recv_from`](Self::recv_from), polled.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let space = into.initialize_unfilled();
        self.poll_receive(context, space, false).map_ok(|(count, from, _)| {
            into.advance(count);
            from.into()
        })
    }

    /// As [`recv_from`](Self::recv_from), without waiting.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from), and [`io::ErrorKind::WouldBlock`] while there is none.
    pub fn try_recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, from, _) = self.call(|stack, id| stack.receive_from(id, into, false))?;
        Ok((count, from.into()))
    }

    /// As [`recv_from`](Self::recv_from), and to which end of ours it was sent: count, source, destination.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Cancellation
    /// A dropped receive has taken nothing: the datagram stays.
    pub async fn recv_between(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        let (count, from, to) = poll_fn(|context| self.poll_receive(context, into, false)).await?;
        Ok((count, from.into(), to.into()))
    }

    /// As [`recv_from`](Self::recv_from), and leaves it there.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Cancellation
    /// Nothing is taken: it can be dropped at any time.
    pub async fn peek_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, from, _) = poll_fn(|context| self.poll_receive(context, into, true)).await?;
        Ok((count, from.into()))
    }

    /// The next datagram of the only peer.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Cancellation
    /// A dropped receive has taken nothing: the datagram stays.
    pub async fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_from(into).await?.0)
    }

    // ---- the rest

    /// Waits until there is something to receive, or to be told.
    ///
    /// # Errors
    /// The stack has ended.
    ///
    /// # Cancellation
    /// Nothing is taken: it can be dropped at any time.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Side::Read).await
    }

    /// Waits until there is space to send, or something to be told.
    ///
    /// # Errors
    /// The stack has ended.
    ///
    /// # Cancellation
    /// Nothing is taken: it can be dropped at any time.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Side::Write).await
    }

    async fn ready(&self, side: Side) -> io::Result<()> {
        poll_fn(|context| {
            self.poll(side, context, |stack, id| {
                let (readable, writable) = stack.datagram_readiness(id);
                let is_ready = if side == Side::Read { readable } else { writable };
                if is_ready { Ok(()) } else { Err(StreamError::WouldBlock) }
            })
        })
        .await
    }

    /// Our end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The only peer, if there is one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Time to live, or hop limit, of what is sent: 1 to 255.
    ///
    /// # Errors
    /// The stack has ended.
    pub fn set_ttl(&self, ttl: u8) -> io::Result<()> {
        self.call(|stack, id| stack.set_datagram(id, Setting { key: setting::TTL, value: ttl.into() }))
    }

    /// Datagrams that were dropped because nobody read.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let (module, id) = self.of;
        self.net.shared().lock().module(module).datagrams_dropped(id)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let (module, id) = self.of;
        self.net.shared().call(|state, _| {
            state.slots.remove_socket(self.of);
            state.module(module).unbind(id);
        });
    }
}
