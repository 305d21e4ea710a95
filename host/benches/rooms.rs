//! What the outer rooms cost: nanoseconds a segment, beside a system call on the same machine.
//!
//! `cargo bench -p bulkhead --bench rooms`. Each figure is the median of many runs; the machine should be quiet. As a
//! test (`cargo test --benches`) everything runs once, and nothing is measured.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::time::Instant;

use bulkhead::checksum::checksum;
use bulkhead::device::{Capabilities, Device, Offload};
use bulkhead::frame::{Frame, FramePool};
use bulkhead::join::Join;
use bulkhead::split::{Arrived, Split};
use bulkhead_wit::{Batch, Send};

/// Operations in one run.
const OPERATIONS: u32 = 128;
/// Runs, of which the median counts.
const RUNS: usize = 1001;

/// A device that takes everything and keeps what it took last, for split.
struct Sink {
    capabilities: Capabilities,
    last: Vec<u8>,
    offload: Offload,
    keeps: bool,
}

impl Device for Sink {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, _pool: &mut FramePool) -> io::Result<Option<Frame>> {
        Ok(None)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        black_box((parts, offload));
        if self.keeps {
            self.last = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.offload = offload;
        }
        Ok(true)
    }
}

/// Prints the median time of one operation.
fn measure(what: &str, mut operation: impl FnMut()) {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    if !is_bench {
        return operation();
    }
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            (0..OPERATIONS).for_each(|_| operation());
            start.elapsed().as_nanos() as f64 / f64::from(OPERATIONS)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{what:<60} {:>9.1} ns", runs[RUNS / 2]);
}

/// A TCP header with timestamps, as a module writes it.
fn header(is_v4: bool) -> (Vec<u8>, u16) {
    let mut header = if is_v4 {
        vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]
    } else {
        let mut fixed = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
        fixed.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        fixed.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        fixed
    };
    let transport = header.len() as u16;
    header.extend_from_slice(&[3, 232, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend_from_slice(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    (header, transport)
}

/// Joins `length` bytes to a device and splits what came out.
fn rooms(what: &str, is_v4: bool, length: u32, capabilities: Capabilities) {
    let (header, transport) = header(is_v4);
    let header_length = header.len() as u16;
    let send = Send { length, header_length, transport, mss: 1428, ..Send::default() };
    // As a send queue holds it, in blocks.
    let bytes = vec![7; length as usize];
    let payload: Vec<&[u8]> = bytes.chunks(16 << 10).collect();
    let mut sink = Sink { capabilities, last: Vec::new(), offload: Offload::default(), keeps: true };
    let mut join = Join::new(1);
    join.join(&send, &header, &payload, &mut sink).expect("a good send");
    sink.keeps = false;
    measure(&format!("join  {what}"), || {
        join.join(black_box(&send), &header, &payload, &mut sink).expect("a good send");
    });
    let mut pool = FramePool::default();
    let (mut split, mut batch, mut arrived) = (Split::new(0), Batch::default(), Vec::<Arrived>::new());
    let frame = pool.copy(&[IoSlice::new(&sink.last)], sink.offload).expect("it fits");
    measure(&format!("split {what}"), || {
        if !Split::has_room(&batch) {
            batch.clear();
            arrived.clear();
        }
        split.split(black_box(frame.clone()), &mut batch, &mut arrived).expect("a good frame");
    });
}

fn main() {
    measure("system call (getppid)", || {
        black_box(std::os::unix::process::parent_id());
    });
    for length in [20, 1500, 65_535] {
        let bytes = vec![3u8; length];
        measure(&format!("checksum of {length} bytes"), || {
            black_box(checksum(black_box(&bytes)));
        });
    }
    let mut pool = FramePool::default();
    measure("pool: a buffer lent and given back", || {
        let filled = pool.fill(|space| {
            black_box(space);
            Ok(Some((0..1500, Offload::default())))
        });
        drop(black_box(filled));
    });
    let (plain, full) = (Capabilities::plain(1500), Capabilities::full(1500));
    for (name, is_v4) in [("IPv4", true), ("IPv6", false)] {
        rooms(&format!("{name} acknowledgement, software"), is_v4, 0, plain);
        rooms(&format!("{name} acknowledgement, offload"), is_v4, 0, full);
        rooms(&format!("{name} 1,428 bytes, software checksum"), is_v4, 1428, plain);
        rooms(&format!("{name} 1,428 bytes, offload"), is_v4, 1428, full);
        rooms(&format!("{name} 64,260 bytes, offload, one super-segment"), is_v4, 64_260, full);
        rooms(&format!("{name} 64,260 bytes, software, 45 frames (split: the last)"), is_v4, 64_260, plain);
    }
}
