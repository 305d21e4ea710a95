//! The applications of a run: what they call, what they read, and how they and their peers behave when they are fair.

use std::collections::HashMap;
use std::fmt;

use bulkhead_wit::{Endpoint, NEVER, Setting, limits as bounds, registry};

use super::case::{ACK, Call, FIN, FLOWS, Segment, TcpOption};
use super::execute::{Ended, Run};
use super::finding::Kind;
use super::flow::OURS_V4;
use crate::error::StreamError;
use crate::stack::SocketId;
use crate::{ConnectOptions, ListenOptions, ListenerId, StreamId};

/// Listeners of one run.
const LISTENERS: usize = 16;
/// Bytes that one write takes at most.
const WRITE: u32 = 1 << 20;
/// Bytes that a fair peer sends again in one round.
const AGAIN: u32 = 1400;
/// Further apart, two sequence numbers are not of one conversation.
const FAR: u32 = 1 << 24;
/// Round trips after which something must have arrived.
const JUDGED: u8 = 30;
/// In so many of the last ones, too: segments of a few bytes take more round trips than there are.
const LATELY: u8 = 10;
/// A fair peer's patience with one deadline, in microseconds.
const PATIENCE_US: u64 = 200_000_000;

/// What applications hold.
#[derive(Debug, Default)]
pub(super) struct Applications {
    listeners: Vec<ListenerId>,
    offers: HashMap<u16, StreamId>,
    socket: Option<SocketId>,
    /// A setting or a mark lets the module wait for more before it sends.
    pub(super) may_hold_back: bool,
}

