//! Frames in pooled buffers, shared by reference.
//!
//! A device reads a frame into a buffer of the pool; from then on the bytes never change, and the frame and parts of
//! its payload are [`FrameSlice`]s that keep the buffer alive. The pool keeps one reference of its own and takes a
//! buffer back when it is the only one left, so that the steady state allocates nothing and needs no lock: slices
//! may be dropped on any thread.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bulkhead_wit::limits;

use crate::device::Offload;

/// Bytes in front of the datagram for what a device reads along with it: a virtio-net header.
pub const HEADROOM: usize = 16;

/// Bytes of one buffer: headroom, an IPv6 header and the longest payload of one (RFC 8200 3), rounded up.
pub const BUFFER_BYTES: usize = (HEADROOM + 40 + limits::DATAGRAM).next_multiple_of(64);

/// The default bound of a pool, in buffers: two full steps in flight, and as much again kept by receive streams.
pub const POOL_BUFFERS: usize = 4 * limits::SEGMENTS;

/// Frames between two counts of the buffers in use, once a pool is nearly full.
const RECOUNT: u32 = 64;

/// Lent buffers looked at by one [`FramePool::fill`] before a new one is allocated.
const LOOKS: usize = 16;

/// Buffers for arriving frames, bounded in number.
///
/// `memory()` says what is allocated. When the bound is reached and every buffer is still in use, [`fill`] says so
/// with [`io::ErrorKind::OutOfMemory`] and the frame stays in the device: whoever keeps slices should copy and drop
/// some.
///
/// [`fill`]: FramePool::fill
pub struct FramePool {
    buffers_max: usize,
    /// Buffers that nobody else refers to.
    free: Vec<Arc<[u8]>>,
    /// Buffers that frames were made of; those whose other references are gone are taken back as they come up.
    lent: VecDeque<Arc<[u8]>>,
    /// Buffers in use when they were last counted, and frames since.
    in_use: usize,
    since_count: u32,
}

impl FramePool {
    /// A pool of at most `buffers_max` buffers of [`BUFFER_BYTES`]; none is allocated yet.
    #[must_use]
    pub fn new(buffers_max: usize) -> Self {
        let (free, lent) = (Vec::new(), VecDeque::new());
        Self { buffers_max, free, lent, in_use: 0, since_count: RECOUNT }
    }

    /// Lets `read` write into a free buffer. It returns where in the buffer the frame lies and what the device says of
    /// it, or `None` if there was nothing to read.
    ///
    /// # Errors
    /// What `read` fails with, and [`io::ErrorKind::OutOfMemory`] when all buffers are in use.
    pub fn fill<F>(&mut self, read: F) -> io::Result<Option<Frame>>
    where
        F: FnOnce(&mut [u8]) -> io::Result<Option<(Range<usize>, Offload)>>,
    {
        let mut buffer = self.take().ok_or_else(|| {
            io::Error::new(io::ErrorKind::OutOfMemory, "all frame buffers are held by receive streams")
        })?;
        // The only reference: take() saw to that.
        let read = read(Arc::get_mut(&mut buffer).unwrap_or_default());
        let (range, offload) = match read {
            Ok(Some(got)) => got,
            nothing => {
                self.free.push(buffer);
                return nothing.map(|_| None);
            }
        };
        let bytes = FrameSlice::of(Arc::clone(&buffer), range);
        self.lent.push_back(buffer);
        self.since_count = self.since_count.saturating_add(1);
        Ok(Some(Frame { bytes, offload }))
    }

