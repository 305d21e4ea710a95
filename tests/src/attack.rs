//! What a stranger can send: floods, guesses, nonsense and hoarding, seeded. An [`Attacker`] makes frames, and hears what
//! comes back where it plays a peer.

use crate::simulation::Random;
use bulkhead::checksum::{checksum, pseudo};
use bulkhead_wit::Address;
use bulkhead_wit::registry::protocol;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// The network that attackers send from: 10.66.0.0/16.
pub const ATTACKERS: [u8; 2] = [10, 66];
/// Connections that an attacker who plays a peer opens, at most.
const PEERS: u32 = 1000;

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attack {
    /// SYNs from everywhere, none of which goes on.
    SynFlood,
    /// Resets with guessed numbers, as if from the honest peer.
    BlindReset,
    /// SYNs with guessed numbers, as if from the honest peer.
    BlindSyn,
    /// Data with guessed numbers, as if from the honest peer.
    BlindData,
    /// Acknowledgements of what was never sent, which ask for an answer each.
    AckStorm,
    /// Options and flags at random, from everywhere and as if from the honest peer.
    OptionFuzz,
    /// First fragments of datagrams that never become whole.
    FragmentStorm,
    /// Connections that ask for data and never open their window.
    ZeroWindow,
    /// Connections with the smallest segments and selective acknowledgements of every second one.
    TinySegments,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SynFlood,
        Self::BlindReset,
        Self::BlindSyn,
        Self::BlindData,
        Self::AckStorm,
        Self::OptionFuzz,
        Self::FragmentStorm,
        Self::ZeroWindow,
        Self::TinySegments,
    ];

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynFlood => "syn-flood",
            Self::BlindReset => "blind-reset",
            Self::BlindSyn => "blind-syn",
            Self::BlindData => "blind-data",
            Self::AckStorm => "ack-storm",
            Self::OptionFuzz => "option-fuzz",
            Self::FragmentStorm => "fragment-storm",
            Self::ZeroWindow => "zero-window",
            Self::TinySegments => "tiny-segments",
        }
    }
}

/// Makes frames.
#[derive(Debug)]
pub struct Attacker {
    attack: Attack,
    random: Random,
    target: SocketAddrV4,
    /// The honest peer, whose address and port are known and whose numbers are not.
    honest: SocketAddrV4,
    answers: VecDeque<Vec<u8>>,
    peers: u32,
    /// Frames that came back.
    pub heard: u64,
}

/// A TCP segment to be built.
struct Segment<'a> {
    from: SocketAddrV4,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: &'a [u8],
    payload: &'a [u8],
}

impl Attacker {
    /// An attacker of the server at `target`, who knows of a connection from `honest`.
    #[must_use]
    pub fn new(attack: Attack, seed: u64, target: SocketAddrV4, honest: SocketAddrV4) -> Self {
        let random = Random::new(seed);
        Self { attack, random, target, honest, answers: VecDeque::new(), peers: 0, heard: 0 }
    }

    fn stranger(&mut self) -> SocketAddrV4 {
        let bits = self.random.bits();
        let [a, b, c, d, ..] = bits.to_le_bytes();
        let port = u16::from_le_bytes([c, d]).max(1);
        SocketAddrV4::new(Ipv4Addr::new(ATTACKERS[0], ATTACKERS[1], a, b.clamp(1, 254)), port)
    }

