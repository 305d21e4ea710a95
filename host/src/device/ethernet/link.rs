//! Frames over a Unix socket, as QEMU's `-netdev stream` and `-netdev dgram` carry them.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;

use rustix::event::epoll;

use super::FRAME;

/// Bytes in front of each frame of a stream: its length, big endian.
const LENGTH: usize = 4;
/// Bytes that are read from a stream at once.
const BUFFER: usize = 4 * (LENGTH + FRAME);
/// Bytes that wait for a stream to take them; what comes beyond is lost, as by a card without buffers.
const WAITING: usize = 4 << 20;
/// The longest frame that QEMU sends (`NET_BUFSIZE`): a longer one means that it is not frames that come.
const FRAME_MAX: usize = 4096 + 65_536;

/// Where whole frames come from and go to. Never blocks.
pub trait Link: Send {
    /// The next frame that has arrived; it stays until it is [consumed](Self::consume). None comes any more once the other
    /// end is gone.
    ///
    /// # Errors
    /// What the system says, and [`ErrorKind::InvalidData`] if it is not frames that come.
    fn peek(&mut self) -> io::Result<Option<&[u8]>>;

    /// The frame that was seen last is done with.
    fn consume(&mut self);

    /// Sends the frame made of `parts`. `Ok(false)` if it is not taken.
    ///
    /// # Errors
    /// The other end is gone.
    fn transmit(&mut self, parts: &[IoSlice<'_>]) -> io::Result<bool>;

    /// Sends what waits, as far as it is taken.
    ///
    /// # Errors
    /// The other end is gone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What to wait on.
    fn as_fd(&self) -> BorrowedFd<'_>;
}

/// A stream of frames, each after its length: `-netdev stream`.
pub struct Stream {
    socket: UnixStream,
    /// Waits for the socket: for what arrives, and while something waits to be sent, for that too.
    poll: OwnedFd,
    /// What was read and is not consumed.
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    waiting: Vec<u8>,
    sent: usize,
}

impl Stream {
    /// Our end of a connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self { socket, poll, buffer: vec![0; BUFFER], from: 0, to: 0, waiting: Vec::new(), sent: 0 })
    }

    /// Where the frame at the front lies in the buffer, if all of it is there.
    fn frame(&self) -> io::Result<Option<(usize, usize)>> {
        let there = self.buffer.get(self.from..self.to).unwrap_or_default();
        let Some(length) = there.first_chunk::<LENGTH>().map(|length| u32::from_be_bytes(*length) as usize)
        else {
            return Ok(None);
        };
        if length == 0 || length > FRAME_MAX {
            // Whoever waits for the other end's end is told as well.
            let _ = self.socket.shutdown(Shutdown::Both);
            let text = format!("a frame of {length} bytes: this is no link");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        let from = self.from + LENGTH;
        Ok((there.len() >= LENGTH + length).then_some((from, from + length)))
    }

    fn wait_for(&self, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.poll, &self.socket, epoll::EventData::new_u64(0), flags)?)
    }
}

impl Link for Stream {
    fn peek(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            if let Some((from, to)) = self.frame()? {
                return Ok(self.buffer.get(from..to));
            }
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            match self.socket.read(self.buffer.get_mut(self.to..).unwrap_or_default()) {
                // The other end is gone. Whoever has made the link waits for that; here nothing comes any more.
                Ok(0) => return Ok(None),
                Ok(count) => self.to += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn consume(&mut self) {
        if let Ok(Some((_, to))) = self.frame() {
            self.from = to;
        }
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>]) -> io::Result<bool> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let prefix = (length as u32).to_be_bytes();
        let mut pieces = vec![IoSlice::new(&prefix)];
        pieces.extend_from_slice(parts);
        let mut taken = 0;
        if self.waiting.is_empty() {
            taken = match self.socket.write_vectored(&pieces) {
                Ok(taken) => taken,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
                Err(error) => return Err(error),
            };
            if taken == LENGTH + length {
                return Ok(true);
            }
            self.wait_for(epoll::EventFlags::IN | epoll::EventFlags::OUT)?;
        } else if self.waiting.len() + length > WAITING {
            return Ok(false);
        }
        for piece in &pieces {
            let skipped = taken.min(piece.len());
            taken -= skipped;
            self.waiting.extend_from_slice(piece.get(skipped..).unwrap_or_default());
        }
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(rest) = self.waiting.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waiting.drain(..self.sent);
                    self.sent = 0;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if self.sent > 0 {
            self.waiting.clear();
            self.sent = 0;
            self.wait_for(epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

/// A frame a datagram: `-netdev dgram`.
pub struct Datagrams {
    socket: UnixDatagram,
    peer: SocketAddr,
    buffer: Vec<u8>,
    held: Option<usize>,
}

impl Datagrams {
    /// Our socket, and the path of the other one, which may come and go.
    ///
    /// # Errors
    /// What the system says, and [`ErrorKind::InvalidInput`] if it is no path of a socket.
    pub fn new(socket: UnixDatagram, peer: &Path) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let peer = SocketAddr::from_pathname(peer)?;
        Ok(Self { socket, peer, buffer: vec![0; FRAME_MAX], held: None })
    }
}

impl Link for Datagrams {
    fn peek(&mut self) -> io::Result<Option<&[u8]>> {
        while self.held.is_none() {
            match self.socket.recv(&mut self.buffer) {
                Ok(0) => {}
                Ok(length) => self.held = Some(length),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(self.held.and_then(|length| self.buffer.get(..length)))
    }

    fn consume(&mut self) {
        self.held = None;
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>]) -> io::Result<bool> {
        let frame: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        // Whatever it is (nobody is there yet, or any more; its queue is full), the frame is lost and the link stays.
        Ok(self.socket.send_to_addr(&frame, &self.peer).is_ok())
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
