//! Connections.

use super::handle::Net;
use super::info::TcpInfo;
use super::shared::Shared;
use super::slots::{Side, Wake};
use super::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::state::{State, nanoseconds};
use crate::error::StreamError;
use crate::stack::StreamId;
use crate::streams::Readiness;
use bulkhead_wit::registry::setting;
use bulkhead_wit::{Endpoint, NEVER, Setting, Time};
use bytes::Bytes;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

/// A connection. Usually one task reads and one writes; when several wait on the same side, all are woken and ask again.
///
/// Dropping it closes in kind: what was written is delivered (see [`set_linger`](Self::set_linger)), and the peer is
/// told by a reset if bytes were left unread (RFC 2525 2.17).
#[derive(Debug)]
pub struct TcpStream {
    net: Net,
    id: StreamId,
    /// Nanoseconds that a drop leaves for delivery; 0 resets, as it does before the connection is open.
    linger: AtomicU64,
}

impl TcpStream {
    pub(super) fn open(net: Net, id: StreamId) -> Self {
        Self { net, id, linger: AtomicU64::new(NEVER) }
    }

    /// On its way to be open: reset if it is dropped before.
    pub(super) fn opening(net: Net, id: StreamId) -> Self {
        Self { net, id, linger: AtomicU64::new(0) }
    }

