//! How single fields are written and read, and where to and from.

use alloc::vec::Vec;
use core::fmt;

use super::DecodeError;
use crate::types::{Address, Endpoint, Handle, Prefix, Service, Setting};

/// Where encoded bytes go.
pub trait Sink {
    /// Appends these bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends records of one width, one after the other.
    #[inline]
    fn put_records<const N: usize>(&mut self, records: impl ExactSizeIterator<Item = [u8; N]>) {
        records.for_each(|record| self.put(&record));
    }
}

/// Writes records into room for them.
#[inline]
fn fill<const N: usize>(room: &mut [u8], records: impl Iterator<Item = [u8; N]>) {
    let (places, _) = room.as_chunks_mut();
    for (place, record) in places.iter_mut().zip(records) {
        *place = record;
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_records<const N: usize>(&mut self, records: impl ExactSizeIterator<Item = [u8; N]>) {
        let at = self.len();
        self.resize(at.saturating_add(records.len().saturating_mul(N)), 0);
        fill(self.get_mut(at..).unwrap_or_default(), records);
    }
}

/// Encodes into memory of a fixed size, such as a ring that is shared with another process.
#[derive(Debug)]
pub struct Slice<'a> {
    room: &'a mut [u8],
    /// Bytes appended, whether they found room or not.
    length: usize,
}

/// A [`Slice`] was too short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom {
    /// Bytes that the value takes.
    pub needed: usize,
    /// Bytes that there were.
    pub room: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit into {}", self.needed, self.room)
    }
}

impl core::error::Error for NoRoom {}

impl<'a> Slice<'a> {
    /// Begins at the first byte of `room`.
    #[must_use]
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, length: 0 }
    }

    /// How many bytes were written.
    ///
    /// # Errors
    /// Where the value did not fit: how much it needs. What was written is then worth nothing.
    pub fn finish(self) -> Result<usize, NoRoom> {
        if self.length > self.room.len() {
            return Err(NoRoom { needed: self.length, room: self.room.len() });
        }
        Ok(self.length)
    }
}

impl Sink for Slice<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(room) = self.room.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
        }
        self.length = end;
    }

    #[inline]
    fn put_records<const N: usize>(&mut self, records: impl ExactSizeIterator<Item = [u8; N]>) {
        let end = self.length.saturating_add(records.len().saturating_mul(N));
        if let Some(room) = self.room.get_mut(self.length..end) {
            fill(room, records);
        }
        self.length = end;
    }
}

/// Reads a value from its first byte to its last.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Length of the whole value.
    whole: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole: bytes.len() }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.whole - self.rest.len()
    }

    /// The next `N` bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) =
            self.rest.split_first_chunk().ok_or(DecodeError::Truncated { at: self.position() })?;
        self.rest = rest;
        Ok(*array)
    }

    /// A count that neither exceeds `limit` nor, at `least` bytes an element, the bytes that are left.
    fn count(&mut self, of: &'static str, limit: usize, least: usize) -> Result<usize, DecodeError> {
        let count = u32::take(self)?;
        let length = count as usize;
        if length > limit {
            return Err(DecodeError::Count { of, count, limit });
        }
        if length.saturating_mul(least) > self.rest.len() {
            return Err(DecodeError::Truncated { at: self.position() });
        }
        Ok(length)
    }

    /// Reads a list into `list`, which is empty.
    pub(super) fn list<T: Wire>(
        &mut self,
        of: &'static str,
        limit: usize,
        list: &mut Vec<T>,
    ) -> Result<(), DecodeError> {
        let count = self.count(of, limit, T::LEAST)?;
        list.reserve(count);
        for _ in 0..count {
            list.push(T::take(self)?);
        }
        Ok(())
    }

    /// Reads a list of bytes into `list`, which is empty.
    pub(super) fn bytes(
        &mut self,
        of: &'static str,
        limit: usize,
        list: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let count = self.count(of, limit, 1)?;
        let at = self.position();
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated { at })?;
        list.extend_from_slice(bytes);
        self.rest = rest;
        Ok(())
    }

    /// Nothing may be left.
    pub(super) fn close(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }
}

