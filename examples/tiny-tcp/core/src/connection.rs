//! A connection as numbers: two streams, and a timer.
//!
//! A place in a stream is counted from its SYN, which has place 0; the first byte has place 1, and the FIN comes after the last
//! byte. Places have 64 bits and never wrap; the wire has the lower 32 of them, on top of an initial sequence number.

use crate::wire::{ACK, FIN, Header, Outgoing, PSH, RST, Room, SYN};
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::reason;
use bulkhead_wit::{
    Choosing, Endpoint, Event, Handle, NEVER, Opening, Outputs, Position, Send, Source, Summary, Time,
};

/// The states of RFC 9293 3.3.2; LISTEN is a listener's, and CLOSED is no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    #[default]
    Closed,
}

/// RFC 6298: the first timeout, the shortest, the longest.
const RTO_FIRST: Time = SECOND;
const RTO_MIN: Time = 200 * MILLISECOND;
const RTO_MAX: Time = 60 * SECOND;
/// Timeouts in a row after which nobody is there.
const TRIES: u64 = 12;
/// How long TIME-WAIT lasts, and FIN-WAIT-2 where nobody reads.
const LINGER: Time = 60 * SECOND;
/// A send is cut into frames by the host; this is how much goes at once, in bytes.
const SUPER: u64 = 60_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) handle: Handle,
    /// The host knows it: it was accepted or asked for, and has not been told to be over.
    pub(crate) is_known: bool,
    /// Our end was chosen here, and the host is to be told.
    pub(crate) is_chosen: bool,
    pub(crate) listener: u32,
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
    pub(crate) state: State,
    /// Why it ended, where it did not end in order.
    pub(crate) why: u16,

    // ---- what we send: acknowledged <= next <= highest
    pub(crate) iss: u32,
    pub(crate) acknowledged: u64,
    pub(crate) next: u64,
    pub(crate) highest: u64,
    /// Bytes that the application has written.
    pub(crate) written: u64,
    /// Nothing more will be written.
    pub(crate) is_finished: bool,
    /// The peer takes bytes up to here.
    pub(crate) window_end: u64,
    pub(crate) mss: u64,
    /// What we can take in a segment, as our SYN says.
    pub(crate) own_mss: u64,
    pub(crate) acknowledged_by: u32,

    // ---- how fast
    pub(crate) congestion_window: u64,
    pub(crate) threshold: u64,
    pub(crate) duplicates: u64,
    pub(crate) rto: Time,
    /// Smoothed round trip and its variation; 0 before the first sample.
    pub(crate) round_trip: Time,
    pub(crate) variation: Time,
    /// The place whose acknowledgement is timed, and since when.
    pub(crate) timed: u64,
    pub(crate) timed_at: Time,
    pub(crate) tries: u64,
    pub(crate) timer: Time,

    // ---- what we receive
    pub(crate) irs: u32,
    /// The place that comes next.
    pub(crate) expected: u64,
    pub(crate) limit: u64,
    pub(crate) consumed: u64,
    /// The limit that the peer was told last.
    pub(crate) announced: u64,
    /// The peer has ended its stream.
    pub(crate) is_ended: bool,
    pub(crate) owes_acknowledgement: bool,

    // ---- towards the host
    /// Nobody reads any more.
    pub(crate) is_closed: bool,
    pub(crate) linger: Time,
    pub(crate) owes_reset: bool,
    pub(crate) waits_for_room: bool,
    pub(crate) told: (u64, u64),
}

impl Connection {
    pub(crate) fn new(state: State, (local, remote): (Endpoint, Endpoint), iss: u32, mtu: u32) -> Self {
        let mss = u64::from(mtu) - if local.address.is_v4() { 40 } else { 60 };
        Self {
            local,
            remote,
            state,
            iss,
            window_end: 1,
            mss,
            own_mss: mss,
            congestion_window: 10 * mss,
            threshold: u64::MAX,
            rto: RTO_FIRST,
            timer: NEVER,
            linger: NEVER,
            ..Self::default()
        }
    }

    // ---- numbers

    /// The place in our stream that an acknowledgement names: the one nearest to what is acknowledged.
    pub(crate) fn ours(&self, wire: u32) -> i64 {
        let base = self.iss.wrapping_add(self.acknowledged as u32);
        self.acknowledged as i64 + i64::from(wire.wrapping_sub(base).cast_signed())
    }

    /// The place in the peer's stream that a sequence number names: the one nearest to what is expected.
    pub(crate) fn theirs(&self, wire: u32) -> i64 {
        let base = self.irs.wrapping_add(self.expected as u32);
        self.expected as i64 + i64::from(wire.wrapping_sub(base).cast_signed())
    }

    /// Whether a sequence number lies beyond everything of the peer's.
    pub(crate) fn is_beyond(&self, wire: u32) -> bool {
        self.theirs(wire) >= self.expected as i64
    }

