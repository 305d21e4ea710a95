//! A fake host: lengths only, manual time, and every rule of the contract checked on what the module says.
#![allow(dead_code, reason = "each test file uses its part of the harness")]
#![allow(missing_docs, unreachable_pub, reason = "a test harness")]

pub mod flight;
pub mod peer;
pub mod wire;

use bulkhead_tcp::Tcp;
use bulkhead_wit::limits as bounds;
use bulkhead_wit::*;
use std::collections::BTreeMap;
use wire::{Frame, parse};

pub const MS: Time = bounds::MILLISECOND;
pub const SECOND: Time = bounds::SECOND;

/// What the host knows of a connection.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub local: Endpoint,
    pub remote: Endpoint,
    pub receive_base: u32,
    pub send_base: u32,
    pub open: bool,
    pub written: u64,
    pub shut: bool,
    pub sent: u64,
    pub acknowledged: u64,
    pub exposed: u64,
    pub consumed: u64,
    pub limit: u64,
    pub placed: Vec<(u64, u64)>,
    pub finished: Option<u64>,
    pub urgent: Option<u64>,
    pub closed: Option<u16>,
    pub mss: u16,
    pub wants: (u32, u32),
}

/// Where the payload of a frame comes from: which stream, which offset.
pub type Origin = (u64, u64);

pub struct Host {
    pub tcp: Tcp,
    pub config: Config,
    pub now: Time,
    pub room: Room,
    pub streams: BTreeMap<Handle, Stream>,
    pub receive_first: BTreeMap<u32, u32>,
    pub deadline: Time,
    pub unfinished: bool,
    pub events: Vec<Event>,
    pub batch: Batch,
    /// Hold slots: what is placed in each.
    pub holds: BTreeMap<u64, Vec<(u64, u64)>>,
    pub resubmitted: Vec<(u32, u32)>,
    origins: Vec<Option<Origin>>,
    generation: u32,
    /// Save and load the module before every step.
    pub reload: bool,
    pub steps: u64,
}

pub fn v4(last: u8) -> Address {
    Address::from_v4([10, 0, 0, last])
}

pub fn config(address: Address, seed: u64) -> Config {
    let length = if address.is_v4() { 120 } else { 64 };
    Config {
        addresses: vec![Prefix { address, length }],
        mtu: 1500,
        seed: (seed, 2, 3, 4),
        shards: 1,
        ports_first: 32_768,
        ports_last: 60_999,
        connections: 1 << 16,
        embryos: 1024,
        offers: 256,
        islands: 64,
        holds: 64,
        ..Config::default()
    }
}

impl Host {
    pub fn new(config: Config) -> Self {
        let mut tcp = Tcp::new();
        tcp.start(&config).expect("starts");
        Self {
            tcp,
            config,
            now: SECOND,
            room: Room { sends: 1024, bytes: 16 << 20 },
            streams: BTreeMap::new(),
            receive_first: BTreeMap::new(),
            deadline: NEVER,
            unfinished: false,
            events: Vec::new(),
            batch: Batch::default(),
            holds: BTreeMap::new(),
            resubmitted: Vec::new(),
            origins: Vec::new(),
            generation: 0,
            reload: false,
            steps: 0,
        }
    }

    pub fn call(&mut self, call: Call) {
        self.batch.calls.push(call);
    }

    pub fn listen(&mut self, port: u16) {
        self.listen_with(Listen {
            listener: 1,
            local: Endpoint::new(Address::UNSPECIFIED, port),
            how: Listening::DUAL_STACK,
            allow: u64::MAX,
            receive_first: 65_535,
            receive_max: 6 << 20,
            settings: Vec::new(),
        });
    }

    pub fn listen_with(&mut self, listen: Listen) {
        self.receive_first.insert(listen.listener, listen.receive_first);
        self.call(Call::Listen(listen));
    }

    pub fn open(&mut self, remote: Endpoint, settings: Vec<Setting>) -> Handle {
        self.open_from(Endpoint::default(), remote, settings)
    }

