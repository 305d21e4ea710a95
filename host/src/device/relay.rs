//! Two devices joined by a [`Link`]: whatever one receives leaves by the other, if the link lets it through.
//!
//! What a netem does between two network namespaces, without a kernel that has one. Super-segments are cut and checksums
//! completed before anything happens to them.

use std::io::{self, IoSlice};

use bulkhead_wit::Time;

use crate::device::link::{Direction, Link, LinkConfig, LinkCounters, LinkEnd};
use crate::device::{Device, Offload};
use crate::frame::FramePool;

/// Frames taken from one device before the other one has its turn.
const BURST: usize = 64;

/// Both devices and the link between them, for whoever keeps its time.
pub struct Relay<D> {
    link: Link,
    sides: [Side<D>; 2],
    pool: FramePool,
}

/// A device, and the end of the link that stands for its other side.
struct Side<D> {
    device: D,
    end: LinkEnd,
    /// Frames that the device did not take.
    refused: u64,
}

/// What one direction has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// What happened on the link.
    pub link: LinkCounters,
    /// Frames that came through and the device did not take.
    pub refused: u64,
}

impl<D: Device> Relay<D> {
    /// Joins two devices. The link's MTU is a bound of its own, whatever the devices' are.
    #[must_use]
    pub fn new(config: LinkConfig, seed: u64, first: D, second: D) -> Self {
        let (link, there, back) = Link::new(LinkConfig { offload: true, ..config }, seed);
        let side = |device, end| Side { device, end, refused: 0 };
        Self { link, sides: [side(first, there), side(second, back)], pool: FramePool::default() }
    }

    /// Moves what there is at `now`. Whether there may be more at once.
    ///
    /// # Errors
    /// What a device says that cannot go on.
    pub fn pump(&mut self, now: Time) -> io::Result<bool> {
        let mut again = false;
        self.link.advance(now);
        for side in &mut self.sides {
            for count in 1..=BURST {
                let Some(frame) = side.device.receive(&mut self.pool)? else { break };
                // What cannot be cut is no datagram of ours to repair.
                let _ = side.end.transmit(&[IoSlice::new(&frame.bytes)], frame.offload);
                again |= count == BURST;
            }
        }
        self.link.advance(now);
        for side in &mut self.sides {
            while let Some(frame) = side.end.receive(&mut self.pool)? {
                let taken = side.device.transmit(&[IoSlice::new(&frame.bytes)], Offload::default());
                // A kernel that does not like a frame (a flipped bit, perhaps) says so by an error.
                side.refused += u64::from(!taken.unwrap_or(false));
            }
        }
        Ok(again)
    }

    /// When the next frame comes through: [`NEVER`](bulkhead_wit::NEVER) if none is under way.
    #[must_use]
    pub fn next_event(&self) -> Time {
        self.link.next_event()
    }

    /// Both devices.
    pub fn devices(&self) -> [&D; 2] {
        let [first, second] = &self.sides;
        [&first.device, &second.device]
    }

    /// What was done in both directions: from the first device to the second, and back.
    #[must_use]
    pub fn passed(&self) -> [Passed; 2] {
        let [first, second] = &self.sides;
        [
            Passed { link: self.link.counters(Direction::There), refused: second.refused },
            Passed { link: self.link.counters(Direction::Back), refused: first.refused },
        ]
    }
}

impl<D> std::fmt::Debug for Relay<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("link", &self.link).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Capabilities;
    use crate::device::link::Impairments;
    use crate::device::queue::QueueDevice;
    use bulkhead_wit::NEVER;
    use bulkhead_wit::limits::MILLISECOND;

    #[test]
    fn frames_cross_both_ways_after_their_delay() {
        let way = |delay| Impairments { delay, ..Impairments::default() };
        let config =
            LinkConfig { there: way(5 * MILLISECOND), back: way(2 * MILLISECOND), ..LinkConfig::default() };
        let device = || QueueDevice::new(Capabilities::plain(1500));
        let mut relay = Relay::new(config, 1, device(), device());
        relay.sides[0].device.inject(b"there", Offload::default());
        relay.sides[1].device.inject(b"back", Offload::default());
        assert!(!relay.pump(0).unwrap());
        assert_eq!(relay.next_event(), 2 * MILLISECOND);
        relay.pump(2 * MILLISECOND).unwrap();
        assert_eq!(relay.sides[0].device.take().unwrap().0, b"back");
        assert!(relay.sides[1].device.take().is_none());
        relay.pump(5 * MILLISECOND).unwrap();
        assert_eq!(relay.sides[1].device.take().unwrap().0, b"there");
        assert_eq!(relay.next_event(), NEVER);
        assert_eq!(relay.passed().map(|passed| passed.link.delivered), [1, 1]);
    }

    #[test]
    fn a_loss_is_a_loss() {
        let there = Impairments { loss: 1_000_000, ..Impairments::default() };
        let config = LinkConfig { there, ..LinkConfig::default() };
        let device = || QueueDevice::new(Capabilities::plain(1500));
        let mut relay = Relay::new(config, 1, device(), device());
        for _ in 0..100 {
            relay.sides[0].device.inject(b"there", Offload::default());
        }
        assert!(relay.pump(0).unwrap(), "more than a burst");
        relay.pump(0).unwrap();
        assert_eq!(relay.passed()[0].link.lost, 100);
        assert!(relay.sides[1].device.take().is_none());
    }
}
