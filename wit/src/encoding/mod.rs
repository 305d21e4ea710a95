//! The one byte encoding of inputs and outputs, used by recordings, the process placement and fuzz corpora.
//!
//! Every value begins with two bytes, [`VERSION`] and what it is ([`Form`]). Then come its fields in the order in which
//! `bulkhead.wit` has them: numbers in little endian and at their full width, `bool`, enums and variants as one byte,
//! flags as one byte, lists and text as a `u32` count and the elements. There is no padding, no alignment and no
//! second way to write anything: what decodes is, encoded again, the same bytes.
//!
//! Encoding cannot fail and appends to a [`Sink`]: a `Vec`, or a [`Slice`] of shared memory. Decoding
//! trusts nothing: every count is compared with its bound in [`limits`] and with the bytes that are left before
//! anything is allocated, unknown tags and flags are errors, and so are bytes that are left over. It writes into
//! vectors that the caller keeps from step to step; after an error they are empty.

mod hash;
mod inputs;
mod life;
mod outputs;
mod wire;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use hash::hash_bytes;
pub use wire::{NoRoom, Sink, Slice};

use crate::limits;
use crate::types::{Batch, Config, Description, Inputs, Outputs, Summary};
use wire::{Reader, Wire as _, fixed, put_count, put_list};

/// The encoding's version, the first byte of every value. Another order or width of fields is another version.
pub const VERSION: u8 = 1;

/// What a value is: its second byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Form {
    /// The inputs of a step.
    Inputs = 1,
    /// The outputs of a step.
    Outputs = 2,
    /// What an instance is started with.
    Config = 3,
    /// What a module says of itself.
    Description = 4,
    /// What `load` answers.
    Summaries = 5,
}

/// The most bytes that the inputs of one step can take.
pub const INPUTS_MAX: usize = HEAD
    + fixed::U64
    + fixed::ROOM
    + 5 * fixed::COUNT
    + limits::HEADER_BYTES
    + limits::SEGMENTS * fixed::SEGMENT
    + limits::POSITIONS * fixed::POSITION
    + limits::MESSAGES * fixed::MESSAGE
    + limits::CALLS * inputs::CALL_MAX;

/// The most bytes that the outputs of one step can take.
pub const OUTPUTS_MAX: usize = HEAD
    + 2 * fixed::U64
    + 1
    + 6 * fixed::COUNT
    + limits::HEADER_BYTES
    + limits::SENDS * fixed::SEND
    + limits::PLACES * fixed::PLACE
    + limits::MARKS * fixed::MARK
    + limits::EVENTS * outputs::EVENT_MAX
    + limits::NOTES * outputs::NOTE_MAX;

/// Version and form.
const HEAD: usize = 2;

