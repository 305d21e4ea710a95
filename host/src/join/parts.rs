//! Payload in pieces, handed out frame by frame.

use std::io::IoSlice;

use crate::checksum::Sum;

/// Pieces that one frame is made of at most; longer lists of payload slices are copied together first. A datagram in
/// blocks of 2 KiB fits.
pub(crate) const PARTS: usize = 40;

/// Payload slices for which [`FEW`] pieces are surely enough.
pub(crate) const FEW_SLICES: usize = FEW - 2;

/// The usual number of pieces: clearing a list of [`PARTS`] for every frame would cost as much as all the rest.
pub(crate) const FEW: usize = 8;

/// The pieces of one frame.
pub(crate) struct Parts<'a, const N: usize> {
    list: [IoSlice<'a>; N],
    length: usize,
}

impl<'a, const N: usize> Parts<'a, N> {
    /// Begins with the header.
    pub(crate) fn new(header: &'a [u8]) -> Self {
        let mut parts = Self { list: [IoSlice::new(&[]); N], length: 0 };
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
    pub(crate) fn take<'p, const N: usize>(&mut self, mut count: usize, parts: &mut Parts<'p, N>) -> bool
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
