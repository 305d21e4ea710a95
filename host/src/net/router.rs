//! The device of all modules: each frame goes to the module that serves its protocol, and what is sent to an address of
//! our own turns round here.
//!
//! The contract (D7): an ICMP error goes to the module that serves the protocol of the datagram that it quotes, all other
//! ICMP to the one that serves ICMP. With one module, and nothing sent to ourselves, this is a look at an address.

use super::limits::ROUTED_FRAMES;
use crate::device::{Capabilities, Device, Gso, Offload};
use crate::frame::{Frame, FramePool};
use crate::split::network::Network;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Prefix, Time};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

/// Stands for a protocol that no module serves.
const NOBODY: u8 = u8::MAX;

/// The device, and what waits for each module.
pub(super) struct Router {
    device: Box<dyn Device>,
    ours_v4: Vec<[u8; 4]>,
    ours_v6: Vec<[u8; 16]>,
    /// The module that serves each protocol.
    by_protocol: Box<[u8; 256]>,
    queues: Vec<VecDeque<Frame>>,
    /// Buffers of frames that turn round here.
    pool: FramePool,
    drops: u64,
}

impl Router {
    pub(super) fn new(device: Box<dyn Device>, addresses: &[Prefix]) -> Self {
        Self {
            device,
            ours_v4: addresses.iter().filter_map(|prefix| prefix.address.v4()).collect(),
            ours_v6: addresses
                .iter()
                .filter(|prefix| !prefix.address.is_v4())
                .map(|prefix| prefix.address.octets())
                .collect(),
            by_protocol: Box::new([NOBODY; 256]),
            queues: Vec::new(),
            pool: FramePool::new(ROUTED_FRAMES),
            drops: 0,
        }
    }

    /// One more module, and the protocols that it serves. Says whether one of these is served already.
    pub(super) fn add(&mut self, protocols: impl Iterator<Item = u8>) -> bool {
        let number = self.queues.len() as u8;
        self.queues.push(VecDeque::new());
        let mut is_taken = false;
        for protocol in protocols {
            let entry = &mut self.by_protocol[usize::from(protocol)];
            is_taken |= *entry != NOBODY;
            *entry = if *entry == NOBODY { number } else { *entry };
        }
        is_taken
    }

    /// A module was swapped: it serves these from now on, as far as no other does.
    pub(super) fn replace(&mut self, number: usize, protocols: impl Iterator<Item = u8>) {
        let own = number as u8;
        self.by_protocol.iter_mut().filter(|entry| **entry == own).for_each(|entry| *entry = NOBODY);
        for protocol in protocols {
            let entry = &mut self.by_protocol[usize::from(protocol)];
            *entry = if *entry == NOBODY { own } else { *entry };
        }
    }

    pub(super) fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// Frames dropped since their module did not take them.
    pub(super) fn drops(&self) -> u64 {
        self.drops
    }

    /// Frames that wait for any module.
    pub(super) fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// The device as one module sees it; the one that `reads` takes frames from it, for all.
    pub(super) fn port(&mut self, number: usize, reads: bool) -> Port<'_> {
        Port { router: self, number, reads }
    }

    fn owner(&self, frame: &Frame) -> usize {
        if self.queues.len() == 1 {
            return 0;
        }
        let number = self.by_protocol[usize::from(protocol_of(frame))];
        // What nobody serves is the first one's to drop, and to count.
        if number == NOBODY { 0 } else { usize::from(number) }
    }

    /// Frames that would be lost with the device wait here from now on. Gives all that waits.
    pub(super) fn held(&mut self) -> impl Iterator<Item = &VecDeque<Frame>> {
        let mut held = Vec::new();
        self.device.give_up(&mut held);
        self.bring(held);
        self.queues.iter()
    }

    /// Frames that have arrived wait for their modules.
    pub(super) fn bring(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            // They have waited elsewhere already, within a bound.
            let owner = self.owner(&frame);
            if let Some(queue) = self.queues.get_mut(owner) {
                queue.push_back(frame);
            }
        }
    }

    fn queue(&mut self, number: usize, frame: Frame) {
        match self.queues.get_mut(number) {
            Some(queue) if queue.len() < ROUTED_FRAMES => queue.push_back(frame),
            _ => self.drops += 1,
        }
    }

    /// Whether a frame with this header goes to ourselves.
    fn turns_round(&self, header: &[u8]) -> bool {
        match header.first().map(|first| first >> 4) {
            Some(4) => header
                .get(16..)
                .and_then(<[u8]>::first_chunk)
                .is_some_and(|to: &[u8; 4]| self.ours_v4.contains(to)),
            Some(6) => header
                .get(24..)
                .and_then(<[u8]>::first_chunk)
                .is_some_and(|to: &[u8; 16]| self.ours_v6.contains(to)),
            _ => false,
        }
    }
}

/// The protocol whose module a frame is for.
fn protocol_of(frame: &Frame) -> u8 {
    let bytes = &*frame.bytes;
    match bytes.first().map(|first| first >> 4) {
        Some(4) if bytes.get(9) == Some(&protocol::TCP) => return protocol::TCP,
        Some(6) if bytes.get(6) == Some(&protocol::TCP) => return protocol::TCP,
        _ => {}
    }
    // What cannot be measured is dropped, and counted, by whoever gets it.
    let Ok(network) = Network::parse(bytes, frame.offload.gso != Gso::None) else { return 0 };
    let kind = bytes.get(network.transport).copied().unwrap_or_default();
    let is_error = match network.protocol {
        _ if network.fragment.is_some() => false,
        protocol::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        protocol::ICMPV6 => kind < 128,
        _ => false,
    };
    let quoted = if is_error { bytes.get(network.transport + 8..).and_then(quoted_protocol) } else { None };
    quoted.unwrap_or(network.protocol)
}

fn quoted_protocol(quote: &[u8]) -> Option<u8> {
    match quote.first()? >> 4 {
        4 => quote.get(9).copied(),
        // Extension headers in a quote are rare, and are the ICMP module's to make sense of.
        6 => quote.get(6).copied(),
        _ => None,
    }
}

/// The device of one module.
pub(super) struct Port<'a> {
    router: &'a mut Router,
    number: usize,
    reads: bool,
}

impl Device for Port<'_> {
    fn capabilities(&self) -> Capabilities {
        self.router.device.capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        if let Some(frame) = self.router.queues.get_mut(self.number).and_then(VecDeque::pop_front) {
            return Ok(Some(frame));
        }
        if !self.reads {
            return Ok(None);
        }
        while let Some(frame) = self.router.device.receive(pool)? {
            let owner = self.router.owner(&frame);
            if owner == self.number {
                return Ok(Some(frame));
            }
            self.router.queue(owner, frame);
        }
        Ok(None)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        if !parts.first().is_some_and(|header| self.router.turns_round(header)) {
            return self.router.device.transmit(parts, offload);
        }
        let Ok(frame) = self.router.pool.copy(parts, offload) else { return Ok(false) };
        let owner = self.router.owner(&frame);
        if self.router.queues.get(owner).is_none_or(|queue| queue.len() >= ROUTED_FRAMES) {
            return Ok(false);
        }
        self.router.queue(owner, frame);
        Ok(true)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.router.device.as_fd()
    }

    fn set_now(&mut self, now: Time) {
        self.router.device.set_now(now);
    }

    fn steer(&mut self, frame: Frame) -> Option<Frame> {
        self.router.device.steer(frame)
    }
}
