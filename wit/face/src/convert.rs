//! Between the generated types and [`bulkhead_wit`]'s: field by field, so that a change to either is a compile error.

use crate::bindings::exports::bulkhead::protocol::protocol as wit;
use alloc::vec::Vec;
use bulkhead_wit as core;

/// What comes in becomes the core's type. (A trait of our own, since neither type is.)
pub(crate) trait Inward<T> {
    fn inward(self) -> T;
}

fn each<A: Inward<B>, B>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(Inward::inward).collect()
}

/// Records whose fields convert one by one.
macro_rules! inward {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Inward<core::$name> for wit::$name {
            fn inward(self) -> core::$name {
                let Self { $($field),* } = self;
                core::$name { $($field: $field.inward()),* }
            }
        }
    )*};
}

macro_rules! same {
    ($($kind:ty)*) => {$(
        impl Inward<$kind> for $kind {
            fn inward(self) -> $kind {
                self
            }
        }
    )*};
}

same! { u8 u16 u32 u64 bool }

impl Inward<core::Handle> for u64 {
    fn inward(self) -> core::Handle {
        core::Handle(self)
    }
}

impl<A: Inward<B>, B> Inward<Vec<B>> for Vec<A> {
    fn inward(self) -> Vec<B> {
        each(self)
    }
}

impl Inward<(u64, u64, u64, u64)> for (u64, u64, u64, u64) {
    fn inward(self) -> Self {
        self
    }
}

impl Inward<core::Listening> for wit::Listening {
    fn inward(self) -> core::Listening {
        core::Listening(self.bits())
    }
}

impl Inward<core::MarkAt> for wit::MarkAt {
    fn inward(self) -> core::MarkAt {
        core::MarkAt(self.bits())
    }
}

impl Inward<core::Kind> for wit::Kind {
    fn inward(self) -> core::Kind {
        match self {
            Self::Whole => core::Kind::Whole,
            Self::Fragment => core::Kind::Fragment,
            Self::IcmpError => core::Kind::IcmpError,
            Self::Frame => core::Kind::Frame,
        }
    }
}

impl Inward<core::Evidence> for wit::Evidence {
    fn inward(self) -> core::Evidence {
        match self {
            Self::Verified => core::Evidence::Verified,
            Self::Trusted => core::Evidence::Trusted,
            Self::Absent => core::Evidence::Absent,
        }
    }
}

impl Inward<core::Verdict> for wit::Verdict {
    fn inward(self) -> core::Verdict {
        match self {
            Self::Accept => core::Verdict::Accept,
            Self::Reset => core::Verdict::Reset,
            Self::Unreachable => core::Verdict::Unreachable,
            Self::Drop => core::Verdict::Drop,
        }
    }
}

inward! {
    Address { high, low }
    Endpoint { address, port }
    Prefix { address, length }
    Setting { key, value }
    Config {
        addresses, any_address, mtu, seed, shard, shards, ports_first, ports_last, connections, embryos, offers,
        islands, holds, settings
    }
    Room { sends, bytes }
    Segment { header, payload, header_length, transport, mss, count, protocol, kind, evidence, device }
    Position { connection, written, consumed, limit, marks }
    Message { socket, length, hop_limit, traffic_class, source, to }
    Listen { listener, local, how, allow, receive_first, receive_max, settings }
    Allow { listener, up_to }
    Open { connection, local, remote, receive_first, receive_max, settings }
    Bind { socket, local, remote, how }
    Decide { connection, verdict, code }
    Close { connection, linger }
    Change { of, setting }
    Reason { connection, reason, value }
}

impl Inward<core::Call> for wit::Call {
    fn inward(self) -> core::Call {
        match self {
            Self::Configure(config) => core::Call::Configure(config.inward()),
            Self::Reseed(seed) => core::Call::Reseed(seed),
            Self::Listen(listen) => core::Call::Listen(listen.inward()),
            Self::Allow(allow) => core::Call::Allow(allow.inward()),
            Self::Unlisten(listener) => core::Call::Unlisten(listener),
            Self::Open(open) => core::Call::Open(open.inward()),
            Self::Bind(bind) => core::Call::Bind(bind.inward()),
            Self::Decide(decide) => core::Call::Decide(decide.inward()),
            Self::Shutdown(handle) => core::Call::Shutdown(handle.inward()),
            Self::Close(close) => core::Call::Close(close.inward()),
            Self::Abort(handle) => core::Call::Abort(handle.inward()),
            Self::Set(change) => core::Call::Set(change.inward()),
            Self::Query(handle) => core::Call::Query(handle.inward()),
            Self::Report(report) => core::Call::Report(report.inward()),
        }
    }
}

// ---- outward

fn address(address: core::Address) -> wit::Address {
    wit::Address { high: address.high, low: address.low }
}

fn endpoint(endpoint: core::Endpoint) -> wit::Endpoint {
    wit::Endpoint { address: address(endpoint.address), port: endpoint.port }
}

