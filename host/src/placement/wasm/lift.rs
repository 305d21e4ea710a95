//! The outputs of a step, read straight from the module's memory.
//!
//! Every count is compared with its limit before anything is allocated for it, every address with the memory, every
//! value with its type. What is not as it must be is a fault with the rule's name, and the step has had no effect.
#![expect(unsafe_code, reason = "wasmtime's Lift is an unsafe trait: the impl below vouches for its layout")]

use std::cell::RefCell;

use bulkhead_wit::{
    Address, Choosing, Endpoint, Event, Failed, Finished, Handle, Hold, How, Info, Mark, NEVER, Note,
    Opening, Outputs, Place, Reason, Send, Source, Summary, Target, Urgent, limits,
};
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentType, Lift};
use wasmtime::{Error, Result, ValRaw};

use super::bindings::wit;
use crate::fault::{Fault, Rule};

const OUTPUTS: usize = 72;
const SEND: usize = 32;
const PLACE: usize = 32;
const MARK: usize = 40;
const EVENT: usize = 40;
const NOTE: usize = 24;
const _: () = {
    assert!(<wit::Outputs as ComponentType>::SIZE32 == OUTPUTS);
    assert!(<wit::Send as ComponentType>::SIZE32 == SEND);
    assert!(<wit::Place as ComponentType>::SIZE32 == PLACE);
    assert!(<wit::Mark as ComponentType>::SIZE32 == MARK);
    assert!(<wit::Event as ComponentType>::SIZE32 == EVENT);
    assert!(<wit::Note as ComponentType>::SIZE32 == NOTE);
};

thread_local! {
    /// Where the outputs of the step under way on this thread go. Lifting makes a value out of nothing but the module's
    /// memory, so vectors that are to be reused have to be within reach some other way.
    static SINK: RefCell<Outputs> = const {
        RefCell::new(Outputs {
            deadline: NEVER,
            deadline_of: Handle::INSTANCE,
            unfinished: false,
            headers: Vec::new(),
            sends: Vec::new(),
            places: Vec::new(),
            marks: Vec::new(),
            events: Vec::new(),
            notes: Vec::new(),
        })
    };
}

/// The result of `step`; its lists are lifted into the vectors that [`exchange`] has put in place.
pub(super) struct StepOutputs;

/// Puts these outputs where the next step of this thread writes, or takes them back.
pub(super) fn exchange(outputs: &mut Outputs) {
    SINK.with_borrow_mut(|sink| std::mem::swap(sink, outputs));
}

// SAFETY: layout and type check are those of the generated record; its flat form is never used, since it has more
// values than a result may have.
unsafe impl ComponentType for StepOutputs {
    type Lower = [ValRaw; 15];
    const ABI: CanonicalAbiInfo = <wit::Outputs as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <wit::Outputs as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: a value of it is made after all of the record was read and found valid.
unsafe impl Lift for StepOutputs {
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &Self::Lower) -> Result<Self> {
        Err(Error::msg("the result of a step is not flat"))
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, _: InterfaceType, bytes: &[u8]) -> Result<Self> {
        let record = bytes.first_chunk::<OUTPUTS>().ok_or_else(|| Error::msg("outputs are cut off"))?;
        SINK.with_borrow_mut(|sink| outputs(cx.memory(), record, sink)).map_err(Error::new)?;
        Ok(Self)
    }
}

/// What went wrong, boxed to keep the good way narrow.
type Read<T> = core::result::Result<T, Fault>;

fn outputs(memory: &[u8], record: &[u8; OUTPUTS], out: &mut Outputs) -> Read<()> {
    out.deadline = long(record, 0);
    out.deadline_of = handle(record, 8);
    out.unfinished = record[16] != 0;
    let headers = List { name: "headers", limit: limits::HEADER_BYTES, align: 1 };
    out.headers.extend_from_slice(headers.of::<1>(memory, pair(record, 20))?.as_flattened());
    let sends = List { name: "sends", limit: limits::SENDS, align: 8 };
    let sends = sends.of(memory, pair(record, 28))?;
    known(sends, 30, SOURCES, "source of send")?;
    out.sends.extend(sends.iter().map(send));
    let places = List { name: "places", limit: limits::PLACES, align: 8 };
    let places = places.of(memory, pair(record, 36))?;
    known(places, 28, SOURCES, "source of place")?;
    known(places, 29, TARGETS, "target of place")?;
    out.places.extend(places.iter().map(place));
    let marks = List { name: "marks", limit: limits::MARKS, align: 8 };
    out.marks.extend(marks.of(memory, pair(record, 44))?.iter().map(mark));
    let events = List { name: "events", limit: limits::EVENTS, align: 8 };
    each(events.of(memory, pair(record, 52))?, &mut out.events, |record| event(memory, record))?;
    let notes = List { name: "notes", limit: limits::NOTES, align: 8 };
    each(notes.of(memory, pair(record, 60))?, &mut out.notes, |record| note(memory, record))
}

