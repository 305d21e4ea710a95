//! What a step takes.

use super::DecodeError;
use super::life::{CONFIG_MAX, take_settings};
use super::wire::{Reader, Sink, Wire, flags, put_list, record, tagged};
use crate::limits;
use crate::types::{
    Allow, Batch, Bind, Call, Change, Close, Config, Decide, Endpoint, Evidence, Handle, Kind, Listen,
    Listening, MarkAt, Message, Open, Position, Reason, Room, Segment, Setting, Time, Verdict,
};

type Seed = (u64, u64, u64, u64);

/// The most bytes that a call takes: `configure` is by far the longest.
pub(super) const CALL_MAX: usize = 1 + CONFIG_MAX;

record!(Room { sends: u32, bytes: u32 });
tagged!(Kind, "kind", least 1, { 0 = Whole, 1 = Fragment, 2 = IcmpError, 3 = Frame });
tagged!(Evidence, "evidence", least 1, { 0 = Verified, 1 = Trusted, 2 = Absent });
record!(Segment {
    header: u32,
    payload: u32,
    header_length: u16,
    transport: u16,
    mss: u16,
    count: u16,
    protocol: u8,
    kind: Kind,
    evidence: Evidence,
    device: u8,
});
flags!(MarkAt, "set of marks", 0b1_1111);
record!(Position { connection: Handle, written: u64, consumed: u64, limit: u64, marks: MarkAt });
record!(Message {
    socket: Handle,
    length: u32,
    hop_limit: u8,
    traffic_class: u8,
    source: Endpoint,
    to: Endpoint,
});

tagged!(Verdict, "verdict", least 1, { 0 = Accept, 1 = Reset, 2 = Unreachable, 3 = Drop });
flags!(Listening, "set of listener flags", 0b111);
record!(Allow { listener: u32, up_to: u64 });
record!(Bind { socket: Handle, local: Endpoint, remote: Endpoint, how: Listening });
record!(Decide { connection: Handle, verdict: Verdict, code: u16 });
record!(Close { connection: Handle, linger: Time });
record!(Change { of: Handle, setting: Setting });
record!(Reason { connection: Handle, reason: u16, value: u32 });

impl Wire for Listen {
    const LEAST: usize = 4 * u32::LEAST + Endpoint::LEAST + Listening::LEAST + u64::LEAST;

    fn put(&self, sink: &mut impl Sink) {
        self.listener.put(sink);
        self.local.put(sink);
        self.how.put(sink);
        self.allow.put(sink);
        self.receive_first.put(sink);
        self.receive_max.put(sink);
        put_list(&self.settings, sink);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // Fields are read in the order in which they are named.
        Ok(Self {
            listener: Wire::take(reader)?,
            local: Wire::take(reader)?,
            how: Wire::take(reader)?,
            allow: Wire::take(reader)?,
            receive_first: Wire::take(reader)?,
            receive_max: Wire::take(reader)?,
            settings: take_settings(reader)?,
        })
    }
}

impl Wire for Open {
    const LEAST: usize = Handle::LEAST + 2 * Endpoint::LEAST + 3 * u32::LEAST;

    fn put(&self, sink: &mut impl Sink) {
        self.connection.put(sink);
        self.local.put(sink);
        self.remote.put(sink);
        self.receive_first.put(sink);
        self.receive_max.put(sink);
        put_list(&self.settings, sink);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            connection: Wire::take(reader)?,
            local: Wire::take(reader)?,
            remote: Wire::take(reader)?,
            receive_first: Wire::take(reader)?,
            receive_max: Wire::take(reader)?,
            settings: take_settings(reader)?,
        })
    }
}

// The shortest is `unlisten`.
tagged!(Call, "call", least 1 + u32::LEAST, {
    0 = Configure(Config),
    1 = Reseed(Seed),
    2 = Listen(Listen),
    3 = Allow(Allow),
    4 = Unlisten(u32),
    5 = Open(Open),
    6 = Bind(Bind),
    7 = Decide(Decide),
    8 = Shutdown(Handle),
    9 = Close(Close),
    10 = Abort(Handle),
    11 = Set(Change),
    12 = Query(Handle),
    13 = Report(Reason),
});

/// Reads what follows the head into a batch whose lists are empty.
pub(super) fn take_batch(mut reader: Reader<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
    batch.now = Wire::take(&mut reader)?;
    batch.room = Wire::take(&mut reader)?;
    reader.bytes("header bytes", limits::HEADER_BYTES, &mut batch.headers)?;
    reader.list("segments", limits::SEGMENTS, &mut batch.segments)?;
    reader.list("positions", limits::POSITIONS, &mut batch.positions)?;
    reader.list("messages", limits::MESSAGES, &mut batch.messages)?;
    reader.list("calls", limits::CALLS, &mut batch.calls)?;
    reader.close()
}
