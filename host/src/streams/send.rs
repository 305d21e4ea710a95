//! A send queue: what the application wrote and the peer has not acknowledged.
//!
//! Offsets count from the stream's first byte. Sequence numbers are not known here.

use super::blocks::{self, Blocks};
use super::receive::{KEEP_MIN, idle};
use bytes::Bytes;
use std::collections::VecDeque;

#[derive(Debug)]
enum Data {
    Copied(Vec<u8>),
    Lent(Bytes),
}

#[derive(Debug)]
struct Chunk {
    at: u64,
    data: Data,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Copied(bytes) => bytes,
            Data::Lent(bytes) => bytes,
        }
    }

    fn end(&self) -> u64 {
        self.at + self.bytes().len() as u64
    }
}

/// Bytes from `acknowledged` to `written`, in chunks that are never moved.
#[derive(Debug, Default)]
pub struct SendQueue {
    chunks: VecDeque<Chunk>,
    pub(crate) acknowledged: u64,
    pub(crate) written: u64,
}

impl SendQueue {
    /// Bytes written since the beginning.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the queue holds.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.written - self.acknowledged
    }

    /// Appends as much of `bytes` as `space` allows; returns how much that was.
    pub fn write(&mut self, bytes: &[u8], space: u64, blocks: &mut Blocks) -> usize {
        let wanted = bytes.len().min(usize::try_from(space).unwrap_or(usize::MAX));
        let mut rest = &bytes[..wanted];
        while !rest.is_empty() {
            let last = match self.chunks.back_mut() {
                Some(Chunk { data: Data::Copied(last), .. }) if last.len() < last.capacity() => last,
                _ => {
                    let data = Data::Copied(blocks.take(rest.len()));
                    self.chunks.push_back(Chunk { at: self.written, data });
                    continue;
                }
            };
            let (now, later) = rest.split_at((last.capacity() - last.len()).min(rest.len()));
            last.extend_from_slice(now);
            self.written += now.len() as u64;
            rest = later;
        }
        wanted
    }

    /// As [`write`](Self::write), without a copy of what is worth keeping by reference.
    pub fn lend(&mut self, bytes: &Bytes, space: u64, blocks: &mut Blocks) -> usize {
        let wanted = bytes.len().min(usize::try_from(space).unwrap_or(usize::MAX));
        if wanted < KEEP_MIN {
            return self.write(bytes, space, blocks);
        }
        blocks.borrow(wanted);
        self.chunks.push_back(Chunk { at: self.written, data: Data::Lent(bytes.slice(..wanted)) });
        self.written += wanted as u64;
        wanted
    }

    /// The bytes of a range, in order, as slices. What lies outside the queue is left out: inspect has made sure
    /// that there is no such thing.
    pub fn slices(&self, at: u64, length: u32) -> impl Iterator<Item = &[u8]> {
        let end = at + u64::from(length);
        let first = self.chunks.partition_point(|chunk| chunk.end() <= at);
        self.chunks.range(first..).take_while(move |chunk| chunk.at < end).map(move |chunk| {
            let bytes = chunk.bytes();
            let from = at.saturating_sub(chunk.at).min(bytes.len() as u64);
            let to = (end - chunk.at).min(bytes.len() as u64);
            &bytes[from as usize..to as usize]
        })
    }

    /// Drops everything before `to`.
    pub fn acknowledge(&mut self, to: u64, blocks: &mut Blocks) {
        self.acknowledged = to.clamp(self.acknowledged, self.written);
        while self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.end() <= self.acknowledged && !chunk.bytes().is_empty())
        {
            if let Some(chunk) = self.chunks.pop_front() {
                give_back(chunk, blocks);
            }
        }
        idle(&mut self.chunks);
    }

    /// Drops everything; the numbers stay.
    pub fn clear(&mut self, blocks: &mut Blocks) {
        self.chunks.drain(..).for_each(|chunk| give_back(chunk, blocks));
        self.chunks = VecDeque::new();
        self.acknowledged = self.written;
    }
}

fn give_back(chunk: Chunk, blocks: &mut Blocks) {
    match chunk.data {
        Data::Copied(bytes) => blocks.give(bytes),
        Data::Lent(bytes) => blocks.restore(bytes.len()),
    }
}

/// How many bytes a bulk writer should hand over at once.
pub const BULK: usize = blocks::LARGE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back_as_written_across_chunks_and_after_trimming() {
        let mut blocks = Blocks::default();
        let mut queue = SendQueue::default();
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
        let mut fed = 0;
        for size in [1usize, 100, 3000, 70_000, 200_000, 26_899].into_iter() {
            fed += queue.write(&bytes[fed..fed + size], u64::MAX, &mut blocks);
        }
        assert_eq!(fed, bytes.len());
        let mut to = 0u64;
        for at in (0..300_000u64).step_by(7919) {
            let length = 65_000.min(300_000 - at) as u32;
            let got: Vec<u8> = queue.slices(at, length).flatten().copied().collect();
            assert_eq!(got, bytes[at as usize..at as usize + length as usize]);
            queue.acknowledge(to, &mut blocks);
            to = at;
        }
        queue.acknowledge(300_000, &mut blocks);
        assert_eq!((queue.held(), blocks.held()), (0, 0));
        // Lent bytes lie between copied ones, and are counted while they are held.
        let lent = Bytes::from(bytes[..50_000].to_vec());
        assert_eq!(queue.write(b"ab", 10, &mut blocks), 2);
        assert_eq!(queue.lend(&lent, 40_000, &mut blocks), 40_000);
        assert_eq!(queue.lend(&lent.slice(40_000..40_003), 40_000, &mut blocks), 3);
        assert!(blocks.held() >= 40_000);
        let got: Vec<u8> = queue.slices(300_001, 40_004).flatten().copied().collect();
        assert!(got[0] == b'b' && got[1..] == bytes[..40_003]);
        queue.acknowledge(340_005, &mut blocks);
        assert_eq!((queue.held(), blocks.held()), (0, 0));
        assert_eq!(queue.write(b"more", 2, &mut blocks), 2);
        assert_eq!(queue.slices(340_005, 2).flatten().copied().collect::<Vec<_>>(), b"mo");
    }
}
