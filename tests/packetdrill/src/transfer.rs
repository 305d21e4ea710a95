//! Bytes in and out of streams.

use crate::errno::{Errno, Outcome};
use crate::socket::{Kind, Socket};
use crate::world::World;
use bulkhead::StreamError;
use bulkhead_wit::MarkAt;
use bulkhead_wit::registry::info;
use libc::c_int;

/// Bytes that one call moves, at most: a script asks for some megabytes, and a size that came out wrong for exabytes.
pub(crate) const CALL: usize = 64 << 20;

/// The longest super-segment, in bytes of payload.
const SUPER_SEGMENT: u64 = 65_000;

impl World {
    /// Reads up to `length` bytes. With `MSG_WAITALL` and a low-water mark, `EAGAIN` until there is enough.
    pub(crate) fn read(&mut self, fd: c_int, length: usize, flags: c_int) -> Outcome<Vec<u8>> {
        let socket = self.socket_mut(fd)?;
        if flags & libc::MSG_ERRQUEUE != 0 {
            return Err(Errno::AGAIN);
        }
        if flags & libc::MSG_OOB != 0 {
            return Err(Errno::INVALID);
        }
        let stream = socket.stream()?;
        let (shut, lowat) = (socket.is_shut_for_reading, socket.chosen.receive_lowat);
        let length = length.min(CALL);
        let enough = if flags & libc::MSG_WAITALL != 0 { length } else { (lowat as usize).min(length) };
        let stack = self.stack()?;
        let (readable, at_end) = stack.readable(stream).unwrap_or_default();
        if readable == 0 && shut {
            return Ok(Vec::new());
        }
        let is_over = at_end || stack.end_of(stream).is_some();
        if (readable as usize) < enough && !is_over {
            return Err(Errno::AGAIN);
        }
        let mut bytes = vec![0; length.min(readable as usize).max(usize::from(length > 0))];
        let result = if flags & libc::MSG_PEEK != 0 {
            stack.peek_into(stream, &mut bytes)
        } else {
            stack.read(stream, &mut bytes)
        };
        match result {
            Ok(count) => {
                bytes.truncate(count);
                self.finish_read(fd, stream, bytes, (length, flags))
            }
            Err(StreamError::WouldBlock) => Err(Errno::AGAIN),
            Err(_) => self.read_of_the_dead(fd),
        }
    }

