//! What a response carries. Files are read in pieces, one ahead: their size costs no memory.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::stand::{FilePart, Progress};
use crate::apps::limits;

/// The content of a response.
#[derive(Debug)]
pub(super) enum Content {
    /// Something short, in memory.
    Page(Bytes),
    /// A file, or a part of it.
    File(FileBody),
}

impl Content {
    /// None.
    pub(super) const fn empty() -> Self {
        Self::Page(Bytes::new())
    }

    /// The connection knows from here on how far it is sent.
    pub(super) fn follow(&mut self, progress: &Progress) {
        if let Self::File(body) = self {
            progress.sends(Some(body.part.clone()).filter(|part| part.left > 0));
            body.progress = Some(progress.clone());
        }
    }

    /// Leaves out the content; its length stays in the header.
    pub(super) fn omit(&mut self) {
        *self = Self::empty();
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Page(page) if page.is_empty() => Poll::Ready(None),
            Self::Page(page) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(page))))),
            Self::File(file) => {
                file.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Page(page) => page.is_empty(),
            Self::File(file) => file.part.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => SizeHint::with_exact(page.len() as u64),
            Self::File(file) => SizeHint::with_exact(file.part.left),
        }
    }
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct FileBody {
    /// What was not given away yet.
    part: FilePart,
    /// The next piece, read ahead by a thread that may block.
    reading: Option<Reading>,
    progress: Option<Progress>,
}

/// A piece that is being read.
type Reading = JoinHandle<io::Result<Vec<u8>>>;

impl FileBody {
    /// So many bytes of the file, from `first` on.
    pub(super) fn new(file: File, first: u64, length: u64) -> Self {
        let part = FilePart { file: Arc::new(file), at: first, left: length };
        Self { part, reading: None, progress: None }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.part.left == 0 {
            return Poll::Ready(None);
        }
        // The connection stands still; whoever goes on reads the rest.
        if self.progress.as_ref().is_some_and(Progress::stands) {
            return Poll::Pending;
        }
        let FilePart { file, at, left } = &self.part;
        let reading = self.reading.get_or_insert_with(|| read_piece(file, *at, *left));
        let piece = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other);
        self.reading = None;
        let piece = match piece.and_then(|piece| piece) {
            // Somebody cut it off while it was read. The length is promised: the connection must fail.
            Ok(piece) if piece.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            piece => piece,
        };
        let length = piece.as_ref().map_or(self.part.left, |piece| piece.len() as u64);
        self.part.at += length;
        self.part.left = self.part.left.saturating_sub(length);
        let is_over = self.part.left == 0;
        if !is_over {
            self.reading = Some(read_piece(&self.part.file, self.part.at, self.part.left));
        }
        if let Some(progress) = &self.progress {
            progress.sends(Some(self.part.clone()).filter(|_| !is_over));
        }
        Poll::Ready(Some(piece.map(Bytes::from)))
    }
}

/// Reads the piece at this place, of `left` bytes at most.
pub(super) fn read_piece(file: &Arc<File>, at: u64, left: u64) -> Reading {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; left.min(limits::FILE_PIECE as u64) as usize];
        let mut length = 0;
        while let Some(room) = piece.get_mut(length..).filter(|room| !room.is_empty()) {
            match file.read_at(room, at + length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        piece.truncate(length);
        Ok(piece)
    })
}
