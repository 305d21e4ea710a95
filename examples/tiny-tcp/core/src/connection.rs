//! A connection as numbers: two streams, and a timer.
//!
//! A place in a stream is counted from its SYN, which has place 0; the first byte has place 1, and the FIN comes after the last
//! byte. Places have 64 bits and never wrap; the wire has the lower 32 of them, on top of an initial sequence number.

use crate::wire::{ACK, FIN, Header, PSH, RST, SYN, Step};
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Endpoint, Event, Handle, NEVER, Opening, Position, Send, Source, Summary, Time};

/// The states of RFC 9293 3.3.2; LISTEN is a listener's, and CLOSED is no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
    /// How the host knows it; [`Handle::INSTANCE`] before it was accepted, and after the host was told that it is over.
    pub(crate) handle: Handle,
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
    /// Bytes that the application has written, and whether these are all.
    pub(crate) written: u64,
    pub(crate) is_finished: bool,
    /// The peer takes bytes up to here, in segments of `mss`.
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
    /// When a connection that nobody reads any more is given up; never, while somebody does.
    pub(crate) linger: Time,
    pub(crate) told: (u64, u64),
}

bulkhead_wit::kept! {
    enum State {
        SynSent SynReceived Established FinWait1 FinWait2 CloseWait Closing LastAck TimeWait Closed
    }
    struct Connection {
        handle listener local remote state why
        iss acknowledged next highest written is_finished window_end mss own_mss acknowledged_by
        congestion_window threshold duplicates rto round_trip variation timed timed_at tries timer
        irs expected limit consumed announced is_ended owes_acknowledgement linger told
    }
}

impl Connection {
    pub(crate) fn new(state: State, (local, remote): (Endpoint, Endpoint), iss: u32, mtu: u32) -> Self {
        let mss = u64::from(mtu) - if local.address.is_v4() { 40 } else { 60 };
        let (congestion_window, threshold) = (10 * mss, u64::MAX);
        let (rto, timer, linger) = (RTO_FIRST, NEVER, NEVER);
        let ends = Self { local, remote, state, iss, window_end: 1, mss, own_mss: mss, ..Self::default() };
        Self { congestion_window, threshold, rto, timer, linger, ..ends }
    }

    // ---- numbers

    /// The place in our stream that an acknowledgement names: the one nearest to what is acknowledged.
    pub(crate) fn ours(&self, wire: u32) -> i64 {
        nearest(self.acknowledged, wire.wrapping_sub(self.iss))
    }

    /// The place in the peer's stream that a sequence number names: the one nearest to what is expected.
    pub(crate) fn theirs(&self, wire: u32) -> i64 {
        nearest(self.expected, wire.wrapping_sub(self.irs))
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
    fn fin(&self) -> u64 {
        1 + self.written
    }

    pub(crate) fn is_fin_acknowledged(&self) -> bool {
        self.is_finished && self.acknowledged > self.fin()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.linger != NEVER
    }

    /// Whether the host need not know of it any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::TimeWait | State::Closed)
    }

    // ---- towards the host

    pub(crate) fn is_known(&self) -> bool {
        self.handle != Handle::INSTANCE
    }