    /// A frame with these bytes, copied into a buffer: for datagrams that were put together rather than received.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] when all buffers are in use, [`io::ErrorKind::InvalidInput`] when the bytes do
    /// not fit into one.
    pub fn copy(&mut self, parts: &[io::IoSlice<'_>], offload: Offload) -> io::Result<Frame> {
        let filled = self.fill(|space| {
            let mut end = HEADROOM;
            for part in parts {
                let room = space.get_mut(end..end + part.len()).ok_or(io::ErrorKind::InvalidInput)?;
                room.copy_from_slice(part);
                end += part.len();
            }
            Ok(Some((HEADROOM..end, offload)))
        })?;
        filled.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Bytes of all buffers, in use or free.
    #[must_use]
    pub fn memory(&self) -> usize {
        (self.free.len() + self.lent.len()) * BUFFER_BYTES
    }

    /// Whether three quarters of the bound are held by slices: time to copy payloads out rather than to keep them.
    ///
    /// A receive stream must heed it. Whoever keeps 4 KiB of a buffer of 64 KiB, and is not read, would otherwise use up
    /// the pool of all connections, and no acknowledgement could arrive any more. Costs next to nothing until the pool
    /// has grown so far, and a look at every buffer each 64 frames from then on.
    pub fn is_pressed(&mut self) -> bool {
        let much = self.buffers_max - self.buffers_max / 4;
        if self.lent.len() < much {
            return false;
        }
        if self.since_count >= RECOUNT {
            self.since_count = 0;
            self.in_use = self.count_in_use();
        }
        self.in_use >= much
    }

    fn count_in_use(&self) -> usize {
        self.lent.iter().filter(|buffer| Arc::strong_count(buffer) > 1).count()
    }

    /// Gives the memory of unused buffers back, but for `keep` of them.
    pub fn trim(&mut self, keep: usize) {
        self.free.truncate(keep);
        // Those that are free come up again before any that was not used for long.
        self.lent.retain(|buffer| {
            let is_used = Arc::strong_count(buffer) > 1;
            if !is_used && self.free.len() < keep {
                self.free.push(Arc::clone(buffer));
            }
            is_used
        });
        self.since_count = RECOUNT;
    }

    /// A buffer with no other reference to it: of those that have become free the last, which is in a cache still.
    fn take(&mut self) -> Option<Arc<[u8]>> {
        while let Some(buffer) = self.lent.pop_front_if(|buffer| Arc::strong_count(buffer) == 1) {
            self.free.push(buffer);
        }
        if let Some(buffer) = self.free.pop() {
            return Some(buffer);
        }
        let full = self.lent.len() >= self.buffers_max;
        let looks = if full { self.lent.len() } else { self.lent.len().min(LOOKS) };
        for _ in 0..looks {
            let buffer = self.lent.pop_front()?;
            // One reference is ours, so that nobody can make another; fill() makes sure of it.
            if Arc::strong_count(&buffer) == 1 {
                return Some(buffer);
            }
            self.lent.push_back(buffer);
        }
        if full { None } else { Some(std::iter::repeat_n(0, BUFFER_BYTES).collect()) }
    }
}

impl Default for FramePool {
    fn default() -> Self {
        Self::new(POOL_BUFFERS)
    }
}

impl fmt::Debug for FramePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FramePool({} free, {} lent)", self.free.len(), self.lent.len())
    }
}

/// A frame as a device delivered it: a datagram from the network header on, and what the device says of it.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The bytes from the network header on.
    pub bytes: FrameSlice,
    /// What the device has done already, or left to do.
    pub offload: Offload,
}

impl Frame {
    /// A frame with a buffer of its own, outside any pool; for tests and tools.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], offload: Offload) -> Self {
        Self { bytes: FrameSlice::from(bytes), offload }
    }
}

/// Some bytes of a frame. Cloning and narrowing copy nothing; the whole buffer lives as long as any slice of it.
#[derive(Clone, Default)]
pub struct FrameSlice {
    buffer: Option<Arc<[u8]>>,
    start: u32,
    length: u32,
}

impl FrameSlice {
    fn of(buffer: Arc<[u8]>, range: Range<usize>) -> Self {
        let end = range.end.min(buffer.len());
        let start = range.start.min(end);
        if start == end {
            return Self::default();
        }
        Self { buffer: Some(buffer), start: start as u32, length: (end - start) as u32 }
    }

