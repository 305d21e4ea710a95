//! Sends without end (RFC 864): the bytes at any offset are known, so that a receiver can check them.

use std::io;

use tokio::io::AsyncWriteExt as _;

use super::{Connection, End, Left, Service, Stop, drain};

/// Characters of a line, without its end.
const LINE: usize = 72;
/// Printable characters, with which the lines begin in turn.
const PRINTABLE: u8 = 95;
/// Times that the pattern is repeated in memory, so that one write is worth it.
const REPEATED: usize = 16;

/// The character generator.
#[derive(Debug)]
pub(crate) struct Source {
    pattern: Vec<u8>,
}

impl Source {
    /// The pattern that RFC 864 suggests: 72 printable characters a line, each line shifted by one.
    pub(crate) fn new() -> Self {
        let line = |first: u8| {
            let characters = (0..LINE).map(move |at| b' ' + ((usize::from(first) + at) % 95) as u8);
            characters.chain(*b"\r\n")
        };
        let period: Vec<u8> = (0..PRINTABLE).flat_map(line).collect();
        Self { pattern: period.repeat(REPEATED) }
    }
}

impl Service for Source {
    async fn serve<S: Connection>(&self, stream: S, left: Left, mut stop: Stop) -> io::Result<End<S>> {
        let (mut reading, mut writing) = tokio::io::split(stream);
        // What it leaves is the place in the pattern.
        let mut at = usize::try_from(left.number(0)).unwrap_or(0);
        let mut signs = stop.clone();
        let send = async {
            loop {
                let text = self.pattern.get(at..).filter(|text| !text.is_empty()).unwrap_or(&self.pattern);
                let begin = self.pattern.len() - text.len();
                tokio::select! {
                    biased;
                    () = stop.begun() => return writing.shutdown().await,
                    count = writing.write(text) => match count? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        count => at = begin + count,
                    },
                }
            }
        };
        // What the peer says is dropped; its end alone is no reason to stop (it may have said all it had to say).
        let both = async { tokio::try_join!(send, drain(&mut reading)) };
        let result = tokio::select! {
            biased;
            () = signs.stands() => None,
            result = both => Some(result),
        };
        match result {
            None => {
                let left = Left { numbers: vec![at as u64], ..Left::default() };
                Ok(End::Stands(reading.unsplit(writing), left))
            }
            // How a reader of an endless stream ends it.
            Some(Err(error)) if !is_hung_up(&error) => Err(error),
            Some(_) => Ok(End::Over),
        }
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