    /// A stranger's, whose handshake is not complete.
    pub(crate) fn is_embryo(&self) -> bool {
        self.state == State::SynReceived && !self.is_known()
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

    pub(crate) fn position(&mut self, position: &Position) {
        self.written = self.written.max(position.written);
        self.consumed = self.consumed.max(position.consumed);
        self.limit = self.limit.max(position.limit);
        // The peer is told of a window that has opened by two segments, not of every byte (RFC 9293 3.8.6.2.2).
        let is_news = self.limit >= self.announced + 2 * self.mss;
        self.owes_acknowledgement |= is_news && self.expected > 0 && !self.is_ended;
    }

    // ---- beginning and end

    /// What the peer's SYN says.
    pub(crate) fn synchronise(&mut self, header: &Header) {
        (self.irs, self.expected) = (header.sequence, 1);
        self.mss = self.mss.min(u64::from(header.mss));
        self.window_end = 1 + u64::from(header.window);
        self.owes_acknowledgement = true;
    }

    /// The handshake is complete.
    pub(crate) fn establish(&mut self, segment: u32, step: &mut Step<'_>) {
        self.state = State::Established;
        if self.is_known() {
            step.outputs.events.push(Event::Opened(self.opening(segment)));
        }
        if self.is_finished {
            self.finish();
        }
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

    /// Ends at once, and tells the peer if it may know of the connection.
    pub(crate) fn reset(&mut self, why: u16, step: &mut Step<'_>) {
        if !self.is_over() && self.state != State::SynSent {
            step.send(&self.header(RST), Send::default());
        }
        self.gone(why);
    }

    pub(crate) fn gone(&mut self, why: u16) {
        (self.state, self.why, self.timer) = (State::Closed, why, NEVER);
    }

    /// Our stream has ended; what is left is to wait, for the peer's end or in TIME-WAIT.
    pub(crate) fn wait(&mut self, state: State, now: Time) {
        let is_long = state == State::FinWait2 && !self.is_closed();
        (self.state, self.timer) = (state, if is_long { NEVER } else { now.saturating_add(LINGER) });
    }

    // ---- time

    pub(crate) fn deadline(&self) -> Time {
        self.timer.min(self.patience())
    }

    /// Until when our stream may take to end, where nobody reads any more.
    fn patience(&self) -> Time {
        if self.is_over() || self.is_fin_acknowledged() { NEVER } else { self.linger }
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, step: &mut Step<'_>) {
        // What arrived and nobody will read is lost, and the peer has to know (RFC 2525 2.17).
        let is_lost = self.is_closed() && !self.is_over() && self.exposed() > self.consumed;
        if is_lost || self.patience() <= step.now {
            return self.reset(reason::ABORTED, step);
        }
        match self.state {
            _ if self.timer > step.now => {}
            State::TimeWait => self.gone(self.why),
            State::FinWait2 => self.gone(reason::LINGER),
            _ if self.tries == TRIES => self.reset(reason::TIMED_OUT, step),
            _ => self.time_out(),
        }
    }

    /// Nothing was acknowledged for too long: everything is sent again from there (RFC 6298 5.4 to 5.6).
    fn time_out(&mut self) {
        self.tries += 1;
        if self.next > self.acknowledged {
            self.slow_down(self.mss);
        } else if self.window_end <= self.next {
            // A window of zero: one byte finds out whether it is still closed (RFC 9293 3.8.6.1).
            self.window_end = self.next + 1;
        }
        self.go_back();
        self.rto = (self.rto * 2).min(RTO_MAX);
    }

    /// What was in flight was too much (RFC 5681 3.1): half of it is the threshold, and we go on with `window` or that.
    pub(crate) fn slow_down(&mut self, window: u64) {
        self.threshold = ((self.next - self.acknowledged) / 2).max(2 * self.mss);
        self.congestion_window = window.min(self.threshold);
    }

    pub(crate) fn go_back(&mut self) {
        self.next = self.acknowledged;
        // What is sent twice is not timed (Karn): it is not known which one was answered.
        (self.timed, self.timer) = (0, NEVER);
    }

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

    // ---- sending

    /// Sends what may be sent now: a SYN, bytes and the FIN, or a mere acknowledgement. Says whether it waits for room.
    pub(crate) fn send(&mut self, step: &mut Step<'_>) -> bool {
        while self.state != State::Closed && (self.owes_acknowledgement || self.sendable() > self.next) {
            let Some(most) = step.left() else { return true };
            let end = self.sendable();
            let length = if self.next == 0 { 0 } else { end.min(self.fin()).saturating_sub(self.next) };
            let cut = length.min(SUPER).min(u64::from(most));
            if cut == 0 && length > 0 {
                return true;
            }
            self.send_one(cut, end > self.next + cut && cut == length, step);
        }
        match self.state {
            // Here the timer says how long we wait for the peer.
            State::FinWait2 | State::TimeWait | State::Closed => {}
            _ if self.next == self.acknowledged && self.wants() == self.next => self.timer = NEVER,
            _ if self.timer == NEVER => self.timer = step.now.saturating_add(self.rto),
            _ => {}
        }
        false
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
        // SYN and FIN need no window.
        if self.next == 0 || self.next == self.fin() {
            return self.wants();
        }
        let end = self.window_end.min(self.acknowledged + self.congestion_window);
        self.wants().min(end).max(self.next)
    }

    /// A segment of so many bytes, and with the SYN or FIN that comes then if `is_more`.
    fn send_one(&mut self, length: u64, is_more: bool, step: &mut Step<'_>) {
        let flag = if self.next == 0 { SYN } else { FIN };
        let flags = if is_more { flag } else { 0 } | if length > 0 { PSH } else { 0 };
        let header = self.header(flags);
        let payload = Send {
            of: self.handle.0,
            at: self.next.saturating_sub(1),
            length: length as u32,
            mss: if length > self.mss { self.mss as u16 } else { 0 },
            source: Source::Queue,
            ..Send::default()
        };
        step.send(&header, if length > 0 { payload } else { Send::default() });
        self.next += length + u64::from(is_more);
        if self.timed == 0 && self.next > self.highest {
            (self.timed, self.timed_at) = (self.next, step.now);
        }
        self.highest = self.highest.max(self.next);
        self.announced = self.exposed() + u64::from(header.window);
        self.owes_acknowledgement = false;
    }

    fn header(&self, flags: u8) -> Header {
        let is_syn = flags & SYN != 0;
        let is_answer = self.expected > 0;
        Header {
            local: self.local,
            remote: self.remote,
            sequence: self.iss.wrapping_add(self.next as u32),
            acknowledgement: if is_answer { self.irs.wrapping_add(self.expected as u32) } else { 0 },
            flags: flags | if is_answer { ACK } else { 0 },
            window: self.limit.saturating_sub(self.exposed()).min(u64::from(u16::MAX)) as u16,
            mss: if is_syn { self.own_mss as u16 } else { 0 },
            ..Header::default()
        }
    }
}

/// The place nearest to another one whose lower 32 bits are these.
fn nearest(place: u64, bits: u32) -> i64 {
    place as i64 + i64::from(bits.wrapping_sub(place as u32).cast_signed())
}