/// What can be written and read.
pub(super) trait Wire: Sized {
    /// The fewest bytes that a value takes; of a type of fixed width, the bytes that it takes.
    const LEAST: usize;

    fn put(&self, sink: &mut impl Sink);

    /// All of them, one after the other.
    #[inline]
    fn put_all(list: &[Self], sink: &mut impl Sink) {
        list.iter().for_each(|element| element.put(sink));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Writes a count. No list that keeps its limit comes near `u32::MAX`; one beyond it becomes a count that no decoder takes.
pub(super) fn put_count(count: usize, sink: &mut impl Sink) {
    u32::try_from(count).unwrap_or(u32::MAX).put(sink);
}

/// Writes a count and the elements.
pub(super) fn put_list<T: Wire>(list: &[T], sink: &mut impl Sink) {
    put_count(list.len(), sink);
    T::put_all(list, sink);
}

/// Writes a count and the bytes of a text.
pub(super) fn put_text(text: &str, sink: &mut impl Sink) {
    put_count(text.len(), sink);
    sink.put(text.as_bytes());
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            const LEAST: usize = size_of::<$number>();

            #[inline]
            fn put(&self, sink: &mut impl Sink) {
                sink.put(&self.to_le_bytes());
            }

            #[inline]
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_le_bytes)
            }
        }
    )*};
}
number!(u8, u16, u32, u64);

/// A record of fixed width: its fields in order. Naming all of them is checked by the compiler. It is put together, and
/// taken apart, in an array of its own, so that there is one bounds check a record and not one a field.
macro_rules! record {
    (@bytes $value:ident $name:ident { $($field:ident: $kind:ty),* }) => {{
        let $name { $($field),* } = $value;
        let mut bytes = [0; <$name as $crate::encoding::wire::Wire>::LEAST];
        let mut slice = $crate::encoding::wire::Slice::new(&mut bytes);
        $(<$kind as $crate::encoding::wire::Wire>::put($field, &mut slice);)*
        bytes
    }};
    ($name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        impl $crate::encoding::wire::Wire for $name {
            const LEAST: usize = 0 $(+ <$kind as $crate::encoding::wire::Wire>::LEAST)*;

            #[inline]
            fn put(&self, sink: &mut impl $crate::encoding::wire::Sink) {
                sink.put(&record!(@bytes self $name { $($field: $kind),* }));
            }

            #[inline]
            fn put_all(list: &[Self], sink: &mut impl $crate::encoding::wire::Sink) {
                sink.put_records(list.iter().map(|one| record!(@bytes one $name { $($field: $kind),* })));
            }

            #[inline]
            fn take(
                reader: &mut $crate::encoding::wire::Reader<'_>,
            ) -> Result<Self, $crate::encoding::DecodeError> {
                let at = reader.position();
                let bytes: [u8; <$name as $crate::encoding::wire::Wire>::LEAST] = reader.array()?;
                let mut own = $crate::encoding::wire::Reader::new(&bytes);
                $(let $field = <$kind as $crate::encoding::wire::Wire>::take(&mut own)
                    .map_err(|error| error.shifted(at))?;)*
                Ok(Self { $($field),* })
            }
        }
    };
}

/// An enum without payload, or a variant with one: a byte, then what belongs to it. The numbers are the positions in
/// `bulkhead.wit`, which a test compares.
macro_rules! tagged {
    ($name:ident, $text:literal, least $least:expr, { $($tag:literal = $case:ident $(($payload:ty))?),* $(,)? }) => {
        impl $crate::encoding::wire::Wire for $name {
            const LEAST: usize = $least;

            #[inline]
            fn put(&self, sink: &mut impl $crate::encoding::wire::Sink) {
                match self {
                    $(tagged!(@pattern payload $case $(($payload))?) => {
                        sink.put(&[$tag]);
                        $(<$payload as $crate::encoding::wire::Wire>::put(payload, sink);)?
                    })*
                }
            }

            #[inline]
            fn take(
                reader: &mut $crate::encoding::wire::Reader<'_>,
            ) -> Result<Self, $crate::encoding::DecodeError> {
                let at = reader.position();
                match <u8 as $crate::encoding::wire::Wire>::take(reader)? {
                    $($tag => Ok(Self::$case $((<$payload as $crate::encoding::wire::Wire>::take(reader)?))?),)*
                    found => Err($crate::encoding::DecodeError::Tag { of: $text, found, at }),
                }
            }
        }
    };
    (@pattern $bound:ident $case:ident) => { Self::$case };
    (@pattern $bound:ident $case:ident ($payload:ty)) => { Self::$case($bound) };
}

