//! Reads a recording. Nothing in it is trusted: lengths are compared with their bounds before memory is taken, and memory
//! is taken as bytes come, not as they are promised.

use super::entry::{self, Entry, HEAD, Kind, Malformed};
use super::file::{FRONT, Header};
use super::limits;
use std::fmt;
use std::io::{self, Read};

/// Reads entry by entry.
pub struct Reader<R> {
    from: R,
    header: Header,
    /// Bytes read so far.
    at: u64,
    entry: Vec<u8>,
    is_cut_off: bool,
    has_ended: bool,
}

/// Why a recording cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// What the system says.
    Io(io::Error),
    /// It is none, or it is damaged.
    Malformed(Malformed),
    /// It was [redacted](super::redact()): it can be read, and not be fed to a module.
    Redacted,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Malformed(what) => what.fmt(f),
            Self::Redacted => {
                f.write_str("a redacted recording is read with --print, and cannot be fed to a module")
            }
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for ReadError {
    fn from(what: Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Where it is no recording, or cannot be read.
    pub fn new(mut from: R) -> Result<Self, ReadError> {
        let mut front = [0; FRONT];
        if fill(&mut from, &mut front)? < FRONT {
            return Err(Malformed::Magic.into());
        }
        let length = Header::length(&front)?;
        let mut body = vec![0; length + 4];
        if fill(&mut from, &mut body)? < body.len() {
            return Err(Malformed::Altered { at: 0 }.into());
        }
        let check = body.split_off(length);
        if check != entry::check_of(&body) {
            return Err(Malformed::Altered { at: 0 }.into());
        }
        let header = Header::decode(&body).map_err(|what| Malformed::Body { at: 0, what })?;
        let at = (FRONT + length + 4) as u64;
        Ok(Self { from, header, at, entry: Vec::new(), is_cut_off: false, has_ended: false })
    }

    /// Of whom it is.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the next entry begins, in bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether it ends in the middle of something: the program that wrote it was killed, or the disk was full.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The next entry; `None` at the end, [`End`](Entry::End) itself included.
    ///
    /// # Errors
    /// Where it is damaged, or cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        let Some((kind, begin)) = self.next_bytes()? else { return Ok(None) };
        let body = self.entry.get(HEAD..).unwrap_or_default();
        match entry::take(kind, body) {
            Ok(Entry::End) => {
                self.has_ended = true;
                Ok(None)
            }
            Ok(entry) => Ok(Some(entry)),
            Err(what) => Err(Malformed::Body { at: begin, what }.into()),
        }
    }

    /// Reads the next entry into `self.entry`; gives its kind, and where it began.
    fn next_bytes(&mut self) -> Result<Option<(Kind, u64)>, ReadError> {
        if self.has_ended || self.is_cut_off {
            return Ok(None);
        }
        let begin = self.at;
        let mut head = [0; HEAD];
        let found = fill(&mut self.from, &mut head)?;
        if found < HEAD {
            self.is_cut_off = true;
            return Ok(None);
        }
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length);
        let kind = Kind::of(kind).ok_or(Malformed::Kind { at: begin, kind })?;
        if length as usize > limits::ENTRY {
            return Err(Malformed::Length { at: begin, length }.into());
        }
        self.entry.clear();
        self.entry.extend_from_slice(&head);
        let wanted = u64::from(length) + 4;
        let read = (&mut self.from).take(wanted).read_to_end(&mut self.entry)?;
        self.at += HEAD as u64 + read as u64;
        if (read as u64) < wanted {
            self.is_cut_off = true;
            return Ok(None);
        }
        let check = self.entry.split_off(HEAD + length as usize);
        if check != entry::check_of(&self.entry) {
            return Err(Malformed::Altered { at: begin }.into());
        }
        Ok(Some((kind, begin)))
    }
}

/// Reads until the buffer is full or there is no more; says how much there was.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = into.get_mut(filled..).filter(|room| !room.is_empty()) {
        match from.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("header", &self.header).field("at", &self.at).finish_non_exhaustive()
    }
}
