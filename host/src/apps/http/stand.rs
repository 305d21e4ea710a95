//! A connection that stands still in the middle of a response, and goes on from there.
//!
//! hyper keeps what it has made of a response, and what it has read of the next request, to itself. Told to stand still, it is
//! given a socket that takes everything at once and a file that has nothing more to give; what it has written then, what it
//! has not read, and the rest of the file are what is left.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::header;
use hyper::{Request, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;

use super::body;
use crate::apps::carried::Socket;
use crate::apps::{Connection, Left, Stop};

/// A part of a file that is still to be sent.
#[derive(Clone, Debug)]
pub(super) struct FilePart {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    pub(super) left: u64,
}

/// How far a connection has come: known to its socket, to the file that it sends, and to whoever makes answers.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    is_answering: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    stands: bool,
    /// Nothing follows the response.
    is_last: bool,
    unsent: Vec<u8>,
    file: Option<FilePart>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), is_answering: watch::Sender::new(false) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is called while it is locked.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer is being made.
    pub(super) fn begins<B>(&self, request: &Request<B>) {
        // What a request brings along is not looked at (RFC 9110 9.3.1: of GET it means nothing).
        let headers = request.headers();
        let has_content =
            [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|name| headers.contains_key(name));
        let says_close = headers.get_all(header::CONNECTION).iter().any(|value| {
            let text = value.to_str().unwrap_or_default();
            text.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"))
        });
        self.state().is_last = says_close || has_content || request.version() < Version::HTTP_11;
        self.0.is_answering.send_replace(true);
    }

    /// The answer is made.
    pub(super) fn answered(&self) {
        self.0.is_answering.send_replace(false);
    }

    pub(super) fn is_answering(&self) -> bool {
        *self.0.is_answering.borrow()
    }

    /// Waits until no answer is being made.
    pub(super) async fn idle(&self) {
        let _ = self.0.is_answering.subscribe().wait_for(|is_answering| !is_answering).await;
    }

    /// From here on everything that is written is kept, and no file gives anything.
    pub(super) fn stand(&self) {
        self.state().stands = true;
    }

    pub(super) fn stands(&self) -> bool {
        self.state().stands
    }

    /// What is left of the file that is being sent.
    pub(super) fn sends(&self, part: Option<FilePart>) {
        self.state().file = part;
    }

    /// What is to be sent before the next request is read, and what was read of it. `None` if that is nothing, and the last.
    pub(super) fn left(&self, read: &[u8], is_over: bool) -> Option<Left> {
        let mut state = self.state();
        let (unsent, file) = (std::mem::take(&mut state.unsent), state.file.take());
        let is_last = is_over || (state.is_last && (file.is_some() || !unsent.is_empty()));
        if is_last && file.is_none() && unsent.is_empty() {
            return None;
        }
        Some(left(read.to_vec(), unsent, file, is_last))
    }
}

fn left(read: Vec<u8>, unsent: Vec<u8>, file: Option<FilePart>, is_last: bool) -> Left {
    let part = |part: &FilePart| vec![is_last.into(), part.at, part.left];
    let numbers = file.as_ref().map_or_else(|| vec![is_last.into()], part);
    // The reader of the next piece may have it still: then this is one name more.
    let fd = file.and_then(|part| {
        Arc::try_unwrap(part.file).map(OwnedFd::from).or_else(|file| file.try_clone().map(OwnedFd::from)).ok()
    });
    Left { numbers, texts: vec![read, unsent], beside: fd.into_iter().map(Socket::Fd).collect() }
}

/// What a connection still owes, as [`Progress::left`] left it.
pub(super) struct Debt {
    read: Vec<u8>,
    unsent: Vec<u8>,
    file: Option<FilePart>,
    is_last: bool,
}

/// How paying it ended.
pub(super) enum Paid {
    /// The next request may be read; these bytes of it were.
    All(Vec<u8>),
    /// That was the last response.
    Last,
    /// The connection stands still again.
    Stands(Left),
}

impl Debt {
    /// # Errors
    /// A file without a descriptor.
    pub(super) fn new(mut left: Left) -> io::Result<Self> {
        let (at, rest) = (left.number(1), left.number(2));
        let file = match left.beside.pop() {
            Some(Socket::Fd(fd)) => Some(FilePart { file: Arc::new(fd.into()), at, left: rest }),
            Some(Socket::Stack(_)) => return Err(io::ErrorKind::InvalidData.into()),
            None if rest > 0 => return Err(io::ErrorKind::NotFound.into()),
            None => None,
        };
        let is_last = left.number(0) != 0;
        Ok(Self { read: left.text(0), unsent: left.text(1), file, is_last })
    }

    /// Sends what is owed.
    pub(super) async fn pay(mut self, stream: &mut impl Connection, stop: &mut Stop) -> io::Result<Paid> {
        loop {
            if let Some(part) = self.file.as_mut().filter(|_| self.unsent.is_empty()) {
                let (file, at, left) = (Arc::clone(&part.file), part.at, part.left);
                self.unsent = body::read_piece(&file, at, left).await.map_err(io::Error::other)??;
                let length = self.unsent.len() as u64;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                (part.at, part.left) = (at + length, left.saturating_sub(length));
                if part.left == 0 {
                    self.file = None;
                }
            }
            let mut sent = 0;
            while let Some(text) = self.unsent.get(sent..).filter(|text| !text.is_empty()) {
                let count = tokio::select! {
                    biased;
                    () = stop.stands() => {
                        let unsent = text.to_vec();
                        return Ok(Paid::Stands(left(self.read, unsent, self.file, self.is_last)));
                    }
                    count = stream.write(text) => count?,
                };
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                sent += count;
            }
            self.unsent.clear();
            if self.file.is_none() {
                break;
            }
        }
        if !self.is_last {
            return Ok(Paid::All(self.read));
        }
        stream.shutdown().await?;
        Ok(Paid::Last)
    }
}

/// The socket as hyper has it.
#[derive(Debug)]
pub(super) struct Gate<S> {
    pub(super) stream: S,
    /// What was read before, and `at` which byte the rest of it begins.
    before: Vec<u8>,
    at: usize,
    progress: Progress,
}

impl<S> Gate<S> {
    pub(super) fn new(stream: S, before: Vec<u8>, progress: Progress) -> Self {
        Self { stream, before, at: 0, progress }
    }

    /// The stream, and everything that was read of the next request: `read` by hyper, and what it has not asked for.
    pub(super) fn into_parts(self, read: &[u8]) -> (S, Vec<u8>) {
        let rest = self.before.get(self.at..).unwrap_or_default();
        (self.stream, [read, rest].concat())
    }
}

impl<S: Connection> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.progress.stands() {
            return Poll::Pending;
        }
        let rest = self.before.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = rest.len().min(into.remaining());
        into.put_slice(rest.get(..count).unwrap_or_default());
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: Connection> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.progress.state();
        if state.stands {
            state.unsent.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        drop(state);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.progress.state();
        if state.stands {
            slices.iter().for_each(|slice| state.unsent.extend_from_slice(slice));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        drop(state);
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.stands() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Whoever goes on ends the stream after what is left.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.stands() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