    pub fn open_from(&mut self, local: Endpoint, remote: Endpoint, settings: Vec<Setting>) -> Handle {
        self.generation += 1;
        let handle = Handle::by_host(self.generation % 7, self.generation);
        let stream = Stream { local, remote, limit: 65_535, ..Stream::default() };
        self.streams.insert(handle, stream);
        self.call(Call::Open(Open {
            connection: handle,
            local,
            remote,
            receive_first: 65_535,
            receive_max: 6 << 20,
            settings,
        }));
        handle
    }

    /// The position of a connection, as it stands.
    pub fn position(&mut self, handle: Handle, marks: MarkAt) {
        let stream = &self.streams[&handle];
        let position = Position {
            connection: handle,
            written: stream.written,
            consumed: stream.consumed,
            limit: stream.limit,
            marks,
        };
        self.batch.positions.push(position);
    }

    pub fn write(&mut self, handle: Handle, bytes: u64) {
        self.write_marked(handle, bytes, MarkAt::default());
    }

    pub fn write_marked(&mut self, handle: Handle, bytes: u64, marks: MarkAt) {
        self.streams.get_mut(&handle).expect("known").written += bytes;
        self.position(handle, marks);
    }

    /// The application reads everything, and the window follows.
    pub fn read_all(&mut self, handle: Handle, window: u64) {
        let stream = self.streams.get_mut(&handle).expect("known");
        stream.consumed = stream.exposed;
        stream.limit = stream.limit.max(stream.consumed + window);
        self.position(handle, MarkAt::default());
    }

    pub fn inject(&mut self, frame: &Frame) {
        let header = self.batch.headers.len() as u32;
        self.batch.headers.extend_from_slice(&frame.header);
        let v4 = frame.header[0] >> 4 == 4;
        let protocol = if v4 { frame.header[9] } else { frame.header[6] };
        self.batch.segments.push(Segment {
            header,
            payload: frame.length,
            header_length: frame.header.len() as u16,
            transport: match frame.kind {
                Kind::Fragment => frame.header.len() as u16,
                _ if v4 => 20,
                _ => 40,
            },
            mss: frame.mss.max(1),
            count: frame.count.max(1),
            protocol,
            kind: frame.kind,
            evidence: Evidence::Verified,
            device: 0,
        });
        self.origins.push(frame.origin);
    }

    /// One step with what was gathered; the frames that it sends.
    pub fn step(&mut self) -> Vec<Frame> {
        if self.reload {
            self.save_and_load();
        }
        self.steps += 1;
        let mut outputs = Outputs::default();
        let mut batch = std::mem::take(&mut self.batch);
        batch.now = self.now;
        batch.room = self.room;
        self.tcp.step(&batch.inputs(), &mut outputs);
        let frames = self.carry_out(&batch, &outputs);
        self.origins.clear();
        batch.clear();
        self.batch = batch;
        frames
    }

    /// Steps until the module is finished.
    pub fn settle(&mut self) -> Vec<Frame> {
        let mut frames = self.step();
        let mut rounds = 0;
        while self.unfinished {
            frames.extend(self.step());
            rounds += 1;
            assert!(rounds < 10_000, "never finished");
        }
        frames
    }

    /// Advances time to `now` and steps.
    pub fn at(&mut self, now: Time) -> Vec<Frame> {
        assert!(now >= self.now);
        self.now = now;
        self.settle()
    }

    pub fn save_and_load(&mut self) {
        let saved = self.tcp.save();
        let mut other = Tcp::new();
        let summaries = other.load(&self.config, self.now, &saved).expect("loads");
        assert_eq!(other.save(), saved, "save is canonical");
        // What a rehearsal has left behind makes no difference.
        let again = other.load(&self.config, self.now, &saved).expect("loads over what is there");
        assert_eq!((again, other.save() == saved), (summaries.clone(), true), "loaded in place");
        for summary in summaries {
            let stream = &self.streams[&summary.connection];
            if stream.open {
                assert_eq!(summary.exposed, stream.exposed);
                assert_eq!(summary.acknowledged, stream.acknowledged);
                assert_eq!(summary.sent, stream.sent);
                assert!(summary.limit <= stream.limit);
                assert_eq!(summary.receive_base, stream.receive_base);
                assert_eq!(summary.send_base, stream.send_base);
            }
        }
        self.tcp = other;
    }

