//! What the predecessor and its successor say to each other: messages of JSON, bytes and descriptors over a Unix socket.
#![expect(unsafe_code, reason = "descriptors that arrive become owned")]

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use sendfd::{RecvWithFd as _, SendWithFd as _};
use serde_json::{Value, json};

/// Descriptors that travel with one byte: Linux takes 253.
const BATCH: usize = 250;
/// Batches of one message.
const BATCHES: u32 = 1024;
/// Bytes of the JSON of a message.
const HEAD: u32 = 256 << 20;
/// Bytes of a message.
const BODY: u64 = 16 << 30;

/// One message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) head: Value,
    pub(super) body: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Sends a message without bytes.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn say(&mut self, head: Value) -> io::Result<()> {
        self.send(&Message { head, ..Message::default() }, PATIENCE)
    }

    /// Sends a message; no write of it may wait longer than `patience`.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn send(&mut self, message: &Message, patience: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(patience))?;
        let head = message.head.to_string();
        let descriptors: Vec<RawFd> = message.descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
        let batches = descriptors.chunks(BATCH);
        let count = |length: usize| u32::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge);
        self.stream.write_all(&count(head.len())?.to_le_bytes())?;
        self.stream.write_all(&(message.body.len() as u64).to_le_bytes())?;
        self.stream.write_all(&count(batches.len())?.to_le_bytes())?;
        for batch in batches {
            self.stream.send_with_fd(&[0], batch)?;
        }
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(&message.body)
    }

    /// The next message; no read of it may wait longer than `patience`.
    ///
    /// # Errors
    /// What the other side says is wrong, or that it says nothing, or nothing that makes sense.
    pub(super) fn receive(&mut self, patience: Duration) -> anyhow::Result<Message> {
        let message = self.read(patience).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => anyhow::anyhow!("it has ended"),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                anyhow::anyhow!("it has said nothing for {} s", patience.as_secs())
            }
            _ => anyhow::Error::new(error),
        })?;
        if let Some(error) = message.head["error"].as_str() {
            bail!("it says: {error}");
        }
        Ok(message)
    }

    fn read(&mut self, patience: Duration) -> io::Result<Message> {
        self.stream.set_read_timeout(Some(patience))?;
        let (mut head, mut body, mut batches) = ([0; 4], [0; 8], [0; 4]);
        self.stream.read_exact(&mut head)?;
        self.stream.read_exact(&mut body)?;
        self.stream.read_exact(&mut batches)?;
        let (head, body) = (u32::from_le_bytes(head), u64::from_le_bytes(body));
        let batches = u32::from_le_bytes(batches);
        if head > HEAD || body > BODY || batches > BATCHES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
        }
        let mut descriptors = Vec::new();
        for _ in 0..batches {
            self.receive_batch(&mut descriptors)?;
        }
        let head = self.bytes(head.into())?;
        let head = serde_json::from_slice(&head)?;
        Ok(Message { head, body: self.bytes(body)?, descriptors })
    }

    fn receive_batch(&mut self, to: &mut Vec<OwnedFd>) -> io::Result<()> {
        let mut raw = [-1; BATCH];
        let (length, count) = self.stream.recv_with_fd(&mut [0], &mut raw)?;
        for raw in raw.iter().take(count) {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(*raw) };
            fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
            to.push(fd);
        }
        if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// So many bytes; memory is taken as they come.
    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.stream).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Says what is wrong, to whoever waits for us.
    pub(super) fn fail(&mut self, error: &str) {
        // Nobody may be left to hear it.
        let _ = self.say(json!({ "error": error }));
    }

    /// The message whose head has this key, as the next step of the exchange.
    ///
    /// # Errors
    /// As [`receive`](Self::receive); another message.
    pub(super) fn expect(&mut self, key: &str, patience: Duration) -> anyhow::Result<Message> {
        let message = self.receive(patience)?;
        message.head.get(key).with_context(|| format!("it says something else than {key:?}"))?;
        Ok(message)
    }
}

/// How long a short message may take to be written.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_descriptors_arrive_in_order() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, mut other) = (Channel::new(one), Channel::new(other));
        let (reading, writing) = std::io::pipe().unwrap();
        let descriptors = (0..BATCH + 7).map(|_| reading.try_clone().unwrap().into()).collect();
        let message = Message { head: json!({ "state": 7 }), body: vec![9; 1_000_000], descriptors };
        let sending = std::thread::spawn(move || {
            one.send(&message, PATIENCE).unwrap();
            one.fail("no more");
        });
        let mut found = other.expect("state", PATIENCE).unwrap();
        assert!(found.body == vec![9; 1_000_000] && found.head["state"] == 7);
        assert_eq!(found.descriptors.len(), BATCH + 7);
        drop((reading, writing));
        let mut last = std::fs::File::from(found.descriptors.pop().unwrap());
        assert_eq!(last.read(&mut [0; 1]).unwrap(), 0, "a pipe whose writer is gone");
        assert_eq!(other.receive(PATIENCE).unwrap_err().to_string(), "it says: no more");
        sending.join().unwrap();
        assert_eq!(other.receive(PATIENCE).unwrap_err().to_string(), "it has ended");
    }
}