    /// One that another process had before, and what a drop of it is to leave.
    pub(super) fn lingering(net: Net, id: StreamId, linger: Time) -> Self {
        Self { net, id, linger: AtomicU64::new(linger) }
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    pub(super) fn linger(&self) -> Time {
        self.linger.load(Ordering::Relaxed)
    }

    fn shared(&self) -> &Shared {
        self.net.shared()
    }

    pub(super) fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        let opened = self.poll(Side::Write, context, |state| match state.stack.is_open(id) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StreamError::WouldBlock),
            Err(error) => Err(error),
        });
        opened.map_ok(|()| self.linger.store(NEVER, Ordering::Relaxed))
    }

    /// Does `call`, or waits on `side` if it would block.
    fn poll<T>(
        &self,
        side: Side,
        context: &mut Context<'_>,
        mut call: impl FnMut(&mut State) -> Result<T, StreamError>,
    ) -> Poll<io::Result<T>> {
        self.shared().call(|state, wake: &mut Wake| {
            if side == Side::Write && state.lets_others_run() {
                wake.push(context.waker().clone());
                return Poll::Pending;
            }
            match call(state) {
                Err(StreamError::WouldBlock) => match state.alive() {
                    Ok(()) => {
                        state.slots.wait(self.id, side, context.waker(), wake);
                        Poll::Pending
                    }
                    Err(error) => Poll::Ready(Err(error)),
                },
                other => Poll::Ready(other.map_err(io::Error::from)),
            }
        })
    }

    /// Does `call` once.
    fn attempt<T>(&self, call: impl FnOnce(&mut State) -> Result<T, StreamError>) -> io::Result<T> {
        self.shared().call(|state, _| match call(state) {
            Err(StreamError::WouldBlock) => {
                state.alive().and_then(|()| Err(io::Error::from(StreamError::WouldBlock)))
            }
            other => other.map_err(io::Error::from),
        })
    }

    // ---- reading

    pub(super) fn poll_read_shared(
        &self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let space = into.initialize_unfilled();
        let read = self.poll(Side::Read, context, |state| state.stack.read(self.id, space));
        read.map_ok(|count| into.advance(count))
    }

    /// Reads what is there, without waiting; 0 is the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while there is nothing, or why the connection ended.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.attempt(|state| state.stack.read(self.id, into))
    }

    /// As [`try_read`](Self::try_read), into several slices.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn try_read_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.attempt(|state| read_slices(state, self.id, slices))
    }

    pub(super) fn poll_read_slices(
        &self,
        context: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(Side::Read, context, |state| read_slices(state, self.id, slices))
    }

    /// Waits for bytes and takes them as they lie in memory, at most `most` (at least 1): without a copy where a whole
    /// frame was kept, which with large segments is the rule. Empty is the end of the stream.
    ///
    /// The bytes keep their frame (64 KiB) from being used again: hand them on and let go. When three quarters of all
    /// frames are held, copies are given instead, so that a hoarder does not stop the stack.
    ///
    /// # Errors
    /// Why the connection ended.
    ///
    /// # Cancellation
    /// Nothing is taken.
    pub async fn read_bytes(&self, most: usize) -> io::Result<Bytes> {
        poll_fn(|context| self.poll(Side::Read, context, |state| state.stack.read_bytes(self.id, most))).await
    }

    /// Copies what is there without taking it, and waits for the first byte or the end (0).
    ///
    /// # Errors
    /// Why the connection ended.
    ///
    /// # Cancellation
    /// Nothing is taken: it can be dropped at any time.
    pub async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_peek(context, into)).await
    }

    pub(super) fn poll_peek(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll(Side::Read, context, |state| state.stack.peek_into(self.id, into))
    }

    // ---- writing

    pub(super) fn poll_write_shared(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(Side::Write, context, |state| state.stack.write(self.id, bytes))
    }

    pub(super) fn poll_write_slices(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(Side::Write, context, |state| write_slices(state, self.id, slices))
    }

    /// Writes as much as there is space for, without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while there is no space, or why nothing can be written any more.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|state| state.stack.write(self.id, bytes))
    }

    /// As [`try_write`](Self::try_write), from several slices.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.attempt(|state| write_slices(state, self.id, slices))
    }

    /// Waits for space and queues as much of `bytes` as there is space for, without a copy from 4 KiB on: the memory is held
    /// until the peer has acknowledged it. What was queued is taken from the front of `bytes`, and its length returned.
    ///
    /// # Errors
    /// Why nothing can be written any more.
    ///
    /// # Cancellation
    /// `bytes` is as it was.
    pub async fn write_bytes(&self, bytes: &mut Bytes) -> io::Result<usize> {
        poll_fn(|context| self.poll(Side::Write, context, |state| state.stack.write_bytes(self.id, bytes)))
            .await
    }

    /// Ends the stream after what was written; reading goes on.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if there is no such stream any more.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.attempt(|state| state.stack.shutdown(self.id))
    }

    // ---- readiness

    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    /// The stack has ended.
    ///
    /// # Cancellation
    /// Nothing is taken: it can be dropped at any time.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    /// Waits until there is space to write, or it is clear that nothing can be written any more.
    ///
    /// # Errors
    /// The stack has ended.
    ///
    /// # Cancellation
    /// Nothing is taken: it can be dropped at any time.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// Waits for any of `interest`. Unlike a kernel socket's, what it says is true when it is said.
    ///
    /// # Errors
    /// The stack has ended.
    ///
    /// # Cancellation
    /// Nothing is taken: it can be dropped at any time.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        poll_fn(|context| self.poll_ready(context, interest)).await
    }

    fn poll_ready(&self, context: &mut Context<'_>, interest: Interest) -> Poll<io::Result<Ready>> {
        self.shared().call(|state, wake| {
            let now = match state.stack.readiness(self.id, interest.is_writable()) {
                Ok(now) => now,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            let ready = ready_of(now, interest);
            if !ready.is_empty() {
                return Poll::Ready(Ok(ready));
            }
            if let Err(error) = state.alive() {
                return Poll::Ready(Err(error));
            }
            if interest.is_readable() {
                state.slots.wait(self.id, Side::Read, context.waker(), wake);
            }
            if interest.is_writable() {
                state.slots.wait(self.id, Side::Write, context.waker(), wake);
            }
            Poll::Pending
        })
    }

    // ---- the rest

    /// Our end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.ends().0.into()
    }

    /// The peer's end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.ends().1.into()
    }

    /// The stack knows them as long as the stream is held, whatever became of the connection.
    fn ends(&self) -> (Endpoint, Endpoint) {
        self.shared().lock().stack.ends(self.id).unwrap_or_default()
    }

    /// Sets an option: numbers and values as in [`registry::setting`](bulkhead_wit::registry::setting). A module that
    /// does not know it ignores it.
    ///
    /// # Errors
    /// The connection or the stack has ended.
    pub fn set(&self, setting: Setting) -> io::Result<()> {
        self.shared().call(|state, _| {
            state.alive()?;
            Ok(state.stack.set(self.id, setting)?)
        })
    }

    /// Sends small segments at once (no Nagle, RFC 9293 3.7.4).
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set(Setting { key: setting::NODELAY, value: nodelay.into() })
    }

    /// Probes a connection that has been idle for so long (RFC 9293 3.8.4); `None` is off.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        self.set(Setting { key: setting::KEEPALIVE_IDLE, value: idle.map_or(0, nanoseconds) })
    }

    /// Ends the connection when data has been unacknowledged for so long (RFC 5482); `None` is the default.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set(Setting { key: setting::USER_TIMEOUT, value: timeout.map_or(0, nanoseconds) })
    }

    /// For how long a dropped stream goes on delivering what was written, without its dropper: `None` (at first) until
    /// it is done, zero resets at once.
    pub fn set_linger(&self, linger: Option<Duration>) {
        self.linger.store(linger.map_or(NEVER, nanoseconds), Ordering::Relaxed);
    }

    /// What the module knows of the connection. Takes a turn.
    ///
    /// # Errors
    /// The connection or the stack has ended.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        let fields = self.shared().call(|state, wake| state.ask(Some(self.id), wake))?;
        Ok(TcpInfo::from_fields(&fields))
    }

    /// Resets the connection.
    pub fn abort(self) {
        self.set_linger(Some(Duration::ZERO));
    }

    /// Both directions, borrowed.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        split::borrowed(self)
    }

    /// Both directions, for two tasks. Dropping the writing one ends the stream after what was written.
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::owned(self)
    }
}

