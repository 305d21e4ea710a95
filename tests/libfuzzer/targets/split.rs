//! Split: frames of anybody's, with whatever a device may say of them.
//!
//! Whatever passes is what it claims to be: header and payload are the frame's own bytes, next to each other and within it; a TCP
//! checksum that nobody vouched for is right by a sum that is computed here once more; a super-segment has as many segments as
//! its payload and their size give. What does not pass leaves no trace but a count.
#![no_main]

use std::cell::RefCell;

use bulkhead::device::{ChecksumState, Gso, Offload};
use bulkhead::frame::{Frame, FrameSlice};
use bulkhead::split::{Arrived, Split};
use bulkhead_wit::{Address, Batch, Evidence, limits};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Room {
    split: Split,
    batch: Batch,
    arrived: Vec<Arrived>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// What the device says: in the first four bytes of an input.
fn offload(words: [u8; 4]) -> Offload {
    let [how, size, more, at] = words;
    Offload {
        checksum: match how & 3 {
            0 => ChecksumState::None,
            1 => ChecksumState::Needs { start: at.into(), offset: u16::from(more) & 31 },
            _ => ChecksumState::Verified,
        },
        gso: match how >> 2 & 7 {
            0 | 1 => Gso::Tcp4,
            2 => Gso::Tcp6,
            3 => Gso::Udp,
            _ => Gso::None,
        },
        gso_size: u16::from_be_bytes([size, more]),
        ..Offload::default()
    }
}

/// The Internet checksum over parts of even length but for the last: 0xffff where a checksum in it is right (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 =
        words.map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn octets(address: Address) -> Vec<u8> {
    address.v4().map_or_else(|| address.octets().to_vec(), |octets| octets.to_vec())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((words, bytes)) = bytes.split_first_chunk() else { return };
    let offload = offload(*words);
    ROOM.with_borrow_mut(|Room { split, batch, arrived }| {
        batch.clear();
        arrived.clear();
        // Beside another one, so that places in the batch are no longer those in the frame.
        batch.headers.extend_from_slice(&[0xee; 7]);
        let frame = Frame { bytes: FrameSlice::from(bytes), offload };
        let passed = split.counters().passed;
        if split.split(frame, batch, arrived).is_err() {
            assert!(batch.segments.is_empty() && arrived.is_empty() && batch.headers.len() == 7, "a trace");
            assert_eq!(split.counters().passed, passed);
            return;
        }
        assert_eq!((batch.segments.len(), arrived.len(), split.counters().passed), (1, 1, passed + 1));
        let (segment, arrived) = (&batch.segments[0], &arrived[0]);
        let (header, payload) = (usize::from(segment.header_length), segment.payload as usize);
        assert_eq!(batch.headers.len(), 7 + header);
        assert_eq!(segment.header, 7);
        assert!(header <= limits::HEADER && payload <= limits::DATAGRAM && header + payload <= bytes.len());
        assert!(usize::from(segment.transport) <= header);
        assert_eq!(&batch.headers[7..], &bytes[..header]);
        assert_eq!(&*arrived.payload, &bytes[header..header + payload]);
        let (count, mss) = (usize::from(segment.count), usize::from(segment.mss));
        assert!(count >= 1 && mss >= 1);
        if offload.gso == Gso::None {
            assert_eq!(count, 1);
        } else {
            assert_eq!(count, payload.max(1).div_ceil(mss));
        }
        if segment.protocol == 6 && segment.evidence == Evidence::Verified && arrived.fragment_key().is_none()
        {
            let (source, destination) =
                (octets(arrived.ends.source.address), octets(arrived.ends.destination.address));
            let from = usize::from(segment.transport);
            let length = ((header - from + payload) as u32).to_be_bytes();
            let parts = [
                &source,
                &destination,
                &length[..],
                &[0, 6],
                &bytes[from..header],
                &bytes[header..header + payload],
            ];
            assert_eq!(sum(&parts), 0xffff, "a checksum that is wrong was passed as verified");
        }
    });
});
