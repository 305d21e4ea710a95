//! The applications at both ends of a connection: they write a stream of known bytes in pieces, read the other one in
//! pieces, take pauses, and end in kind or not.

use super::draw::Random;
use super::plan::Keys;
use super::watch::Watched;
use crate::world::byte;
use bulkhead::{Stack, StreamError, StreamId};
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::{Endpoint, NEVER, Time};

/// How one of the ends ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// It writes everything, says so, and reads everything.
    InKind,
    /// It resets the connection once it has moved so many bytes, or at this time.
    Aborts(u64, Time),
    /// It closes once it has moved so many bytes, or at this time, whatever is unread.
    Leaves(u64, Time),
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stream: Option<StreamId>,
    writes: (u64, u64),
    reads: (u64, u64),
    written: u64,
    read: u64,
    chunk: (u64, u64),
    pause: (Time, Time),
    next: (Time, Time),
    manner: Manner,
    shut: bool,
    ended: bool,
    pub(super) over: bool,
    /// How it ended, if not in kind.
    pub(super) error: Option<String>,
    /// A write that was refused: the writer waits to be told.
    is_blocked: bool,
}

/// A connection to be, its client first.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) number: usize,
    /// The host that opens it.
    pub(super) from: usize,
    pub(super) start: Time,
    pub(super) began: bool,
    pub(super) settings: bool,
    /// The client's end, once it is known: what the server sees as the remote one.
    pub(super) client: Option<Endpoint>,
    pub(super) ends: [End; 2],
    is_rough: bool,
}

/// Bytes of one read or write at most.
const BUFFER: usize = 64 * 1024;

impl Flow {
    /// A connection as the plan says and the seed has it.
    pub(super) fn new(number: usize, keys: &Keys, random: &mut Random) -> Self {
        let there = random.key(keys, "there", 100_000);
        let back = random.key(keys, "back", 100_000);
        let (seed_there, seed_back) = (random.bits(), random.bits());
        let start = random.key(keys, "start", 0);
        let kind = random.key(keys, "end", 0);
        let rough = random.between(0, 1) as usize;
        let mut end = |which: usize, writes: (u64, u64), reads: (u64, u64)| {
            let after = random.between(0, writes.1 + reads.1 + 1);
            let until = start + random.between(0, 20 * SECOND);
            let manner = match kind {
                1 if which == rough => Manner::Aborts(after, until),
                2 if which == rough => Manner::Leaves(after, until),
                _ => Manner::InKind,
            };
            End {
                stream: None,
                writes,
                reads,
                written: 0,
                read: 0,
                chunk: (random.key(keys, "write", 16_384), random.key(keys, "read", 65_536)),
                pause: (random.key(keys, "think", 0), random.key(keys, "pause", 0)),
                next: (0, 0),
                manner,
                shut: false,
                ended: false,
                over: false,
                error: None,
                is_blocked: false,
            }
        };
        let ends =
            [end(0, (seed_there, there), (seed_back, back)), end(1, (seed_back, back), (seed_there, there))];
        let from = random.key(keys, "from", 0) as usize & 1;
        let settings = random.key(keys, "settings", 0) == 1;
        Self { number, from, start, began: false, settings, client: None, ends, is_rough: kind != 0 }
    }

    /// Whether nothing more is to be expected: a client that ended before a server took notice has none.
    pub(super) fn is_over(&self) -> bool {
        self.began && self.ends[0].over && (self.ends[1].over || self.ends[1].stream.is_none())
    }

    /// Whether an end may come with an error.
    pub(super) const fn is_rough(&self) -> bool {
        self.is_rough
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let end = |end: &End| {
            format!(
                "{:?} wrote {}/{} read {}/{}{}{}{}",
                end.manner,
                end.written,
                end.writes.1,
                end.read,
                end.reads.1,
                if end.stream.is_none() { ", no stream" } else { "" },
                if end.over { ", over" } else { "" },
                end.error.as_ref().map_or(String::new(), |error| format!(", {error}"))
            )
        };
        format!("flow {}: client {}; server {}", self.number, end(&self.ends[0]), end(&self.ends[1]))
    }
}

impl End {
    /// Writes and reads what the application wants to now. A broken rule is an error.
    pub(super) fn pump(&mut self, now: Time, stack: &mut Stack, device: &Watched) -> Result<(), String> {
        let Some(stream) = self.stream.filter(|_| !self.over) else { return Ok(()) };
        check_hole(stream, self.read, stack, device)?;
        match stack.is_open(stream) {
            Ok(true) => {}
            Ok(false) => {
                self.leave(now, stream, stack);
                return Ok(());
            }
            Err(error) => return self.fail(stream, &error, stack),
        }
        if let Err(error) = self.write(now, stream, stack) {
            // What arrived before can still be read.
            self.read(now, stream, stack)?;
            return self.fail(stream, &error, stack);
        }
        self.read(now, stream, stack)?;
        if self.over {
            return Ok(());
        }
        if self.shut && self.ended {
            self.over = true;
            stack.close(stream, NEVER);
        }
        self.leave(now, stream, stack);
        Ok(())
    }

