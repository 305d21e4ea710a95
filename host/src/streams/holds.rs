//! Hold slots: fragments' bytes until their datagram is complete. Inspect keeps their numbers.

use crate::device::Offload;
use crate::frame::{Frame, FramePool};
use bulkhead_wit::limits;
use std::io::IoSlice;

const FRAGMENT_HEADER: u8 = 44;

#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The network header of the fragment at offset 0.
    pub(crate) header: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

/// The bytes of all hold slots.
#[derive(Debug, Default)]
pub struct HoldBytes {
    pub(crate) slots: Vec<Slot>,
}

impl HoldBytes {
    /// Puts a fragment's bytes where they belong; `header` is its network header.
    pub fn place(&mut self, slot: u64, at: u64, header: &[u8], payload: &[u8]) {
        let Some(index) = usize::try_from(slot).ok().filter(|index| *index < limits::HOLDS) else { return };
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        let from = at as usize;
        let end = from + payload.len();
        if slot.bytes.len() < end {
            slot.bytes.resize(end, 0);
        }
        slot.bytes[from..end].copy_from_slice(payload);
        if at == 0 {
            slot.header = header.to_vec();
        }
    }

    /// The datagram of a complete slot, as a frame that split has yet to look at; the slot is free.
    pub fn resubmit(&mut self, slot: u32, length: u32, pool: &mut FramePool) -> Option<Frame> {
        let slot = std::mem::take(self.slots.get_mut(slot as usize)?);
        let payload = slot.bytes.get(..length as usize)?;
        let header = whole_header(slot.header, payload.len())?;
        pool.copy(&[IoSlice::new(&header), IoSlice::new(payload)], Offload::default()).ok()
    }

    /// The slot is free.
    pub fn release(&mut self, slot: u32) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            *slot = Slot::default();
        }
    }
}

/// The network header of the whole datagram, from that of its first fragment.
fn whole_header(mut header: Vec<u8>, payload: usize) -> Option<Vec<u8>> {
    if header.first()? >> 4 == 4 {
        let total = u16::try_from(header.len() + payload).ok()?;
        header.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
        header.get_mut(6..8)?.fill(0);
        header.get_mut(10..12)?.fill(0);
        let sum = crate::checksum::checksum(&header);
        header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
        return Some(header);
    }
    // RFC 8200 4.5: the fragment header is taken out of the chain; it is the last of the unfragmentable part.
    let end = header.len().checked_sub(8)?;
    let after = *header.get(end)?;
    let mut link = 6;
    let mut at = 40;
    while *header.get(link)? != FRAGMENT_HEADER {
        link = at;
        at += 8 + usize::from(*header.get(at + 1)?) * 8;
    }
    *header.get_mut(link)? = after;
    header.truncate(end);
    let length = u16::try_from(header.len() - 40 + payload).ok()?;
    header.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
    Some(header)
}