fn service(service: &core::Service) -> wit::Service {
    wit::Service { kind: service.kind, value: service.value }
}

pub(crate) fn description(from: core::Description) -> wit::Description {
    wit::Description {
        name: from.name,
        version: from.version,
        serves: from.serves.iter().map(service).collect(),
        sends: from.sends.iter().map(service).collect(),
        bytes_per_connection: from.bytes_per_connection,
        state_format: from.state_format,
        settings: from.settings,
    }
}

pub(crate) fn summary(from: core::Summary) -> wit::Summary {
    wit::Summary {
        connection: from.connection.0,
        local: endpoint(from.local),
        remote: endpoint(from.remote),
        receive_base: from.receive_base,
        send_base: from.send_base,
        exposed: from.exposed,
        acknowledged: from.acknowledged,
        sent: from.sent,
        limit: from.limit,
    }
}

fn source(source: core::Source) -> wit::Source {
    match source {
        core::Source::Nothing => wit::Source::Nothing,
        core::Source::Queue => wit::Source::Queue,
        core::Source::Segment => wit::Source::Segment,
        core::Source::Message => wit::Source::Message,
        core::Source::Hold => wit::Source::Hold,
        core::Source::Staged => wit::Source::Staged,
    }
}

fn target(target: core::Target) -> wit::Target {
    match target {
        core::Target::Stream => wit::Target::Stream,
        core::Target::Datagram => wit::Target::Datagram,
        core::Target::Hold => wit::Target::Hold,
    }
}

fn send(send: &core::Send) -> wit::Send {
    wit::Send {
        of: send.of,
        at: send.at,
        header: send.header,
        length: send.length,
        header_length: send.header_length,
        transport: send.transport,
        mss: send.mss,
        source: source(send.source),
        how: wit::How::from_bits_truncate(send.how.0),
    }
}

fn place(place: &core::Place) -> wit::Place {
    wit::Place {
        of: place.of,
        at: place.at,
        segment: place.segment,
        skip: place.skip,
        length: place.length,
        source: source(place.source),
        target: target(place.target),
    }
}

fn mark(mark: &core::Mark) -> wit::Mark {
    wit::Mark {
        connection: mark.connection.0,
        exposed: mark.exposed,
        acknowledged: mark.acknowledged,
        by: mark.by,
        want_receive: mark.want_receive,
        want_send: mark.want_send,
    }
}

fn opening(opening: core::Opening) -> wit::Opening {
    wit::Opening {
        listener: opening.listener,
        connection: opening.connection.0,
        segment: opening.segment,
        receive_base: opening.receive_base,
        send_base: opening.send_base,
        mss: opening.mss,
    }
}

fn reason(reason: core::Reason) -> wit::Reason {
    wit::Reason { connection: reason.connection.0, reason: reason.reason, value: reason.value }
}

fn event(event: core::Event) -> wit::Event {
    match event {
        core::Event::Offered(of) => wit::Event::Offered(opening(of)),
        core::Event::Accepted(of) => wit::Event::Accepted(opening(of)),
        core::Event::Opened(of) => wit::Event::Opened(opening(of)),
        core::Event::Choosing(of) => {
            wit::Event::Choosing(wit::Choosing { connection: of.connection.0, local: endpoint(of.local) })
        }
        core::Event::Finished(of) => wit::Event::Finished(wit::Finished {
            connection: of.connection.0,
            at: of.at,
            segment: of.segment,
        }),
        core::Event::Urgent(of) => wit::Event::Urgent(wit::Urgent { connection: of.connection.0, at: of.at }),
        core::Event::Warned(of) => wit::Event::Warned(reason(of)),
        core::Event::Closed(of) => wit::Event::Closed(reason(of)),
        core::Event::Resubmit(of) => wit::Event::Resubmit(wit::Hold { slot: of.slot, length: of.length }),
        core::Event::Release(slot) => wit::Event::Release(slot),
        core::Event::Info(of) => wit::Event::Info(wit::Info { of: of.of.0, fields: of.fields }),
        core::Event::Failed(of) => wit::Event::Failed(wit::Failed { call: of.call, reason: of.reason }),
    }
}

/// What leaves. The lists are copied, since the runtime frees what it is given, and ours are used again.
pub(crate) fn outputs(from: &mut core::Outputs) -> wit::Outputs {
    wit::Outputs {
        deadline: from.deadline,
        deadline_of: from.deadline_of.0,
        unfinished: from.unfinished,
        headers: from.headers.clone(),
        sends: from.sends.iter().map(send).collect(),
        places: from.places.iter().map(place).collect(),
        marks: from.marks.iter().map(mark).collect(),
        events: from.events.drain(..).map(event).collect(),
        notes: from
            .notes
            .drain(..)
            .map(|note| wit::Note { level: note.level, connection: note.connection.0, text: note.text })
            .collect(),
    }
}
