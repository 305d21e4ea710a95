//! Cases of traffic that was seen: `capture` reads the files of tcpdump and Wireshark, and whoever replays a
//! [recording](crate::record) of an instance can hand its segments to [`Traffic`] himself.
//!
//! Each connection becomes a case: the peer's segments relative to what the module had said, what the module sent as what its
//! application must have written, and the time between. Contents are not taken over: a case's bytes are a pattern.

mod capture;

use bulkhead_wit::{Endpoint, Time, limits as bounds};

pub use capture::{CaptureError, capture};

use super::case::{ACK, Call, Case, Event, FIN, FIRST_V6, FLOWS, RST, SYN, Segment, TcpOption};
use super::limits;
use super::wire::{Seen, network_length};

/// Connections that are followed; beyond that many, the oldest is closed to make room.
const CONNECTIONS: usize = 1024;
/// Cases that are made.
const CASES: usize = 4096;
/// Pauses that are shorter are none.
const PAUSE: Time = bounds::MILLISECOND;
/// Payload bytes of the segments that a longer one was merged from.
const MERGED: u16 = 1460;

/// Which way a packet went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// The module sent it.
    Module,
    /// The module got it.
    Peer,
    /// Whoever a connection's first SYN goes to is the module.
    Unknown,
}

/// Packets, made into cases as they come.
#[derive(Debug, Default)]
pub struct Traffic {
    connections: Vec<Connection>,
    cases: Vec<Case>,
    opened: u8,
    left_out: u64,
}

impl Traffic {
    /// A packet: the time in nanoseconds, its first bytes from the network header on, of which the TCP header is enough, and its
    /// whole length.
    pub fn packet(&mut self, at: Time, from: From, header: &[u8], length: usize) {
        let Some(seen) = Seen::of_cut(header, length) else {
            self.left_out += 1;
            return;
        };
        let known = self.connections.iter().rposition(|connection| connection.is_of(&seen));
        let is_new = seen.flags & (SYN | ACK) == SYN
            && known.and_then(|at| self.connections.get(at)).is_none_or(|old| old.is_over);
        let index = match (known, is_new) {
            (Some(index), false) => index,
            (None, false) => {
                // It began before the capture did.
                self.left_out += 1;
                return;
            }
            (_, true) => {
                let index = self.open(at, from == From::Module, &seen);
                if from == From::Module {
                    self.push(index, Event::Call(Call::Open(self.flow(index))))
                }
                index
            }
        };
        let Some(connection) = self.connections.get_mut(index) else { return };
        if seen.from == connection.module {
            connection.module_says(at, &seen);
        } else {
            connection.peer_says(at, &seen, header);
        }
    }

    fn flow(&self, index: usize) -> u8 {
        self.connections.get(index).map_or(0, |connection| connection.flow)
    }

    fn push(&mut self, index: usize, event: Event) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.push(event);
        }
    }

    /// A connection begins with this SYN.
    fn open(&mut self, at: Time, by_module: bool, seen: &Seen) -> usize {
        if self.connections.len() >= CONNECTIONS {
            let oldest = self.connections.remove(0);
            self.finish(oldest);
        }
        let number = self.opened;
        self.opened = self.opened.wrapping_add(1);
        let flow = if seen.from.address.is_v4() {
            number % FIRST_V6
        } else {
            FIRST_V6 + number % (FLOWS - FIRST_V6)
        };
        let (module, peer) = if by_module { (seen.from, seen.to) } else { (seen.to, seen.from) };
        let (next, heard, case) = (None, None, Case::default());
        self.connections.push(Connection { module, peer, flow, at, next, heard, is_over: false, case });
        self.connections.len() - 1
    }

    fn finish(&mut self, connection: Connection) {
        // One segment alone is what every search begins with.
        if connection.case.events.len() > 1 && self.cases.len() < CASES {
            self.cases.push(connection.case);
        }
    }

    /// A case of each connection, in the order in which they began; and how many packets belong to none: other protocols,
    /// fragments, connections without their beginning.
    #[must_use]
    pub fn cases(mut self) -> (Vec<Case>, u64) {
        for connection in std::mem::take(&mut self.connections) {
            self.finish(connection);
        }
        (self.cases, self.left_out)
    }
}

/// A connection that is followed.
#[derive(Debug)]
struct Connection {
    module: Endpoint,
    peer: Endpoint,
    flow: u8,
    /// When something happened last.
    at: Time,
    /// The peer's next sequence number, as a run of the case counts it.
    next: Option<u32>,
    /// The end of what the module has sent.
    heard: Option<u32>,
    /// A reset, or both FINs: the next SYN begins another one.
    is_over: bool,
    case: Case,
}

