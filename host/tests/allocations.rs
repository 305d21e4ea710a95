//! What segments cost in allocations once a connection is under way, in the host and natively in the module: counted by
//! the allocator, with two stacks joined by their devices in virtual time.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead::device::Capabilities;
use bulkhead::device::queue::QueueDevice;
use bulkhead::placement::native::Native;
use bulkhead::{ConnectOptions, ListenOptions, Options, Stack, StreamId};
use bulkhead_tcp::Tcp;
use bulkhead_wit::{Endpoint, limits::MILLISECOND};

/// Bytes before the counting: every buffer has its size by then.
const WARM: usize = 16 << 20;
/// Bytes that are counted.
const COUNTED: usize = 16 << 20;
/// A write, and room for a read, in bytes: what is under way at once.
const CHUNK: usize = 64 << 10;
/// Allocations of a burst, on average: a stream that is idle holds none of the memory that lists what has arrived and what
/// is in flight, and takes it anew (3); now and then there is a checkpoint.
const BURST_MAX: u64 = 4;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system allocator's; here it is only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller has promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A stack, its device, and the time.
struct Side(Stack, QueueDevice);

impl Side {
    fn new(last: u8, capabilities: Capabilities) -> Self {
        let options = Options::new([10, 0, 0, last].into(), 24, 1500, [last.into(); 4]);
        let instance = Box::new(Native::new(Box::new(Tcp::new())));
        Self(Stack::new(instance, options).unwrap(), QueueDevice::new(capabilities))
    }

    /// Turns until there is no more to do, and hands what leaves to the peer. Says how many frames that were.
    fn turn(&mut self, now: u64, peer: &mut QueueDevice) -> u64 {
        while self.0.turn(now, &mut self.1).unwrap().again {}
        let mut frames = 0;
        while let Some((bytes, offload)) = self.1.take() {
            assert!(peer.inject(&bytes, offload));
            self.1.recycle(bytes);
            frames += 1;
        }
        frames
    }
}

/// Both sides with a connection between them.
struct Scene {
    client: Side,
    server: Side,
    streams: (StreamId, StreamId),
    now: u64,
}

impl Scene {
    fn new(capabilities: Capabilities) -> Self {
        let (mut client, mut server) = (Side::new(2, capabilities), Side::new(1, capabilities));
        let local = Endpoint::from(std::net::SocketAddr::from(([10, 0, 0, 1], 80)));
        let listener = server.0.listen(local, ListenOptions::default()).unwrap();
        let asking = client.0.connect(local, ConnectOptions::default()).unwrap();
        let mut now = 0;
        loop {
            now += MILLISECOND;
            client.turn(now, &mut server.1);
            server.turn(now, &mut client.1);
            if let Ok(accepted) = server.0.accept(listener) {
                return Self { streams: (asking, accepted.stream), client, server, now };
            }
        }
    }

    /// Moves so many bytes to the server. Says how many bursts and frames that took, both ways.
    fn transfer(&mut self, bytes: usize, chunk: &mut [u8]) -> (u64, u64) {
        let (mut written, mut read, mut bursts, mut frames) = (0, 0, 0, 0);
        while read < bytes {
            bursts += 1;
            let most = chunk.len().min(bytes - written);
            written += self.client.0.write(self.streams.0, &chunk[..most]).unwrap_or(0);
            self.now += MILLISECOND;
            frames += self.client.turn(self.now, &mut self.server.1);
            frames += self.server.turn(self.now, &mut self.client.1);
            while let Ok(count) = self.server.0.read(self.streams.1, chunk) {
                read += count;
            }
            // As a driver does, which tells applications.
            while self.client.0.next_ready().is_some() || self.server.0.next_ready().is_some() {}
        }
        (bursts, frames)
    }
}

#[test]
fn a_burst_allocates_a_little_and_its_segments_nothing() {
    for (name, capabilities) in [("plain", Capabilities::plain(1500)), ("offload", Capabilities::full(1500))]
    {
        let mut scene = Scene::new(capabilities);
        let mut chunk = vec![7; CHUNK];
        scene.transfer(WARM, &mut chunk);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let (bursts, frames) = scene.transfer(COUNTED, &mut chunk);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        println!("{name}: {allocations} allocations for {frames} frames in {bursts} bursts");
        assert!(allocations <= BURST_MAX * bursts, "{name}: {allocations} for {bursts} bursts");
        // Where nothing is merged, a burst has so many segments that one allocation each would show.
        assert!(name == "offload" || frames > 8 * BURST_MAX * bursts, "{name}: {frames} for {bursts} bursts");
    }
}
