//! The lists of a step in the canonical form of the component model, read and written in place.
//!
//! Generated code goes over each list twice and allocates it anew each time, which costs more than the step itself.
//! The records of the long lists lie in memory as the contract lays them out (`bulkhead_wit::types`), so they are used as
//! they came and given as they are. Events and notes, which are few, are packed into words, in buffers that are used again.
//! The host's tests compare it all with the native core, step by step.
#![expect(unsafe_code, reason = "a list comes from the host as an address and a length")]

use crate::face::State;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::{Endpoint, Event, Module, Opening, Outputs, Reason};

/// The record that says where the lists of an answer are, and those lists that are not used as they are.
#[derive(Default)]
pub(crate) struct Words {
    record: [u64; 9],
    events: Vec<[u64; 5]>,
    notes: Vec<[u64; 3]>,
}

/// Takes over a list of the host's.
///
/// # Safety
/// It was allocated by `cabi_realloc` for `length` records with the alignment of `T`, or is empty; its records are laid out
/// as `T`, and their values are such as `T` has.
pub(crate) unsafe fn list<T>(address: *mut T, length: usize) -> Vec<T> {
    if length == 0 {
        return Vec::new();
    }
    // SAFETY: as the caller has promised.
    unsafe { Vec::from_raw_parts(address, length, length) }
}

/// One step; gives the address of its outputs, which stay until the next.
pub(crate) fn step<M: Module>(state: &mut State<M>) -> *mut u8 {
    state.step();
    let State { batch, outputs, words, .. } = state;
    // What the host has allocated is given back before it allocates again: it gets the same places each time.
    batch.headers = Vec::new();
    batch.segments = Vec::new();
    batch.positions = Vec::new();
    batch.messages = Vec::new();
    words.fill(outputs);
    words.record.as_mut_ptr().cast()
}

/// Two numbers of 32 bits in a word, the first in front.
fn two(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// The address of a list, as 32 bits.
fn at<T>(list: &[T]) -> u32 {
    list.as_ptr() as usize as u32
}

impl Words {
    fn fill(&mut self, outputs: &Outputs) {
        refill(&mut self.events, &outputs.events, event);
        refill(&mut self.notes, &outputs.notes, |note| {
            let text: &String = &note.text;
            [u64::from(note.level), note.connection.0, two(at(text.as_bytes()), text.len() as u32)]
        });
        self.record = [
            outputs.deadline,
            outputs.deadline_of.0,
            two(u32::from(outputs.unfinished), at(&outputs.headers)),
            two(outputs.headers.len() as u32, at(&outputs.sends)),
            two(outputs.sends.len() as u32, at(&outputs.places)),
            two(outputs.places.len() as u32, at(&outputs.marks)),
            two(outputs.marks.len() as u32, at(&self.events)),
            two(self.events.len() as u32, at(&self.notes)),
            self.notes.len() as u64,
        ];
    }
}

fn refill<A, B>(words: &mut Vec<B>, records: &[A], pack: impl Fn(&A) -> B) {
    words.clear();
    words.extend(records.iter().map(pack));
}

fn event(event: &Event) -> [u64; 5] {
    match event {
        Event::Offered(begin) => opening(0, begin),
        Event::Accepted(begin) => opening(1, begin),
        Event::Opened(begin) => opening(2, begin),
        Event::Choosing(choosing) => {
            let Endpoint { address, port } = choosing.local;
            [3, choosing.connection.0, address.high, address.low, u64::from(port)]
        }
        Event::Finished(end) => [4, end.connection.0, end.at, u64::from(end.segment), 0],
        Event::Urgent(urgent) => [5, urgent.connection.0, urgent.at, 0, 0],
        Event::Warned(warned) => reason(6, warned),
        Event::Closed(closed) => reason(7, closed),
        Event::Resubmit(hold) => [8, two(hold.slot, hold.length), 0, 0, 0],
        Event::Release(slot) => [9, u64::from(*slot), 0, 0, 0],
        Event::Info(info) => [10, info.of.0, two(at(&info.fields), info.fields.len() as u32), 0, 0],
        Event::Failed(failed) => [11, two(failed.call, u32::from(failed.reason)), 0, 0, 0],
    }
}

fn opening(kind: u64, begin: &Opening) -> [u64; 5] {
    [
        kind,
        u64::from(begin.listener),
        begin.connection.0,
        two(begin.segment, begin.receive_base),
        two(begin.send_base, u32::from(begin.mss)),
    ]
}

fn reason(kind: u64, reason: &Reason) -> [u64; 5] {
    [kind, reason.connection.0, two(u32::from(reason.reason), reason.value), 0, 0]
}
