//! A link in memory: two ends, and between them whatever goes wrong on the way, in virtual time.
//!
//! Everything depends on the seed, the times given to [`Link::advance`] and the frames alone. Super-segments are cut
//! and checksums completed before anything happens to them, as on a wire; what arrives has to be verified.
//!
//! For each frame, in this order: too long for the link, loss, room in the queue in front of the link's rate, the
//! rate, corruption, delay with jitter, reordering, duplication.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_wit::{NEVER, Time, limits};

use crate::device::random::Random;
use crate::device::{Capabilities, ChecksumState, Device, Gso, Offload};
use crate::frame::{Frame, FramePool};
use crate::join::{complete_checksum, segment_frame};

/// Frames under way and unread in one direction at most; more are dropped as by a full queue.
pub const FRAMES: usize = 65_536;

/// What happens to frames in one direction. Shares are in millionths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Impairments {
    /// Share of frames lost.
    pub loss: u32,
    /// Share of frames that arrive twice.
    pub duplicate: u32,
    /// Share of frames in which one bit is flipped.
    pub corrupt: u32,
    /// Share of frames that take `reorder_delay` longer and so let others pass.
    pub reorder: u32,
    /// How much longer a reordered frame takes at most, in nanoseconds.
    pub reorder_delay: Time,
    /// How long every frame takes, in nanoseconds.
    pub delay: Time,
    /// How much longer a frame may take, in nanoseconds; the order is kept.
    pub jitter: Time,
    /// Bits per second; 0 is no limit.
    pub rate: u64,
    /// Bytes that may wait for the rate; more are dropped. 0 is no limit.
    pub queue: u64,
}

/// What a link is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// The longest datagram, in bytes.
    pub mtu: u32,
    /// Whether the ends take super-segments and complete checksums, which the link then does for them.
    pub offload: bool,
    /// From the first end to the second.
    pub there: Impairments,
    /// From the second end to the first.
    pub back: Impairments,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let perfect = Impairments::default();
        Self { mtu: 1500, offload: false, there: perfect, back: perfect }
    }
}

/// A direction of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the first end to the second.
    There,
    /// From the second end to the first.
    Back,
}

/// What happened to the frames of one direction so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkCounters {
    /// Frames put on the link, after segmentation.
    pub sent: u64,
    /// Bytes put on the link.
    pub bytes: u64,
    /// Frames lost.
    pub lost: u64,
    /// Frames for which there was no room in the queue.
    pub queue_drops: u64,
    /// Frames longer than the MTU.
    pub too_long: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames in which a bit was flipped.
    pub corrupted: u64,
    /// Frames that others passed, or could have.
    pub reordered: u64,
    /// Frames that reached the other end.
    pub delivered: u64,
}

/// The link between two [`LinkEnd`]s, for whoever keeps its time.
#[derive(Debug)]
pub struct Link(Arc<Mutex<Shared>>);

/// One end of a link.
#[derive(Debug)]
pub struct LinkEnd {
    shared: Arc<Mutex<Shared>>,
    sends: Direction,
}

impl Link {
    /// A link and its first and second end, at time 0.
    #[must_use]
    pub fn new(config: LinkConfig, seed: u64) -> (Self, LinkEnd, LinkEnd) {
        let mut random = Random::new(seed);
        let shared = Arc::new(Mutex::new(Shared {
            now: 0,
            mtu: config.mtu,
            offload: config.offload,
            there: Way::new(config.there, Random::new(random.next())),
            back: Way::new(config.back, Random::new(random.next())),
            scratch: Vec::new(),
        }));
        let end = |sends| LinkEnd { shared: Arc::clone(&shared), sends };
        let (first, second) = (end(Direction::There), end(Direction::Back));
        (Self(shared), first, second)
    }

    /// It is `now`: frames that are due can be received. Time never goes back.
    pub fn advance(&self, now: Time) {
        let mut shared = lock(&self.0);
        shared.now = shared.now.max(now);
        let now = shared.now;
        shared.there.arrive(now);
        shared.back.arrive(now);
    }

    /// When the next frame arrives: the link's present time if one waits to be received already, [`NEVER`] if none is
    /// under way.
    #[must_use]
    pub fn next_event(&self) -> Time {
        let shared = lock(&self.0);
        shared.there.next_event(shared.now).min(shared.back.next_event(shared.now))
    }

    /// Other impairments from now on; frames under way are not touched.
    pub fn set_impairments(&self, direction: Direction, impairments: Impairments) {
        lock(&self.0).way(direction).impairments = impairments;
    }

    /// Another MTU from now on, in bytes.
    pub fn set_mtu(&self, mtu: u32) {
        lock(&self.0).mtu = mtu;
    }

    /// What happened in one direction.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> LinkCounters {
        lock(&self.0).way(direction).counters
    }
}

