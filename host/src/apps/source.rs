//! Sends without end (RFC 864): the bytes at any offset are known, so that a receiver can check them.

use std::io;

use tokio::io::AsyncWriteExt as _;

use super::{Connection, Service, Stop, drain};

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
    async fn serve<S: Connection>(&self, stream: S, mut stop: Stop) -> io::Result<()> {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let send = async {
            loop {
                tokio::select! {
                    biased;
                    () = stop.begun() => return writing.shutdown().await,
                    result = writing.write_all(&self.pattern) => result?,
                }
            }
        };
        // What the peer says is dropped; its end alone is no reason to stop (it may have said all it had to say).
        let result = tokio::try_join!(send, drain(&mut reading));
        match result {
            Ok(_) => Ok(()),
            // How a reader of an endless stream ends it.
            Err(error) if is_hung_up(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
