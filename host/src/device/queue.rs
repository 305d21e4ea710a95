//! A device in memory: the caller injects frames and takes frames out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::device::{Capabilities, Device, Offload};
use crate::frame::{Frame, FramePool};

/// The default bound of each queue, in frames.
pub const FRAMES: usize = 4096;

/// Two queues of frames, one each way.
#[derive(Debug)]
pub struct QueueDevice {
    capabilities: Capabilities,
    arriving: VecDeque<(Vec<u8>, Offload)>,
    leaving: VecDeque<(Vec<u8>, Offload)>,
    /// Used-up frames, whose memory is used again.
    spare: Vec<Vec<u8>>,
    frames_max: usize,
}

impl QueueDevice {
    /// A device with these capabilities and room for [`FRAMES`] frames each way.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        Self::with_bound(capabilities, FRAMES)
    }

    /// A device with room for `frames_max` frames each way.
    #[must_use]
    pub fn with_bound(capabilities: Capabilities, frames_max: usize) -> Self {
        Self {
            capabilities,
            arriving: VecDeque::new(),
            leaving: VecDeque::new(),
            spare: Vec::new(),
            frames_max,
        }
    }

    /// A frame arrives. `false` if the queue is full; the frame is dropped then.
    pub fn inject(&mut self, bytes: &[u8], offload: Offload) -> bool {
        if self.arriving.len() >= self.frames_max {
            return false;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        self.arriving.push_back((copy, offload));
        true
    }

    /// The next frame that was sent.
    pub fn take(&mut self) -> Option<(Vec<u8>, Offload)> {
        self.leaving.pop_front()
    }

    /// Hands the memory of a taken frame back.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < self.frames_max {
            self.spare.push(bytes);
        }
    }

    /// Drops what waits, in either queue; its memory is used again.
    pub fn clear(&mut self) {
        self.spare.extend(self.arriving.drain(..).chain(self.leaving.drain(..)).map(|(bytes, _)| bytes));
        self.spare.truncate(self.frames_max);
    }

    /// Frames that wait to be received.
    #[must_use]
    pub fn arriving(&self) -> usize {
        self.arriving.len()
    }

    /// Frames that wait to be taken.
    #[must_use]
    pub fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// The link's MTU changes, in bytes.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.capabilities.mtu = mtu;
    }
}

impl Device for QueueDevice {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        while let Some((bytes, offload)) = self.arriving.front() {
            let frame = match pool.copy(&[IoSlice::new(bytes)], *offload) {
                // It would never fit: gone, as a card drops what is longer than its buffers.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
                other => Some(other?),
            };
            if let Some((bytes, _)) = self.arriving.pop_front() {
                self.recycle(bytes);
            }
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        if self.leaving.len() >= self.frames_max {
            return Ok(false);
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        self.leaving.push_back((bytes, offload));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::BUFFER_BYTES;

    #[test]
    fn what_fits_no_buffer_hides_nothing_behind_it() {
        let mut device = QueueDevice::new(Capabilities::plain(1500));
        let mut pool = FramePool::new(1);
        let long = vec![0; BUFFER_BYTES];
        for bytes in [&long[..], &long, b"one", &long] {
            assert!(device.inject(bytes, Offload::default()));
        }
        assert_eq!(&*device.receive(&mut pool).unwrap().unwrap().bytes, b"one");
        assert!(device.receive(&mut pool).unwrap().is_none());
        assert_eq!(device.arriving(), 0);
    }

    #[test]
    fn frames_pass_in_order_and_the_bound_holds() {
        let mut device = QueueDevice::with_bound(Capabilities::plain(1500), 2);
        let mut pool = FramePool::new(4);
        assert!(device.receive(&mut pool).unwrap().is_none());
        assert!(device.inject(b"one", Offload::default()));
        assert!(device.inject(b"two", Offload::default()));
        assert!(!device.inject(b"three", Offload::default()));
        assert_eq!(&*device.receive(&mut pool).unwrap().unwrap().bytes, b"one");
        assert_eq!(&*device.receive(&mut pool).unwrap().unwrap().bytes, b"two");
        let parts = [IoSlice::new(b"he"), IoSlice::new(b"llo")];
        assert!(device.transmit(&parts, Offload::default()).unwrap());
        assert!(device.transmit(&parts, Offload::default()).unwrap());
        assert!(!device.transmit(&parts, Offload::default()).unwrap());
        assert_eq!(device.take().unwrap().0, b"hello");
        assert_eq!((device.arriving(), device.leaving()), (0, 1));
        device.clear();
        assert_eq!((device.arriving(), device.leaving()), (0, 0));
    }
}
