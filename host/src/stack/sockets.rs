//! What applications do: listen, connect, read, write, end. Nothing here blocks or does I/O.

use super::Stack;
use super::door::{Level, SHORT_WRITE};
use crate::error::StreamError;
use crate::streams::{Blocks, Readiness, SendQueue, Sizes, Stream};
use bulkhead_wit::{
    Address, Allow, Call, Change, Close, Endpoint, Handle, Listen, Listening as How, MarkAt, Open, Setting,
    Time, registry,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Names a stream for its application; never used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl StreamId {
    /// A small number, unique among the streams that are alive: fit as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Which of the streams that have had this index it is; never 0.
    #[cfg(feature = "net")]
    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    #[cfg(feature = "net")]
    pub(crate) fn from_parts(index: usize, generation: u32) -> Self {
        Self { index: index as u32, generation }
    }
}

/// Names a listener.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerId(pub(super) u32);

/// A connection that a listener took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The stream.
    pub stream: StreamId,
    /// Our end.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
}

/// How to listen.
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    /// Connections that wait to be accepted, at most; 0 is 128.
    pub backlog: u32,
    /// An IPv6 listener takes IPv4 connections too.
    pub dual_stack: bool,
    /// Takes connections to any address, and with port 0 to any port (a gateway).
    pub any_address: bool,
    /// Offers each connection before the handshake: see [`Stack::next_offer`].
    pub defer: bool,
    /// Sizes of the connections' buffers; the stack's own if not given.
    pub sizes: Option<Sizes>,
    /// Settings of the connections.
    pub settings: Vec<Setting>,
}

/// How to connect.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Our end; what is unspecified is chosen.
    pub local: Endpoint,
    /// Sizes of the buffers; the stack's own if not given.
    pub sizes: Option<Sizes>,
    /// Settings of the connection.
    pub settings: Vec<Setting>,
}

const BACKLOG: u32 = 128;

/// A listener as the application side knows it.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) sizes: Sizes,
    pub(super) backlog: VecDeque<Accepted>,
    pub(super) end: Option<StreamError>,
    pub(super) backlog_max: u32,
    pub(super) taken: u64,
    pub(super) listen: Listen,
}

impl Listening {
    /// Whether it offers connections rather than accepts them.
    #[cfg(feature = "net")]
    pub(super) fn is_deferring(&self) -> bool {
        self.listen.how.contains(How::DEFER)
    }

    /// The call that makes a fresh instance listen here too; nothing if the listener has ended.
    pub(super) fn again(&mut self) -> Option<Call> {
        self.taken = 0;
        self.end.is_none().then(|| Call::Listen(self.listen.clone()))
    }
}

impl Stack {
    /// Listens. Errors that only the module finds (the address is in use) come from [`accept`](Self::accept).
    ///
    /// # Errors
    /// [`StreamError::Exhausted`] with too many listeners, or the fault that ended the instance.
    pub fn listen(&mut self, local: Endpoint, options: ListenOptions) -> Result<ListenerId, StreamError> {
        self.alive()?;
        if self.listeners.len() >= bulkhead_wit::limits::LISTENERS {
            return Err(StreamError::Exhausted);
        }
        let listener = self.next_listener;
        self.next_listener += 1;
        let sizes = options.sizes.unwrap_or(self.options.sizes);
        let backlog_max = if options.backlog == 0 { BACKLOG } else { options.backlog };
        let mut how = How::default();
        for (is_set, flag) in [
            (options.dual_stack, How::DUAL_STACK),
            (options.any_address, How::ANY_ADDRESS),
            (options.defer, How::DEFER),
        ] {
            how = if is_set { how.with(flag) } else { how };
        }
        let listen = Listen {
            listener,
            local,
            how,
            allow: u64::from(backlog_max),
            receive_first: sizes.receive_first,
            receive_max: sizes.receive_max,
            settings: options.settings,
        };
        self.call(Call::Listen(listen.clone()));
        let listening =
            Listening { sizes, backlog: VecDeque::new(), end: None, backlog_max, taken: 0, listen };
        self.listeners.insert(listener, listening);
        Ok(ListenerId(listener))
    }