impl Device for LinkEnd {
    fn capabilities(&self) -> Capabilities {
        let shared = lock(&self.shared);
        let offload = Capabilities { checksum_receive: false, ..Capabilities::full(shared.mtu) };
        if shared.offload { offload } else { Capabilities::plain(shared.mtu) }
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        let mut shared = lock(&self.shared);
        let now = shared.now;
        let way = shared.way(match self.sends {
            Direction::There => Direction::Back,
            Direction::Back => Direction::There,
        });
        way.arrive(now);
        while let Some(bytes) = way.arrived.front() {
            let frame = pool.copy(&[IoSlice::new(bytes)], Offload::default());
            if matches!(&frame, Err(error) if error.kind() == io::ErrorKind::OutOfMemory) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            way.spare.extend(way.arrived.pop_front());
            // What fits no buffer hides nothing behind it.
            if let Ok(frame) = frame {
                way.counters.delivered += 1;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        let mut shared = lock(&self.shared);
        let mut frame = std::mem::take(&mut shared.scratch);
        frame.clear();
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        let (now, mtu) = (shared.now, shared.mtu as usize);
        let way = shared.way(self.sends);
        let result = if offload.gso == Gso::None {
            if let ChecksumState::Needs { start, offset } = offload.checksum {
                complete_checksum(&mut frame, usize::from(start), usize::from(offset));
            }
            way.send(&[IoSlice::new(&frame)], now, mtu);
            Ok(true)
        } else {
            segment_frame(&mut frame, offload.gso_size, &mut |parts| {
                way.send(parts, now, mtu);
                Ok(true)
            })
            .map(|_| true)
        };
        shared.scratch = frame;
        result
    }
}

#[derive(Debug)]
struct Shared {
    now: Time,
    mtu: u32,
    offload: bool,
    there: Way,
    back: Way,
    scratch: Vec<u8>,
}

impl Shared {
    fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::There => &mut self.there,
            Direction::Back => &mut self.back,
        }
    }
}

/// A frame under way, ordered by arrival; those of the same time in the order of sending.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Flight {
    at: Time,
    number: u64,
    bytes: Vec<u8>,
}

/// One direction.
#[derive(Debug)]
struct Way {
    impairments: Impairments,
    random: Random,
    under_way: BinaryHeap<Reverse<Flight>>,
    arrived: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    /// Until when the link is busy with the frames before, at its rate.
    busy_until: Time,
    /// When the last frame arrives that kept its place.
    last_arrival: Time,
    number: u64,
    counters: LinkCounters,
}

impl Way {
    fn new(impairments: Impairments, random: Random) -> Self {
        Self {
            impairments,
            random,
            under_way: BinaryHeap::new(),
            arrived: VecDeque::new(),
            spare: Vec::new(),
            busy_until: 0,
            last_arrival: 0,
            number: 0,
            counters: LinkCounters::default(),
        }
    }

    fn send(&mut self, parts: &[IoSlice<'_>], now: Time, mtu: usize) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let Impairments { loss, duplicate, corrupt, reorder, .. } = self.impairments;
        // The same draws for every frame, so that frames do not share their luck.
        let (lost, twice) = (self.random.happens(loss), self.random.happens(duplicate));
        let (corrupted, reordered) = (self.random.happens(corrupt), self.random.happens(reorder));
        let (bit, late) = (self.random.next(), self.random.next());
        self.counters.sent += 1;
        self.counters.bytes += length as u64;
        if length > mtu.min(limits::DATAGRAM + 40) {
            self.counters.too_long += 1;
        } else if lost {
            self.counters.lost += 1;
        } else if let Some(leaves) = self.pass_queue(length as u64, now) {
            let at = self.arrival(leaves, reordered, late);
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.clear();
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            if corrupted && length > 0 {
                self.counters.corrupted += 1;
                if let Some(byte) = bytes.get_mut((bit >> 3) as usize % length) {
                    *byte ^= 1 << (bit & 7);
                }
            }
            if twice {
                self.counters.duplicated += 1;
                self.launch(at, bytes.clone());
            }
            self.launch(at, bytes);
        }
    }

    /// When the frame has left at the link's rate; `None` if the queue in front of it is full.
    fn pass_queue(&mut self, length: u64, now: Time) -> Option<Time> {
        let Impairments { rate, queue, .. } = self.impairments;
        let is_full = self.under_way.len() + self.arrived.len() >= FRAMES;
        let per_second = |bytes: u64| u128::from(bytes) * 8 * u128::from(limits::SECOND);
        let begins = self.busy_until.max(now);
        let waiting = u128::from(begins - now) * u128::from(rate);
        if is_full || (rate > 0 && queue > 0 && waiting + per_second(length) > per_second(queue)) {
            self.counters.queue_drops += 1;
            return None;
        }
        if rate == 0 {
            return Some(now);
        }
        let takes =
            per_second(length).div_ceil(u128::from(rate)).min(u128::from(limits::SECOND * 3600)) as Time;
        self.busy_until = begins.saturating_add(takes);
        Some(self.busy_until)
    }

    /// When a frame that leaves at `leaves` arrives.
    fn arrival(&mut self, leaves: Time, reordered: bool, late: u64) -> Time {
        let Impairments { delay, jitter, reorder_delay, .. } = self.impairments;
        let at = leaves.saturating_add(delay).saturating_add(self.random.below(jitter.saturating_add(1)));
        if reordered {
            self.counters.reordered += 1;
            return at.saturating_add(1 + late % reorder_delay.max(1));
        }
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    fn launch(&mut self, at: Time, bytes: Vec<u8>) {
        self.number += 1;
        self.under_way.push(Reverse(Flight { at, number: self.number, bytes }));
    }

    /// Frames that are due can be received.
    fn arrive(&mut self, now: Time) {
        while self.under_way.peek().is_some_and(|flight| flight.0.at <= now) {
            if let Some(Reverse(flight)) = self.under_way.pop() {
                self.arrived.push_back(flight.bytes);
            }
        }
    }

    fn next_event(&self, now: Time) -> Time {
        if !self.arrived.is_empty() {
            return now;
        }
        self.under_way.peek().map_or(NEVER, |flight| flight.0.at.max(now))
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
