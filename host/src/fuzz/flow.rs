//! The peer of one connection: what it has said and heard, and what it holds against the module.
//!
//! The rules here are what any peer may expect of a TCP, whatever its design: it acknowledges what was sent, keeps to the
//! window that it was given, and says nothing after its FIN. They allow for everything that the peer may have meant, so
//! that nonsense of the peer's makes no rule fail.

use bulkhead_wit::{Address, Endpoint};

use super::case::{ACK, FIN, FIRST_V6, RST, SYN};
use super::limits;
use super::wire::{Seen, Written};
use crate::StreamId;

/// The module's addresses.
pub(super) const OURS_V4: Address = Address::from_v4([10, 0, 0, 1]);
pub(super) const OURS_V6: Address = Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
/// Where an application listens from the beginning.
pub(super) const PORT: u16 = 80;

/// A peer.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// The module's end.
    pub(super) local: Endpoint,
    /// The peer's.
    pub(super) remote: Endpoint,
    /// The peer's next sequence number.
    pub(super) next: u32,
    /// The end of what the module has sent: what the peer would acknowledge.
    pub(super) heard: u32,
    /// The sequence number of the module's last segment, for ICMP errors to quote.
    pub(super) sent_last: u32,
    /// The peer's clock, in milliseconds.
    pub(super) clock: u32,
    /// The module's last timestamp.
    pub(super) stamp: u32,
    /// The application's side, once there is one.
    pub(super) stream: Option<StreamId>,
    /// Where the application reads, and where it writes.
    pub(super) read: u64,
    pub(super) written: u64,
    /// How many SYNs with numbers of their own the module has sent for this stream: an honest one sends one.
    firsts: u8,
    /// Sequence numbers that the first byte of a stream may have: those of the peer's SYNs.
    syns: Vec<u32>,
    /// Those that the bytes read so far leave possible.
    bases: Vec<u32>,
    /// What the module acknowledged last.
    pub(super) acknowledged: Option<u32>,
    /// Where the peer has ended its stream, in order.
    pub(super) fin: Option<u32>,
    /// Where a FIN of the peer's was, the first that it sent, in order or not.
    ends: Option<u32>,
    /// The peer has sent a SYN behind its FIN: what it has sent since may be no part of the stream.
    pub(super) is_anew: bool,
    /// The peer has sent timestamps in its SYN.
    pub(super) stamps: bool,
    /// The peer has lied in ways that may keep a connection from going on by right.
    pub(super) is_odd: bool,
    /// What the peer has sent: from and to, in sequence numbers.
    sent: Vec<(u32, u32)>,
    side: Side,
}

/// The module's side of a connection, as the peer sees it. Numbers count from its SYN.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    /// Its SYN's sequence number.
    first: Option<u32>,
    /// What its SYN acknowledges: the peer's SYN, once it has come.
    answers: Option<u32>,
    /// The end of the highest that it has sent.
    sent: u32,
    /// The furthest that any window of the peer's has reached.
    edge: u32,
    /// The peer's latest window, and the sequence number of the segment that told it (SND.WL1).
    window: (u32, Option<u32>),
    /// The highest that the peer has acknowledged.
    acknowledged: u32,
    /// Where its FIN was.
    fin: Option<u32>,
    /// Window scale of the peer's SYNs, the largest, and whether the module's SYN had one.
    scale: (u8, bool),
    is_reset: bool,
}

