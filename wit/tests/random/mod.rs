//! Seeded values of every type of the contract, for round trips.

use bulkhead_wit::*;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Extremes are where widths go wrong.
        match word % 16 {
            0 => 0,
            1 => u64::MAX,
            _ => word ^ word >> 31,
        }
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound.max(1)
    }

    fn half(&mut self) -> u32 {
        (self.word() >> 7) as u32
    }

    fn quarter(&mut self) -> u16 {
        (self.word() >> 9) as u16
    }

    fn byte(&mut self) -> u8 {
        (self.word() >> 11) as u8
    }

    fn seed(&mut self) -> (u64, u64, u64, u64) {
        (self.word(), self.word(), self.word(), self.word())
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(crate) fn list<T>(&mut self, longest: usize, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let length = self.below(longest as u64 + 1);
        (0..length).map(|_| element(self)).collect()
    }

    pub(crate) fn bytes(&mut self, longest: usize) -> Vec<u8> {
        self.list(longest, Self::byte)
    }

    fn text(&mut self, longest: usize) -> String {
        self.list(longest, |r| r.pick(&['a', 'ß', '€', '🦀', '\0'])).into_iter().collect()
    }

    fn handle(&mut self) -> Handle {
        Handle(self.word())
    }

    fn endpoint(&mut self) -> Endpoint {
        Endpoint::new(Address { high: self.word(), low: self.word() }, self.quarter())
    }

    fn setting(&mut self) -> Setting {
        Setting { key: self.quarter(), value: self.word() }
    }

    fn service(&mut self) -> Service {
        Service { kind: self.byte(), value: self.quarter() }
    }

    fn prefix(&mut self) -> Prefix {
        Prefix { address: Address { high: self.word(), low: self.word() }, length: self.byte() }
    }

    pub(crate) fn config(&mut self, longest: usize) -> Config {
        Config {
            addresses: self.list(longest, Self::prefix),
            any_address: self.word() & 8 != 0,
            mtu: self.half(),
            seed: self.seed(),
            shard: self.quarter(),
            shards: self.quarter(),
            ports_first: self.quarter(),
            ports_last: self.quarter(),
            connections: self.half(),
            embryos: self.half(),
            offers: self.half(),
            islands: self.quarter(),
            holds: self.quarter(),
            settings: self.list(longest, Self::setting),
        }
    }

    pub(crate) fn description(&mut self, longest: usize) -> Description {
        Description {
            name: self.text(longest),
            version: self.text(longest),
            serves: self.list(longest, Self::service),
            sends: self.list(longest, Self::service),
            bytes_per_connection: self.half(),
            state_format: self.half(),
            settings: self.list(longest, Self::quarter),
        }
    }

    pub(crate) fn summary(&mut self) -> Summary {
        Summary {
            connection: self.handle(),
            local: self.endpoint(),
            remote: self.endpoint(),
            receive_base: self.half(),
            send_base: self.half(),
            exposed: self.word(),
            acknowledged: self.word(),
            sent: self.word(),
            limit: self.word(),
        }
    }

    pub(crate) fn batch(&mut self, longest: usize) -> Batch {
        Batch {
            now: self.word(),
            room: Room { sends: self.half(), bytes: self.half() },
            headers: self.bytes(longest * 20),
            segments: self.list(longest, Self::segment),
            positions: self.list(longest, Self::position),
            messages: self.list(longest, Self::message),
            calls: self.list(longest, |r| r.call(longest)),
        }
    }

    fn segment(&mut self) -> Segment {
        Segment {
            header: self.half(),
            payload: self.half(),
            header_length: self.quarter(),
            transport: self.quarter(),
            mss: self.quarter(),
            count: self.quarter(),
            protocol: self.byte(),
            kind: self.pick(&[Kind::Whole, Kind::Fragment, Kind::IcmpError, Kind::Frame]),
            evidence: self.pick(&[Evidence::Verified, Evidence::Trusted, Evidence::Absent]),
            device: self.byte(),
        }
    }

    fn position(&mut self) -> Position {
        Position {
            connection: self.handle(),
            written: self.word(),
            consumed: self.word(),
            limit: self.word(),
            marks: MarkAt(self.byte() & 0x1f),
        }
    }

    fn message(&mut self) -> Message {
        Message {
            socket: self.handle(),
            length: self.half(),
            hop_limit: self.byte(),
            traffic_class: self.byte(),
            source: self.endpoint(),
            to: self.endpoint(),
        }
    }

    fn listening(&mut self) -> Listening {
        Listening(self.byte() & 7)
    }

    fn reason(&mut self) -> Reason {
        Reason { connection: self.handle(), reason: self.quarter(), value: self.half() }
    }

    fn listen(&mut self, longest: usize) -> Listen {
        Listen {
            listener: self.half(),
            local: self.endpoint(),
            how: self.listening(),
            allow: self.word(),
            receive_first: self.half(),
            receive_max: self.half(),
            settings: self.list(longest, Self::setting),
        }
    }

    fn open(&mut self, longest: usize) -> Open {
        Open {
            connection: self.handle(),
            local: self.endpoint(),
            remote: self.endpoint(),
            receive_first: self.half(),
            receive_max: self.half(),
            settings: self.list(longest, Self::setting),
        }
    }

    fn decide(&mut self) -> Decide {
        let verdicts = [Verdict::Accept, Verdict::Reset, Verdict::Unreachable, Verdict::Drop];
        Decide { connection: self.handle(), verdict: self.pick(&verdicts), code: self.quarter() }
    }

    fn call(&mut self, longest: usize) -> Call {
        match self.below(14) {
            0 => Call::Configure(self.config(longest)),
            1 => Call::Reseed(self.seed()),
            2 => Call::Listen(self.listen(longest)),
            3 => Call::Allow(Allow { listener: self.half(), up_to: self.word() }),
            4 => Call::Unlisten(self.half()),
            5 => Call::Open(self.open(longest)),
            6 => Call::Bind(Bind {
                socket: self.handle(),
                local: self.endpoint(),
                remote: self.endpoint(),
                how: self.listening(),
            }),
            7 => Call::Decide(self.decide()),
            8 => Call::Shutdown(self.handle()),
            9 => Call::Close(Close { connection: self.handle(), linger: self.word() }),
            10 => Call::Abort(self.handle()),
            11 => Call::Set(Change { of: self.handle(), setting: self.setting() }),
            12 => Call::Query(self.handle()),
            _ => Call::Report(self.reason()),
        }
    }

    pub(crate) fn outputs(&mut self, longest: usize) -> Outputs {
        Outputs {
            deadline: self.word(),
            deadline_of: self.handle(),
            unfinished: self.word() & 4 != 0,
            headers: self.bytes(longest * 20),
            sends: self.list(longest, Self::send),
            places: self.list(longest, Self::place),
            marks: self.list(longest, Self::mark),
            events: self.list(longest, |r| r.event(longest)),
            notes: self.list(longest, |r| r.note(longest)),
        }
    }

    fn source(&mut self) -> Source {
        let all =
            [Source::Nothing, Source::Queue, Source::Segment, Source::Message, Source::Hold, Source::Staged];
        self.pick(&all)
    }

    fn send(&mut self) -> Send {
        Send {
            of: self.word(),
            at: self.word(),
            header: self.half(),
            length: self.half(),
            header_length: self.quarter(),
            transport: self.quarter(),
            mss: self.quarter(),
            source: self.source(),
            how: How(self.byte() & 1),
        }
    }

    fn place(&mut self) -> Place {
        Place {
            of: self.word(),
            at: self.word(),
            segment: self.half(),
            skip: self.half(),
            length: self.half(),
            source: self.source(),
            target: self.pick(&[Target::Stream, Target::Datagram, Target::Hold]),
        }
    }

    fn mark(&mut self) -> Mark {
        Mark {
            connection: self.handle(),
            exposed: self.word(),
            acknowledged: self.word(),
            by: self.half(),
            want_receive: self.half(),
            want_send: self.half(),
        }
    }

    fn opening(&mut self) -> Opening {
        Opening {
            listener: self.half(),
            connection: self.handle(),
            segment: self.half(),
            receive_base: self.half(),
            send_base: self.half(),
            mss: self.quarter(),
        }
    }

    fn event(&mut self, longest: usize) -> Event {
        match self.below(12) {
            0 => Event::Offered(self.opening()),
            1 => Event::Accepted(self.opening()),
            2 => Event::Opened(self.opening()),
            3 => Event::Choosing(Choosing { connection: self.handle(), local: self.endpoint() }),
            4 => {
                Event::Finished(Finished { connection: self.handle(), at: self.word(), segment: self.half() })
            }
            5 => Event::Urgent(Urgent { connection: self.handle(), at: self.word() }),
            6 => Event::Warned(self.reason()),
            7 => Event::Closed(self.reason()),
            8 => Event::Resubmit(Hold { slot: self.half(), length: self.half() }),
            9 => Event::Release(self.half()),
            10 => Event::Info(Info { of: self.handle(), fields: self.list(longest, Self::word) }),
            _ => Event::Failed(Failed { call: self.half(), reason: self.quarter() }),
        }
    }

    fn note(&mut self, longest: usize) -> Note {
        Note { level: self.byte(), connection: self.handle(), text: self.text(longest) }
    }

    fn many<T>(&mut self, count: usize, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..count).map(|_| element(self)).collect()
    }

    /// Every list as long as it may be, every element as long as it can be.
    pub(crate) fn full_batch(&mut self) -> Batch {
        let mut config = self.config(0);
        config.addresses = self.many(limits::ADDRESSES, Self::prefix);
        config.settings = self.many(limits::SETTINGS, Self::setting);
        Batch {
            headers: self.many(limits::HEADER_BYTES, Self::byte),
            segments: self.many(limits::SEGMENTS, Self::segment),
            positions: self.many(limits::POSITIONS, Self::position),
            messages: self.many(limits::MESSAGES, Self::message),
            calls: self.many(limits::CALLS, |_| Call::Configure(config.clone())),
            ..self.batch(0)
        }
    }

    /// Every list as long as it may be, every element as long as it can be.
    pub(crate) fn full_outputs(&mut self) -> Outputs {
        let info = |r: &mut Self| Info { of: r.handle(), fields: r.many(limits::INFO_FIELDS, Self::word) };
        let text = "n".repeat(limits::NOTE_BYTES);
        Outputs {
            headers: self.many(limits::HEADER_BYTES, Self::byte),
            sends: self.many(limits::SENDS, Self::send),
            places: self.many(limits::PLACES, Self::place),
            marks: self.many(limits::MARKS, Self::mark),
            events: self.many(limits::EVENTS, |r| Event::Info(info(r))),
            notes: self.many(limits::NOTES, |r| Note { text: text.clone(), ..r.note(0) }),
            ..self.outputs(0)
        }
    }
}