impl Connection {
    fn is_of(&self, seen: &Seen) -> bool {
        let ends = (seen.from, seen.to);
        ends == (self.module, self.peer) || ends == (self.peer, self.module)
    }

    fn push(&mut self, event: Event) {
        if self.case.events.len() < limits::MUTATED {
            self.case.events.push(event);
        }
    }

    fn wait(&mut self, at: Time) {
        let pause = at.saturating_sub(self.at);
        self.at = self.at.max(at);
        if pause >= PAUSE {
            let us = (pause / bounds::MICROSECOND).min(limits::WAIT_US);
            self.push(Event::Wait { us });
        }
    }

    fn peer_says(&mut self, at: Time, seen: &Seen, header: &[u8]) {
        self.wait(at);
        let apart =
            |number: u32, from: Option<u32>| number.wrapping_sub(from.unwrap_or(number)).cast_signed();
        let seq = apart(seen.seq, self.next);
        if seq == 0 {
            self.next = Some(seen.seq.wrapping_add(seen.extent()));
        }
        let length = u16::try_from(seen.length).unwrap_or(u16::MAX);
        let segment = Segment {
            seq,
            ack: if seen.flags & ACK == 0 { 0 } else { apart(seen.ack, self.heard) },
            window: seen.window,
            length,
            options: options(header, self.heard.unwrap_or(seen.ack)),
            gso: if length > MERGED { MERGED } else { 0 },
            ..Segment::new(self.flow, seen.flags)
        };
        self.is_over |= seen.flags & RST != 0;
        self.push(segment.into());
        if length > 0 {
            // Whatever can be read, as most applications do.
            self.push(Event::Call(Call::Read(self.flow, u16::MAX.into())));
        }
    }

    fn module_says(&mut self, at: Time, seen: &Seen) {
        let end = seen.seq.wrapping_add(seen.extent());
        let fresh = end.wrapping_sub(self.heard.unwrap_or(seen.seq)).cast_signed();
        if fresh <= 0 {
            self.is_over |= seen.flags & RST != 0;
            return;
        }
        self.heard = Some(end);
        let beside = i64::from(seen.flags & FIN != 0) + i64::from(seen.flags & SYN != 0);
        let bytes = u32::try_from(i64::from(fresh) - beside).unwrap_or(0).min(seen.length);
        if bytes > 0 {
            self.wait(at);
            if let Some(Event::Call(Call::Write(_, sum))) = self.case.events.last_mut() {
                *sum = sum.saturating_add(bytes);
            } else {
                self.push(Event::Call(Call::Write(self.flow, bytes)));
            }
        }
        if seen.flags & FIN != 0 {
            self.wait(at);
            self.push(Event::Call(Call::Shutdown(self.flow)));
        }
    }
}

/// The options of a TCP header, relative to what was heard.
fn options(frame: &[u8], heard: u32) -> Vec<TcpOption> {
    let begin = network_length(frame);
    let end = frame.get(begin + 12).map_or(begin, |byte| begin + usize::from(byte >> 4) * 4);
    let mut rest = frame.get(begin + 20..end).unwrap_or_default();
    let mut found = Vec::new();
    while let (Some((&kind, tail)), true) = (rest.split_first(), found.len() < limits::OPTIONS) {
        let length = match (kind, tail.first()) {
            (0, _) => break,
            (1, _) => 1,
            (_, None) => 1,
            (_, Some(length)) => usize::from(*length).clamp(2, rest.len()),
        };
        let (option, after) = rest.split_at(length);
        rest = after;
        let half = |at: usize| option.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        found.push(match (kind, option.len()) {
            (1, _) => TcpOption::Nop,
            (2, 4) => TcpOption::Mss(half(2).unwrap_or(0)),
            (3, 3) => TcpOption::WindowScale(option.last().copied().unwrap_or(0)),
            (4, 2) => TcpOption::SackPermitted,
            (5, 10 | 18 | 26 | 34) => {
                let numbers = option.get(2..).unwrap_or_default().as_chunks::<4>().0;
                let apart = |four: &[u8; 4]| u32::from_be_bytes(*four).wrapping_sub(heard).cast_signed();
                let blocks = numbers.as_chunks::<2>().0;
                TcpOption::Sack(blocks.iter().map(|[from, to]| (apart(from), apart(to))).collect())
            }
            (8, 10) => TcpOption::Timestamps(0, 0),
            _ => TcpOption::Raw(option.to_vec()),
        });
    }
    found
}