/// A broken rule of the wire: its name, and what was found.
pub(super) type Unfair = (&'static str, String);

/// Beyond this difference two sequence numbers do not belong to the same connection.
const FAR: u32 = 1 << 24;
/// The largest shift (RFC 7323 2.3).
const SCALE_MAX: u8 = 14;

impl Flow {
    /// The peer with this number.
    pub(super) fn new(number: u8) -> Self {
        let is_v6 = number >= FIRST_V6;
        let (ours, last) = (if is_v6 { OURS_V6 } else { OURS_V4 }, 2 + number % 3);
        let theirs = if is_v6 {
            Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
        } else {
            Address::from_v4([10, 0, 0, last])
        };
        // Every other peer's numbers wrap soon.
        let next = if number % 2 == 1 { u32::MAX - 2000 } else { 1_000_000 * (u32::from(number) + 1) };
        Self {
            local: Endpoint::new(ours, PORT),
            remote: Endpoint::new(theirs, 40_000 + u16::from(number)),
            next,
            heard: 0,
            sent_last: 0,
            clock: 1_000_000,
            stamp: 0,
            stream: None,
            read: 0,
            written: 0,
            firsts: 0,
            syns: Vec::new(),
            bases: Vec::new(),
            acknowledged: None,
            fin: None,
            ends: None,
            is_anew: false,
            stamps: false,
            is_odd: false,
            sent: Vec::new(),
            side: Side::default(),
        }
    }

    /// The peer has sent this, which arrives for sure or may be lost on the way.
    pub(super) fn says(&mut self, seen: &Seen, is_heard: bool) {
        let end = seen.seq.wrapping_add(seen.extent());
        let is_behind = |end: u32, fin: u32| end.wrapping_sub(fin).cast_signed() > 1;
        let fin = (seen.flags & FIN != 0).then(|| end.wrapping_sub(1));
        // Nothing follows a FIN, and who sends something nevertheless has its windows counted from there.
        self.is_odd |= self.ends.is_some_and(|fin| is_behind(end, fin))
            || fin.is_some_and(|fin| self.sent.iter().any(|(_, end)| is_behind(*end, fin)));
        self.ends = self.ends.or(fin);
        let has_room = self.sent.len() < limits::REMEMBERED;
        match self.sent.last_mut() {
            Some(last) if last.1 == seen.seq => last.1 = end,
            _ if has_room => self.sent.push((seen.seq, end)),
            _ => self.is_odd = true,
        }
        if seen.flags & SYN != 0 {
            if self.syns.len() < limits::REMEMBERED {
                self.syns.push(seen.seq.wrapping_add(1));
            }
            self.stamps |= seen.stamp.is_some();
            let scale = seen.scale.unwrap_or(0).min(SCALE_MAX);
            self.side.scale.0 = self.side.scale.0.max(scale);
        }
        let Some(first) = self.side.first else { return };
        let at = seen.ack.wrapping_sub(first);
        // Less than was acknowledged before acknowledges nothing, and whoever takes its window nevertheless counts it from there.
        let at = if at.cast_signed() < 0 && at.wrapping_neg() < FAR { 0 } else { at };
        if seen.flags & ACK == 0 || at > self.side.sent || seen.flags & RST != 0 {
            return;
        }
        self.side.acknowledged = self.side.acknowledged.max(at);
        let (scale, both) = self.side.scale;
        let shift = if seen.flags & SYN == 0 && both { scale } else { 0 };
        // A segment that is older than the last one moves the left edge of the window and does not change its size; unless
        // that one was so far ahead that it counted for nothing, or may not have come.
        let window = u32::from(seen.window) << shift;
        let is_far = seen.seq.wrapping_sub(self.next).cast_signed().unsigned_abs() > FAR;
        let is_old = !is_heard
            || is_far
            || self.side.window.1.is_some_and(|last| seen.seq.wrapping_sub(last).cast_signed() < 0);
        self.side.window = if is_old {
            (window.max(self.side.window.0), self.side.window.1)
        } else {
            (window, Some(seen.seq))
        };
        self.side.edge = self.side.edge.max(self.side.acknowledged + self.side.window.0);
    }

    /// The peer has sent its next bytes. Behind its FIN nothing of its stream follows, until it begins anew.
    pub(super) fn goes_on(&mut self, seen: &Seen) {
        if seen.flags & SYN != 0 {
            self.is_anew |= self.fin.take().is_some();
        }
        if self.fin.is_some() {
            return;
        }
        self.next = seen.seq.wrapping_add(seen.extent());
        if seen.flags & FIN != 0 {
            self.fin = Some(self.next.wrapping_sub(1));
        }
    }

    /// The peer hears this of the module.
    ///
    /// # Errors
    /// The rule that the module breaks with it.
    pub(super) fn hears(&mut self, seen: &Seen) -> Result<(), Unfair> {
        let begins = seen.flags & ACK == 0 || seen.from == self.local;
        if seen.flags & SYN != 0 && begins {
            let answers = (seen.flags & ACK != 0).then_some(seen.ack);
            // At the same moment the next connection between the same ends begins with the same number (RFC 6528).
            let answers_other = answers.is_some_and(|ack| self.side.answers.is_some_and(|was| was != ack));
            if self.side.first != Some(seen.seq) || answers_other {
                // A connection anew; what the peers have agreed on before is over.
                let scale = (self.side.scale.0, seen.scale.is_some());
                self.side = Side { first: Some(seen.seq), scale, ..Side::default() };
                self.firsts = self.firsts.saturating_add(1);
                self.local = seen.from;
            }
            self.side.answers = answers.or(self.side.answers);
        } else if seen.from != self.local {
            // Of another connection with the same peer, which no case speaks of.
            return Ok(());
        }
        self.sent_last = seen.seq;
        self.stamp = seen.stamp.unwrap_or(self.stamp);
        if seen.flags & ACK != 0 {
            self.hears_ack(seen)?;
        }
        if seen.flags & RST != 0 {
            self.side.is_reset = true;
            return Ok(());
        }
        let end = seen.seq.wrapping_add(seen.extent());
        let Some(first) = self.side.first else { return Ok(()) };
        let (from, to) = (seen.seq.wrapping_sub(first), end.wrapping_sub(first));
        if from >= FAR || to >= FAR {
            return Ok(());
        }
        self.hears_range(seen, from, to)?;
        if to >= self.side.sent {
            (self.side.sent, self.heard) = (to, end);
        }
        Ok(())
    }

    fn hears_ack(&mut self, seen: &Seen) -> Result<(), Unfair> {
        let was_sent =
            self.sent.iter().any(|(from, to)| seen.ack.wrapping_sub(*from) <= to.wrapping_sub(*from));
        if !was_sent && !self.is_odd {
            return Err(("acks-unsent", format!("acknowledges {}, which the peer has never sent", seen.ack)));
        }
        if seen.flags & RST == 0 {
            self.acknowledged = Some(seen.ack);
        }
        Ok(())
    }

    fn hears_range(&mut self, seen: &Seen, from: u32, to: u32) -> Result<(), Unfair> {
        let data = from + seen.length + u32::from(seen.flags >> 1 & 1);
        if let Some(fin) = self.side.fin {
            if seen.length > 0 && data > fin {
                return Err(("data-after-fin", format!("sends up to {data} after a FIN at {fin}")));
            }
            if seen.flags & FIN != 0 && data != fin {
                return Err(("fin-moved", format!("a FIN at {data}, after one at {fin}")));
            }
        }
        // A probe of a closed window has a byte (RFC 9293 3.8.6.1).
        if seen.length > 0 && data > self.side.edge.saturating_add(1) {
            let edge = self.side.edge;
            return Err(("outside-window", format!("sends up to {data}, the peer's window ends at {edge}")));
        }
        if seen.flags & FIN != 0 {
            self.side.fin = Some(to - 1);
        }
        Ok(())
    }

    /// Whether this payload is what the application has written there. The stream begins with the number that the peer has
    /// acknowledged (rule 10), which a liar's SYN need not have had.
    ///
    /// # Errors
    /// Where it is not.
    pub(super) fn holds_against(
        &self,
        seen: &Seen,
        payload: &[u8],
        begins: Option<u32>,
        written: &mut Written,
    ) -> Result<(), Unfair> {
        // After a second SYN the numbers of the stream are not what the last one says.
        let Some(first) = self.side.first.filter(|_| self.firsts <= 1) else { return Ok(()) };
        let at = seen.seq.wrapping_sub(begins.unwrap_or(first.wrapping_add(1)));
        if payload.is_empty() || seen.from != self.local || seen.flags & (SYN | RST) != 0 || at >= FAR {
            return Ok(());
        }
        if written.bytes(self.remote.port, at.into(), payload.len()) == payload {
            return Ok(());
        }
        Err((
            "other-bytes",
            format!("{} bytes at {at} of its stream that nobody has written there", payload.len()),
        ))
    }

    /// Whether the module waits for an acknowledgement.
    pub(super) fn is_outstanding(&self) -> bool {
        self.side.first.is_some() && !self.side.is_reset && self.side.sent > self.side.acknowledged
    }

    /// The sequence number that the module chose for its SYN.
    pub(super) fn first(&self) -> Option<u32> {
        self.side.first
    }

    /// The application has a stream for this peer now, whose first byte has this number. The module has sent its SYN before; where
    /// it had another number, the peer has said itself that it takes this one for it (rule 10).
    pub(super) fn accepted(&mut self, stream: StreamId, base: Option<u32>) {
        let is_as_told = base == self.side.first.map(|first| first.wrapping_add(1));
        self.attach(stream);
        self.firsts = if is_as_told { 1 } else { 2 };
    }

    /// The application has a stream for this peer now, whose SYN is still to be sent.
    pub(super) fn attach(&mut self, stream: StreamId) {
        self.firsts = 0;
        self.stream = Some(stream);
        (self.read, self.written) = (0, 0);
        self.bases.clone_from(&self.syns);
    }

    /// The application gets these bytes. `false` if they are not the peer's.
    pub(super) fn reads(&mut self, bytes: &[u8]) -> bool {
        let at = self.read as u32;
        let is_from = |base: &u32| {
            let from = base.wrapping_add(at);
            // Without an early end, which would keep it from being done many bytes at a time.
            let differ =
                |all, (byte, n): (&u8, u32)| all | (byte ^ super::wire::pattern(from.wrapping_add(n)));
            bytes.iter().zip(0..).fold(0, differ) == 0
        };
        // The SYN of an open's peer comes after the stream.
        if self.read == 0 {
            self.bases.clone_from(&self.syns);
        }
        self.bases.retain(is_from);
        self.read += bytes.len() as u64;
        // Of so many SYNs not all are remembered.
        !self.bases.is_empty() || self.syns.len() >= limits::REMEMBERED
    }
}
