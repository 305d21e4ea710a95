//! An Ethernet link with one guest at its other end: a virtual machine.
//!
//! The device puts Ethernet headers in front of datagrams and takes them off; what the guest asks of its link (who has this
//! address, which one is mine) goes to a module of its own, in a sandbox of its own, and its answers go back. The stack sees
//! datagrams, as from every device.
//!
//! - `link`: frames to and from the process that runs the machine, over a Unix socket;
//! - `neighbours`: the module, and what is held against its answers.

mod link;
mod neighbours;
#[cfg(test)]
mod tests;

pub use link::{Datagrams, Link, Stream};
pub use neighbours::{Guest, Neighbours};

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bulkhead_wit::Time;

use crate::device::{Capabilities, Device, Offload};
use crate::frame::{Frame, FramePool, HEADROOM};
use crate::join::PARTS;

/// A link address.
pub type Mac = [u8; 6];

/// Bytes of an Ethernet header.
pub const HEADER: usize = 14;
/// The longest frame on a link, in bytes: a datagram and its header.
pub const FRAME: usize = HEADER + 40 + bulkhead_wit::limits::DATAGRAM;
/// Frames that are looked at for one datagram: a guest that only asks questions must not hold up the rest.
const FRAMES: usize = 64;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// The link as a device of datagrams.
pub struct Ethernet {
    link: Box<dyn Link>,
    neighbours: Neighbours,
    mtu: u32,
    /// Ours.
    address: Mac,
    /// Where datagrams go: whoever has sent one last. There is one guest.
    guest: Option<Mac>,
    now: Time,
    /// More frames may have arrived than were looked at.
    has_more: bool,
}

/// Where a frame goes.
enum Owner {
    Stack,
    Neighbours,
    Nobody,
}

impl Ethernet {
    /// The device at our end of a link whose datagrams have up to `mtu` bytes.
    pub fn new(link: impl Link + 'static, neighbours: Neighbours, mtu: u32) -> Self {
        let address = neighbours.address();
        Self { link: Box::new(link), neighbours, mtu, address, guest: None, now: 0, has_more: false }
    }

    /// The link's own questions and answers, at most so many. Says whether a datagram is next.
    fn until_datagram(&mut self) -> io::Result<bool> {
        for _ in 0..FRAMES {
            let Some(frame) = self.link.peek()? else { return Ok(false) };
            match owner(&self.neighbours, self.mtu, frame) {
                Owner::Stack => {
                    self.guest = mac(frame, 6);
                    return Ok(true);
                }
                Owner::Neighbours => self.neighbours.hear(self.now, frame),
                Owner::Nobody => {}
            }
            self.link.consume();
            self.answer()?;
        }
        // The rest has its turn when the stack has had one.
        self.has_more = true;
        Ok(false)
    }

    fn answer(&mut self) -> io::Result<()> {
        while let Some(answer) = self.neighbours.next_answer() {
            // What is not taken is lost, and asked for again.
            self.link.transmit(&[IoSlice::new(answer)])?;
        }
        Ok(())
    }
}

impl Device for Ethernet {
    fn capabilities(&self) -> Capabilities {
        Capabilities::plain(self.mtu)
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        self.has_more = false;
        self.link.flush()?;
        if !self.until_datagram()? {
            return Ok(None);
        }
        let link = &mut self.link;
        // Where there is no buffer the frame stays.
        let frame = pool.fill(|space| {
            let Some(datagram) = link.peek()?.and_then(|frame| frame.get(HEADER..)) else { return Ok(None) };
            let range = HEADROOM..HEADROOM + datagram.len();
            let room = space.get_mut(range.clone()).ok_or(io::ErrorKind::InvalidInput)?;
            room.copy_from_slice(datagram);
            Ok(Some((range, Offload::default())))
        })?;
        self.link.consume();
        Ok(frame)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], _offload: Offload) -> io::Result<bool> {
        let version = parts.first().and_then(|part| part.first()).map(|first| first >> 4);
        let (Some(guest), Some(version)) = (self.guest, version) else { return Ok(false) };
        let mut header = [0; HEADER];
        header[..6].copy_from_slice(&guest);
        header[6..12].copy_from_slice(&self.address);
        header[12..].copy_from_slice(if version == 4 { &IPV4 } else { &IPV6 });
        let mut pieces = [IoSlice::new(&[]); PARTS + 1];
        let (first, rest) = pieces.split_at_mut(1);
        first.fill(IoSlice::new(&header));
        rest.get_mut(..parts.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(parts);
        self.link.transmit(pieces.get(..=parts.len()).unwrap_or_default())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.as_fd())
    }

    fn set_now(&mut self, now: Time) {
        self.now = now;
        if self.neighbours.deadline() <= now {
            self.neighbours.wait(now);
            // A link that has ended says so when it is read.
            let _ = self.answer();
        }
    }

    fn next_deadline(&self) -> Time {
        if self.has_more { self.now } else { self.neighbours.deadline() }
    }
}

impl std::fmt::Debug for Ethernet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ethernet")
            .field("address", &self.address)
            .field("guest", &self.guest)
            .finish_non_exhaustive()
    }
}

/// Whose a frame is that came to us.
fn owner(neighbours: &Neighbours, mtu: u32, frame: &[u8]) -> Owner {
    let (Some(to), Some(from), Some(kind)) = (mac(frame, 0), mac(frame, 6), frame.get(12..HEADER)) else {
        return Owner::Nobody;
    };
    let is_group = to[0] & 1 == 1;
    if (to != neighbours.address() && !is_group) || from[0] & 1 == 1 || from == [0; 6] {
        return Owner::Nobody;
    }
    if neighbours.serves(frame) {
        return Owner::Neighbours;
    }
    let is_datagram = kind == IPV4 || kind == IPV6;
    // What is sent to many is nothing that the stack answers.
    if is_datagram && !is_group && frame.len() <= HEADER + mtu as usize {
        Owner::Stack
    } else {
        Owner::Nobody
    }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..)?.first_chunk().copied()
}
