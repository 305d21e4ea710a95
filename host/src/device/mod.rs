//! Where frames come from and go to.
//!
//! A device moves datagrams, from the network header on, and never looks inside them. What a good network card takes
//! off the host's hands (checksums, segmentation, merged segments) is told by its [`Capabilities`] and, frame by
//! frame, by an [`Offload`]; `split` and `join` make up for what it cannot do.
//!
//! - [`queue`]: frames put in and taken out by the caller, for hosts that are pumped by hand;
//! - [`link`]: two ends with seeded loss, delay, reordering, duplication, corruption and rate, in virtual time;
//! - [`relay`]: two devices joined by such a link;
//! - [`pcap`]: a tap around any device, whose file Wireshark reads;
//! - `shard` (feature `net`): the queues of one interface, shared out among several stacks;
//! - `tun` (feature `tun`): the plain TUN device;
//! - `offload` (feature `tun`): the fast TUN device, with virtio-net headers and several queues;
//! - `ethernet` (feature `net`): a link to a virtual machine, with a module that answers for its neighbours;
//! - `interface` (feature `tun`): addresses, MTU and state of a network interface.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bulkhead_wit::Time;

use crate::frame::{Frame, FramePool};

#[cfg(feature = "tun")]
pub mod adopted;
#[cfg(feature = "tun")]
mod error;
#[cfg(feature = "net")]
pub mod ethernet;
#[cfg(feature = "tun")]
pub mod interface;
pub mod link;
#[cfg(feature = "tun")]
pub mod offload;
pub mod pcap;
pub mod queue;
pub(crate) mod random;
pub mod relay;
#[cfg(feature = "net")]
pub mod shard;
#[cfg(all(test, feature = "tun"))]
mod smoke;
#[cfg(feature = "tun")]
pub mod tun;
#[cfg(feature = "tun")]
mod vnet;

#[cfg(feature = "tun")]
pub use error::DeviceError;
#[cfg(feature = "tun")]
pub use offload::OffloadTun;
#[cfg(feature = "tun")]
pub use tun::{Tun, TunOptions};

/// What a device does for the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// The longest datagram it takes without segmentation, in bytes from the network header on.
    pub mtu: u32,
    /// It may deliver frames that it vouches for, so that their checksum need not be computed.
    pub checksum_receive: bool,
    /// It completes the checksums of TCP and UDP.
    pub checksum_transmit: bool,
    /// The longest TCP super-segment over IPv4 that it cuts, in bytes with all headers; 0 is none.
    pub tso4: u32,
    /// The longest TCP super-segment over IPv6 that it cuts, in bytes with all headers; 0 is none.
    pub tso6: u32,
    /// The longest run of UDP datagrams that it cuts, in bytes with all headers; 0 is none.
    pub uso: u32,
}

impl Capabilities {
    /// A device that does nothing but move datagrams of up to `mtu` bytes.
    #[must_use]
    pub const fn plain(mtu: u32) -> Self {
        Self { mtu, checksum_receive: false, checksum_transmit: false, tso4: 0, tso6: 0, uso: 0 }
    }

    /// A device that does everything, for super-segments as long as a datagram can be.
    #[must_use]
    pub const fn full(mtu: u32) -> Self {
        let longest = bulkhead_wit::limits::DATAGRAM as u32;
        let (checksum_receive, checksum_transmit) = (true, true);
        Self { mtu, checksum_receive, checksum_transmit, tso4: longest, tso6: longest, uso: longest }
    }
}

/// What a frame was merged from, or is to be cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Gso {
    /// It is one frame.
    #[default]
    None,
    /// TCP segments over IPv4.
    Tcp4,
    /// TCP segments over IPv6.
    Tcp6,
    /// UDP datagrams.
    Udp,
}

/// What is known of a frame's transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ChecksumState {
    /// Nothing: it is in its field, right or wrong.
    #[default]
    None,
    /// The field holds the sum of the pseudo header; the bytes from `start` to the frame's end are still to be added
    /// and the complement stored at `start + offset`. Received so, it comes from a neighbour on this very machine.
    Needs {
        /// Where the transport header begins, in bytes from the network header.
        start: u16,
        /// Where in the transport header the field is, in bytes.
        offset: u16,
    },
    /// The device found it right.
    Verified,
}

/// The meta data of a frame: what a device has done with it, or is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Offload {
    /// Of what kind the frames are that it was merged from, or is to be cut into.
    pub gso: Gso,
    /// Payload bytes of each of them but the last; means nothing for [`Gso::None`].
    pub gso_size: u16,
    /// Bytes of the headers, which every frame cut from it begins with. Set for transmission; a hint on arrival.
    pub header_length: u16,
    /// CWR is set and belongs to the first frame only (RFC 3168 6.1.2).
    pub cwr: bool,
    /// What is known of the transport checksum.
    pub checksum: ChecksumState,
}

/// Moves datagrams. Never blocks.
pub trait Device: Send {
    /// What it does for the host. The MTU may change while it runs.
    fn capabilities(&self) -> Capabilities;

    /// The next frame that has arrived, in a buffer of `pool`; `None` if there is none now. What cannot be handed on is
    /// passed over: after `None` nobody asks again until something arrives.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::OutOfMemory`] if all buffers of the pool are held, in which case the frame
    /// waits in the device.
    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>>;

    /// Sends the frame made of `parts`, in order. `Ok(false)` if the device takes no more now; the frame is not sent.
    ///
    /// # Errors
    /// What the system says; the frame is not sent.
    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool>;

    /// What to wait on for readiness; `None` for devices in memory.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The host's time, for devices that note it down. Called before the frames of a turn.
    fn set_now(&mut self, _now: Time) {}

    /// When the device has something to do by itself and is to be asked for frames: [`NEVER`](bulkhead_wit::NEVER) for most.
    fn next_deadline(&self) -> Time {
        bulkhead_wit::NEVER
    }

    /// A datagram that was put together from fragments: given back if it is for this device's host, which is always so
    /// but for shards.
    fn steer(&mut self, frame: Frame) -> Option<Frame> {
        Some(frame)
    }

    /// Gives up the frames that have arrived and would be lost with it: those that others have brought, and that it holds in memory.
    fn give_up(&mut self, _into: &mut Vec<Frame>) {}
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        (**self).receive(pool)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        (**self).transmit(parts, offload)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).as_fd()
    }

    fn set_now(&mut self, now: Time) {
        (**self).set_now(now);
    }

    fn next_deadline(&self) -> Time {
        (**self).next_deadline()
    }

    fn steer(&mut self, frame: Frame) -> Option<Frame> {
        (**self).steer(frame)
    }

    fn give_up(&mut self, into: &mut Vec<Frame>) {
        (**self).give_up(into);
    }
}
