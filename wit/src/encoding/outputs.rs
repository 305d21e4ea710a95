//! What a step gives.

use alloc::vec::Vec;

use super::DecodeError;
use super::wire::{Reader, Sink, Wire, flags, put_list, put_text, record, tagged};
use crate::limits;
use crate::types::{
    Choosing, Endpoint, Event, Failed, Finished, Handle, Hold, How, Info, Mark, Note, Opening, Outputs,
    Place, Reason, Send, Source, Target, Urgent,
};

tagged!(Source, "source", least 1, {
    0 = Nothing, 1 = Queue, 2 = Segment, 3 = Message, 4 = Hold, 5 = Staged,
});
flags!(How, "set of send flags", 0b1);
record!(Send {
    of: u64,
    at: u64,
    header: u32,
    length: u32,
    header_length: u16,
    transport: u16,
    mss: u16,
    source: Source,
    how: How,
});
tagged!(Target, "target", least 1, { 0 = Stream, 1 = Datagram, 2 = Hold });
record!(Place { of: u64, at: u64, segment: u32, skip: u32, length: u32, source: Source, target: Target });
record!(Mark {
    connection: Handle,
    exposed: u64,
    acknowledged: u64,
    by: u32,
    want_receive: u32,
    want_send: u32,
});

record!(Opening {
    listener: u32,
    connection: Handle,
    segment: u32,
    receive_base: u32,
    send_base: u32,
    mss: u16,
});
record!(Choosing { connection: Handle, local: Endpoint });
record!(Finished { connection: Handle, at: u64, segment: u32 });
record!(Urgent { connection: Handle, at: u64 });
record!(Hold { slot: u32, length: u32 });
record!(Failed { call: u32, reason: u16 });

impl Wire for Info {
    const LEAST: usize = Handle::LEAST + u32::LEAST;

    fn put(&self, sink: &mut impl Sink) {
        self.of.put(sink);
        put_list(&self.fields, sink);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (of, mut fields) = (Wire::take(reader)?, Vec::new());
        reader.list("fields of an info", limits::INFO_FIELDS, &mut fields)?;
        Ok(Self { of, fields })
    }
}

// The shortest is `release`.
tagged!(Event, "event", least 1 + u32::LEAST, {
    0 = Offered(Opening),
    1 = Accepted(Opening),
    2 = Opened(Opening),
    3 = Choosing(Choosing),
    4 = Finished(Finished),
    5 = Urgent(Urgent),
    6 = Warned(Reason),
    7 = Closed(Reason),
    8 = Resubmit(Hold),
    9 = Release(u32),
    10 = Info(Info),
    11 = Failed(Failed),
});

/// The most bytes that an event takes: `info` is by far the longest.
pub(super) const EVENT_MAX: usize = 1 + Info::LEAST + limits::INFO_FIELDS * u64::LEAST;

impl Wire for Note {
    const LEAST: usize = u8::LEAST + Handle::LEAST + u32::LEAST;

    fn put(&self, sink: &mut impl Sink) {
        self.level.put(sink);
        self.connection.put(sink);
        put_text(&self.text, sink);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            level: Wire::take(reader)?,
            connection: Wire::take(reader)?,
            text: reader.text("bytes of a note", limits::NOTE_BYTES)?,
        })
    }
}

/// The most bytes that a note takes.
pub(super) const NOTE_MAX: usize = Note::LEAST + limits::NOTE_BYTES;

/// Reads what follows the head into outputs whose lists are empty.
pub(super) fn take_outputs(mut reader: Reader<'_>, outputs: &mut Outputs) -> Result<(), DecodeError> {
    outputs.deadline = Wire::take(&mut reader)?;
    outputs.deadline_of = Wire::take(&mut reader)?;
    outputs.unfinished = Wire::take(&mut reader)?;
    reader.bytes("header bytes", limits::HEADER_BYTES, &mut outputs.headers)?;
    reader.list("sends", limits::SENDS, &mut outputs.sends)?;
    reader.list("places", limits::PLACES, &mut outputs.places)?;
    reader.list("marks", limits::MARKS, &mut outputs.marks)?;
    reader.list("events", limits::EVENTS, &mut outputs.events)?;
    reader.list("notes", limits::NOTES, &mut outputs.notes)?;
    reader.close()
}