    fn build(&self, segment: &Segment<'_>) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(60);
        tcp.extend(segment.from.port().to_be_bytes());
        tcp.extend(self.target.port().to_be_bytes());
        tcp.extend(segment.seq.to_be_bytes());
        tcp.extend(segment.ack.to_be_bytes());
        let length = 20 + segment.options.len().next_multiple_of(4);
        tcp.extend([(length as u8 / 4) << 4, segment.flags]);
        tcp.extend(segment.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend_from_slice(segment.options);
        tcp.resize(length, 1);
        tcp.extend_from_slice(segment.payload);
        let (from, to) = (segment.from.ip().octets(), self.target.ip().octets());
        let mut sum = pseudo(Address::from_v4(from), Address::from_v4(to), protocol::TCP, tcp.len() as u32);
        sum.add(&tcp);
        let sum = sum.checksum().to_be_bytes();
        tcp[16..18].copy_from_slice(&sum);
        self.network(from, protocol::TCP, (0, 0x4000), &tcp)
    }

    fn network(
        &self,
        from: [u8; 4],
        protocol: u8,
        (identification, field): (u16, u16),
        rest: &[u8],
    ) -> Vec<u8> {
        let mut frame = vec![0x45, 0];
        frame.extend((20 + rest.len() as u16).to_be_bytes());
        frame.extend(identification.to_be_bytes());
        frame.extend(field.to_be_bytes());
        frame.extend([64, protocol, 0, 0]);
        frame.extend(from);
        frame.extend(self.target.ip().octets());
        let sum = checksum(&frame).to_be_bytes();
        frame[10..12].copy_from_slice(&sum);
        frame.extend_from_slice(rest);
        frame
    }

    /// The next frame.
    pub fn frame(&mut self) -> Vec<u8> {
        if let Some(answer) = self.answers.pop_front() {
            return answer;
        }
        let bits = self.random.bits();
        let (seq, ack) = (bits as u32, (bits >> 32) as u32);
        let honest = self.honest;
        let plain =
            |flags| Segment { from: honest, seq, ack, flags, window: 1000, options: &[], payload: &[] };
        let usual = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
        match self.attack {
            Attack::SynFlood => {
                let from = self.stranger();
                self.build(&Segment { from, options: &usual, ack: 0, ..plain(SYN) })
            }
            Attack::BlindReset => self.build(&plain(RST)),
            Attack::BlindSyn => self.build(&plain(SYN)),
            Attack::BlindData => self.build(&Segment { payload: &[0xee; 100], ..plain(ACK | PSH) }),
            Attack::AckStorm => self.build(&plain(ACK)),
            Attack::OptionFuzz => self.fuzz(seq, ack),
            Attack::FragmentStorm => {
                let from = self.stranger().ip().octets();
                let rest = [0xab; 1024];
                self.network(from, protocol::UDP, (bits as u16, 0x2000), &rest)
            }
            Attack::ZeroWindow | Attack::TinySegments => {
                let from = self.stranger();
                self.peers += 1;
                if self.peers > PEERS {
                    // All are there: what they have goes on.
                    return self.build(&plain(ACK));
                }
                let tiny = self.attack == Attack::TinySegments;
                let options: &[u8] = if tiny { &[2, 4, 0, 1, 4, 2, 1, 1] } else { &[2, 4, 5, 180] };
                self.build(&Segment {
                    from,
                    seq: 1000,
                    ack: 0,
                    flags: SYN,
                    window: if tiny { 65_535 } else { 0 },
                    options,
                    payload: &[],
                })
            }
        }
    }

    fn fuzz(&mut self, seq: u32, ack: u32) -> Vec<u8> {
        let from = if self.random.between(0, 1) == 0 { self.honest } else { self.stranger() };
        let count = self.random.between(0, 40) as usize;
        let mut options: Vec<u8> = (0..count).map(|_| self.random.bits() as u8).collect();
        // Half of them begin like an option that is known.
        if let Some(first) = options.first_mut().filter(|_| seq & 1 == 0) {
            *first %= 9;
        }
        let (flags, window) = (self.random.bits() as u8, self.random.bits() as u16);
        let payload = vec![0xfe; self.random.between(0, 64) as usize];
        self.build(&Segment { from, seq, ack, flags, window, options: &options, payload: &payload })
    }

    /// A frame came back to a stranger.
    pub fn hear(&mut self, frame: &[u8]) {
        self.heard += 1;
        let plays = matches!(self.attack, Attack::ZeroWindow | Attack::TinySegments);
        let (Some(tcp), true) = (frame.get(20..40), plays && frame.first() == Some(&0x45)) else { return };
        let port = u16::from_be_bytes([tcp[2], tcp[3]]);
        let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let (seq, ack, flags) = (number(4), number(8), tcp[13]);
        if frame.get(9) != Some(&protocol::TCP) || flags & (RST | FIN) != 0 || self.answers.len() > 4096 {
            return;
        }
        let to = Ipv4Addr::new(frame[16], frame[17], frame[18], frame[19]);
        let next = if flags & SYN != 0 { seq.wrapping_add(1) } else { seq };
        let mut segment = Segment {
            from: SocketAddrV4::new(to, port),
            seq: ack,
            ack: next,
            flags: ACK,
            window: 0,
            options: &[],
            payload: &[],
        };
        if self.attack == Attack::ZeroWindow {
            self.answers.push_back(self.build(&segment));
            return;
        }
        // Holes everywhere: every second segment of 48 bytes is said to have come.
        let length = (frame.len().saturating_sub(20 + usize::from(tcp[12] >> 4) * 4)) as u32;
        segment.window = 65_535;
        segment.ack = if flags & SYN != 0 { next } else { seq.wrapping_sub(4800) };
        let (left, right) = (seq.to_be_bytes(), seq.wrapping_add(length).to_be_bytes());
        let mut options = vec![1, 1, 5, 10];
        options.extend(left);
        options.extend(right);
        if length > 0 && self.random.between(0, 1) == 0 {
            return;
        }
        if length > 0 {
            segment.options = &options;
        }
        self.answers.push_back(self.build(&segment));
    }
}
