//! Events out of nothing: what peers and applications typically do, with numbers near those that matter.

use bulkhead_wit::{Verdict, registry};

use super::case::{ACK, Call, Event, FIN, FLOWS, Fragment, Icmp, PSH, RST, SYN, Segment, TcpOption, URG};
use crate::device::random::Random;

/// Numbers that programs get wrong.
const NUMBERS: [u64; 24] = [
    0, 1, 2, 3, 4, 7, 8, 15, 16, 20, 31, 32, 40, 64, 127, 128, 255, 256, 536, 1460, 32_767, 32_768, 65_534,
    65_535,
];
/// Differences of sequence numbers that programs get wrong.
const DELTAS: [i32; 16] = [
    -1,
    1,
    -2,
    2,
    100,
    -100,
    536,
    1460,
    -1460,
    32_768,
    65_535,
    -65_536,
    i32::MAX,
    i32::MIN,
    1 << 30,
    -(1 << 30),
];

/// Makes events.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) random: Random,
    /// Numbers that the module compares with, and those of the user's dictionary.
    words: Vec<u64>,
    /// Bytes of the user's dictionary.
    tokens: Vec<Vec<u8>>,
}

impl Generator {
    pub(super) fn new(seed: u64, words: Vec<u64>, tokens: Vec<Vec<u8>>) -> Self {
        Self { random: Random::new(seed), words, tokens }
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    /// True once in so many times.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.random.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        from.get(self.below(from.len())).copied().unwrap_or(otherwise)
    }

    /// A number that may matter.
    pub(super) fn number(&mut self) -> u64 {
        match self.below(8) {
            0 | 1 if !self.words.is_empty() => {
                let at = self.below(self.words.len());
                self.words.get(at).copied().unwrap_or(0)
            }
            2 => self.random.next() >> self.below(64),
            3 => 1 << self.below(32),
            _ => self.pick(&NUMBERS, 0),
        }
    }

    /// A difference of sequence numbers: mostly small.
    pub(super) fn delta(&mut self) -> i32 {
        match self.below(4) {
            0 => self.random.next() as i32,
            1 => self.random.below(4000) as i32 - 2000,
            _ => self.pick(&DELTAS, 1),
        }
    }

    pub(super) fn length(&mut self) -> u16 {
        match self.below(6) {
            0 => self.number() as u16,
            1 => 1460,
            2 => 1,
            _ => self.random.below(3000) as u16,
        }
    }

    pub(super) fn flow(&mut self) -> u8 {
        // Mostly the first: depth needs one connection more often than it needs many.
        if self.one_in(4) { self.random.below(u64::from(FLOWS)) as u8 } else { 0 }
    }

    /// What typically follows one after the other.
    pub(super) fn scene(&mut self, flow: u8) -> Vec<Event> {
        match self.below(10) {
            0..=3 => self.handshake(flow),
            4 => vec![Call::Open(flow).into(), self.syn(flow, SYN | ACK), Segment::new(flow, ACK).into()],
            5 => {
                let count = self.random.below(100_000) as u32;
                let ack = Segment { window: self.window(), ..Segment::new(flow, ACK) };
                vec![Call::Write(flow, count).into(), ack.clone().into(), ack.into()]
            }
            6 => vec![self.data(flow), self.data(flow), Call::Read(flow, 65_536).into()],
            7 => {
                let first =
                    if self.one_in(2) { Call::Shutdown(flow).into() } else { Call::Close(flow, 1000).into() };
                vec![first, Segment::new(flow, ACK).into(), Segment::new(flow, FIN | ACK).into()]
            }
            8 => self.burst(flow),
            _ => (0..3).map(|_| self.event(flow)).collect(),
        }
    }

    /// A passive open, mostly with everything that a usual peer offers.
    fn handshake(&mut self, flow: u8) -> Vec<Event> {
        let mut ack = Segment::new(flow, ACK);
        ack.window = self.window();
        vec![self.syn(flow, SYN), ack.into()]
    }

    fn syn(&mut self, flow: u8, flags: u8) -> Event {
        let mut syn = Segment::new(flow, flags);
        syn.options = match self.below(4) {
            0 => Vec::new(),
            1 => self.options(true),
            _ => vec![TcpOption::Mss(1460), TcpOption::SackPermitted, TcpOption::WindowScale(7)],
        };
        if self.one_in(3) {
            syn.options.push(TcpOption::Timestamps(0, 0));
        }
        syn.into()
    }

    fn window(&mut self) -> u16 {
        match self.below(4) {
            0 => self.number() as u16,
            1 => self.pick(&[0, 1, 2, 1000], 0),
            _ => 65_535,
        }
    }

