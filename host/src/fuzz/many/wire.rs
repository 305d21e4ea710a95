//! What goes between two brokers: a greeting, and then frames of a kind, a length and a body. Everything that is read was
//! written by a stranger: lengths are checked before there is memory for them, and a case is text for the one reader of cases.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::input::{self, Scenario};
use super::limits;

/// The first bytes of both sides: what this is, and its version.
const MAGIC: [u8; 16] = *b"bulkhead fuzz 1\n";
/// How long a greeting may take in all, and any write.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits, so that the other direction has its turn.
const TURN: Duration = Duration::from_millis(10);
/// Bytes in front of a frame's body: kind and length.
const HEAD: usize = 5;
/// Bytes that are read at once.
const PART: usize = 64 << 10;

/// What brokers say of themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello {
    /// The hash of the module's file.
    pub(super) module: [u8; 32],
    /// The broker's own number.
    pub(super) machine: u64,
}

/// Why two brokers do not go together.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The connection.
    Broken(io::Error),
    /// It speaks something else.
    Stranger,
    /// It fuzzes another module.
    Other {
        /// The hash of its file.
        theirs: [u8; 32],
        /// The hash of ours.
        ours: [u8; 32],
    },
    /// It is this very broker.
    Itself,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short =
            |hash: &[u8; 32]| blake3::Hash::from_bytes(*hash).to_hex().chars().take(16).collect::<String>();
        match self {
            Self::Broken(error) if has_left(error) => f.write_str("has left"),
            Self::Broken(error) => error.fmt(f),
            Self::Stranger => f.write_str("is no broker of this version of bulkhead"),
            Self::Other { theirs, ours } => write!(
                f,
                "fuzzes another module: the file's BLAKE3 hash is {} there and {} here",
                short(theirs),
                short(ours)
            ),
            Self::Itself => f.write_str("is this very broker"),
        }
    }
}