    fn carry_out(&mut self, batch: &Batch, outputs: &Outputs) -> Vec<Frame> {
        assert!(outputs.sends.len() <= (self.room.sends as usize).min(bounds::SENDS), "room for sends");
        let bytes: u64 = outputs.sends.iter().map(|s| u64::from(s.length) + u64::from(s.header_length)).sum();
        assert!(bytes <= u64::from(self.room.bytes), "room for bytes");
        assert!(outputs.headers.len() <= bounds::HEADER_BYTES);
        assert!(outputs.places.len() <= bounds::PLACES && outputs.marks.len() <= bounds::MARKS);
        assert!(outputs.events.len() <= bounds::EVENTS);
        let known_closed: Vec<Handle> =
            self.streams.iter().filter(|(_, s)| s.closed.is_some()).map(|(h, _)| *h).collect();
        self.openings(batch, outputs);
        for place in &outputs.places {
            self.place(batch, place);
        }
        let frames: Vec<Frame> = outputs.sends.iter().map(|send| self.send(batch, outputs, send)).collect();
        self.marks(batch, outputs);
        self.endings(batch, outputs);
        for event in &outputs.events {
            let of = match event {
                Event::Closed(r) | Event::Warned(r) => r.connection,
                Event::Finished(f) => f.connection,
                Event::Urgent(u) => u.connection,
                Event::Info(i) => i.of,
                _ => Handle::INSTANCE,
            };
            assert!(!known_closed.contains(&of), "nothing after closed: {event:?}");
        }
        self.unfinished = outputs.unfinished;
        self.deadline = outputs.deadline;
        assert!(outputs.deadline >= self.now + bounds::DEADLINE_MIN, "deadline rule");
        self.events.extend(outputs.events.iter().cloned());
        frames
    }

    fn openings(&mut self, batch: &Batch, outputs: &Outputs) {
        for event in &outputs.events {
            let (opening, accepted) = match event {
                Event::Accepted(opening) => (opening, true),
                Event::Opened(opening) => (opening, false),
                Event::Choosing(choosing) => {
                    let stream = self.streams.get_mut(&choosing.connection).expect("an open");
                    assert_eq!(choosing.local.port % self.config.shards, self.config.shard);
                    stream.local = choosing.local;
                    continue;
                }
                Event::Offered(opening) => {
                    let wire = parse(&header_of(batch, opening.segment));
                    assert!(wire.syn && !wire.has_ack && !wire.rst);
                    assert_eq!(wire.seq.wrapping_add(1), opening.receive_base);
                    assert!(opening.connection.is_by_module() && opening.connection.is_well_formed());
                    let limit = u64::from(self.receive_first[&opening.listener]);
                    let (local, remote) = (wire.destination, wire.source);
                    let stream = Stream { local, remote, limit, ..Stream::default() };
                    assert!(self.streams.insert(opening.connection, stream).is_none(), "fresh handle");
                    continue;
                }
                _ => continue,
            };
            let wire = parse(&header_of(batch, opening.segment));
            assert_eq!(wire.ack, opening.send_base, "the segment acknowledges the SYN");
            if wire.syn {
                assert_eq!(wire.seq.wrapping_add(1), opening.receive_base);
            }
            if accepted {
                assert!(opening.connection.is_by_module() && opening.connection.is_well_formed());
                assert!(opening.connection.slot() < bounds::CONNECTIONS);
                let stale = self.streams.get(&opening.connection);
                assert!(stale.is_none_or(|s| !s.open && s.closed.is_none()), "fresh handle");
                let in_use = self.streams.iter().any(|(h, s)| {
                    *h != opening.connection
                        && s.open
                        && s.closed.is_none()
                        && (s.local, s.remote) == (wire.destination, wire.source)
                });
                assert!(!in_use, "endpoints in use");
                let stream = self.streams.entry(opening.connection).or_default();
                stream.local = wire.destination;
                stream.remote = wire.source;
                stream.limit = u64::from(self.receive_first[&opening.listener]);
            }
            let stream = self.streams.get_mut(&opening.connection).expect("known");
            assert_eq!((stream.local, stream.remote), (wire.destination, wire.source));
            assert!(!stream.open);
            stream.open = true;
            stream.receive_base = opening.receive_base;
            stream.send_base = opening.send_base;
            stream.mss = opening.mss;
        }
    }

