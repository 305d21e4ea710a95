//! The lists of a step in the canonical form of the component model, read and written in place.
//!
//! Generated code goes over each list twice and allocates it anew each time, which costs more than the step itself.
//! Here records are words, packed and unpacked by shifts, in buffers that are used again. What each word holds follows
//! from the contract's types; the host's tests compare it with the native core, step by step.
#![expect(unsafe_code, reason = "a list comes from the host as an address and a length")]

use crate::face::State;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::{
    Address, Endpoint, Event, Evidence, Handle, Kind, Mark, MarkAt, Message, Module, Opening, Outputs, Place,
    Position, Reason, Segment, Send,
};

/// The lists of an answer in words, and the record that says where they are.
#[derive(Default)]
pub(crate) struct Words {
    record: [u64; 9],
    sends: Vec<[u64; 4]>,
    places: Vec<[u64; 4]>,
    marks: Vec<[u64; 5]>,
    events: Vec<[u64; 5]>,
    notes: Vec<[u64; 3]>,
}

/// Takes over a list of the host's.
///
/// # Safety
/// It was allocated by `cabi_realloc` for `length` records with the alignment of `T`, or is empty.
pub(crate) unsafe fn list<T>(address: *mut T, length: usize) -> Vec<T> {
    if length == 0 {
        return Vec::new();
    }
    // SAFETY: as the caller has promised.
    unsafe { Vec::from_raw_parts(address, length, length) }
}

/// One step; gives the address of its outputs, which stay until the next.
pub(crate) fn step(state: &mut State) -> *mut u8 {
    let State { tcp, batch, outputs, words } = state;
    outputs.clear();
    tcp.step(&batch.inputs(), outputs);
    words.fill(outputs);
    words.record.as_mut_ptr().cast()
}

// ---- in

pub(crate) fn segment(words: &[u32; 5]) -> Segment {
    let [header, payload, lengths, merged, bytes] = *words;
    let [protocol, kind, evidence, device] = bytes.to_le_bytes();
    Segment {
        header,
        payload,
        header_length: lengths as u16,
        transport: (lengths >> 16) as u16,
        mss: merged as u16,
        count: (merged >> 16) as u16,
        protocol,
        kind: match kind {
            0 => Kind::Whole,
            1 => Kind::Fragment,
            2 => Kind::IcmpError,
            _ => Kind::Frame,
        },
        evidence: match evidence {
            0 => Evidence::Verified,
            1 => Evidence::Trusted,
            _ => Evidence::Absent,
        },
        device,
    }
}

pub(crate) fn position(words: &[u64; 5]) -> Position {
    let [connection, written, consumed, limit, marks] = *words;
    Position { connection: Handle(connection), written, consumed, limit, marks: MarkAt(marks as u8) }
}

pub(crate) fn message(words: &[u64; 8]) -> Message {
    let [socket, numbers, high, low, port, to_high, to_low, to_port] = *words;
    let end = |high, low, port: u64| Endpoint::new(Address { high, low }, port as u16);
    Message {
        socket: Handle(socket),
        length: numbers as u32,
        hop_limit: (numbers >> 32) as u8,
        traffic_class: (numbers >> 40) as u8,
        source: end(high, low, port),
        to: end(to_high, to_low, to_port),
    }
}

// ---- out

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
        refill(&mut self.sends, &outputs.sends, send);
        refill(&mut self.places, &outputs.places, place);
        refill(&mut self.marks, &outputs.marks, mark);
        refill(&mut self.events, &outputs.events, event);
        refill(&mut self.notes, &outputs.notes, |note| {
            let text: &String = &note.text;
            [u64::from(note.level), note.connection.0, two(at(text.as_bytes()), text.len() as u32)]
        });
        self.record = [
            outputs.deadline,
            outputs.deadline_of.0,
            two(u32::from(outputs.unfinished), at(&outputs.headers)),
            two(outputs.headers.len() as u32, at(&self.sends)),
            two(self.sends.len() as u32, at(&self.places)),
            two(self.places.len() as u32, at(&self.marks)),
            two(self.marks.len() as u32, at(&self.events)),
            two(self.events.len() as u32, at(&self.notes)),
            self.notes.len() as u64,
        ];
    }
}

fn refill<A, B>(words: &mut Vec<B>, records: &[A], pack: impl Fn(&A) -> B) {
    words.clear();
    words.extend(records.iter().map(pack));
}

fn send(send: &Send) -> [u64; 4] {
    let shape = u64::from(send.header_length)
        | u64::from(send.transport) << 16
        | u64::from(send.mss) << 32
        | (send.source as u64) << 48
        | u64::from(send.how.0) << 56;
    [send.of, send.at, two(send.header, send.length), shape]
}

fn place(place: &Place) -> [u64; 4] {
    let kind = (place.source as u32) | (place.target as u32) << 8;
    [place.of, place.at, two(place.segment, place.skip), two(place.length, kind)]
}

fn mark(mark: &Mark) -> [u64; 5] {
    let (wants, more) = (two(mark.by, mark.want_receive), u64::from(mark.want_send));
    [mark.connection.0, mark.exposed, mark.acknowledged, wants, more]
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