/// Why bytes are not what they should be. Offsets count from the first byte of the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Another version of the encoding.
    Version {
        /// The first byte.
        found: u8,
    },
    /// A value of another form.
    Form {
        /// What was asked for.
        expected: Form,
        /// The second byte.
        found: u8,
    },
    /// The value ends before its last field.
    Truncated {
        /// Where the field that is cut off begins.
        at: usize,
    },
    /// Bytes follow that belong to nothing.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// An enum, variant, flag or `bool` has a value that means nothing.
    Tag {
        /// Its type.
        of: &'static str,
        /// Its value.
        found: u8,
        /// At which byte of the message.
        at: usize,
    },
    /// A list or text is longer than its bound.
    Count {
        /// Of what.
        of: &'static str,
        /// How many there are said to be.
        count: u32,
        /// How many there may be.
        limit: usize,
    },
    /// Text is not UTF-8.
    Text {
        /// The byte of the message at which it begins.
        at: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found } => write!(f, "encoding version {found}, not {VERSION}"),
            Self::Form { expected, found } => write!(f, "a value of form {found}, not {expected:?}"),
            Self::Truncated { at } => write!(f, "cut off at byte {at}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes too many"),
            Self::Tag { of, found, at } => write!(f, "{found} is no {of} (byte {at})"),
            Self::Count { of, count, limit } => write!(f, "{count} {of} where {limit} are the most"),
            Self::Text { at } => write!(f, "text that is not UTF-8 (byte {at})"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Appends the inputs of a step, at most [`INPUTS_MAX`] bytes where they keep the limits.
pub fn encode_inputs(inputs: &Inputs<'_>, sink: &mut impl Sink) {
    put_head(Form::Inputs, sink);
    inputs.now.put(sink);
    inputs.room.put(sink);
    put_count(inputs.headers.len(), sink);
    sink.put(inputs.headers);
    put_list(inputs.segments, sink);
    put_list(inputs.positions, sink);
    put_list(inputs.messages, sink);
    put_list(inputs.calls, sink);
}

/// Reads the inputs of a step into `batch`, whatever was in it.
///
/// # Errors
/// Where the bytes are not exactly one value of this form, or exceed a limit; `batch` is empty then.
pub fn decode_inputs(bytes: &[u8], batch: &mut Batch) -> Result<(), DecodeError> {
    batch.clear();
    let outcome = Reader::open(bytes, Form::Inputs).and_then(|reader| inputs::take_batch(reader, batch));
    if outcome.is_err() {
        batch.clear();
    }
    outcome
}

/// Appends the outputs of a step, at most [`OUTPUTS_MAX`] bytes where they keep the limits.
pub fn encode_outputs(outputs: &Outputs, sink: &mut impl Sink) {
    put_head(Form::Outputs, sink);
    outputs.deadline.put(sink);
    outputs.deadline_of.put(sink);
    outputs.unfinished.put(sink);
    put_count(outputs.headers.len(), sink);
    sink.put(&outputs.headers);
    put_list(&outputs.sends, sink);
    put_list(&outputs.places, sink);
    put_list(&outputs.marks, sink);
    put_list(&outputs.events, sink);
    put_list(&outputs.notes, sink);
}

/// Reads the outputs of a step into `outputs`, whatever was in it.
///
/// # Errors
/// Where the bytes are not exactly one value of this form, or exceed a limit; `outputs` is empty then.
pub fn decode_outputs(bytes: &[u8], outputs: &mut Outputs) -> Result<(), DecodeError> {
    outputs.clear();
    let outcome =
        Reader::open(bytes, Form::Outputs).and_then(|reader| outputs::take_outputs(reader, outputs));
    if outcome.is_err() {
        outputs.clear();
    }
    outcome
}

/// The hash of a step's outputs that stands in a recording: [`hash_bytes`] of their encoding. `encoded` is memory for that,
/// which is used again from step to step.
#[must_use]
pub fn hash_outputs(outputs: &Outputs, encoded: &mut Vec<u8>) -> u64 {
    encoded.clear();
    encode_outputs(outputs, encoded);
    hash_bytes(encoded)
}

/// Appends a configuration.
pub fn encode_config(config: &Config, sink: &mut impl Sink) {
    put_head(Form::Config, sink);
    config.put(sink);
}

/// Reads a configuration.
///
/// # Errors
/// Where the bytes are not exactly one value of this form, or exceed a limit.
pub fn decode_config(bytes: &[u8]) -> Result<Config, DecodeError> {
    let mut reader = Reader::open(bytes, Form::Config)?;
    let config = Config::take(&mut reader)?;
    reader.close().map(|()| config)
}

/// Appends a description.
pub fn encode_description(description: &Description, sink: &mut impl Sink) {
    put_head(Form::Description, sink);
    description.put(sink);
}

/// Reads a description.
///
/// # Errors
/// Where the bytes are not exactly one value of this form, or exceed a limit.
pub fn decode_description(bytes: &[u8]) -> Result<Description, DecodeError> {
    let mut reader = Reader::open(bytes, Form::Description)?;
    let description = Description::take(&mut reader)?;
    reader.close().map(|()| description)
}

/// Appends the answer of `load`.
pub fn encode_summaries(summaries: &[Summary], sink: &mut impl Sink) {
    put_head(Form::Summaries, sink);
    put_list(summaries, sink);
}

/// Reads the answer of `load`.
///
/// # Errors
/// Where the bytes are not exactly one value of this form, or exceed a limit.
pub fn decode_summaries(bytes: &[u8]) -> Result<Vec<Summary>, DecodeError> {
    let mut reader = Reader::open(bytes, Form::Summaries)?;
    let mut summaries = Vec::new();
    reader.list("summaries", limits::CONNECTIONS as usize, &mut summaries)?;
    reader.close().map(|()| summaries)
}

fn put_head(form: Form, sink: &mut impl Sink) {
    sink.put(&[VERSION, form as u8]);
}

impl<'a> Reader<'a> {
    /// Reads version and form.
    fn open(bytes: &'a [u8], expected: Form) -> Result<Self, DecodeError> {
        let mut reader = Self::new(bytes);
        match reader.array()? {
            [VERSION, found] if found == expected as u8 => Ok(reader),
            [VERSION, found] => Err(DecodeError::Form { expected, found }),
            [found, _] => Err(DecodeError::Version { found }),
        }
    }

    /// Reads text of at most `limit` bytes.
    fn text(&mut self, of: &'static str, limit: usize) -> Result<String, DecodeError> {
        let at = self.position();
        let mut bytes = Vec::new();
        self.bytes(of, limit, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| DecodeError::Text { at })
    }
}
