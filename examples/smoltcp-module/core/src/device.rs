//! The device that smoltcp sees: what arrives is put into it packet by packet, what leaves is taken out of it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bulkhead_wit::Room;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Both queues, and the room that a step leaves for sending.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) arriving: VecDeque<Vec<u8>>,
    pub(crate) leaving: Vec<Vec<u8>>,
    pub(crate) mtu: usize,
    room: Room,
}

impl Queues {
    /// A step begins.
    pub(crate) fn begin(&mut self, room: Room) {
        self.arriving.clear();
        self.leaving.clear();
        self.room = room;
    }

    /// Whether another packet of any size may leave.
    pub(crate) fn has_room(&self) -> bool {
        self.room.sends > 0 && self.room.bytes as usize >= self.mtu
    }
}

impl Device for Queues {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        let packet = self.arriving.pop_front()?;
        Some((Arrived(packet), Leaving(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        self.has_room().then_some(Leaving(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // The host has looked at them, and fills them in.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

/// A packet on its way to smoltcp.
pub(crate) struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// A place for a packet of smoltcp's.
pub(crate) struct Leaving<'a>(&'a mut Queues);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = alloc::vec![0; length];
        let result = f(&mut packet);
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        // An answer that finds no room is lost, as on any wire.
        if self.0.room.sends > 0 && self.0.room.bytes >= bytes {
            self.0.room.sends -= 1;
            self.0.room.bytes -= bytes;
            self.0.leaving.push(packet);
        }
        result
    }
}
