//! A TUN device that somebody else has opened and configured: in another network namespace, as another user.
#![expect(unsafe_code, reason = "an ioctl takes a pointer to a C structure")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use bulkhead_wit::NEVER;

use crate::device::error::DeviceError;
use crate::device::interface::{self, Interface};
use crate::device::offload::OffloadTun;
use crate::device::tun::KernelSide;

impl OffloadTun {
    /// Goes on with a descriptor that [`open`](Self::open) has made elsewhere. Its interface need not be visible from
    /// here: its addresses are not touched, and its MTU, in bytes, is what is said.
    ///
    /// # Errors
    /// [`DeviceError::OtherKind`] if it is no TUN device with a virtio-net header, [`DeviceError::NoOffload`].
    pub fn adopt(descriptor: OwnedFd, mtu: u32) -> Result<Self, DeviceError> {
        let file = File::from(descriptor);
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
        if flags & libc::IFF_TUN == 0 || flags & libc::IFF_VNET_HDR == 0 {
            return Err(DeviceError::OtherKind { name });
        }
        let interface = Interface::new(&name)?;
        Self::with_file(file, KernelSide { interface, mtu, next_look: NEVER })
    }
}