impl Run<'_> {
    pub(super) fn listen(&mut self, local: Endpoint, defer: bool) {
        if self.applications.listeners.len() < LISTENERS {
            let options = ListenOptions { defer, ..ListenOptions::default() };
            self.applications.listeners.extend(self.stack.listen(local, options));
        }
    }

    pub(super) fn bind(&mut self, local: Endpoint) {
        self.applications.socket = self.stack.bind(local, crate::BindOptions::default()).ok();
    }

    /// Takes the connections that there are.
    pub(super) fn accept(&mut self) {
        for index in 0..self.applications.listeners.len() {
            let Some(listener) = self.applications.listeners.get(index).copied() else { break };
            while let Ok(accepted) = self.stack.accept(listener) {
                let base = self.stack.send_base(accepted.local, accepted.remote);
                if let Some(flow) = self
                    .flows
                    .iter_mut()
                    .find(|flow| (flow.local, flow.remote) == (accepted.local, accepted.remote))
                {
                    flow.accepted(accepted.stream, base);
                }
            }
        }
        while let Some(offer) = self.stack.next_offer() {
            self.applications.offers.insert(offer.remote.port, offer.stream);
        }
    }

    fn stream(&self, flow: u8) -> Option<StreamId> {
        self.flows.get(usize::from(flow % FLOWS))?.stream
    }

    /// A call of an application's; what is impossible now is left out.
    pub(super) fn call(&mut self, call: Call) -> Ended {
        match call {
            Call::Listen { port, defer } => self.listen(Endpoint::new(OURS_V4, port), defer),
            Call::Unlisten => {
                if self.applications.listeners.len() > 2
                    && let Some(listener) = self.applications.listeners.pop()
                {
                    self.stack.unlisten(listener);
                }
            }
            Call::Open(flow) => self.open(flow),
            Call::Write(flow, count) => self.write(flow, count, 1),
            Call::Mark(flow, count, marks) => self.write(flow, count, marks),
            Call::Read(flow, count) => self.read(flow, count)?,
            Call::Default(key, value) => {
                self.loosen(key);
                self.stack.set_default(Setting { key, value });
            }
            Call::Send(flow, length) => self.send(flow, length),
            Call::Decide(flow, verdict) => {
                let port = self.flows.get(usize::from(flow % FLOWS)).map_or(0, |flow| flow.remote.port);
                if let Some(offer) = self.applications.offers.remove(&port) {
                    self.stack.decide(offer, verdict, 1);
                }
            }
            Call::Shutdown(flow)
            | Call::Close(flow, _)
            | Call::Abort(flow)
            | Call::Set(flow, ..)
            | Call::Query(flow) => self.of_stream(flow, call),
        }
        Ok(())
    }

    fn of_stream(&mut self, flow: u8, call: Call) {
        let Some(stream) = self.stream(flow) else { return };
        let stack = &mut self.stack;
        // Where a stream has ended these do nothing.
        match call {
            Call::Shutdown(_) => drop(stack.shutdown(stream)),
            Call::Query(_) => drop(stack.ask_info(Some(stream))),
            Call::Set(_, key, value) => {
                drop(stack.set(stream, Setting { key, value }));
                self.loosen(key);
            }
            Call::Close(_, linger) => {
                stack.close(stream, u64::from(linger) * bounds::MILLISECOND);
                self.leave(flow);
            }
            Call::Abort(_) => {
                stack.abort(stream);
                self.leave(flow);
            }
            _ => {}
        }
    }

    fn leave(&mut self, flow: u8) {
        if let Some(flow) = self.flows.get_mut(usize::from(flow % FLOWS)) {
            flow.stream = None;
        }
    }

    /// Settings that let a module wait by right.
    fn loosen(&mut self, key: u16) {
        use registry::setting;
        let waits = [setting::CORK, setting::MAX_PACING_RATE, setting::RTO_MIN, setting::CONGESTION];
        self.applications.may_hold_back |= waits.contains(&key);
    }

    fn open(&mut self, number: u8) {
        let Some(flow) = self.flows.get_mut(usize::from(number % FLOWS)) else { return };
        if flow.stream.is_none()
            && let Ok(stream) = self.stack.connect(flow.remote, ConnectOptions::default())
        {
            flow.attach(stream);
        }
    }

    fn write(&mut self, flow: u8, count: u32, marks: u8) {
        let marks = self.mark(marks);
        let Some(stream) = self.stream(flow) else { return };
        let Some(flow) = self.flows.get_mut(usize::from(flow % FLOWS)) else { return };
        let bytes = self.memory.written.bytes(flow.remote.port, flow.written, count.min(WRITE) as usize);
        flow.written += self.stack.write_marked(stream, bytes, marks).unwrap_or(0) as u64;
    }

    fn read(&mut self, number: u8, count: u32) -> Ended {
        let Some(stream) = self.stream(number) else { return Ok(()) };
        let Some(flow) = self.flows.get_mut(usize::from(number % FLOWS)) else { return Ok(()) };
        let mut left = count.clamp(1, WRITE) as usize;
        while left > 0 {
            let bytes = self.stack.peek(stream).unwrap_or_default();
            let bytes = bytes.get(..left.min(bytes.len())).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if !flow.reads(bytes) {
                return Err(Kind::Stream { at: flow.read });
            }
            let got = bytes.len();
            left -= got;
            self.stack.consume(stream, got);
        }
        Ok(())
    }

    /// At the end, whatever has arrived is read.
    pub(super) fn read_all(&mut self) -> Ended {
        (0..FLOWS).try_for_each(|flow| self.read(flow, WRITE))
    }

    fn send(&mut self, number: u8, length: u16) {
        let (Some(socket), Some(flow)) =
            (self.applications.socket, self.flows.get(usize::from(number % FLOWS)))
        else {
            return;
        };
        let (bytes, to) = (vec![b'u'; usize::from(length)], flow.remote);
        let _ = self.stack.send_to(socket, &bytes, Endpoint::default(), to);
        let mut into = [0; 2048];
        let _ = self.stack.receive_from(socket, &mut into, false);
    }

    /// Peers that are fair for so many round trips: see [`Event::Fair`](super::case::Event::Fair).
    pub(super) fn fair(&mut self, rounds: u8) -> Ended {
        let mut lately = [0; FLOWS as usize];
        for round in 0..rounds {
            if round == rounds.saturating_sub(LATELY) {
                lately = std::array::from_fn(|number| self.unacknowledged(number as u8));
            }
            if !self.fair_round()? {
                return Ok(());
            }
            let due = self.stack.next_deadline();
            if due != NEVER {
                let us = due.saturating_sub(self.now) / bounds::MICROSECOND + 1;
                self.wait(us.min(PATIENCE_US))?;
            }
        }
        if rounds < JUDGED {
            return Ok(());
        }
        (0..FLOWS).zip(lately).try_for_each(|(number, lately)| self.goes_on(number, lately))
    }

    /// One round trip; says whether anything is left to be done.
    fn fair_round(&mut self) -> Result<bool, Kind> {
        let mut is_busy = false;
        for number in 0..FLOWS {
            self.read(number, WRITE)?;
            let Some(flow) = self.flows.get(usize::from(number)) else { continue };
            let (Some(stream), Some(_)) = (flow.stream, flow.first()) else { continue };
            if self.stack.end_of(stream).is_some() {
                continue;
            }
            let expected = flow.acknowledged.unwrap_or(flow.next);
            let missing = match flow.next.wrapping_sub(expected) {
                // What it began with was said out of order: from here on it follows the module.
                far if far > FAR => {
                    self.follow(number, expected);
                    0
                }
                near => near,
            };
            let Some(flow) = self.flows.get(usize::from(number)) else { continue };
            is_busy |= missing > 0
                || flow.is_outstanding()
                || self.stack.unacknowledged(stream).is_some_and(|count| count > 0);
            let segment = again(number, flow.fin, flow.next, missing, flow.stamps);
            self.segment(&segment);
        }
        self.pump()?;
        Ok(is_busy)
    }

    fn follow(&mut self, number: u8, expected: u32) {
        if let Some(flow) = self.flows.get_mut(usize::from(number)) {
            flow.next = expected;
        }
    }

    fn unacknowledged(&mut self, number: u8) -> u64 {
        self.stream(number).and_then(|stream| self.stack.unacknowledged(stream)).unwrap_or(0)
    }

    /// Whether everything has arrived, or at least less is left than there was lately.
    fn goes_on(&mut self, number: u8, lately: u64) -> Ended {
        let Some(flow) = self.flows.get(usize::from(number)) else { return Ok(()) };
        let Some(stream) = flow.stream else { return Ok(()) };
        if flow.is_odd || flow.is_anew || self.stack.end_of(stream).is_some() || !self.stack.may_write(stream)
        {
            return Ok(());
        }
        match self.stack.unacknowledged(stream) {
            Some(left) if left > 0 && left >= lately && !self.applications.may_hold_back => {
                Err(Kind::Stalled { detail: format!("{left} bytes of flow {number} did not arrive") })
            }
            _ => Ok(()),
        }
    }

    /// What an application can tell of its connections.
    pub(super) fn summary(&mut self) -> Vec<Shown> {
        let mut all = Vec::new();
        for (number, flow) in self.flows.iter().enumerate() {
            let Some(stream) = flow.stream else { continue };
            let is_at_end = self.stack.readable(stream).is_some_and(|(_, is_at_end)| is_at_end);
            let end = self.stack.end_of(stream);
            all.push(Shown { flow: number as u8, read: flow.read, is_at_end, end });
        }
        all
    }
}

