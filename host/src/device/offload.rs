//! The fast TUN device: a virtio-net header in front of every datagram, so that super-segments pass whole and
//! checksums are left to the kernel, and several queues on one interface.
#![expect(unsafe_code, reason = "ioctls take pointers to C structures")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use bulkhead_wit::{Time, limits};

use crate::device::error::DeviceError;
use crate::device::interface::{self, Interface};
use crate::device::tun::{KernelSide, TunOptions, read_some, write_all_at_once};
use crate::device::vnet;
use crate::device::{Capabilities, Device, Offload};
use crate::frame::{Frame, FramePool, HEADROOM};
use crate::join::PARTS;

/// Pieces of a frame at most: those that join gives, and the virtio-net header.
const PIECES: usize = PARTS + 1;

/// Super-segments that the kernel may give us, and checksums that it may leave to us.
const RECEIVE: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// Asked for only to learn whether the kernel knows runs of UDP datagrams (Linux 6.2).
const UDP_RUNS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// A TUN device with offload; one queue of it if the interface has several.
#[derive(Debug)]
pub struct OffloadTun {
    file: File,
    link: KernelSide,
    has_uso: bool,
}

impl OffloadTun {
    /// Opens and configures it. With `multi_queue`, every further call with the same name opens another queue.
    ///
    /// # Errors
    /// See [`DeviceError`], which says what to do.
    pub fn open(options: &TunOptions) -> Result<Self, DeviceError> {
        let interface = Interface::new(&options.name)?;
        let name = interface.name();
        let opening = |source| DeviceError::opening(name, source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(opening)?;
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if options.multi_queue {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        attach(&file, name, flags).map_err(opening)?;
        Self::with_file(file, KernelSide::configure(interface, options)?)
    }

    /// Asks for offload.
    pub(crate) fn with_file(file: File, link: KernelSide) -> Result<Self, DeviceError> {
        let no_offload = |source| DeviceError::NoOffload { name: link.interface.name().to_owned(), source };
        set_header_length(&file).map_err(no_offload)?;
        let has_uso = set_offload(&file, RECEIVE | UDP_RUNS).is_ok();
        // The runs themselves are not wanted: a datagram socket gives its application datagrams.
        set_offload(&file, RECEIVE).map_err(no_offload)?;
        Ok(Self { file, link, has_uso })
    }

    /// The kernel's side of it.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.link.interface
    }
}

impl Device for OffloadTun {
    fn capabilities(&self) -> Capabilities {
        let uso = if self.has_uso { limits::DATAGRAM as u32 } else { 0 };
        Capabilities { uso, ..Capabilities::full(self.link.mtu) }
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        pool.fill(|space| {
            // The virtio-net header ends where the datagram begins, in every buffer at the same place.
            let room = space.get_mut(HEADROOM - vnet::LENGTH..).unwrap_or_default();
            while let Some(length) = read_some(&self.file, room)? {
                let offload = room.first_chunk().and_then(|header| vnet::decode(*header));
                // What was never asked for is not understood, and dropped.
                if let (Some(offload), Some(length)) = (offload, length.checked_sub(vnet::LENGTH)) {
                    return Ok(Some((HEADROOM..HEADROOM + length, offload)));
                }
            }
            Ok(None)
        })
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        let header = vnet::encode(offload);
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let (first, rest) = pieces.split_at_mut(1);
        first.fill(IoSlice::new(&header));
        let rest = rest.get_mut(..parts.len()).ok_or(io::ErrorKind::InvalidInput)?;
        rest.copy_from_slice(parts);
        write_all_at_once(&self.file, pieces.get(..=parts.len()).unwrap_or_default())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn set_now(&mut self, now: Time) {
        self.link.set_now(now);
    }
}

/// Makes the open file a queue of the interface `name`, which is created if there is none.
fn attach(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = interface::request(name);
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })
}

/// The length of the virtio-net header, in case a persistent interface was left with another one.
fn set_header_length(file: &File) -> io::Result<()> {
    let length = vnet::LENGTH as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads an int, which lives until the call returns.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const length) })
}

fn set_offload(file: &File, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a number, no pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(flags)) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
