//! Several stacks on one interface: each has a queue of the device, an instance and a thread of its own, and every
//! connection belongs to exactly one of them.
//!
//! Which one is computed from the segment alone ([`Plan::owner`], D6 of the contract): a local port of the ephemeral
//! range belongs to the shard `port mod N`, from which the shard's module chose it; everything else to a keyed hash of
//! both ends. The queue that a frame arrived on is only a hint: the kernel steers a flow to the queue that answered last,
//! forgets it after three seconds, and knows nothing of a new one. A stray crosses to its owner by a bounded ring; on the
//! way of all other segments there is no lock, and no cache line that two shards write.

use std::hash::{Hash as _, Hasher as _};
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bulkhead_wit::{Endpoint, Time};
use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::device::{Capabilities, Device, Gso, Offload};
use crate::frame::{Frame, FramePool};
use crate::split::{Ends, Facts, Split};

/// Shards at most.
pub const SHARDS: usize = 256;

/// Strays that wait for one shard at most; what comes then is dropped and counted, as a full queue of a card would.
const RING: usize = 512;

/// Which shard a segment belongs to. All shards of one interface have the same.
#[derive(Clone, Debug)]
pub struct Plan {
    shards: usize,
    ephemeral: RangeInclusive<u16>,
    key: Key,
}

