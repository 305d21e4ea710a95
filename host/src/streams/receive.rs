//! A receive stream: what arrived, in order and beyond holes, until the application reads it.
//!
//! Offsets count from the stream's first byte. Inspect has made sure that places lie within the limit and overlap
//! nothing, and that only placed bytes are exposed.

use super::blocks::{self, Blocks};
use crate::frame::FrameSlice;
use bytes::Bytes;
use std::collections::VecDeque;

/// Payloads from so many bytes on are kept by reference to their frame; smaller ones are copied together, since a
/// reference holds its whole frame.
pub const KEEP_MIN: usize = 4096;

/// A stream with nothing in it keeps no list: idle connections are many.
pub(super) fn idle<T>(chunks: &mut VecDeque<T>) {
    if chunks.is_empty() && chunks.capacity() > 0 {
        *chunks = VecDeque::new();
    }
}

#[derive(Debug)]
enum Data {
    Copied(Vec<u8>),
    Kept(FrameSlice),
}

#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) at: u64,
    data: Data,
}

impl Chunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Copied(bytes) => bytes,
            Data::Kept(slice) => slice,
        }
    }

    fn end(&self) -> u64 {
        self.at + self.bytes().len() as u64
    }

    /// Memory that this chunk holds, which is what credit counts.
    fn held(&self) -> usize {
        match &self.data {
            Data::Copied(bytes) => bytes.capacity(),
            Data::Kept(slice) => slice.memory(),
        }
    }
}

/// Bytes from `consumed` on, in chunks ordered by offset, with holes beyond `exposed`.
#[derive(Debug, Default)]
pub struct ReceiveStream {
    pub(crate) chunks: VecDeque<Chunk>,
    pub(crate) consumed: u64,
    pub(crate) exposed: u64,
    held: usize,
}

impl ReceiveStream {
    /// Bytes that the application has read.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes in order that the application has not read.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.exposed - self.consumed
    }

    /// The end of what may be read: an offset in bytes.
    #[must_use]
    pub fn exposed(&self) -> u64 {
        self.exposed
    }

    /// Memory held, whole frames counted.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Puts bytes where they belong: by reference if they are many and `keep` says so, else as a copy.
    pub fn place(&mut self, at: u64, payload: FrameSlice, keep: bool, blocks: &mut Blocks) {
        let next = self.chunks.partition_point(|chunk| chunk.at < at);
        if keep && payload.len() >= KEEP_MIN {
            self.held += payload.memory();
            self.chunks.insert(next, Chunk { at, data: Data::Kept(payload) });
            return;
        }
        let rest = self.append_to_neighbour(next, at, &payload);
        if !rest.is_empty() {
            let at = at + (payload.len() - rest.len()) as u64;
            let size = if self.chunks.is_empty() { rest.len() } else { rest.len().max(blocks::MEDIUM) };
            let mut bytes = blocks.take(size);
            self.held += bytes.capacity();
            bytes.extend_from_slice(rest);
            let next = self.chunks.partition_point(|chunk| chunk.at < at);
            self.chunks.insert(next, Chunk { at, data: Data::Copied(bytes) });
        }
    }

    /// Copies what fits into the chunk that ends where this payload begins; returns what does not.
    fn append_to_neighbour<'a>(&mut self, next: usize, at: u64, payload: &'a [u8]) -> &'a [u8] {
        let Some(neighbour) = next.checked_sub(1).and_then(|index| self.chunks.get_mut(index)) else {
            return payload;
        };
        if neighbour.end() != at {
            return payload;
        }
        let Data::Copied(bytes) = &mut neighbour.data else { return payload };
        let (now, later) = payload.split_at(payload.len().min(bytes.capacity() - bytes.len()));
        bytes.extend_from_slice(now);
        later
    }

    /// Lets the application read up to `to`, an offset in bytes.
    pub fn expose(&mut self, to: u64) {
        self.exposed = self.exposed.max(to);
    }

    /// The next bytes without taking them: a part of what is readable, empty only if nothing is.
    #[must_use]
    pub fn peek(&self) -> &[u8] {
        let Some(first) = self.chunks.front() else { return &[] };
        let bytes = first.bytes();
        let from = self.consumed.saturating_sub(first.at).min(bytes.len() as u64);
        let to = self.exposed.saturating_sub(first.at).min(bytes.len() as u64);
        &bytes[from as usize..to.max(from) as usize]
    }

    /// Takes bytes that [`peek`](Self::peek) has shown.
    pub fn consume(&mut self, count: usize, blocks: &mut Blocks) {
        self.consumed = (self.consumed + count as u64).min(self.exposed);
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= self.consumed) {
            if let Some(chunk) = self.chunks.pop_front() {
                self.release(chunk, blocks);
            }
        }
        idle(&mut self.chunks);
    }

    /// Copies out as much as fits.
    pub fn read(&mut self, into: &mut [u8], blocks: &mut Blocks) -> usize {
        let mut filled = 0;
        while filled < into.len() {
            let next = self.peek();
            if next.is_empty() {
                break;
            }
            let count = next.len().min(into.len() - filled);
            into[filled..filled + count].copy_from_slice(&next[..count]);
            filled += count;
            self.consume(count, blocks);
        }
        filled
    }

    /// Takes the next bytes, at most `most`: without a copy where they are kept by reference and `lend` allows it.
    pub fn take(&mut self, most: usize, lend: bool, blocks: &mut Blocks) -> Bytes {
        let next = self.peek();
        let next = &next[..next.len().min(most)];
        let count = next.len();
        let taken = match self.chunks.front() {
            Some(Chunk { at, data: Data::Kept(slice) }) if lend => {
                let from = (self.consumed - at) as usize;
                Bytes::from_owner(slice.slice(from..from + count))
            }
            _ => Bytes::copy_from_slice(next),
        };
        self.consume(count, blocks);
        taken
    }

    /// Copies out as much as fits, and leaves it readable.
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        let mut filled = 0;
        let mut at = self.consumed;
        for chunk in &self.chunks {
            let bytes = chunk.bytes();
            let from = at.saturating_sub(chunk.at).min(bytes.len() as u64) as usize;
            let to = self.exposed.saturating_sub(chunk.at).min(bytes.len() as u64) as usize;
            let count = to.saturating_sub(from).min(into.len() - filled);
            into[filled..filled + count].copy_from_slice(&bytes[from..from + count]);
            filled += count;
            at += count as u64;
            if count == 0 || filled == into.len() {
                break;
            }
        }
        filled
    }

    /// Drops everything that was not read: nobody will.
    pub fn clear(&mut self, blocks: &mut Blocks) {
        for chunk in std::mem::take(&mut self.chunks) {
            self.release(chunk, blocks);
        }
    }

    fn release(&mut self, chunk: Chunk, blocks: &mut Blocks) {
        self.held = self.held.saturating_sub(chunk.held());
        if let Data::Copied(bytes) = chunk.data {
            blocks.give(bytes);
        }
    }
}
