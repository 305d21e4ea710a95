//! A recording in a file: a header that says of whom it is, then entries, each with a check.

use super::entry::{Fields, Malformed, check_of};
use super::limits;
use crate::placement::Identity;
use bulkhead_wit::encoding::{decode_description, encode_description};
use bulkhead_wit::{Description, Time};
use std::io::{self, Write};

/// The first bytes of a file.
const MAGIC: [u8; 8] = *b"bulkrec\n";
/// The format of what follows.
pub const FORMAT: u32 = 2;

/// Of whom a recording is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// The module's file and where it ran.
    pub identity: Identity,
    /// What the module says of itself.
    pub description: Description,
    /// The version of the program that has recorded.
    pub program: String,
    /// When the stack's time was 0, in nanoseconds since 1970.
    pub origin: Time,
    /// Addresses and seed are not the real ones: it can be read, and not be replayed.
    pub is_redacted: bool,
    /// The module has payload access, and what it reads stands in here: bytes of applications.
    pub has_payload: bool,
}

/// Flags of a header.
const REDACTED: u8 = 1;
const PAYLOAD: u8 = 2;

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = vec![u8::from(self.is_redacted) * REDACTED + u8::from(self.has_payload) * PAYLOAD];
        body.extend_from_slice(&self.origin.to_le_bytes());
        body.extend_from_slice(&self.identity.hash.unwrap_or_default());
        let mut description = Vec::new();
        encode_description(&self.description, &mut description);
        for part in [self.identity.placement.as_bytes(), self.program.as_bytes(), &description] {
            body.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            body.extend_from_slice(part);
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(body.len() + 20);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&check_of(&body));
        bytes
    }

    /// Reads what stands in front of a header, and gives the header's length.
    pub(super) fn length(front: &[u8; FRONT]) -> Result<usize, Malformed> {
        let (magic, rest) = front.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Malformed::Magic);
        }
        let mut fields = Fields(rest);
        let (format, length) = (fields.word().unwrap_or_default(), fields.word().unwrap_or_default());
        if format != FORMAT {
            return Err(Malformed::Version(format));
        }
        if length as usize > limits::HEADER {
            return Err(Malformed::Length { at: 0, length });
        }
        Ok(length as usize)
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let [flags] = fields.array()?;
        let origin = fields.long()?;
        let hash = fields.array()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (placement, program) = (text(fields.counted()?), text(fields.counted()?));
        let description = decode_description(fields.counted()?).map_err(|error| error.to_string())?;
        let hash = (hash != [0; 32]).then_some(hash);
        let identity = Identity { hash, placement };
        let (is_redacted, has_payload) = (flags & REDACTED != 0, flags & PAYLOAD != 0);
        Ok(Self { identity, description, program, origin, is_redacted, has_payload })
    }
}

/// Bytes in front of a header: magic, format, length.
pub(super) const FRONT: usize = MAGIC.len() + 8;

/// Where a recording streams to.
pub(super) struct Stream {
    to: Box<dyn Write + Send>,
    has_failed: bool,
    /// Bytes since the last checkpoint in it.
    pub(super) since_checkpoint: u64,
}

impl Stream {
    /// Begins a file.
    pub(super) fn new(mut to: Box<dyn Write + Send>, header: &Header) -> io::Result<Self> {
        to.write_all(&header.encode())?;
        Ok(Self::behind(to))
    }

    /// Goes on with a file that has a header.
    pub(super) fn behind(to: Box<dyn Write + Send>) -> Self {
        Self { to, has_failed: false, since_checkpoint: 0 }
    }

    /// Appends an entry. The first error ends the recording, and nothing else.
    pub(super) fn append(&mut self, entry: &[u8]) {
        if !self.has_failed {
            let result = self.to.write_all(entry).and_then(|()| self.to.write_all(&check_of(entry)));
            self.since_checkpoint += entry.len() as u64;
            self.note(result);
        }
    }

    pub(super) fn flush(&mut self) {
        if !self.has_failed {
            let result = self.to.flush();
            self.note(result);
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, "the recording ends here: it cannot be written any more; connections go on");
            self.has_failed = true;
        }
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("has_failed", &self.has_failed).finish_non_exhaustive()
    }
}