    /// Bytes that the application may read.
    pub(crate) fn exposed(&self) -> u64 {
        self.expected.saturating_sub(1 + u64::from(self.is_ended))
    }

    /// Bytes that the peer has acknowledged: neither SYN nor FIN.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.saturating_sub(1).min(self.written)
    }

    /// The place of our FIN.
    pub(crate) fn fin(&self) -> u64 {
        1 + self.written
    }

    pub(crate) fn is_fin_acknowledged(&self) -> bool {
        self.is_finished && self.acknowledged > self.fin()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.state == State::Closed && !self.owes_reset
    }

    /// What the peer's SYN says.
    pub(crate) fn synchronise(&mut self, header: &Header) {
        (self.irs, self.expected) = (header.sequence, 1);
        self.mss = self.mss.min(u64::from(header.mss));
        self.window_end = 1 + u64::from(header.window);
        self.owes_acknowledgement = true;
    }

    pub(crate) fn opening(&self, segment: u32) -> Opening {
        Opening {
            listener: self.listener,
            connection: self.handle,
            segment,
            receive_base: self.irs.wrapping_add(1),
            send_base: self.iss.wrapping_add(1),
            mss: self.mss as u16,
        }
    }

    /// How the host knows it.
    pub(crate) fn summary(&self) -> Summary {
        let is_open = !matches!(self.state, State::SynSent | State::SynReceived);
        let base = |initial: u32| if is_open { initial.wrapping_add(1) } else { 0 };
        Summary {
            connection: self.handle,
            local: self.local,
            remote: self.remote,
            receive_base: base(self.irs),
            send_base: base(self.iss),
            exposed: self.exposed(),
            acknowledged: self.acknowledged(),
            sent: self.highest.saturating_sub(1).min(self.written),
            limit: self.limit,
        }
    }

    // ---- what the application does

    pub(crate) fn position(&mut self, position: &Position) {
        self.written = self.written.max(position.written);
        self.consumed = self.consumed.max(position.consumed);
        self.limit = self.limit.max(position.limit);
        // The peer is told of a window that has opened by two segments, not of every byte (RFC 9293 3.8.6.2.2).
        let is_news = self.limit >= self.announced + 2 * self.mss;
        self.owes_acknowledgement |= is_news && self.expected > 0 && !self.is_ended;
    }

    /// Nothing more will be written (RFC 9293 3.10.4).
    pub(crate) fn finish(&mut self) {
        self.is_finished = true;
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            state => state,
        };
    }

    /// Ends at once; the peer is told where it may know of the connection.
    pub(crate) fn reset(&mut self, why: Option<u16>) {
        self.owes_reset = !matches!(self.state, State::SynSent | State::TimeWait | State::Closed);
        self.gone(why.unwrap_or(reason::ABORTED));
    }

    pub(crate) fn gone(&mut self, why: u16) {
        (self.state, self.why, self.timer) = (State::Closed, why, NEVER);
    }

    /// Why the host need not know of it any more, if it need not.
    pub(crate) fn ending(&self) -> Option<u16> {
        let is_over = matches!(self.state, State::TimeWait | State::Closed);
        is_over.then_some(self.why)
    }

    // ---- time

    pub(crate) fn deadline(&self) -> Time {
        if self.is_known && self.is_closed { self.timer.min(self.linger) } else { self.timer }
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, now: Time) {
        if self.is_closed && self.linger <= now && self.ending().is_none() && !self.is_fin_acknowledged() {
            return self.reset(Some(reason::ABORTED));
        }
        if self.timer > now {
            return;
        }
        match self.state {
            State::TimeWait => self.gone(self.why),
            State::FinWait2 => self.gone(reason::LINGER),
            State::Closed => self.timer = NEVER,
            _ => self.time_out(),
        }
    }

    /// Nothing was acknowledged for too long: everything is sent again from there (RFC 6298 5.4 to 5.6).
    fn time_out(&mut self) {
        self.tries += 1;
        if self.tries > TRIES {
            return self.reset(Some(reason::TIMED_OUT));
        }
        let flight = self.next - self.acknowledged;
        if flight > 0 {
            self.threshold = (flight / 2).max(2 * self.mss);
            self.congestion_window = self.mss;
        } else if self.window_end <= self.next {
            // A window of zero: one byte finds out whether it is still closed (RFC 9293 3.8.6.1).
            self.window_end = self.next + 1;
        }
        self.go_back();
        self.rto = (self.rto * 2).min(RTO_MAX);
    }

    pub(crate) fn go_back(&mut self) {
        self.next = self.acknowledged;
        // What is sent twice is not timed (Karn): it is not known which one was answered.
        (self.timed, self.timer) = (0, NEVER);
    }

    // ---- sending

    /// Sends what may be sent now: a reset, a SYN, bytes and the FIN, or a mere acknowledgement.
    pub(crate) fn send(&mut self, now: Time, room: &mut Room, outputs: &mut Outputs) {
        self.waits_for_room = false;
        loop {
            let end = self.sendable();
            let is_due = self.owes_reset || self.owes_acknowledgement || end > self.next;
            if !is_due || self.is_gone() {
                break;
            }
            let Some(most) = room.left(outputs) else {
                self.waits_for_room = true;
                return;
            };
            let length = end.min(self.fin()).saturating_sub(self.next.max(1));
            let length = if self.next == 0 { 0 } else { length.min(SUPER).min(u64::from(most)) };
            if length == 0 && self.next > 0 && end > self.next && self.next < self.fin() {
                self.waits_for_room = true;
                return;
            }
            self.send_one(end, length, room, outputs);
            if self.timed == 0 && self.next > self.acknowledged && self.next == self.highest {
                (self.timed, self.timed_at) = (self.next, now);
            }
        }
        let waits =
            self.next > self.acknowledged || (self.sendable() == self.next && self.wants() > self.next);
        let is_timed = !matches!(self.state, State::TimeWait | State::FinWait2 | State::Closed);
        if is_timed && waits && self.timer == NEVER {
            self.timer = now.saturating_add(self.rto);
        } else if is_timed && !waits {
            self.timer = NEVER;
        }
    }

    /// Up to where there is something to send.
    fn wants(&self) -> u64 {
        match self.state {
            State::SynSent | State::SynReceived => 1,
            State::TimeWait | State::Closed => self.next,
            _ => self.fin() + u64::from(self.is_finished),
        }
    }

    /// Up to where something may be sent: what there is, what the peer takes, and what the path takes.
    fn sendable(&self) -> u64 {
        let path = self.acknowledged + self.congestion_window;
        let end = self.window_end.min(path);
        // SYN and FIN need no window.
        if self.next == 0 || (self.is_finished && self.next == self.fin()) {
            self.wants()
        } else {
            self.wants().min(end).max(self.next)
        }
    }

    fn send_one(&mut self, end: u64, length: u64, room: &mut Room, outputs: &mut Outputs) {
        let is_reset = core::mem::take(&mut self.owes_reset);
        let is_syn = self.next == 0 && !is_reset && self.state != State::Closed;
        let is_fin =
            !is_reset && !is_syn && self.is_finished && self.next + length == self.fin() && end > self.fin();
        let mut flags = if self.expected > 0 { ACK } else { 0 };
        for (flag, is_set) in [(RST, is_reset), (SYN, is_syn), (FIN, is_fin), (PSH, length > 0)] {
            flags |= if is_set { flag } else { 0 };
        }
        let mss = self.mss as u16;
        let payload = Send {
            of: self.handle.0,
            at: self.next.saturating_sub(1),
            length: length as u32,
            mss: if length > self.mss { mss } else { 0 },
            source: Source::Queue,
            ..Send::default()
        };
        let window = self.limit.saturating_sub(self.exposed()).min(u64::from(u16::MAX));
        let segment = Outgoing {
            local: self.local,
            remote: self.remote,
            sequence: self.iss.wrapping_add(self.next as u32),
            acknowledgement: if self.expected > 0 { self.irs.wrapping_add(self.expected as u32) } else { 0 },
            flags,
            window: window as u16,
            mss: if is_syn { self.own_mss as u16 } else { 0 },
            payload: if length > 0 { payload } else { Send::default() },
        };
        segment.send(room, outputs);
        if is_syn && core::mem::take(&mut self.is_chosen) {
            let choosing = Choosing { connection: self.handle, local: self.local };
            outputs.events.push(Event::Choosing(choosing));
        }
        self.next += length + u64::from(is_syn) + u64::from(is_fin);
        self.highest = self.highest.max(self.next);
        self.announced = self.exposed() + window;
        self.owes_acknowledgement = false;
    }

    // ---- round trips

    /// A place was acknowledged for which the time was taken (RFC 6298 2).
    pub(crate) fn measure(&mut self, now: Time) {
        if self.timed == 0 || self.acknowledged < self.timed {
            return;
        }
        let sample = now.saturating_sub(self.timed_at).max(1);
        if self.round_trip == 0 {
            (self.round_trip, self.variation) = (sample, sample / 2);
        } else {
            self.variation = (3 * self.variation + self.round_trip.abs_diff(sample)) / 4;
            self.round_trip = (7 * self.round_trip + sample) / 8;
        }
        self.timed = 0;
        self.rto = (self.round_trip + 4 * self.variation).clamp(RTO_MIN, RTO_MAX);
    }

    /// Both streams have ended in order.
    pub(crate) fn wait_in_time(&mut self, now: Time) {
        (self.state, self.timer) = (State::TimeWait, now.saturating_add(LINGER));
    }

    /// Our stream has ended, the peer's has not.
    pub(crate) fn wait_for_end(&mut self, now: Time) {
        self.state = State::FinWait2;
        self.timer = if self.is_closed { now.saturating_add(LINGER) } else { NEVER };
    }
}
