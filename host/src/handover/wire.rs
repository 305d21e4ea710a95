//! How single values are written and read: numbers in little endian at their full width, counts in front of lists. What is
//! read is bounded before anything is allocated.

use bulkhead_wit::{Address, Endpoint, Handle, Listening, MarkAt, Setting};
use std::fmt;
use std::net::SocketAddr;

/// Why bytes are not what a predecessor writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Malformed {
    what: &'static str,
    at: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the predecessor's state makes no sense at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, malformed)
    }
}

/// Reads from the first byte to the last.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole: bytes.len() }
    }

    /// An error about what was read last.
    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.whole - self.rest.len() }
    }

    /// The same where something does not hold.
    pub(crate) fn check(&self, holds: bool, what: &'static str) -> Result<(), Malformed> {
        if holds { Ok(()) } else { Err(self.malformed(what)) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(self.malformed("it is cut off"))?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn take<T: Carried>(&mut self) -> Result<T, Malformed> {
        T::take(self)
    }

    /// A count of elements, of which there are `most` at most, and each of which has a byte at least.
    pub(crate) fn count(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = u32::take(self)? as usize;
        self.check(count <= most && count <= self.rest.len(), "more than there can be")?;
        Ok(count)
    }

    pub(crate) fn list<T: Carried>(&mut self, most: usize) -> Result<Vec<T>, Malformed> {
        let count = self.count(most)?;
        (0..count).map(|_| T::take(self)).collect()
    }

    /// Bytes behind a count of theirs, at most `most`.
    pub(crate) fn bytes(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(u64::take(self)?).unwrap_or(usize::MAX);
        self.check(count <= most, "more bytes than there can be")?;
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(self.malformed("it is cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Nothing may be left.
    pub(crate) fn close(self) -> Result<(), Malformed> {
        self.check(self.rest.is_empty(), "bytes that belong to nothing")
    }
}

/// What is written and read.
pub(crate) trait Carried: Sized {
    fn put(&self, to: &mut Vec<u8>);

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

pub(crate) fn put_list<T: Carried>(list: &[T], to: &mut Vec<u8>) {
    put_count(list.len(), to);
    list.iter().for_each(|element| element.put(to));
}

/// No list that keeps its bound comes near `u32::MAX`.
pub(crate) fn put_count(count: usize, to: &mut Vec<u8>) {
    u32::try_from(count).unwrap_or(u32::MAX).put(to);
}

pub(crate) fn put_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    (bytes.len() as u64).put(to);
    to.extend_from_slice(bytes);
}

/// Several values, one after the other.
macro_rules! put {
    ($to:expr, $($value:expr),+ $(,)?) => {{$( $crate::handover::wire::Carried::put(&$value, $to); )+}};
}
pub(crate) use put;

/// A structure whose fields follow each other.
macro_rules! carried {
    ($($of:path { $($field:ident),+ $(,)? })+) => {$(
        impl $crate::handover::wire::Carried for $of {
            fn put(&self, to: &mut Vec<u8>) {
                $( $crate::handover::wire::Carried::put(&self.$field, to); )+
            }

            fn take(
                from: &mut $crate::handover::wire::Reader<'_>,
            ) -> Result<Self, $crate::handover::wire::Malformed> {
                // Fields are read in the order in which they are named.
                Ok(Self { $( $field: from.take()? ),+ })
            }
        }
    )+};
}
pub(crate) use carried;

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Carried for $number {
            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                from.array().map(Self::from_le_bytes)
            }
        }
    )*};
}
number!(u8, u16, u32, u64);

impl Carried for bool {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(from.malformed("neither yes nor no")),
        }
    }
}

impl<T: Carried> Carried for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if from.take()? { from.take().map(Some) } else { Ok(None) }
    }
}

impl<A: Carried, B: Carried> Carried for (A, B) {
    fn put(&self, to: &mut Vec<u8>) {
        put!(to, self.0, self.1);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((from.take()?, from.take()?))
    }
}

impl Carried for Handle {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.take().map(Self)
    }
}

impl Carried for MarkAt {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.take().map(Self)
    }
}

impl Carried for Listening {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.take().map(Self)
    }
}

impl Carried for SocketAddr {
    fn put(&self, to: &mut Vec<u8>) {
        Endpoint::from(*self).put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Endpoint::take(from).map(Self::from)
    }
}

carried! {
    Address { high, low }
    Endpoint { address, port }
    Setting { key, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let mut bytes = Vec::new();
        let end = Endpoint { address: Address::from_v4([10, 0, 0, 1]), port: 80 };
        put!(&mut bytes, 7u8, 8u64, true, Some(end), None::<u32>, (Handle(9), 3u16));
        put_list(&[1u32, 2, 3], &mut bytes);
        put_bytes(b"bytes", &mut bytes);
        let read = |bytes: &[u8]| -> Result<(), Malformed> {
            let mut from = Reader::new(bytes);
            assert_eq!((from.take::<u8>()?, from.take::<u64>()?, from.take::<bool>()?), (7, 8, true));
            assert_eq!((from.take::<Option<Endpoint>>()?, from.take::<Option<u32>>()?), (Some(end), None));
            assert_eq!(from.take::<(Handle, u16)>()?, (Handle(9), 3));
            assert_eq!(from.list::<u32>(3)?, [1, 2, 3]);
            assert_eq!(from.bytes(5)?, b"bytes");
            from.close()
        };
        read(&bytes).unwrap();
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(read(&longer).unwrap_err().to_string().contains("belong to nothing"));
    }

    #[test]
    fn counts_are_bounded_before_anything_is_allocated() {
        let mut bytes = vec![0xff; 4];
        assert!(Reader::new(&bytes).list::<u8>(usize::MAX).is_err());
        bytes.extend([0xff; 4]);
        assert!(Reader::new(&bytes).bytes(usize::MAX).is_err());
        assert!(Reader::new(&[2]).take::<bool>().is_err());
    }
}