    /// The next connection that is open.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] while there is none, what made the listener fail, or the instance's fault.
    pub fn accept(&mut self, listener: ListenerId) -> Result<Accepted, StreamError> {
        let listening = self.listeners.get_mut(&listener.0).ok_or(StreamError::Unknown)?;
        let Some(accepted) = listening.backlog.pop_front() else {
            let end = listening.end.clone();
            self.alive()?;
            return Err(end.unwrap_or(StreamError::WouldBlock));
        };
        // One taken, one more allowed: the backlog is credit.
        listening.taken += 1;
        let up_to = listening.taken + u64::from(listening.backlog_max);
        self.call(Call::Allow(Allow { listener: listener.0, up_to }));
        Ok(accepted)
    }

    /// Whether the listener listens still, as far as the module has answered.
    ///
    /// # Errors
    /// What made it fail, or [`StreamError::Unknown`].
    pub fn is_listening(&self, listener: ListenerId) -> Result<(), StreamError> {
        let listening = self.listeners.get(&listener.0).ok_or(StreamError::Unknown)?;
        listening.end.clone().map_or(Ok(()), Err)
    }

    /// Stops listening; connections that nobody has accepted are reset.
    pub fn unlisten(&mut self, listener: ListenerId) {
        if let Some(listening) = self.listeners.remove(&listener.0) {
            listening.backlog.into_iter().for_each(|accepted| self.abort(accepted.stream));
            self.call(Call::Unlisten(listener.0));
        }
    }

    /// Begins to connect; the stream is told [`Readiness::OPENED`] or [`Readiness::ENDED`].
    ///
    /// # Errors
    /// [`StreamError::Exhausted`] when all connections are taken, or the fault that ended the instance.
    pub fn connect(&mut self, remote: Endpoint, options: ConnectOptions) -> Result<StreamId, StreamError> {
        self.alive()?;
        if self.level() >= Level::Short {
            self.door.counters.connections_refused += 1;
            return Err(StreamError::Exhausted);
        }
        let sizes = options.sizes.unwrap_or(self.options.sizes);
        let index = self
            .ledgers
            .add_opening(options.local, remote, sizes.receive_first)
            .ok_or(StreamError::Exhausted)?;
        let id = self.streams.insert(index, Stream::new(&sizes));
        let connection = self.handle(index);
        self.call(Call::Open(Open {
            connection,
            local: options.local,
            remote,
            receive_first: sizes.receive_first,
            receive_max: sizes.receive_max,
            settings: options.settings,
        }));
        Ok(id)
    }