    fn place(&mut self, batch: &Batch, place: &Place) {
        assert_eq!(place.source, Source::Segment);
        let segment = batch.segments[place.segment as usize];
        assert!(place.skip + place.length <= segment.payload && place.length > 0);
        if place.target == Target::Hold {
            assert_eq!(segment.kind, Kind::Fragment);
            let (at, end) = (place.at, place.at + u64::from(place.length));
            let runs = self.holds.entry(place.of).or_default();
            assert!(place.of < 64 && end <= 65_535);
            assert!(runs.iter().all(|&(s, e)| end <= s || e <= at), "overlap in a hold slot");
            runs.push((at, end));
            return;
        }
        assert_eq!(place.target, Target::Stream);
        let wire = parse(&header_of(batch, place.segment));
        let stream = self.streams.get_mut(&Handle(place.of)).expect("a connection");
        assert!(stream.open && stream.closed.is_none());
        assert_eq!((stream.local, stream.remote), (wire.destination, wire.source));
        let first = wire.seq.wrapping_add(u32::from(wire.syn)).wrapping_add(place.skip);
        assert_eq!(first.wrapping_sub(stream.receive_base), place.at as u32, "D1 for place");
        if let Some((_, at)) = self.origins[place.segment as usize] {
            assert_eq!(at + u64::from(place.skip), place.at, "bytes where they belong");
        }
        let end = place.at + u64::from(place.length);
        assert!(place.at >= stream.exposed && end <= stream.limit, "D2: {place:?} {stream:?}");
        assert!(
            stream.placed.iter().all(|&(s, e)| end <= s || e <= place.at),
            "D2 overlap: {place:?} {stream:?}"
        );
        stream.placed.push((place.at, end));
        stream.placed.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for &(s, e) in &stream.placed {
            match merged.last_mut() {
                Some(last) if last.1 == s => last.1 = e,
                _ => merged.push((s, e)),
            }
        }
        stream.placed = merged;
        let islands = stream.placed.iter().filter(|(s, _)| *s > stream.exposed).count();
        assert!(islands <= usize::from(self.config.islands) + 1, "islands");
    }

    fn send(&mut self, batch: &Batch, outputs: &Outputs, send: &Send) -> Frame {
        let start = send.header as usize;
        let header = outputs.headers[start..start + usize::from(send.header_length)].to_vec();
        let mut frame = Frame { header, length: send.length, mss: send.mss, ..Frame::default() };
        if send.source == Source::Segment {
            let segment = batch.segments[send.of as usize];
            assert!(send.at + u64::from(send.length) <= u64::from(segment.payload));
            return frame;
        }
        let wire = parse(&frame.header);
        assert_eq!(usize::from(send.transport), wire.transport);
        assert!(!wire.destination.address.is_multicast());
        let mine = self.config.any_address
            || self.config.addresses.iter().any(|prefix| prefix.address == wire.source.address);
        assert!(mine, "source address");
        match send.source {
            Source::Nothing => assert_eq!((send.of, send.at, send.length, send.mss), (0, 0, 0, 0)),
            Source::Queue => {
                let stream = self.streams.get_mut(&Handle(send.of)).expect("a connection");
                assert!(stream.open && stream.closed.is_none());
                assert_eq!((stream.local, stream.remote), (wire.source, wire.destination));
                assert_eq!(wire.seq.wrapping_sub(stream.send_base), send.at as u32, "D1 for send");
                let end = send.at + u64::from(send.length);
                assert!(send.length > 0 && send.at >= stream.acknowledged && end <= stream.written);
                assert!(u32::from(send.header_length) + send.length <= 65_535);
                if send.mss > 0 {
                    assert!(send.length.div_ceil(u32::from(send.mss)) <= bounds::FRAMES_PER_SEND as u32);
                }
                stream.sent = stream.sent.max(end);
                frame.origin = Some((send.of, send.at));
            }
            other => panic!("source {other:?}"),
        }
        frame
    }