// ---- lists

/// A list that a module gives, and how long it may be.
struct List {
    name: &'static str,
    limit: usize,
    align: usize,
}

impl List {
    /// Its records, if it lies within the memory and its limit.
    #[inline(always)]
    fn of<const SIZE: usize>(self, memory: &[u8], (address, length): (u32, u32)) -> Read<&[[u8; SIZE]]> {
        let (address, length) = (address as usize, length as usize);
        if length > self.limit {
            return Err(self.too_long(length));
        }
        let bytes = memory.get(address..).and_then(|rest| rest.get(..length * SIZE));
        match bytes {
            Some(bytes) if address.is_multiple_of(self.align) => Ok(bytes.as_chunks::<SIZE>().0),
            Some(_) => Err(self.malformed(format!("at {address:#x} are not aligned to {}", self.align))),
            None => Err(self.malformed(format!("({length} at {address:#x}) are not within the memory"))),
        }
    }

    #[cold]
    fn too_long(&self, length: usize) -> Fault {
        let rule = if self.name == TEXT { Rule::Text } else { Rule::Counts };
        Fault::broken(rule, format!("{length} {}, {} allowed", self.name, self.limit))
    }

    #[cold]
    fn malformed(&self, what: String) -> Fault {
        Fault::broken(Rule::Encoding, format!("{} {what}", self.name))
    }
}

/// What a note's list is called, which has a rule of its own.
const TEXT: &str = "bytes of a note's text";

#[inline(always)]
fn each<const SIZE: usize, T>(
    records: &[[u8; SIZE]],
    out: &mut Vec<T>,
    read: impl Fn(&[u8; SIZE]) -> Read<T>,
) -> Read<()> {
    out.reserve(records.len());
    for record in records {
        out.push(read(record)?);
    }
    Ok(())
}

/// Cases of [`Source`].
const SOURCES: u8 = 6;
/// Cases of [`Target`].
const TARGETS: u8 = 3;

/// Whether the byte `at` this place of every record names one of so many cases. Looked at for all of a list beforehand, so
/// that its records can be copied without a question in between.
#[inline(always)]
fn known<const SIZE: usize>(records: &[[u8; SIZE]], at: usize, cases: u8, what: &str) -> Read<()> {
    match records.iter().enumerate().find(|(_, record)| record[at] >= cases) {
        None => Ok(()),
        Some((number, record)) => Err(unknown(what, number, record[at])),
    }
}

// ---- records

#[inline(always)]
fn send(record: &[u8; SEND]) -> Send {
    Send {
        of: long(record, 0),
        at: long(record, 8),
        header: word(record, 16),
        length: word(record, 20),
        header_length: short(record, 24),
        transport: short(record, 26),
        mss: short(record, 28),
        source: source(record[30]),
        how: How(record[31] & How::MAY_FRAGMENT.0),
    }
}

#[inline(always)]
fn place(record: &[u8; PLACE]) -> Place {
    Place {
        of: long(record, 0),
        at: long(record, 8),
        segment: word(record, 16),
        skip: word(record, 20),
        length: word(record, 24),
        source: source(record[28]),
        target: match record[29] {
            0 => Target::Stream,
            1 => Target::Datagram,
            _ => Target::Hold,
        },
    }
}

#[inline(always)]
fn mark(record: &[u8; MARK]) -> Mark {
    Mark {
        connection: handle(record, 0),
        exposed: long(record, 8),
        acknowledged: long(record, 16),
        by: word(record, 24),
        want_receive: word(record, 28),
        want_send: word(record, 32),
    }
}

fn event(memory: &[u8], record: &[u8; EVENT]) -> Read<Event> {
    Ok(match record[0] {
        0 => Event::Offered(opening(record)),
        1 => Event::Accepted(opening(record)),
        2 => Event::Opened(opening(record)),
        3 => Event::Choosing(Choosing { connection: handle(record, 8), local: endpoint(record, 16) }),
        4 => Event::Finished(Finished {
            connection: handle(record, 8),
            at: long(record, 16),
            segment: word(record, 24),
        }),
        5 => Event::Urgent(Urgent { connection: handle(record, 8), at: long(record, 16) }),
        6 => Event::Warned(reason(record)),
        7 => Event::Closed(reason(record)),
        8 => Event::Resubmit(Hold { slot: word(record, 8), length: word(record, 12) }),
        9 => Event::Release(word(record, 8)),
        10 => {
            let fields = List { name: "fields of an info", limit: limits::INFO_FIELDS, align: 8 };
            let fields = fields.of::<8>(memory, pair(record, 16))?;
            let fields = fields.iter().map(|field| u64::from_le_bytes(*field)).collect();
            Event::Info(Info { of: handle(record, 8), fields })
        }
        11 => Event::Failed(Failed { call: word(record, 8), reason: short(record, 12) }),
        other => return Err(Fault::broken(Rule::Encoding, format!("kind of event is {other}"))),
    })
}