    /// Bytes of memory that this slice keeps from being reused: its whole buffer. An empty slice keeps none.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    /// The part `range` of it, cut off where the slice ends.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        self.clone().into_slice(range)
    }

    /// The part `range` of it in its stead, cut off where the slice ends. An empty part lets the buffer go.
    #[must_use]
    pub fn into_slice(mut self, range: Range<usize>) -> Self {
        let end = range.end.min(self.length as usize);
        let start = range.start.min(end);
        if start == end {
            return Self::default();
        }
        self.start += start as u32;
        self.length = (end - start) as u32;
        self
    }

    /// Drops the first `count` bytes, which are done with.
    pub fn advance(&mut self, count: usize) {
        let length = self.length as usize;
        *self = std::mem::take(self).into_slice(count..length);
    }
}

impl Deref for FrameSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.start as usize;
        let buffer = self.buffer.as_deref().unwrap_or_default();
        buffer.get(start..start + self.length as usize).unwrap_or_default()
    }
}

impl AsRef<[u8]> for FrameSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for FrameSlice {
    fn from(bytes: &[u8]) -> Self {
        Self::of(Arc::from(bytes), 0..bytes.len())
    }
}

impl PartialEq for FrameSlice {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for FrameSlice {}

impl fmt::Debug for FrameSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Application bytes do not belong into logs.
        write!(f, "FrameSlice({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;

    fn frame(pool: &mut FramePool, bytes: &[u8]) -> io::Result<Frame> {
        pool.copy(&[IoSlice::new(bytes)], Offload::default())
    }

    #[test]
    fn buffers_are_reused_once_nobody_refers_to_them() {
        let mut pool = FramePool::new(8);
        for round in 0..100u8 {
            let one = frame(&mut pool, &[round; 100]).unwrap();
            let two = frame(&mut pool, &[round + 1; 200]).unwrap();
            assert_eq!((&*one.bytes, &*two.bytes), (&[round; 100][..], &[round + 1; 200][..]));
        }
        assert_eq!(pool.memory(), 2 * BUFFER_BYTES);
        assert_eq!(pool.count_in_use(), 0);
        pool.trim(1);
        assert_eq!(pool.memory(), BUFFER_BYTES);
    }

    #[test]
    fn a_kept_slice_keeps_its_bytes() {
        let mut pool = FramePool::new(8);
        let mut kept = frame(&mut pool, b"kept bytes").unwrap().bytes.slice(5..100);
        for _ in 0..50 {
            frame(&mut pool, &[0xee; 4000]).unwrap();
        }
        assert_eq!(&*kept, b"bytes");
        assert_eq!((kept.memory(), pool.count_in_use()), (BUFFER_BYTES, 1));
        kept.advance(2);
        assert_eq!(&*kept, b"tes");
        kept.advance(3);
        assert_eq!((kept.len(), kept.memory(), pool.count_in_use()), (0, 0, 0));
    }

    #[test]
    fn the_bound_holds_and_ends_with_the_first_slice_dropped() {
        let mut pool = FramePool::new(64);
        let mut kept: Vec<Frame> = (0..64).map(|_| frame(&mut pool, &[7; 2000]).unwrap()).collect();
        assert!(pool.is_pressed());
        assert_eq!(frame(&mut pool, &[8; 10]).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        kept.remove(40);
        assert_eq!(&*frame(&mut pool, &[8; 10]).unwrap().bytes, &[8; 10]);
        assert_eq!(pool.memory(), 64 * BUFFER_BYTES);
        // Pressure ends once slices are dropped, though the buffers are there still.
        kept.truncate(40);
        for _ in 0..RECOUNT {
            frame(&mut pool, &[8; 10]).unwrap();
        }
        assert!(!pool.is_pressed());
        assert_eq!(pool.memory(), 64 * BUFFER_BYTES);
    }

    #[test]
    fn nothing_read_is_nothing_lent() {
        let mut pool = FramePool::new(2);
        for _ in 0..10 {
            assert!(pool.fill(|_| Ok(None)).unwrap().is_none());
            assert!(pool.fill(|_| Err(io::ErrorKind::BrokenPipe.into())).is_err());
        }
        assert_eq!(pool.memory(), BUFFER_BYTES);
        assert!(frame(&mut pool, &vec![0; BUFFER_BYTES]).is_err());
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&FrameSlice::default());
        shared(&pool);
    }
}