/// A set of flags in one byte; a bit that means nothing is an error.
macro_rules! flags {
    ($name:ident, $text:literal, $known:literal) => {
        impl $crate::encoding::wire::Wire for $name {
            const LEAST: usize = 1;

            #[inline]
            fn put(&self, sink: &mut impl $crate::encoding::wire::Sink) {
                sink.put(&[self.0]);
            }

            #[inline]
            fn take(
                reader: &mut $crate::encoding::wire::Reader<'_>,
            ) -> Result<Self, $crate::encoding::DecodeError> {
                let at = reader.position();
                let found = <u8 as $crate::encoding::wire::Wire>::take(reader)?;
                if found & !$known != 0 {
                    return Err($crate::encoding::DecodeError::Tag { of: $text, found, at });
                }
                Ok(Self(found))
            }
        }
    };
}

pub(super) use {flags, record, tagged};

impl DecodeError {
    /// The same, of a part that begins at `by`.
    pub(super) fn shifted(self, by: usize) -> Self {
        match self {
            Self::Truncated { at } => Self::Truncated { at: at + by },
            Self::Tag { of, found, at } => Self::Tag { of, found, at: at + by },
            Self::Text { at } => Self::Text { at: at + by },
            other => other,
        }
    }
}

impl Wire for bool {
    const LEAST: usize = 1;

    #[inline]
    fn put(&self, sink: &mut impl Sink) {
        sink.put(&[u8::from(*self)]);
    }

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(DecodeError::Tag { of: "bool", found, at }),
        }
    }
}

impl Wire for Handle {
    const LEAST: usize = u64::LEAST;

    #[inline]
    fn put(&self, sink: &mut impl Sink) {
        self.0.put(sink);
    }

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(reader).map(Self)
    }
}

/// A seed.
impl Wire for (u64, u64, u64, u64) {
    const LEAST: usize = 4 * u64::LEAST;

    fn put(&self, sink: &mut impl Sink) {
        for word in [self.0, self.1, self.2, self.3] {
            word.put(sink);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((u64::take(reader)?, u64::take(reader)?, u64::take(reader)?, u64::take(reader)?))
    }
}

record!(Address { high: u64, low: u64 });
record!(Endpoint { address: Address, port: u16 });
record!(Prefix { address: Address, length: u8 });
record!(Setting { key: u16, value: u64 });
record!(Service { kind: u8, value: u16 });

/// Widths, for the sums in [`INPUTS_MAX`](super::INPUTS_MAX) and [`OUTPUTS_MAX`](super::OUTPUTS_MAX).
pub(super) mod fixed {
    use super::Wire;
    use crate::types as t;

    pub(in crate::encoding) const COUNT: usize = u32::LEAST;
    pub(in crate::encoding) const U64: usize = u64::LEAST;
    pub(in crate::encoding) const ROOM: usize = t::Room::LEAST;
    pub(in crate::encoding) const SEGMENT: usize = t::Segment::LEAST;
    pub(in crate::encoding) const POSITION: usize = t::Position::LEAST;
    pub(in crate::encoding) const MESSAGE: usize = t::Message::LEAST;
    pub(in crate::encoding) const SEND: usize = t::Send::LEAST;
    pub(in crate::encoding) const PLACE: usize = t::Place::LEAST;
    pub(in crate::encoding) const MARK: usize = t::Mark::LEAST;
}