fn opening(record: &[u8; EVENT]) -> Opening {
    Opening {
        listener: word(record, 8),
        connection: handle(record, 16),
        segment: word(record, 24),
        receive_base: word(record, 28),
        send_base: word(record, 32),
        mss: short(record, 36),
    }
}

fn reason(record: &[u8; EVENT]) -> Reason {
    Reason { connection: handle(record, 8), reason: short(record, 16), value: word(record, 20) }
}

fn endpoint<const SIZE: usize>(record: &[u8; SIZE], at: usize) -> Endpoint {
    let address = Address { high: long(record, at), low: long(record, at + 8) };
    Endpoint { address, port: short(record, at + 16) }
}

fn note(memory: &[u8], record: &[u8; NOTE]) -> Read<Note> {
    let text = List { name: TEXT, limit: limits::NOTE_BYTES, align: 1 };
    let text = text.of::<1>(memory, pair(record, 16))?.as_flattened();
    let text =
        str::from_utf8(text).map_err(|_| Fault::broken(Rule::Text, "the text of a note is not UTF-8"))?;
    Ok(Note { level: record[0], connection: handle(record, 8), text: text.into() })
}

/// Of a value that is [`known`].
#[inline(always)]
fn source(value: u8) -> Source {
    match value {
        0 => Source::Nothing,
        1 => Source::Queue,
        2 => Source::Segment,
        3 => Source::Message,
        4 => Source::Hold,
        _ => Source::Staged,
    }
}

#[cold]
fn unknown(what: &str, number: usize, value: u8) -> Fault {
    Fault::broken(Rule::Encoding, format!("{what} {number} is {value}, which names none"))
}

/// One connection of those that a `load` accounts for.
pub(super) struct Account(pub(super) Summary);

const SUMMARY: usize = 96;
const _: () = assert!(<wit::Summary as ComponentType>::SIZE32 == SUMMARY);

// SAFETY: layout and type check are those of the generated record.
unsafe impl ComponentType for Account {
    type Lower = <wit::Summary as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <wit::Summary as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <wit::Summary as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: every field is a number, of which all values are valid.
unsafe impl Lift for Account {
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &Self::Lower) -> Result<Self> {
        Err(Error::msg("an account stands in a list"))
    }

    fn linear_lift_from_memory(_: &mut LiftContext<'_>, _: InterfaceType, bytes: &[u8]) -> Result<Self> {
        let record = bytes.first_chunk::<SUMMARY>().ok_or_else(|| Error::msg("an account is cut off"))?;
        Ok(Self(Summary {
            connection: handle(record, 0),
            local: endpoint(record, 8),
            remote: endpoint(record, 32),
            receive_base: word(record, 56),
            send_base: word(record, 60),
            exposed: long(record, 64),
            acknowledged: long(record, 72),
            sent: long(record, 80),
            limit: long(record, 88),
        }))
    }
}

// ---- numbers, at fixed offsets of a record: bounds are the compiler's to check

#[inline(always)]
fn bytes<const SIZE: usize, const N: usize>(record: &[u8; SIZE], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&record[at..at + N]);
    value
}

#[inline(always)]
fn long<const SIZE: usize>(record: &[u8; SIZE], at: usize) -> u64 {
    u64::from_le_bytes(bytes(record, at))
}

#[inline(always)]
fn word<const SIZE: usize>(record: &[u8; SIZE], at: usize) -> u32 {
    u32::from_le_bytes(bytes(record, at))
}

#[inline(always)]
fn short<const SIZE: usize>(record: &[u8; SIZE], at: usize) -> u16 {
    u16::from_le_bytes(bytes(record, at))
}

#[inline(always)]
fn handle<const SIZE: usize>(record: &[u8; SIZE], at: usize) -> Handle {
    Handle(long(record, at))
}

#[inline(always)]
fn pair<const SIZE: usize>(record: &[u8; SIZE], at: usize) -> (u32, u32) {
    (word(record, at), word(record, at + 4))
}
