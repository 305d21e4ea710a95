//! A TUN device that somebody else has opened and configured: in another network namespace, as another user, before us.
#![expect(unsafe_code, reason = "an ioctl takes a pointer to a C structure")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use bulkhead_wit::NEVER;

use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::interface::{self, Interface};
use crate::device::offload::OffloadTun;
use crate::device::tun::{KernelSide, Tun};

impl OffloadTun {
    /// Goes on with a descriptor that [`open`](Self::open) has made elsewhere. Its interface need not be visible from
    /// here: its addresses are not touched, and its MTU, in bytes, is what is said.
    ///
    /// # Errors
    /// [`DeviceError::OtherKind`] if it is no TUN device with a virtio-net header, [`DeviceError::NoOffload`].
    pub fn adopt(descriptor: OwnedFd, mtu: u32) -> Result<Self, DeviceError> {
        let file = File::from(descriptor);
        let (interface, has_header) = asked(&file)?;
        if !has_header {
            return Err(DeviceError::OtherKind { name: interface.name().to_owned() });
        }
        Self::with_file(file, KernelSide { interface, mtu, next_look: NEVER })
    }
}

/// Goes on with a descriptor that another process of ours has opened as [`Tun`] or as [`OffloadTun`], or as a queue of it,
/// on an interface that is visible from here. Nothing of it is configured.
///
/// # Errors
/// [`DeviceError::OtherKind`] if it is no TUN device, [`DeviceError::NoOffload`]; what the system says.
pub fn inherited(descriptor: OwnedFd) -> Result<Box<dyn Device>, DeviceError> {
    let file = File::from(descriptor);
    let (interface, has_header) = asked(&file)?;
    let link = KernelSide { mtu: interface.mtu()?, interface, next_look: 0 };
    Ok(if has_header { Box::new(OffloadTun::with_file(file, link)?) } else { Box::new(Tun { file, link }) })
}

/// The interface of a TUN device, and whether its frames have a virtio-net header.
fn asked(file: &File) -> Result<(Interface, bool), DeviceError> {
    let mut request = interface::request("");
    // SAFETY: TUNGETIFF writes an ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) };
    if result < 0 {
        return Err(DeviceError::opening("the descriptor", io::Error::last_os_error()));
    }
    let letters = request.ifr_name.iter().take_while(|letter| **letter != 0);
    let name: String = letters.map(|letter| char::from(letter.to_ne_bytes()[0])).collect();
    // SAFETY: the kernel has filled this member, and every value of it is valid.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    if flags & libc::IFF_TUN == 0 {
        return Err(DeviceError::OtherKind { name });
    }
    Ok((Interface::new(&name)?, flags & libc::IFF_VNET_HDR != 0))
}
