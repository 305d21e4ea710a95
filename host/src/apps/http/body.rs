//! What a response carries. Files are read in pieces, one ahead: their size costs no memory.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

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
            Self::File(file) => file.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => SizeHint::with_exact(page.len() as u64),
            Self::File(file) => SizeHint::with_exact(file.left),
        }
    }
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct FileBody {
    file: Arc<File>,
    /// Bytes that were not given away yet.
    left: u64,
    /// The next piece, read ahead by a thread that may block.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileBody {
    /// So many bytes of the file, from `first` on.
    pub(super) fn new(mut file: File, first: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(first))?;
        Ok(Self { file: Arc::new(file), left: length, reading: None })
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (file, left) = (&self.file, self.left);
        let reading = self.reading.get_or_insert_with(|| read_ahead(file, left));
        let piece = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other);
        self.reading = None;
        Poll::Ready(Some(match piece.and_then(|piece| piece) {
            Ok(piece) if piece.is_empty() => {
                // Somebody cut it off while it was read. The length is promised: the connection must fail.
                self.left = 0;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(piece) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                if self.left > 0 {
                    self.reading = Some(read_ahead(&self.file, self.left));
                }
                Ok(piece.into())
            }
            Err(error) => {
                self.left = 0;
                Err(error)
            }
        }))
    }
}

/// Only one piece is being read at a time, so the file's own position is where the next one begins.
fn read_ahead(file: &Arc<File>, left: u64) -> JoinHandle<io::Result<Vec<u8>>> {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || {
        let length = left.min(limits::FILE_PIECE as u64);
        let mut piece = Vec::with_capacity(length as usize);
        (&*file).take(length).read_to_end(&mut piece)?;
        Ok(piece)
    })
}