    fn marks(&mut self, batch: &Batch, outputs: &Outputs) {
        let mut seen = Vec::new();
        for mark in &outputs.marks {
            assert!(!seen.contains(&mark.connection), "one mark a connection");
            seen.push(mark.connection);
            let stream = self.streams.get_mut(&mark.connection).expect("a connection");
            assert!(stream.open && stream.closed.is_none());
            stream.wants = (mark.want_receive, mark.want_send);
            assert!(mark.exposed >= stream.exposed && mark.acknowledged >= stream.acknowledged);
            if mark.exposed > stream.exposed {
                let run = stream.placed.first().expect("placed");
                assert!(run.0 <= stream.exposed && mark.exposed <= run.1, "exposes only what is placed");
                stream.exposed = mark.exposed;
                let exposed = stream.exposed;
                stream.placed.retain_mut(|run| {
                    run.0 = run.0.max(exposed);
                    run.0 < run.1
                });
            }
            if mark.acknowledged > stream.acknowledged {
                assert!(mark.acknowledged <= stream.sent, "acknowledged <= sent");
                let wire = parse(&header_of(batch, mark.by));
                assert_eq!((stream.local, stream.remote), (wire.destination, wire.source));
                let covered = wire.ack.wrapping_sub(stream.send_base.wrapping_add(mark.acknowledged as u32));
                assert!(covered <= 1, "`by` covers it: {covered}");
                stream.acknowledged = mark.acknowledged;
            }
        }
    }

    fn endings(&mut self, batch: &Batch, outputs: &Outputs) {
        for event in &outputs.events {
            match event {
                Event::Finished(finished) => {
                    let wire = parse(&header_of(batch, finished.segment));
                    let length = batch.segments[finished.segment as usize].payload;
                    let stream = self.streams.get_mut(&finished.connection).expect("a connection");
                    assert!(wire.fin && stream.finished.is_none(), "once, by a FIN");
                    let at = wire.seq.wrapping_add(length).wrapping_sub(stream.receive_base);
                    assert_eq!(at, finished.at as u32);
                    stream.finished = Some(finished.at);
                }
                Event::Urgent(urgent) => {
                    let stream = self.streams.get_mut(&urgent.connection).expect("a connection");
                    stream.urgent = Some(urgent.at);
                }
                Event::Resubmit(hold) => {
                    let runs = self.holds.remove(&u64::from(hold.slot)).expect("held");
                    let held: u64 = runs.iter().map(|(s, e)| e - s).sum();
                    assert_eq!(held, u64::from(hold.length), "all of it is there");
                    self.resubmitted.push((hold.slot, hold.length));
                }
                Event::Release(slot) => {
                    assert!(self.holds.remove(&u64::from(*slot)).is_some(), "released once");
                }
                Event::Closed(closed) => {
                    let stream = self.streams.get_mut(&closed.connection).expect("a connection");
                    assert!(stream.closed.is_none(), "closed once");
                    stream.closed = Some(closed.reason);
                }
                _ => {}
            }
        }
    }

    /// The connection that was accepted last.
    pub fn accepted(&self) -> Handle {
        self.events
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::Accepted(opening) => Some(opening.connection),
                _ => None,
            })
            .expect("accepted")
    }

    pub fn info(&mut self, handle: Handle) -> Vec<u64> {
        self.call(Call::Query(handle));
        let frames = self.step();
        assert!(frames.is_empty(), "a query sends nothing");
        match self.events.pop() {
            Some(Event::Info(info)) => info.fields,
            other => panic!("{other:?}"),
        }
    }
}

fn header_of(batch: &Batch, index: u32) -> Vec<u8> {
    let segment = batch.segments[index as usize];
    let start = segment.header as usize;
    batch.headers[start..start + usize::from(segment.header_length)].to_vec()
}

/// A seeded generator for tests.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
