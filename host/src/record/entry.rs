//! What a recording consists of: entries, each a kind, a length and a body.
//!
//! Inputs and configurations are written in the contract's one byte encoding; what stands around them is a byte for the
//! kind, a `u32` for the length of the body (little endian, as everything), and in files a `u32` behind the body: the
//! lower half of the hash of all of it, so that what a disk has altered is found.

use super::limits;
use bulkhead_wit::encoding::{
    DecodeError, Sink as _, decode_config, encode_config, encode_inputs, hash_bytes,
};
use bulkhead_wit::{Config, Inputs, Time};
use std::fmt;

/// Bytes in front of a body.
pub(super) const HEAD: usize = 5;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Start = 1,
    Load = 2,
    Step = 3,
    Outputs = 4,
    Fault = 5,
    Checkpoint = 6,
    End = 7,
    Payload = 8,
}

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        const ALL: [Kind; 8] = [
            Kind::Start,
            Kind::Load,
            Kind::Step,
            Kind::Outputs,
            Kind::Fault,
            Kind::Checkpoint,
            Kind::End,
            Kind::Payload,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry<'a> {
    /// A fresh instance begins with this configuration.
    Start(Config),
    /// A fresh instance takes over from a state.
    Load(Saved<'a>),
    /// A step's inputs, encoded: [`decode_inputs`](bulkhead_wit::encoding::decode_inputs) reads them.
    Step(&'a [u8]),
    /// The hash of the outputs of the step before it: the step was carried out.
    Outputs(u64),
    /// The step before it failed, and has had no effect; or a checkpoint did, where no step is before it.
    Fault(Failure<'a>),
    /// What the instance saved at this point. It goes on.
    Checkpoint(Saved<'a>),
    /// What a module with payload access reads in the step that follows: bytes of applications.
    Payload(&'a [u8]),
    /// The recording ends here; one without it was cut off.
    End,
}

/// A saved state, and with what it is to be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Saved<'a> {
    /// The time of the last step before it.
    pub now: Time,
    /// Steps that were carried out before it.
    pub steps: u64,
    /// The configuration at that time.
    pub config: Config,
    /// The module's state.
    pub state: &'a [u8],
}

/// How a step failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure<'a> {
    /// The hash of its outputs, where it had any: then they broke a rule of the contract.
    pub outputs: Option<u64>,
    /// What was said of it, with the module's backtrace.
    pub text: &'a str,
}

/// Why bytes are no recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// It does not begin as a recording does.
    Magic,
    /// Another version of the format.
    Version(u32),
    /// The header or an entry is longer than any can be.
    Length {
        /// Where it begins, in bytes from the beginning of the file.
        at: u64,
        /// How long it is said to be.
        length: u32,
    },
    /// The header or an entry is not what was written.
    Altered {
        /// Where it begins.
        at: u64,
    },
    /// An entry of no known kind.
    Kind {
        /// Where it begins.
        at: u64,
        /// Its kind.
        kind: u8,
    },
    /// An entry's body makes no sense.
    Body {
        /// Where the entry begins.
        at: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Entries that cannot follow each other.
    Order {
        /// Where the second one begins.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("this is no recording of bulkhead's"),
            Self::Version(found) => {
                write!(f, "a recording of format {found}; this program reads format {}", super::FORMAT)
            }
            Self::Length { at, length } => {
                write!(f, "the recording is damaged: {length} bytes at byte {at} are more than there can be")
            }
            Self::Altered { at } => {
                write!(f, "the recording is damaged: what begins at byte {at} is not what was written")
            }
            Self::Kind { at, kind } => {
                write!(f, "the recording has an entry of unknown kind {kind} at byte {at}")
            }
            Self::Body { at, what } => write!(f, "the recording is damaged at byte {at}: {what}"),
            Self::Order { at, what } => write!(f, "the recording makes no sense at byte {at}: {what}"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Writes an entry, whose body `write` appends.
pub(super) fn put(kind: Kind, to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.extend_from_slice(&[kind as u8, 0, 0, 0, 0]);
    write(to);
    let length = u32::try_from(to.len() - begin - HEAD).unwrap_or(u32::MAX);
    if let Some(place) = to.get_mut(begin + 1..begin + HEAD) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

pub(super) fn put_start(config: &Config, to: &mut Vec<u8>) {
    put(Kind::Start, to, |to| encode_config(config, to));
}

pub(super) fn put_step(inputs: &Inputs<'_>, to: &mut Vec<u8>) {
    put(Kind::Step, to, |to| encode_inputs(inputs, to));
}

pub(super) fn put_outputs(hash: u64, to: &mut Vec<u8>) {
    put(Kind::Outputs, to, |to| to.put(&hash.to_le_bytes()));
}

pub(super) fn put_fault(failure: Failure<'_>, to: &mut Vec<u8>) {
    put(Kind::Fault, to, |to| {
        to.push(u8::from(failure.outputs.is_some()));
        to.put(&failure.outputs.unwrap_or_default().to_le_bytes());
        let mut text = failure.text;
        while text.len() > limits::TEXT {
            text = text.get(..text.floor_char_boundary(limits::TEXT)).unwrap_or_default();
        }
        to.put(text.as_bytes());
    });
}

pub(super) fn put_saved(kind: Kind, saved: &Saved<'_>, to: &mut Vec<u8>) {
    put(kind, to, |to| {
        to.put(&saved.now.to_le_bytes());
        to.put(&saved.steps.to_le_bytes());
        let mut config = Vec::new();
        encode_config(&saved.config, &mut config);
        to.put(&u32::try_from(config.len()).unwrap_or(u32::MAX).to_le_bytes());
        to.put(&config);
        to.put(saved.state);
    });
}

/// What follows an entry in a file.
pub(super) fn check_of(entry: &[u8]) -> [u8; 4] {
    (hash_bytes(entry) as u32).to_le_bytes()
}

/// Reads fixed fields from the front of a body.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (first, rest) = self.0.split_first_chunk().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn long(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn word(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    /// Bytes behind a count of theirs.
    pub(super) fn counted(&mut self) -> Result<&'a [u8], String> {
        let count = self.word()? as usize;
        let (bytes, rest) = self.0.split_at_checked(count).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// Reads an entry's body.
pub(super) fn take(kind: Kind, body: &[u8]) -> Result<Entry<'_>, String> {
    let decoded = |error: DecodeError| error.to_string();
    let mut fields = Fields(body);
    match kind {
        Kind::Start => decode_config(body).map(Entry::Start).map_err(decoded),
        Kind::Load => saved(fields).map(Entry::Load),
        Kind::Checkpoint => saved(fields).map(Entry::Checkpoint),
        Kind::Step => Ok(Entry::Step(body)),
        Kind::Payload => Ok(Entry::Payload(body)),
        Kind::Outputs => {
            let hash = fields.long()?;
            if fields.0.is_empty() { Ok(Entry::Outputs(hash)) } else { Err("bytes too many".into()) }
        }
        Kind::Fault => {
            let [has_outputs] = fields.array()?;
            let hash = fields.long()?;
            let text = str::from_utf8(fields.0).map_err(|_| "text that is not UTF-8")?;
            Ok(Entry::Fault(Failure { outputs: (has_outputs == 1).then_some(hash), text }))
        }
        Kind::End if body.is_empty() => Ok(Entry::End),
        Kind::End => Err("bytes too many".into()),
    }
}

fn saved(mut fields: Fields<'_>) -> Result<Saved<'_>, String> {
    let (now, steps) = (fields.long()?, fields.long()?);
    let config = decode_config(fields.counted()?).map_err(|error| error.to_string())?;
    if fields.0.len() > bulkhead_wit::limits::SAVE {
        return Err("a state that is longer than any can be".into());
    }
    Ok(Saved { now, steps, config, state: fields.0 })
}