    fn data(&mut self, flow: u8) -> Event {
        let mut data = Segment::new(flow, ACK | PSH);
        data.length = self.length().max(1);
        if self.one_in(3) {
            data.seq = self.pick(&[1460, 100, -100, 3000, 1, -1], 1460);
        }
        data.into()
    }

    /// Many segments apart from each other, or one on the other.
    fn burst(&mut self, flow: u8) -> Vec<Event> {
        let mut many = Segment::new(flow, ACK);
        many.length = 1 + self.random.below(200) as u16;
        many.seq = self.pick(&[1, 100, 1000, 0, 2], 100);
        // Rather few than many: a burst takes as long as the rest of its case.
        many.repeat = self.random.next() as u8 >> self.below(5);
        many.stride = many.length.saturating_add(self.pick(&[0, 1, 2, 100, 200], 1));
        vec![many.into()]
    }

    /// Any one event.
    pub(super) fn event(&mut self, flow: u8) -> Event {
        match self.below(16) {
            0..=5 => self.segment(flow),
            6 | 7 => self.call(flow),
            8 => self.fragment(flow),
            9 => self.icmp(flow),
            10 => Event::Wait { us: self.pause() },
            11 if self.one_in(3) => Event::Stall { us: self.pause() },
            12 => match self.below(2) {
                0 => Event::Echo { flow, length: self.length() },
                _ => Event::Datagram { flow, port: 80, length: self.length() },
            },
            13 if self.one_in(4) => Event::Raw(self.raw()),
            14 => self.data(flow),
            _ => Segment { window: self.window(), ..Segment::new(flow, ACK) }.into(),
        }
    }

    fn segment(&mut self, flow: u8) -> Event {
        let usual = [ACK, ACK | PSH, FIN | ACK, SYN, SYN | ACK, RST, RST | ACK, ACK | URG];
        let mut segment = Segment::new(flow, self.pick(&usual, ACK));
        if self.one_in(6) {
            segment.flags = self.random.next() as u8;
        }
        if self.one_in(2) {
            segment.length = self.length();
        }
        for _ in 0..self.below(3) {
            self.bend(&mut segment);
        }
        segment.into()
    }

    /// Changes a field.
    pub(super) fn bend(&mut self, segment: &mut Segment) {
        match self.below(16) {
            0 | 1 => segment.seq = self.delta(),
            2 | 3 => segment.ack = self.delta(),
            4 | 5 => segment.window = self.window(),
            6 => {
                segment.urgent = self.number() as u16;
                segment.flags |= URG;
            }
            7 | 8 => segment.length = self.length(),
            9 => segment.flags ^= 1 << self.below(8),
            10 | 11 => segment.options = self.options(segment.flags & SYN != 0),
            12 => segment.gso = self.pick(&[0, 1, 536, 1460], 0),
            13 => segment.cut = self.pick(&[0, 1, 3, 64, 100], 0),
            14 => {
                segment.repeat = self.random.below(128) as u8 >> self.below(7);
                segment.stride = self.length();
            }
            _ => {
                segment.ecn = self.random.below(4) as u8;
                segment.port = if self.one_in(8) { self.pick(&[0, 80, 81, 8080], 0) } else { segment.port };
            }
        }
    }

    fn options(&mut self, is_syn: bool) -> Vec<TcpOption> {
        (0..1 + self.below(4)).map(|_| self.option(is_syn)).collect()
    }

    pub(super) fn option(&mut self, is_syn: bool) -> TcpOption {
        match self.below(if is_syn { 10 } else { 7 }) {
            0 | 1 => {
                let blocks = 1 + self.below(4);
                TcpOption::Sack((0..blocks).map(|_| (self.back(), self.back())).collect())
            }
            2 if self.one_in(2) => TcpOption::Timestamps(self.delta(), self.delta()),
            2 => TcpOption::Timestamps(0, 0),
            3 => TcpOption::Nop,
            4 => TcpOption::Raw(self.option_bytes()),
            5 if self.one_in(4) => TcpOption::End,
            5 | 7 => TcpOption::Mss(self.number() as u16),
            6 => TcpOption::WindowScale(self.number() as u8),
            8 => TcpOption::WindowScale(self.random.below(20) as u8),
            _ => TcpOption::SackPermitted,
        }
    }

    /// Back from the end of what was heard, within what is in flight, mostly.
    fn back(&mut self) -> i32 {
        self.near().wrapping_neg()
    }

    fn near(&mut self) -> i32 {
        match self.below(3) {
            0 => self.pick(&[0, 1, 1460, 2920, 14_600], 0),
            1 => self.delta(),
            _ => self.random.below(20_000) as i32,
        }
    }