    /// Reads what is there; 0 is the end of the stream (or an empty `into`).
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] while there is nothing; why the connection ended, once all that arrived is read.
    pub fn read(&mut self, id: StreamId, into: &mut [u8]) -> Result<usize, StreamError> {
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        let count = stream.receive.read(into, &mut self.blocks);
        self.has_read(id, count, into.is_empty())
    }

    /// Takes what is there, at most `most` bytes (at least 1), without a copy where a whole frame was kept; empty is the
    /// end of the stream. While such bytes live, so does the frame that they lie in: when three quarters of all frames are
    /// held, copies are given instead.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_bytes(&mut self, id: StreamId, most: usize) -> Result<Bytes, StreamError> {
        let lend = !self.pool.is_pressed();
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        let taken = stream.receive.take(most.max(1), lend, &mut self.blocks);
        self.has_read(id, taken.len(), false)?;
        Ok(taken)
    }

    /// Shows what is there without taking it; empty is the end of the stream. To be followed by
    /// [`consume`](Self::consume).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn peek(&mut self, id: StreamId) -> Result<&[u8], StreamError> {
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        if stream.receive.readable() == 0 {
            self.has_read(id, 0, false)?;
        }
        Ok(self.streams.held(id).ok_or(StreamError::Unknown)?.receive.peek())
    }

    /// Copies what is there without taking it, as [`read`](Self::read) would.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn peek_into(&mut self, id: StreamId, into: &mut [u8]) -> Result<usize, StreamError> {
        let count = self.streams.held(id).ok_or(StreamError::Unknown)?.receive.copy_to(into);
        if count == 0 { self.has_read(id, 0, into.is_empty()) } else { Ok(count) }
    }

    /// Takes bytes that [`peek`](Self::peek) has shown.
    pub fn consume(&mut self, id: StreamId, count: usize) {
        if let Some(stream) = self.streams.held(id) {
            stream.receive.consume(count, &mut self.blocks);
            stream.progress_at = self.now;
            if stream.has_grant() {
                self.mark_dirty(id.index);
            }
        }
    }

    fn has_read(&mut self, id: StreamId, count: usize, nothing_asked: bool) -> Result<usize, StreamError> {
        let now = self.now;
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        if count > 0 {
            stream.progress_at = now;
            if stream.has_grant() {
                self.mark_dirty(id.index);
            }
            return Ok(count);
        }
        match &stream.end {
            _ if nothing_asked || stream.is_at_end() => Ok(0),
            Some(end) => Err(end.clone()),
            None => Err(StreamError::WouldBlock),
        }
    }

    /// Writes as much as there is space for; at least one byte of a `bytes` that is not empty.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] while there is no space (the stream is told [`Readiness::WRITABLE`] later),
    /// [`StreamError::Shut`], or why the connection ended.
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, StreamError> {
        self.write_marked(id, bytes, MarkAt::PUSH)
    }

    /// As [`write`](Self::write), with marks of one's own at the last byte; [`MarkAt::PUSH`] is not implied.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_marked(&mut self, id: StreamId, bytes: &[u8], marks: MarkAt) -> Result<usize, StreamError> {
        self.append(id, bytes.len(), marks, |queue, space, blocks| queue.write(bytes, space, blocks))
    }

    /// As [`write`](Self::write), without a copy where there is enough to be worth it; takes from `bytes` what it
    /// reports.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_bytes(&mut self, id: StreamId, bytes: &mut Bytes) -> Result<usize, StreamError> {
        let count = self
            .append(id, bytes.len(), MarkAt::PUSH, |queue, space, blocks| queue.lend(bytes, space, blocks))?;
        drop(bytes.split_to(count));
        Ok(count)
    }

    fn append(
        &mut self,
        id: StreamId,
        length: usize,
        marks: MarkAt,
        write: impl FnOnce(&mut SendQueue, u64, &mut Blocks) -> usize,
    ) -> Result<usize, StreamError> {
        let is_short = self.level() >= Level::Short;
        let left = self.options.memory.saturating_sub(self.blocks.held()) as u64;
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        if let Some(end) = &stream.end {
            return Err(if stream.is_shut { StreamError::Shut } else { end.clone() });
        }
        if stream.is_shut {
            return Err(StreamError::Shut);
        }
        let space = stream.space(self.ledgers.sent(id.index));
        let space = match (is_short, stream.send.held()) {
            (false, _) => space.min(left.max(SHORT_WRITE)),
            (true, 0) => space.min(SHORT_WRITE),
            (true, _) => 0,
        };
        if length == 0 {
            return Ok(0);
        }
        if space == 0 {
            if stream.wait_for_space() {
                self.mark(id.index, MarkAt::WAITING);
            }
            return Err(StreamError::WouldBlock);
        }
        let count = write(&mut stream.send, space, &mut self.blocks);
        self.totals.bytes_written += count as u64;
        let marks = if count < length { MarkAt::WAITING } else { marks };
        self.mark(id.index, marks);
        Ok(count)
    }

    /// Ends the stream after what was written.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] if there is no such stream.
    pub fn shutdown(&mut self, id: StreamId) -> Result<(), StreamError> {
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        if !stream.is_shut && stream.end.is_none() {
            stream.is_shut = true;
            self.mark_dirty(id.index);
            let handle = self.handle(id.index);
            self.call(Call::Shutdown(handle));
        }
        Ok(())
    }

    /// The application is done: what was written is still delivered, what was not read is dropped (and the peer told
    /// so by a reset, RFC 2525 2.17). `linger` bounds the time for it, in nanoseconds.
    pub fn close(&mut self, id: StreamId, linger: Time) {
        let Some(stream) = self.streams.held(id) else { return };
        stream.is_detached = true;
        stream.is_shut = true;
        if stream.end.is_some() {
            self.free(id.index);
            return;
        }
        self.mark_dirty(id.index);
        let connection = self.handle(id.index);
        self.call(Call::Close(Close { connection, linger }));
        if let Some(stream) = self.streams.get_mut(id.index) {
            stream.receive.clear(&mut self.blocks);
        }
    }

    /// Resets the connection.
    pub fn abort(&mut self, id: StreamId) {
        let Some(stream) = self.streams.held(id) else { return };
        stream.is_detached = true;
        if stream.end.is_some() {
            self.free(id.index);
        } else {
            let connection = self.handle(id.index);
            self.call(Call::Abort(connection));
        }
    }

    /// Resets every connection, those included that their applications have closed already.
    pub fn abort_all(&mut self) {
        let living: Vec<Handle> = self.ledgers.living().map(|(_, ledger)| ledger.handle).collect();
        living.into_iter().for_each(|connection| self.call(Call::Abort(connection)));
    }

    /// Sets an option of the instance, the default of connections to come.
    pub fn set_default(&mut self, setting: Setting) {
        if let Some(most) = unsent_max(setting) {
            self.options.sizes.unsent_max = most;
        }
        self.call(Call::Set(Change { of: Handle::INSTANCE, setting }));
    }

    /// Sets an option of the connection.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] if there is no such stream.
    pub fn set(&mut self, id: StreamId, setting: Setting) -> Result<(), StreamError> {
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        if let Some(most) = unsent_max(setting) {
            stream.unsent_max = most;
            if stream.take_writable(self.ledgers.sent(id.index)) {
                self.announce(id.index, Readiness::WRITABLE);
            }
        }
        let of = self.handle(id.index);
        self.call(Call::Set(Change { of, setting }));
        Ok(())
    }

    /// Asks for a connection's information, or the instance's census without one; [`take_info`](Self::take_info) has
    /// it after the next turn.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] if there is no such stream.
    pub fn ask_info(&mut self, id: Option<StreamId>) -> Result<(), StreamError> {
        let of = self.info_handle(id).ok_or(StreamError::Unknown)?;
        self.call(Call::Query(of));
        Ok(())
    }

    /// The answer to [`ask_info`](Self::ask_info), once: fields in the order of
    /// [`registry::info`] or [`registry::census`].
    pub fn take_info(&mut self, id: Option<StreamId>) -> Option<Vec<u64>> {
        let of = self.info_handle(id)?;
        self.answers.remove(&of)
    }

    /// As [`ask_info`](Self::ask_info), about any living connection, whoever holds it.
    #[cfg(feature = "net")]
    pub(crate) fn ask_about(&mut self, connection: Handle) {
        self.call(Call::Query(connection));
    }

    #[cfg(feature = "net")]
    pub(crate) fn take_answer(&mut self, connection: Handle) -> Option<Vec<u64>> {
        self.answers.remove(&connection)
    }

    /// Bytes that wait on both sides of a living connection: to be read, and to be acknowledged.
    #[must_use]
    pub fn queued(&self, connection: Handle) -> (u64, u64) {
        let stream = self.ledgers.find(connection).and_then(|index| self.streams.get(index));
        stream.map_or((0, 0), |stream| (stream.receive.readable(), stream.send.held()))
    }

    fn info_handle(&mut self, id: Option<StreamId>) -> Option<Handle> {
        match id {
            None => Some(Handle::INSTANCE),
            Some(id) => self.streams.held(id).is_some().then(|| self.handle(id.index)),
        }
    }

    /// Both ends of a connection; parts of ours that are not chosen yet are unspecified.
    #[must_use]
    pub fn ends(&self, id: StreamId) -> Option<(Endpoint, Endpoint)> {
        self.streams.id(id.index).filter(|current| *current == id)?;
        self.ledgers.get(id.index).map(|ledger| (ledger.local, ledger.remote))
    }

    /// Whether the connection is open, or was.
    ///
    /// # Errors
    /// Why it ended.
    pub fn is_open(&mut self, id: StreamId) -> Result<bool, StreamError> {
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        match &stream.end {
            Some(end) if !stream.is_open => Err(end.clone()),
            _ => Ok(stream.is_open),
        }
    }

    /// What holds now, unlike [`next_ready`](Self::next_ready), which tells what has come to hold. With `to_write`, a
    /// stream without space is told [`Readiness::WRITABLE`] later.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] if there is no such stream.
    pub fn readiness(&mut self, id: StreamId, to_write: bool) -> Result<Readiness, StreamError> {
        let stream = self.streams.held(id).ok_or(StreamError::Unknown)?;
        if stream.end.is_some() {
            return Ok(Readiness::ALL);
        }
        let has_space = stream.is_shut || stream.space(self.ledgers.sent(id.index)) > 0;
        let mut now = Readiness::default();
        for (holds, readiness) in [
            (stream.receive.readable() > 0 || stream.is_at_end(), Readiness::READABLE),
            (has_space, Readiness::WRITABLE),
            (stream.is_open, Readiness::OPENED),
        ] {
            now = if holds { now.with(readiness) } else { now };
        }
        if to_write && !has_space {
            stream.wait_for_space();
            self.mark(id.index, MarkAt::WAITING);
        }
        Ok(now)
    }

    /// Why the connection ended, once it has. What arrived before can still be read.
    #[must_use]
    pub fn end_of(&mut self, id: StreamId) -> Option<StreamError> {
        self.streams.held(id)?.end.clone()
    }

    /// Bytes that may be read at once, and whether the stream ends after them.
    #[must_use]
    pub fn readable(&mut self, id: StreamId) -> Option<(u64, bool)> {
        let stream = self.streams.held(id)?;
        Some((stream.receive.readable(), stream.finished == Some(stream.receive.exposed())))
    }

    /// Bytes written and not acknowledged yet.
    #[must_use]
    pub fn unacknowledged(&mut self, id: StreamId) -> Option<u64> {
        self.streams.held(id).map(|stream| stream.send.held())
    }

    /// Where urgent data ends that the peer announced last, as an offset in its stream.
    #[must_use]
    pub fn urgent(&mut self, id: StreamId) -> Option<u64> {
        Some(self.streams.held(id)?.urgent).filter(|at| *at != bulkhead_wit::NEVER)
    }

    /// Whether a write would take at least a byte.
    #[must_use]
    pub fn may_write(&mut self, id: StreamId) -> bool {
        let sent = self.ledgers.sent(id.index);
        self.streams.held(id).is_some_and(|stream| {
            stream.is_open && !stream.is_shut && stream.end.is_none() && stream.space(sent) > 0
        })
    }

    /// The next stream with news for its application, and what they are.
    pub fn next_ready(&mut self) -> Option<(StreamId, Readiness)> {
        while let Some(index) = self.ready.pop_front() {
            let id = self.streams.id(index);
            let Some(stream) = self.streams.get_mut(index) else { continue };
            stream.is_ready_listed = false;
            let news = std::mem::take(&mut stream.ready);
            if let Some(id) = id.filter(|_| !stream.is_detached && !news.is_empty()) {
                return Some((id, news));
            }
        }
        None
    }

    /// The next listener with a connection to accept, or with an end.
    pub fn next_ready_listener(&mut self) -> Option<ListenerId> {
        self.ready_listeners.pop_front().map(ListenerId)
    }

    /// Whether one of our addresses is this one.
    #[must_use]
    pub fn is_local(&self, address: Address) -> bool {
        self.options.config.addresses.iter().any(|prefix| prefix.address == address)
    }

    pub(super) fn handle(&self, index: u32) -> Handle {
        self.ledgers.get(index).map_or(Handle::INSTANCE, |ledger| ledger.handle)
    }

    pub(super) fn alive(&self) -> Result<(), StreamError> {
        match &self.fault {
            Some(fault) => Err(StreamError::Fault(Arc::clone(fault))),
            None => Ok(()),
        }
    }
}

/// What a setting says of the bytes that may wait to be sent: the host's affair, beside the module's. 0 is the default.
fn unsent_max(setting: Setting) -> Option<u32> {
    let value = if setting.value == 0 { u64::from(Sizes::default().unsent_max) } else { setting.value };
    (setting.key == registry::setting::NOTSENT_LOWAT).then(|| u32::try_from(value).unwrap_or(u32::MAX))
}
