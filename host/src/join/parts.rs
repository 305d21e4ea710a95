//! Payload in pieces, handed out frame by frame.

use std::io::IoSlice;

use crate::checksum::Sum;

/// Pieces that one frame is made of at most; longer lists of payload slices are copied together first.
pub(crate) const PARTS: usize = 32;

/// The pieces of one frame.
pub(crate) struct Parts<'a> {
    list: [IoSlice<'a>; PARTS],
    length: usize,
}

impl<'a> Parts<'a> {
    /// Begins with the header.
    pub(crate) fn new(header: &'a [u8]) -> Self {
        let mut parts = Self { list: [IoSlice::new(&[]); PARTS], length: 0 };
        parts.push(header);
        parts
    }

    /// Adds a piece; `false` if there are too many.
    pub(crate) fn push(&mut self, piece: &'a [u8]) -> bool {
        let Some(place) = self.list.get_mut(self.length) else { return false };
        *place = IoSlice::new(piece);
        self.length += 1;
        true
    }

    pub(crate) fn as_slice(&self) -> &[IoSlice<'a>] {
        self.list.get(..self.length).unwrap_or_default()
    }
}

/// Walks through slices.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    current: &'a [u8],
    rest: &'a [&'a [u8]],
}

impl<'a> Cursor<'a> {
    /// At the beginning of `first`, which `rest` follows.
    pub(crate) const fn new(first: &'a [u8], rest: &'a [&'a [u8]]) -> Self {
        Self { current: first, rest }
    }

    /// Appends the next `count` bytes to `parts`; `false` if there are not so many bytes, or too many pieces.
    pub(crate) fn take<'p>(&mut self, mut count: usize, parts: &mut Parts<'p>) -> bool
    where
        'a: 'p,
    {
        while count > 0 {
            if self.current.is_empty() {
                let Some((next, rest)) = self.rest.split_first() else { return false };
                (self.current, self.rest) = (next, rest);
                continue;
            }
            let (piece, left) = self.current.split_at(count.min(self.current.len()));
            if !parts.push(piece) {
                return false;
            }
            count -= piece.len();
            self.current = left;
        }
        true
    }

    /// The checksum's sum of the next `count` bytes, without going on; of fewer if there are not so many.
    pub(crate) fn sum_ahead(mut self, mut count: usize) -> Sum {
        let mut sum = Sum::new();
        loop {
            let piece = self.current.get(..count.min(self.current.len())).unwrap_or_default();
            sum.add(piece);
            count -= piece.len();
            match self.rest.split_first() {
                Some((next, rest)) if count > 0 => (self.current, self.rest) = (next, rest),
                _ => return sum,
            }
        }
    }
}