/// The key of the hash that shares out connections, so that a stranger cannot aim all of his at one shard. Where another process
/// goes on with the same connections, it has to have the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u64; 2]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// One that nobody knows.
    ///
    /// # Errors
    /// What the system says to random bytes.
    pub fn random() -> io::Result<Self> {
        let [first, second, ..] = crate::net::random_seed()?;
        Ok(Self([first, second]))
    }

    #[expect(deprecated, reason = "the one hash of std whose key can be chosen")]
    fn hash(self, local: Endpoint, remote: Endpoint) -> u64 {
        let mut hasher = std::hash::SipHasher::new_with_keys(self.0[0], self.0[1]);
        for end in [local, remote] {
            (end.address.high, end.address.low, end.port).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Plan {
    /// The shard that serves a segment with these ends.
    #[must_use]
    pub fn owner(&self, ends: &Ends, facts: &Facts) -> usize {
        let (local, remote) = match facts {
            // Of a datagram that was ours.
            Facts::IcmpError { quoted, .. } => (quoted.source, quoted.destination),
            _ => (ends.destination, ends.source),
        };
        if self.ephemeral.contains(&local.port) {
            return usize::from(local.port) % self.shards;
        }
        // A hash is uniform in its upper half too, where the remainder is.
        (self.key.hash(local, remote) % self.shards as u64) as usize
    }
}

/// What all shards of an interface share. Written only for strays.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    doors: Vec<Door>,
    strays: AtomicU64,
    lost: AtomicU64,
}

/// Where a shard takes strays from others.
#[derive(Debug)]
struct Door {
    ring: SyncSender<Frame>,
    bell: OwnedFd,
    has_rung: AtomicBool,
}

/// One shard's device: its own queue, and what arrived for it at the others'.
pub struct Shard {
    device: Box<dyn Device>,
    index: usize,
    shared: Arc<Shared>,
    ring: Receiver<Frame>,
    /// Becomes readable with the queue and with the bell.
    both: OwnedFd,
}

/// Makes shards of the queues of one interface: one stack each, with [`Builder::shard`](crate::net::Builder::shard).
/// `ephemeral` are the ports that the modules choose from, and `key` says which shard is whose else.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for no queues or more than [`SHARDS`]; what the system says to an eventfd or epoll.
pub fn shards(
    devices: Vec<Box<dyn Device>>,
    ephemeral: RangeInclusive<u16>,
    key: Key,
) -> io::Result<Vec<Shard>> {
    if devices.is_empty() || devices.len() > SHARDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (mut doors, mut rings) = (Vec::new(), Vec::new());
    for _ in &devices {
        let (sender, ring) = sync_channel(RING);
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        doors.push(Door { ring: sender, bell, has_rung: AtomicBool::new(false) });
        rings.push(ring);
    }
    let plan = Plan { shards: devices.len(), ephemeral, key };
    let shared = Arc::new(Shared { plan, doors, strays: AtomicU64::new(0), lost: AtomicU64::new(0) });
    let made = devices.into_iter().zip(rings).enumerate().map(|(index, (device, ring))| {
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let readable = epoll::EventFlags::IN;
        let door = shared.doors.get(index).ok_or(io::ErrorKind::InvalidInput)?;
        epoll::add(&both, &door.bell, epoll::EventData::new_u64(0), readable)?;
        if let Some(queue) = device.as_fd() {
            epoll::add(&both, queue, epoll::EventData::new_u64(1), readable)?;
        }
        Ok(Shard { device, index, shared: Arc::clone(&shared), ring, both })
    });
    made.collect()
}

impl Shard {
    /// The rule by which segments are shared out.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Frames of all shards that arrived at another queue than their owner's, and how many of them were dropped since
    /// its ring was full.
    #[must_use]
    pub fn strays(&self) -> (u64, u64) {
        (self.shared.strays.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }

    /// The next stray that others have brought.
    fn brought(&self) -> Option<Frame> {
        if let Ok(frame) = self.ring.try_recv() {
            return Some(frame);
        }
        let door = self.shared.doors.get(self.index)?;
        if !door.has_rung.load(Ordering::Relaxed) {
            return None;
        }
        // In this order: whoever brings something from here on rings again.
        door.has_rung.store(false, Ordering::SeqCst);
        let _ = rustix::io::read(&door.bell, &mut [0; 8]);
        self.ring.try_recv().ok()
    }

    /// A frame of another shard goes there; its loss is one of the network's.
    fn bring(&self, owner: usize, frame: Frame) {
        let Some(door) = self.shared.doors.get(owner) else { return };
        self.shared.strays.fetch_add(1, Ordering::Relaxed);
        if door.ring.try_send(frame).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        if !door.has_rung.swap(true, Ordering::SeqCst) {
            let _ = rustix::io::write(&door.bell, &1u64.to_ne_bytes());
        }
    }
}

impl Device for Shard {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        if let Some(frame) = self.brought() {
            return Ok(Some(frame));
        }
        while let Some(frame) = self.device.receive(pool)? {
            if let Some(own) = self.steer(frame) {
                return Ok(Some(own));
            }
        }
        Ok(None)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        self.device.transmit(parts, offload)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.both.as_fd())
    }

    fn set_now(&mut self, now: Time) {
        self.device.set_now(now);
    }

    fn steer(&mut self, frame: Frame) -> Option<Frame> {
        let is_super = frame.offload.gso != Gso::None;
        // What cannot be measured is dropped, and counted, by whoever got it.
        let owner = Split::ends(&frame.bytes, is_super)
            .map_or(self.index, |(ends, facts)| self.shared.plan.owner(&ends, &facts));
        if owner == self.index {
            return Some(frame);
        }
        self.bring(owner, frame);
        None
    }

    fn give_up(&mut self, into: &mut Vec<Frame>) {
        into.extend(self.ring.try_iter());
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("index", &self.index)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::queue::QueueDevice;
    use crate::split::build;

    const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

    /// A segment to our port from the peer's.
    fn segment(ours: u16, theirs: u16) -> Vec<u8> {
        let mut tcp = build::tcp(2, &[], b"", true);
        tcp[..2].copy_from_slice(&theirs.to_be_bytes());
        tcp[2..4].copy_from_slice(&ours.to_be_bytes());
        build::fix(&mut tcp, 16, crate::split::network::TCP, true);
        build::v4(crate::split::network::TCP, &[], &tcp)
    }

    /// Three shards whose queues have got these frames each.
    fn three(frames: [&[Vec<u8>]; 3]) -> Vec<Shard> {
        let queues = frames.map(|frames| {
            let mut queue = QueueDevice::new(Capabilities::plain(1500));
            frames.iter().for_each(|frame| assert!(queue.inject(frame, Offload::default())));
            Box::new(queue) as Box<dyn Device>
        });
        shards(queues.into(), EPHEMERAL, Key([1, 2])).unwrap()
    }

    fn drain(shard: &mut Shard) -> Vec<Vec<u8>> {
        let mut pool = FramePool::new(2048);
        std::iter::from_fn(|| shard.receive(&mut pool).unwrap()).map(|frame| frame.bytes.to_vec()).collect()
    }

    #[test]
    fn every_segment_of_a_connection_comes_to_one_shard_wherever_it_arrives() {
        let flows: Vec<Vec<u8>> = (1000..1300).map(|port| segment(80, port)).collect();
        let mut shards = three([&flows, &flows, &flows]);
        let first: Vec<Vec<Vec<u8>>> = shards.iter_mut().map(drain).collect();
        let second: Vec<Vec<Vec<u8>>> = shards.iter_mut().map(drain).collect();
        for flow in &flows {
            let at = |shard: usize| {
                first[shard].iter().chain(&second[shard]).filter(|frame| *frame == flow).count()
            };
            let mut counts = [at(0), at(1), at(2)];
            counts.sort_unstable();
            assert_eq!(counts, [0, 0, 3], "all three copies come to one shard");
        }
        let share = first.iter().zip(&second).map(|(a, b)| a.len() + b.len());
        assert!(share.into_iter().all(|share| (180..420).contains(&share)), "the hash is not far from fair");
        assert_eq!(shards[0].strays(), (600, 0), "two of three copies arrived elsewhere");
    }

    #[test]
    fn a_port_that_a_shard_chose_leads_back_to_it() {
        // 40,002 leaves no remainder, so that port 40,002 + n belongs to shard n.
        let frames: Vec<Vec<u8>> = (40_002..40_005).map(|port| segment(port, 443)).collect();
        let mut shards = three([&frames, &[], &[]]);
        for (shard, frame) in shards.iter_mut().zip(frames) {
            assert_eq!(drain(shard), [frame]);
        }
    }

    #[test]
    fn fragments_and_what_they_make_up_find_their_owners() {
        let whole = segment(80, 1000);
        let mut last = build::v4(6, &[], &[7; 64]);
        last[6..8].copy_from_slice(&8u16.to_be_bytes());
        build::fix_v4(&mut last);
        let mut shards = three([&[last.clone()], &[last.clone()], &[last]]);
        (0..2).for_each(|_| shards.iter_mut().for_each(|shard| drop(drain(shard))));
        let got: u64 = shards[0].strays().0;
        assert_eq!(got, 2, "fragments of one pair of addresses come together");
        let stays = (0..3).filter(|index| {
            let frame = Frame::from_bytes(&whole, Offload::default());
            shards[*index].steer(frame).is_some()
        });
        assert_eq!(stays.count(), 1, "what was put together has one owner");
    }

    #[test]
    fn an_icmp_error_comes_to_the_connection_that_it_quotes() {
        let mut shards = three([&[], &[], &[]]);
        // What we sent: from port 80 to 1000; its answer would come from 1000 to 80.
        let mut quoted = segment(1000, 80);
        let (here, there) = (build::HERE4, build::THERE4);
        quoted[12..16].copy_from_slice(&here);
        quoted[16..20].copy_from_slice(&there);
        build::fix_v4(&mut quoted);
        let error = build::v4(1, &[], &build::icmp(3, &quoted[..28], true));
        let owner = |shards: &mut Vec<Shard>, bytes: &[u8]| {
            (0..3).find(|index| shards[*index].steer(Frame::from_bytes(bytes, Offload::default())).is_some())
        };
        let segment = owner(&mut shards, &segment(80, 1000));
        assert!(segment.is_some());
        assert_eq!(owner(&mut shards, &error), segment);
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let mut shards = three([&[], &[], &[]]);
        let frame = segment(40_001, 443);
        let owner = 40_001 % 3;
        let other = (owner + 1) % 3;
        for _ in 0..RING + 7 {
            assert!(shards[other].steer(Frame::from_bytes(&frame, Offload::default())).is_none());
        }
        assert_eq!(shards[0].strays(), (RING as u64 + 7, 7));
        assert_eq!(drain(&mut shards[owner]).len(), RING);
        assert!(shards[other].steer(Frame::from_bytes(&frame, Offload::default())).is_none());
        assert_eq!(drain(&mut shards[owner]).len(), 1, "and it goes on");
    }

    #[test]
    fn whoever_has_the_key_shares_out_alike() {
        let flows: Vec<Vec<u8>> = (1000..1100).map(|port| segment(80, port)).collect();
        let owners = |key: Key| -> Vec<usize> {
            let queues =
                (0..3).map(|_| Box::new(QueueDevice::new(Capabilities::plain(1500))) as Box<dyn Device>);
            let mut shards = shards(queues.collect(), EPHEMERAL, key).unwrap();
            let mut owner = |bytes: &[u8]| {
                let frame = || Frame::from_bytes(bytes, Offload::default());
                shards.iter_mut().position(|shard| shard.steer(frame()).is_some()).unwrap()
            };
            flows.iter().map(|flow| owner(flow)).collect()
        };
        let key = Key::random().unwrap();
        assert_eq!(owners(key), owners(key));
        assert_ne!(owners(key), owners(Key::random().unwrap()));
    }

    #[test]
    fn what_others_have_brought_can_be_taken_along() {
        let mut shards = three([&[segment(40_003, 443)], &[], &[]]);
        assert_eq!(drain(&mut shards[0]), [[0; 0]; 0]);
        let mut held = Vec::new();
        shards[1].give_up(&mut held);
        let held: Vec<Vec<u8>> = held.iter().map(|frame| frame.bytes.to_vec()).collect();
        assert_eq!(held, [segment(40_003, 443)]);
        assert!(drain(&mut shards[1]).is_empty());
    }

    #[test]
    fn there_is_a_bound_on_shards() {
        assert!(shards(Vec::new(), EPHEMERAL, Key([1, 2])).is_err());
    }
}