/// What an application has seen of a connection in the end.
#[derive(Clone, Debug)]
pub struct Shown {
    flow: u8,
    read: u64,
    is_at_end: bool,
    end: Option<StreamError>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {}: read {}, end of file {}, ", self.flow, self.read, self.is_at_end)?;
        match &self.end {
            Some(end) => end.fmt(f),
            None => f.write_str("open"),
        }
    }
}

/// What a fair peer sends: the next of what is missing, or an acknowledgement, with an open window.
fn again(flow: u8, fin: Option<u32>, next: u32, missing: u32, stamps: bool) -> Segment {
    let from = next.wrapping_sub(missing);
    let mut segment = Segment::new(flow, ACK);
    segment.seq = missing.cast_signed().wrapping_neg();
    let ends = fin.map(|fin| fin.wrapping_sub(from)).filter(|at| *at < missing.max(1));
    let bytes = ends.unwrap_or(missing);
    segment.length = bytes.min(AGAIN) as u16;
    if ends.is_some() && bytes <= AGAIN {
        segment.flags |= FIN;
    }
    if stamps {
        segment.options = vec![TcpOption::Timestamps(0, 0)];
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_peer_sends_what_is_missing_and_no_more() {
        let idle = again(0, None, 5000, 0, false);
        assert_eq!((idle.seq, idle.length, idle.flags), (0, 0, ACK));
        let data = again(0, None, 5000, 3000, false);
        assert_eq!((data.seq, data.length, data.flags), (-3000, 1400, ACK));
        // The FIN takes the last number before `next`.
        let end = again(0, Some(4999), 5000, 101, true);
        assert_eq!((end.seq, end.length, end.flags), (-101, 100, ACK | FIN));
    }
}
