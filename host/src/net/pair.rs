//! Two devices joined in memory, in real time: each end can be waited on like a descriptor of the system.

use super::limits::PAIR_FRAMES;
use crate::device::{Capabilities, Device, Offload};
use crate::frame::{Frame, FramePool};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One end of a [`pair`].
#[derive(Debug)]
pub struct PairDevice {
    capabilities: Capabilities,
    /// What the other end sends.
    arriving: Arc<Way>,
    leaving: Arc<Way>,
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// Readable while there may be frames: one byte is in it then.
    signal: UnixStream,
    bell: UnixStream,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<(Vec<u8>, Offload)>,
    /// Used-up frames, whose memory is used again.
    spare: Vec<Vec<u8>>,
    is_signalled: bool,
}

impl Way {
    fn new() -> io::Result<Arc<Self>> {
        let (signal, bell) = UnixStream::pair()?;
        signal.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        Ok(Arc::new(Self { signal, bell, queue: Mutex::default() }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two devices, each of which receives what the other one sends, with frames of up to `mtu` bytes. Super-segments and
/// unfinished checksums pass as they are, as between two machines on one host; frames beyond the bound of a queue are
/// dropped.
///
/// # Errors
/// What the system says to a pair of Unix sockets, by which each end signals.
pub fn pair(mtu: u32) -> io::Result<(PairDevice, PairDevice)> {
    let (there, back) = (Way::new()?, Way::new()?);
    let capabilities = Capabilities::full(mtu);
    let first = PairDevice { capabilities, arriving: Arc::clone(&back), leaving: Arc::clone(&there) };
    Ok((first, PairDevice { capabilities, arriving: there, leaving: back }))
}

impl PairDevice {
    /// The same end without any offload: every frame and checksum is made in software.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { capabilities: Capabilities::plain(self.capabilities.mtu), ..self }
    }
}

impl Device for PairDevice {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        let mut queue = self.arriving.queue();
        let Some((bytes, offload)) = queue.frames.pop_front() else {
            if std::mem::take(&mut queue.is_signalled) {
                (&self.arriving.signal).read_exact(&mut [0])?;
            }
            return Ok(None);
        };
        match pool.copy(&[IoSlice::new(&bytes)], offload) {
            Ok(frame) => {
                queue.spare.push(bytes);
                Ok(Some(frame))
            }
            Err(error) => {
                // All buffers are held: it waits here.
                queue.frames.push_front((bytes, offload));
                Err(error)
            }
        }
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        let mut queue = self.leaving.queue();
        if queue.frames.len() >= PAIR_FRAMES {
            return Ok(false);
        }
        let mut bytes = queue.spare.pop().unwrap_or_default();
        bytes.clear();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        queue.frames.push_back((bytes, offload));
        if !std::mem::replace(&mut queue.is_signalled, true) {
            (&self.leaving.bell).write_all(&[1])?;
        }
        Ok(true)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.arriving.signal.as_fd())
    }
}