    /// When it wants to go on though nothing happens; [`NEVER`] if it waits for the stack.
    pub(super) fn next_event(&self, now: Time) -> Time {
        if self.over || self.stream.is_none() {
            return NEVER;
        }
        let write = if self.is_blocked || self.shut { NEVER } else { self.next.0 };
        let read = if self.ended { NEVER } else { self.next.1 };
        let leave = match self.manner {
            Manner::InKind => NEVER,
            Manner::Aborts(_, at) | Manner::Leaves(_, at) => at,
        };
        [write, read, leave].into_iter().filter(|at| *at > now).min().unwrap_or(NEVER)
    }

    fn fail(&mut self, stream: StreamId, error: &StreamError, stack: &mut Stack) -> Result<(), String> {
        self.over = true;
        self.error = Some(error.to_string());
        stack.close(stream, NEVER);
        match error {
            StreamError::Fault(fault) => Err(fault.report()),
            _ => Ok(()),
        }
    }

    fn leave(&mut self, now: Time, stream: StreamId, stack: &mut Stack) {
        let moved = self.written + self.read;
        match self.manner {
            Manner::Aborts(after, at) if moved >= after || now >= at => stack.abort(stream),
            Manner::Leaves(after, at) if moved >= after || now >= at => stack.close(stream, NEVER),
            _ => return,
        }
        self.over = true;
    }

    fn write(&mut self, now: Time, stream: StreamId, stack: &mut Stack) -> Result<(), StreamError> {
        let mut bytes = [0_u8; BUFFER];
        self.is_blocked = false;
        while self.written < self.writes.1 {
            if self.next.0 > now {
                return Ok(());
            }
            let count = self.chunk.0.clamp(1, BUFFER as u64).min(self.writes.1 - self.written) as usize;
            for (at, slot) in (self.written..).zip(&mut bytes[..count]) {
                *slot = byte(self.writes.0, at);
            }
            match stack.write(stream, &bytes[..count]) {
                Ok(count) => self.written += count as u64,
                Err(StreamError::WouldBlock) => {
                    self.is_blocked = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if self.pause.0 > 0 {
                self.next.0 = now + self.pause.0;
            }
        }
        if !self.shut {
            self.shut = true;
            stack.shutdown(stream)?;
        }
        Ok(())
    }

    fn read(&mut self, now: Time, stream: StreamId, stack: &mut Stack) -> Result<(), String> {
        let mut bytes = [0_u8; BUFFER];
        while !self.ended && self.next.1 <= now {
            let most = self.chunk.1.clamp(1, BUFFER as u64) as usize;
            let count = match stack.read(stream, &mut bytes[..most]) {
                Ok(count) => count,
                Err(StreamError::WouldBlock) => return Ok(()),
                Err(error) => return self.fail(stream, &error, stack),
            };
            for (at, got) in (self.read..).zip(&bytes[..count]) {
                if *got != byte(self.reads.0, at) {
                    return Err(format!("byte {at} of {} is wrong", self.reads.1));
                }
            }
            self.read += count as u64;
            self.ended = count == 0;
            if self.read > self.reads.1 {
                return Err(format!("{} bytes were read of {}", self.read, self.reads.1));
            }
            if self.pause.1 > 0 {
                self.next.1 = now + self.pause.1;
            }
        }
        Ok(())
    }

    /// At the end: everything was read that the other one wrote before it said that it was done.
    pub(super) fn check(&self, other: &Self) -> Result<(), String> {
        if self.ended && self.read != other.written {
            return Err(format!(
                "the stream ended after {} bytes, {} were written",
                self.read, other.written
            ));
        }
        if self.read > other.written {
            return Err(format!("{} bytes were read and {} written", self.read, other.written));
        }
        Ok(())
    }
}

/// What is readable must have come in, without a hole.
fn check_hole(stream: StreamId, read: u64, stack: &mut Stack, device: &Watched) -> Result<(), String> {
    let (Some(ends), Some((readable, _))) = (stack.ends(stream), stack.readable(stream)) else {
        return Ok(());
    };
    let whole = device.whole(ends).unwrap_or(0);
    if read + readable > whole {
        return Err(format!(
            "{} bytes are readable or read, {whole} came in without a hole: {ends:?}",
            read + readable
        ));
    }
    Ok(())
}
