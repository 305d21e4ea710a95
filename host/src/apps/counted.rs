//! Counts what passes through an application's connections.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::carried::Carried;

/// What an application has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Connections taken.
    pub(crate) accepted: u64,
    /// Connections that are over.
    pub(crate) ended: u64,
    /// Of these, connections that ended with an error.
    pub(crate) failed: u64,
    /// Bytes that the application has read.
    pub(crate) bytes_in: u64,
    /// Bytes that the application has written.
    pub(crate) bytes_out: u64,
}

impl Counters {
    /// Goes on counting from there.
    pub(crate) fn continue_from(&self, counts: Counts) {
        for (counter, count) in [
            (&self.accepted, counts.accepted),
            (&self.ended, counts.ended),
            (&self.failed, counts.failed),
            (&self.bytes_in, counts.bytes_in),
            (&self.bytes_out, counts.bytes_out),
        ] {
            counter.store(count, Relaxed);
        }
    }

    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// What was counted up to now.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            ended: self.ended.load(Relaxed),
            failed: self.failed.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

/// A stream that counts.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    stream: S,
    tally: Tally,
}

/// Counts the end of a connection.
#[derive(Debug)]
struct Tally {
    counters: Arc<Counters>,
    is_open: bool,
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.counters.ended.fetch_add(u64::from(self.is_open), Relaxed);
    }
}

impl<S> Counted<S> {
    /// Counts the connection's bytes from now on, and its end.
    pub(crate) fn new(stream: S, counters: Arc<Counters>) -> Self {
        Self { stream, tally: Tally { counters, is_open: true } }
    }

    /// The stream, which has not ended.
    pub(crate) fn into_inner(mut self) -> S {
        self.tally.is_open = false;
        self.stream
    }

    /// Resets the connection, which counts as its end.
    pub(crate) fn reset(self)
    where
        S: Carried,
    {
        self.stream.reset();
    }

    fn written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &result {
            self.tally.counters.bytes_out.fetch_add(*count as u64, Relaxed);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, into);
        let count = into.filled().len().saturating_sub(before);
        self.tally.counters.bytes_in.fetch_add(count as u64, Relaxed);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