/// Whether the other side has closed the connection, as it does when its campaign ends.
fn has_left(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Greets the other side, and sees whether the two go together. Both say all that they have before they judge, so that both
/// know why. It is given up, as interrupted, once it need not go on.
pub(super) fn greet(
    stream: &mut TcpStream,
    ours: &Hello,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(), Refusal> {
    let mut theirs = [0; 56];
    let mut exchange = || {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(TURN))?;
        let mut greeting = MAGIC.to_vec();
        greeting.extend(ours.module);
        greeting.extend(ours.machine.to_be_bytes());
        stream.write_all(&greeting)?;
        read_all(stream, &mut theirs, goes_on)
    };
    exchange().map_err(Refusal::Broken)?;
    let (magic, rest) = theirs.split_first_chunk::<16>().ok_or(Refusal::Stranger)?;
    let (module, machine) = rest.split_first_chunk::<32>().ok_or(Refusal::Stranger)?;
    if *magic != MAGIC {
        return Err(Refusal::Stranger);
    }
    if machine == ours.machine.to_be_bytes() {
        return Err(Refusal::Itself);
    }
    if *module != ours.module {
        return Err(Refusal::Other { theirs: *module, ours: ours.module });
    }
    Ok(())
}

/// Fills the buffer within a greeting's time, from a stream whose reads wait a turn.
fn read_all(stream: &mut TcpStream, mut to: &mut [u8], goes_on: &mut dyn FnMut() -> bool) -> io::Result<()> {
    use io::ErrorKind::{Interrupted, TimedOut, UnexpectedEof, WouldBlock};
    let begun = Instant::now();
    while !to.is_empty() {
        if !goes_on() {
            return Err(Interrupted.into());
        }
        match stream.read(to) {
            Ok(0) => return Err(UnexpectedEof.into()),
            Ok(count) => to = to.get_mut(count..).unwrap_or_default(),
            Err(error) if !matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => return Err(error),
            Err(_) if begun.elapsed() >= PATIENCE => return Err(TimedOut.into()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// What a machine has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Status {
    pub(super) machine: u64,
    /// Grows from status to status of a machine.
    pub(super) number: u64,
    pub(super) workers: u64,
    pub(super) runs: u64,
    pub(super) edges: u64,
    pub(super) findings: u64,
}

/// A frame.
#[derive(Debug)]
pub(super) enum Frame {
    /// A case that has shown something new.
    Case(Scenario),
    /// What a machine has come to.
    Status(Status),
    /// The sender has sent all cases that it had.
    CaughtUp,
    /// A frame like one of these with something wrong in it.
    Malformed,
}

/// A frame's bytes; nothing for what cannot be sent.
pub(super) fn bytes(frame: &Frame) -> Vec<u8> {
    let (kind, body) = match frame {
        Frame::Case(case) => (1, case.0.to_string().into_bytes()),
        Frame::Status(status) => {
            let Status { machine, number, workers, runs, edges, findings } = *status;
            let numbers = [machine, number, workers, runs, edges, findings];
            (2, numbers.iter().flat_map(|number| number.to_be_bytes()).collect())
        }
        Frame::CaughtUp => (3, Vec::new()),
        Frame::Malformed => return Vec::new(),
    };
    if body.len() > limits::CASE_BYTES {
        return Vec::new();
    }
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn status(body: &[u8]) -> Option<Status> {
    let ([machine, number, workers, runs, edges, findings], []) = body.as_chunks::<8>() else {
        return None;
    };
    let number_of = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
    Some(Status {
        machine: number_of(machine),
        number: number_of(number),
        workers: number_of(workers),
        runs: number_of(runs),
        edges: number_of(edges),
        findings: number_of(findings),
    })
}

/// Bytes that have come and are not yet frames.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    /// Takes what has come, or waits a turn for it. Says whether there may be more.
    pub(super) fn fill(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        if self.0.len() > limits::CASE_BYTES + HEAD {
            return Ok(true);
        }
        let before = self.0.len();
        self.0.resize(before + PART, 0);
        let result = stream.read(self.0.get_mut(before..).unwrap_or_default());
        self.0.truncate(before + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// Where this can become no frame: what follows means nothing then.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ()> {
        let Some(([kind, length @ ..], rest)) = self.0.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > limits::CASE_BYTES || !(1..=3).contains(kind) {
            return Err(());
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = match kind {
            1 => std::str::from_utf8(body).ok().and_then(|text| input::read(text).ok()).map(Frame::Case),
            2 => status(body).map(Frame::Status),
            _ => body.is_empty().then_some(Frame::CaughtUp),
        };
        self.0.drain(..HEAD + length);
        Ok(Some(frame.unwrap_or(Frame::Malformed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Vec<String> {
        let mut inbox = Inbox(bytes.to_vec());
        let mut seen = Vec::new();
        loop {
            match inbox.next() {
                Ok(Some(Frame::Case(case))) => seen.push(case.0.to_string().trim().to_owned()),
                Ok(Some(other)) => seen.push(format!("{other:?}").chars().take(9).collect()),
                Ok(None) => return seen,
                Err(()) => {
                    seen.push("end".into());
                    return seen;
                }
            }
        }
    }

    #[test]
    fn frames_come_as_they_were_sent() {
        let status = Status { machine: 1, runs: u64::MAX, ..Status::default() };
        let case = input::read("seg 0 S\n").expect("a case");
        let sent = [Frame::Case(case), Frame::Status(status), Frame::CaughtUp];
        let all: Vec<u8> = sent.iter().flat_map(bytes).collect();
        assert_eq!(frames(&all), ["seg 0 S", "Status(St", "CaughtUp"]);
        assert_eq!(frames(all.get(..all.len() - 1).expect("a part")).len(), 2);
    }

    #[test]
    fn what_a_stranger_writes_is_dropped_or_ends_the_connection() {
        let frame = |kind: u8, length: u32, body: &[u8]| {
            let mut bytes = vec![kind];
            bytes.extend(length.to_be_bytes());
            bytes.extend(body);
            bytes
        };
        assert_eq!(frames(&frame(1, 4, b"fly\n")), ["Malformed"]);
        assert_eq!(frames(&frame(1, 2, &[0xff, 0xfe])), ["Malformed"]);
        assert_eq!(frames(&frame(2, 3, &[1, 2, 3])), ["Malformed"]);
        assert_eq!(frames(&frame(3, 1, &[0])), ["Malformed"]);
        assert_eq!(frames(&frame(4, 0, &[])), ["end"]);
        assert_eq!(frames(&frame(1, u32::MAX, &[])), ["end"]);
        assert_eq!(frames(&frame(1, limits::CASE_BYTES as u32, &[])), Vec::<String>::new());
    }
}
