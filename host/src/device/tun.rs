//! The plain TUN device: datagrams of up to the MTU, one system call each, no offload. Any kernel has it.
#![expect(unsafe_code, reason = "a descriptor changes hands")]

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd};

use bulkhead_wit::{Time, limits};

use crate::device::error::DeviceError;
use crate::device::interface::Interface;
use crate::device::{Capabilities, Device, Offload};
use crate::frame::{Frame, FramePool, HEADROOM};

/// How a TUN device is opened, plain or with offload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TunOptions {
    /// The interface's name; it is created if there is none.
    pub name: String,
    /// Its MTU in bytes; `None` leaves it as it is (1,500 for a new one).
    pub mtu: Option<u32>,
    /// The kernel's addresses on it, each with its network's length in bits. Not ours: ours is another one in the network.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Whether to switch it on.
    pub up: bool,
    /// Whether it is to be opened several times, once a shard; only the device with offload can.
    pub multi_queue: bool,
}

impl TunOptions {
    /// Does to the interface what the options say, and tells its MTU.
    pub(crate) fn configure(&self, interface: &Interface) -> Result<u32, DeviceError> {
        if let Some(mtu) = self.mtu {
            interface.set_mtu(mtu)?;
        }
        for (address, length) in &self.addresses {
            interface.add_address(*address, *length)?;
        }
        if self.up {
            interface.up_with(&self.addresses)?;
        }
        interface.mtu()
    }
}

/// A plain TUN device.
#[derive(Debug)]
pub struct Tun {
    pub(crate) file: File,
    pub(crate) link: KernelSide,
}

/// The interface behind a TUN device, and its MTU as it was read last.
#[derive(Debug)]
pub(crate) struct KernelSide {
    pub(crate) interface: Interface,
    pub(crate) mtu: u32,
    pub(crate) next_look: Time,
}

impl KernelSide {
    /// How often the MTU is read again: somebody may change it, and nobody tells us.
    const INTERVAL: Time = limits::SECOND;

    /// Does what the options say.
    pub(crate) fn configure(interface: Interface, options: &TunOptions) -> Result<Self, DeviceError> {
        let mtu = options.configure(&interface)?;
        Ok(Self { interface, mtu, next_look: 0 })
    }

    /// It is `now`.
    pub(crate) fn set_now(&mut self, now: Time) {
        if now >= self.next_look {
            self.next_look = now.saturating_add(Self::INTERVAL);
            // An interface that was taken away is told by the next frame.
            self.mtu = self.interface.mtu().unwrap_or(self.mtu);
        }
    }
}

impl Tun {
    /// Opens and configures it.
    ///
    /// # Errors
    /// See [`DeviceError`], which says what to do.
    pub fn open(options: &TunOptions) -> Result<Self, DeviceError> {
        let interface = Interface::new(&options.name)?;
        let device = tun_tap::Iface::without_packet_info(interface.name(), tun_tap::Mode::Tun)
            .and_then(|device| device.set_non_blocking().map(|()| device))
            .map_err(|source| DeviceError::opening(interface.name(), source))?;
        // SAFETY: the descriptor is open and was just given up by its owner.
        let file = unsafe { File::from_raw_fd(device.into_raw_fd()) };
        Ok(Self { file, link: KernelSide::configure(interface, options)? })
    }

    /// The kernel's side of it.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.link.interface
    }
}

impl Device for Tun {
    fn capabilities(&self) -> Capabilities {
        Capabilities::plain(self.link.mtu)
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        pool.fill(|space| {
            let room = space.get_mut(HEADROOM..).unwrap_or_default();
            let length = read_some(&self.file, room)?;
            Ok(length.map(|length| (HEADROOM..HEADROOM + length, Offload::default())))
        })
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], _offload: Offload) -> io::Result<bool> {
        write_all_at_once(&self.file, parts)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn set_now(&mut self, now: Time) {
        self.link.set_now(now);
    }
}

/// Reads one datagram; `None` if there is none.
pub(crate) fn read_some(mut file: &File, room: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match file.read(room) {
            Ok(0) => return Ok(None),
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Writes one datagram; `false` if the kernel does not take it now.
pub(crate) fn write_all_at_once(mut file: &File, parts: &[IoSlice<'_>]) -> io::Result<bool> {
    loop {
        match file.write_vectored(parts) {
            // The kernel takes a datagram whole or not at all.
            Ok(written) => return Ok(written > 0),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // EIO: the interface is switched off, like a cable that is pulled out; frames are lost meanwhile.
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EIO) => return Ok(false),
                _ => return Err(error),
            },
        }
    }
}
