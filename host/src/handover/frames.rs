//! Frames that wait in the host: what has arrived at a queue of the interface, and is for another one's stack.

use super::wire::{Carried, Malformed, Reader, carried, put, put_bytes, put_count};
use crate::device::{ChecksumState, Gso, Offload};
use crate::frame::Frame;
use bulkhead_wit::limits;

carried! {
    Offload { gso, gso_size, header_length, cwr, checksum }
}

/// Frames that wait for one stack.
const FRAMES: usize = 1 << 16;
const GSO: [Gso; 4] = [Gso::None, Gso::Tcp4, Gso::Tcp6, Gso::Udp];

impl Carried for Gso {
    fn put(&self, to: &mut Vec<u8>) {
        (*self as u8).put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number: u8 = from.take()?;
        GSO.get(usize::from(number)).copied().ok_or(from.malformed("no kind of super-segment"))
    }
}

impl Carried for ChecksumState {
    fn put(&self, to: &mut Vec<u8>) {
        match self {
            Self::None => 0_u8.put(to),
            Self::Needs { start, offset } => put!(to, 1_u8, *start, *offset),
            Self::Verified => 2_u8.put(to),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.take::<u8>()? {
            0 => Ok(Self::None),
            1 => Ok(Self::Needs { start: from.take()?, offset: from.take()? }),
            2 => Ok(Self::Verified),
            _ => Err(from.malformed("no state of a checksum")),
        }
    }
}

pub(crate) fn put_frames<'a>(frames: impl ExactSizeIterator<Item = &'a Frame>, to: &mut Vec<u8>) {
    put_count(frames.len(), to);
    for frame in frames {
        frame.offload.put(to);
        put_bytes(&frame.bytes, to);
    }
}

pub(crate) fn take_frames(from: &mut Reader<'_>) -> Result<Vec<Frame>, Malformed> {
    let count = from.count(FRAMES)?;
    let mut frames = Vec::new();
    for _ in 0..count {
        let offload = from.take()?;
        frames.push(Frame::from_bytes(from.bytes(limits::DATAGRAM)?, offload));
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let checksums =
            [ChecksumState::None, ChecksumState::Needs { start: 20, offset: 16 }, ChecksumState::Verified];
        let offload = |gso, checksum| Offload { gso, gso_size: 1460, header_length: 40, cwr: true, checksum };
        let all = GSO.iter().flat_map(|gso| checksums.map(|checksum| offload(*gso, checksum)));
        let frames: Vec<Frame> = all.map(|offload| Frame::from_bytes(b"bytes", offload)).collect();
        let mut bytes = Vec::new();
        put_frames(frames.iter(), &mut bytes);
        let read = take_frames(&mut Reader::new(&bytes)).unwrap();
        let seen = |frames: &[Frame]| -> Vec<(Vec<u8>, Offload)> {
            frames.iter().map(|frame| (frame.bytes.to_vec(), frame.offload)).collect()
        };
        assert_eq!(seen(&read), seen(&frames));
        assert!((0..bytes.len()).all(|cut| take_frames(&mut Reader::new(&bytes[..cut])).is_err()));
    }
}