    /// An option as bytes: its length may be a lie.
    fn option_bytes(&mut self) -> Vec<u8> {
        if self.one_in(4) && !self.tokens.is_empty() {
            let at = self.below(self.tokens.len());
            return self.tokens.get(at).cloned().unwrap_or_default();
        }
        let kind = if self.one_in(3) { self.number() as u8 } else { self.random.below(9) as u8 };
        let mut bytes = vec![kind];
        if !self.one_in(6) {
            bytes.push(match self.below(3) {
                0 => self.number() as u8,
                _ => self.random.below(12) as u8,
            });
            let more = self.below(10);
            bytes.extend((0..more).map(|_| self.random.next() as u8));
        }
        bytes
    }

    fn pause(&mut self) -> u64 {
        match self.below(4) {
            0 => self.random.below(1000),
            1 => 40_000 + self.random.below(200_000),
            2 => 1_000_000 << self.below(7),
            _ => 1 << self.below(33),
        }
    }

    fn fragment(&mut self, flow: u8) -> Event {
        Event::Fragment(Fragment {
            flow,
            id: self.random.below(2) as u8,
            offset: self.pick(&[0, 0, 1, 2, 3, 4, 8, 16, 100, 185, 8189], 0),
            length: if self.one_in(3) { self.length() } else { 8 * (1 + self.random.below(6) as u16) },
            more: !self.one_in(3),
            protocol: self.pick(&[17, 6, 1], 17),
        })
    }

    fn icmp(&mut self, flow: u8) -> Event {
        let is_v4 = flow < super::case::FIRST_V6;
        let kind =
            if is_v4 { self.pick(&[3, 3, 3, 4, 5, 11, 12], 3) } else { self.pick(&[1, 2, 2, 3, 4], 2) };
        let code = if is_v4 && self.one_in(2) { 4 } else { self.random.below(16) as u8 };
        let value =
            if self.one_in(3) { self.number() as u32 } else { self.pick(&[0, 68, 296, 552, 1280, 1400], 0) };
        let seq = if self.one_in(3) { self.delta() } else { 0 };
        let quoted = self.pick(&[8, 8, 20, 0, 4, 7], 8);
        Event::Icmp(Icmp { flow, kind, code, value, seq, quoted })
    }

    pub(super) fn call(&mut self, flow: u8) -> Event {
        let call = match self.below(16) {
            0..=3 => Call::Write(flow, self.pick(&[1, 100, 1460, 3000, 65_536, 250_000], 1000)),
            4 => Call::Mark(flow, self.random.below(3000) as u32, self.random.below(16) as u8),
            5 | 6 => Call::Read(flow, self.pick(&[1, 1000, 65_536], 1000)),
            7 => Call::Shutdown(flow),
            8 => Call::Close(flow, self.pick(&[0, 1, 1000, 60_000], 0)),
            9 => Call::Abort(flow),
            10 | 11 => Call::Set(flow, self.setting(), self.value()),
            12 => match self.below(3) {
                0 => Call::Default(self.setting(), self.value()),
                1 => Call::Query(flow),
                _ => Call::Send(flow, self.length()),
            },
            13 => Call::Open(flow),
            14 => match self.below(4) {
                0 => Call::Unlisten,
                _ => Call::Listen { port: self.pick(&[81, 8080, 80], 81), defer: self.one_in(2) },
            },
            _ => Call::Decide(
                flow,
                self.pick(
                    &[Verdict::Accept, Verdict::Reset, Verdict::Unreachable, Verdict::Drop],
                    Verdict::Accept,
                ),
            ),
        };
        call.into()
    }

    fn setting(&mut self) -> u16 {
        let known: Vec<u16> = registry::setting::ALL.iter().map(|(key, _)| *key).collect();
        self.pick(&known, 1)
    }

    fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.number(),
            1 => self.pick(&[u64::from_le_bytes(*b"reno\0\0\0\0"), u64::from_le_bytes(*b"bbr\0\0\0\0\0")], 0),
            2 => 1_000_000 << self.below(16),
            _ => self.random.below(3),
        }
    }

    /// A packet of bytes, sometimes with the addresses and ports right.
    pub(super) fn raw(&mut self) -> Vec<u8> {
        let length = 20 + self.below(60);
        let mut bytes: Vec<u8> = (0..length).map(|_| self.random.next() as u8).collect();
        let head = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0x9c, 0x40, 0, 80];
        let known = if self.one_in(4) { 10 } else { head.len() };
        bytes.iter_mut().zip(head).take(known).for_each(|(to, from)| *to = from);
        bytes
    }
}

impl From<Call> for Event {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}