fn write_slices(state: &mut State, id: StreamId, slices: &[IoSlice<'_>]) -> Result<usize, StreamError> {
    let mut written = 0;
    for slice in slices.iter().filter(|slice| !slice.is_empty()) {
        match state.stack.write(id, slice) {
            Ok(count) => {
                written += count;
                if count < slice.len() {
                    break;
                }
            }
            Err(_) if written > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn read_slices(state: &mut State, id: StreamId, slices: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError> {
    let mut count = 0;
    for slice in slices.iter_mut().filter(|slice| !slice.is_empty()) {
        match state.stack.read(id, slice) {
            Ok(read) => {
                count += read;
                if read < slice.len() {
                    break;
                }
            }
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn ready_of(now: Readiness, interest: Interest) -> Ready {
    let mut ready = Ready::EMPTY;
    if interest.is_readable() && now.intersects(Readiness::READABLE.with(Readiness::ENDED)) {
        ready |= Ready::READABLE;
    }
    if interest.is_writable() && now.intersects(Readiness::WRITABLE.with(Readiness::ENDED)) {
        ready |= Ready::WRITABLE;
    }
    if now.intersects(Readiness::ENDED) {
        ready |= if interest.is_readable() { Ready::READ_CLOSED } else { Ready::EMPTY };
        ready |= if interest.is_writable() { Ready::WRITE_CLOSED } else { Ready::EMPTY };
    }
    ready
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let linger: Time = self.linger.load(Ordering::Relaxed);
        self.shared().call(|state, _| {
            state.slots.remove(self.id);
            if linger > 0 {
                state.stack.close(self.id, linger);
            } else {
                state.stack.abort(self.id);
            }
        });
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_shared(context, into)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_shared(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back on this side of the send queue.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Half close: the stream ends after what was written.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}