    /// A stream is stored in pieces: what is left of the call takes the following ones.
    fn finish_read(
        &mut self,
        fd: c_int,
        stream: bulkhead::StreamId,
        mut bytes: Vec<u8>,
        (length, flags): (usize, c_int),
    ) -> Outcome<Vec<u8>> {
        if bytes.is_empty() || flags & libc::MSG_PEEK != 0 {
            if bytes.is_empty() && length > 0 {
                return self.read_of_the_ended(fd);
            }
            return Ok(bytes);
        }
        let stack = self.stack()?;
        let mut more = [0; 4096];
        while bytes.len() < length {
            let wanted = more.len().min(length - bytes.len());
            match stack.read(stream, &mut more[..wanted]) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&more[..count]),
                Ok(_) | Err(_) => break,
            }
        }
        Ok(bytes)
    }

    /// The peer's stream has ended in order; but what happened since is told first.
    fn read_of_the_ended(&mut self, fd: c_int) -> Outcome<Vec<u8>> {
        match self.take_error(fd)? {
            Some(error) => Err(error),
            None => Ok(Vec::new()),
        }
    }

    /// The connection is gone: that is told once, and read as the end from then on.
    fn read_of_the_dead(&mut self, fd: c_int) -> Outcome<Vec<u8>> {
        let was_open = self.socket_mut(fd)?.has_told_open;
        match self.take_error(fd)? {
            Some(error) => Err(error),
            None if was_open => Ok(Vec::new()),
            None => Err(Errno::NOT_CONNECTED),
        }
    }

    /// Why the connection ended, if that has not been told.
    pub(crate) fn take_error(&mut self, fd: c_int) -> Outcome<Option<Errno>> {
        let Some(stack) = self.stack.as_mut() else { return Ok(None) };
        let socket = self.sockets.get_mut(&fd).ok_or(Errno::BADF)?;
        let error = socket.pending_error(stack);
        socket.has_told_end |= error.is_some();
        Ok(error)
    }

    /// Writes what there is space for, or `EAGAIN`.
    pub(crate) fn write(&mut self, fd: c_int, bytes: &[u8], flags: c_int) -> Outcome<usize> {
        let socket = self.sockets.get_mut(&fd).ok_or(Errno::BADF)?;
        let stream = match socket.kind {
            Kind::Stream(stream) => stream,
            Kind::New | Kind::Listener(_) => return Err(Errno::PIPE),
        };
        if let Some(error) = self.take_error(fd)? {
            return Err(error);
        }
        let stack = self.stack.as_mut().ok_or(Errno::NOT_CONNECTED)?;
        match stack.is_open(stream) {
            Ok(true) => {}
            Ok(false) => return Err(Errno::AGAIN),
            Err(_) => return Err(Errno::PIPE),
        }
        let is_held = self.socket_mut(fd)?.is_held();
        let mut count = 0;
        while count < bytes.len() {
            let room = if is_held { self.room(fd)? } else { CALL };
            let end = bytes.len().min(count.saturating_add(room));
            let marks = if end == bytes.len() { marks(flags) } else { MarkAt::default() };
            let stack = self.stack.as_mut().ok_or(Errno::NOT_CONNECTED)?;
            match stack.write_marked(stream, &bytes[count..end], marks) {
                Ok(0) => break,
                Ok(written) => {
                    count += written;
                    self.socket_mut(fd)?.written += written as u64;
                }
                Err(StreamError::WouldBlock) => {
                    self.socket_mut(fd)?.is_full = true;
                    break;
                }
                Err(_) if count > 0 => break,
                Err(_) => return Err(Errno::PIPE),
            }
        }
        self.socket_mut(fd)?.wants_space |= count < bytes.len();
        if count == 0 && !bytes.is_empty() { Err(Errno::AGAIN) } else { Ok(count) }
    }

    /// Bytes that a socket with a size of its own takes at once. Super-segments are as long as half of the largest
    /// window that the peer has announced.
    fn room(&mut self, fd: c_int) -> Outcome<usize> {
        let fields = self.info(fd)?;
        let field = |key: u16| fields.get(usize::from(key)).copied().unwrap_or(0);
        let mss = field(info::SND_MSS).max(1);
        let socket = self.sockets.get_mut(&fd).ok_or(Errno::BADF)?;
        socket.window_max = socket.window_max.max(field(info::SND_WND));
        let goal = (socket.window_max / 2).min(SUPER_SEGMENT) / mss * mss;
        let stack = self.stack.as_mut().ok_or(Errno::NOT_CONNECTED)?;
        let room = self.sockets.get(&fd).ok_or(Errno::BADF)?.room(stack, &self.watch, goal.max(mss));
        Ok(usize::try_from(room).unwrap_or(CALL))
    }

    /// One try of a write that waits until all is written: goes on where the last stopped, once there is space again.
    pub(crate) fn write_on(
        &mut self,
        fd: c_int,
        bytes: &[u8],
        done: &mut usize,
        flags: c_int,
    ) -> Outcome<usize> {
        let wants_space = self.socket_mut(fd)?.wants_space;
        if *done > 0 && wants_space {
            return Err(Errno::AGAIN);
        }
        match self.write(fd, bytes.get(*done..).unwrap_or_default(), flags) {
            Ok(count) => *done += count,
            Err(Errno::AGAIN) => return Err(Errno::AGAIN),
            Err(error) if *done == 0 => return Err(error),
            Err(_) => return Ok(*done),
        }
        if *done < bytes.len() { Err(Errno::AGAIN) } else { Ok(*done) }
    }

    /// Bytes that can be read, written and not acknowledged, and written and not sent.
    pub(crate) fn queued(&mut self, fd: c_int) -> Outcome<(u64, u64, u64)> {
        let socket = self.sockets.get(&fd).ok_or(Errno::BADF)?;
        let stream = match socket.kind {
            Kind::Stream(stream) => stream,
            Kind::Listener(_) => return Err(Errno::INVALID),
            Kind::New => return Ok((0, 0, 0)),
        };
        let unsent = Socket::unsent(socket, &self.watch);
        let stack = self.stack.as_mut().ok_or(Errno::NOT_CONNECTED)?;
        let readable = stack.readable(stream).map_or(0, |(readable, _)| readable);
        Ok((readable, stack.unacknowledged(stream).unwrap_or(0), unsent))
    }

    /// What is left to be read after a read, if the application wants to be told: one where only the end is.
    pub(crate) fn inq(&mut self, fd: c_int) -> Option<c_int> {
        let socket = self.sockets.get(&fd).filter(|socket| socket.chosen.is_inq)?;
        let stream = socket.stream().ok()?;
        let (readable, at_end) = self.stack.as_mut()?.readable(stream)?;
        let shown = if readable == 0 && at_end { 1 } else { readable };
        c_int::try_from(shown).ok()
    }
}

fn marks(flags: c_int) -> MarkAt {
    let mut marks = MarkAt::default();
    for (flag, mark) in [
        (libc::MSG_MORE, MarkAt::MORE),
        (libc::MSG_EOR, MarkAt::END_OF_RECORD),
        (libc::MSG_OOB, MarkAt::URGENT),
    ] {
        if flags & flag != 0 {
            marks = marks.with(mark);
        }
    }
    if flags & libc::MSG_MORE == 0 { marks.with(MarkAt::PUSH) } else { marks }
}
