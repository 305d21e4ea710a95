//! Datagram sockets: what waits to be read, and what waits for the next step.

use super::Stack;
use crate::error::StreamError;
use crate::inspect::Socket;
use bulkhead_wit::{Bind, Call, Endpoint, Handle, Listening as How, Message, Reason, Setting, limits};
use std::collections::{HashMap, VecDeque};

/// Names a datagram socket; never used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketId(pub(super) Handle);

/// How to bind a datagram socket.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// The only peer that is heard; unspecified is anybody.
    pub remote: Endpoint,
    /// An IPv6 socket takes IPv4 datagrams too.
    pub dual_stack: bool,
    /// With an unspecified address and port 0: takes datagrams to any address and port that no other socket takes (a
    /// gateway). What is sent names its source: see [`Stack::send_to`].
    pub any_port: bool,
    /// Bytes that wait to be read, at most; what arrives beyond is dropped and counted. Each datagram counts
    /// [`DATAGRAM_COST`] bytes more than it has.
    pub receive_max: usize,
    /// Bytes that wait for the next step, at most.
    pub send_max: usize,
}

impl Default for BindOptions {
    /// Linux's defaults (`net.core.rmem_default`, `wmem_default`).
    fn default() -> Self {
        let size = 212_992;
        Self {
            remote: Endpoint::default(),
            dual_stack: false,
            any_port: false,
            receive_max: size,
            send_max: size,
        }
    }
}

/// What a datagram costs beside its bytes, so that empty ones are not for nothing.
pub const DATAGRAM_COST: usize = 128;
/// Datagram sockets of one stack.
pub const SOCKETS: usize = 16_384;
/// Bytes of messages in one step: fewer than a step may send, since a message is gone after its step.
const STEP_BYTES: usize = 1 << 20;
/// Where slots of sockets begin: beyond those of connections, which are numbered by the host too.
const FIRST_SLOT: u32 = 1 << 23;

/// A datagram that has arrived.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) bytes: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) bind: Bind,
    pub(super) options: BindOptions,
    pub(super) arrived: VecDeque<Datagram>,
    pub(super) held: usize,
    pub(super) sending: usize,
    pub(super) dropped: u64,
    /// An ICMP error that nobody has been told of (only with one peer).
    pub(super) warned: Option<u16>,
    pub(super) end: Option<StreamError>,
    pub(super) is_closing: bool,
    pub(super) is_ready_listed: bool,
    pub(super) waits_for_space: bool,
}

/// All datagram sockets of a stack.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    pub(super) entries: HashMap<Handle, Entry>,
    pub(super) next: u32,
    leaving: VecDeque<(Message, Box<[u8]>)>,
    ready: VecDeque<Handle>,
    /// The bytes of the messages of this step.
    messages: Vec<Box<[u8]>>,
}

impl Datagrams {
    pub(super) fn has_news(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// The bytes of a message of this step.
    pub(crate) fn message(&self, number: u64) -> &[u8] {
        usize::try_from(number).ok().and_then(|number| self.messages.get(number)).map_or(&[], |bytes| bytes)
    }

    /// The message with this number is the step's first: those before it are gone.
    pub(crate) fn bring_forward(&mut self, number: usize) {
        if number < self.messages.len() {
            self.messages.swap(0, number);
        }
    }

    /// Datagrams have arrived, merged into one where the device did so: `size` bytes each.
    pub(crate) fn place(
        &mut self,
        socket: Handle,
        (from, to): (Endpoint, Endpoint),
        size: usize,
        bytes: &[u8],
    ) {
        let Some(entry) = self.entries.get_mut(&socket).filter(|entry| !entry.is_closing) else { return };
        let mut rest = bytes;
        loop {
            let (one, more) = rest.split_at(size.max(1).min(rest.len()));
            let cost = one.len() + DATAGRAM_COST;
            if entry.held + cost > entry.options.receive_max {
                entry.dropped += 1;
            } else {
                entry.held += cost;
                entry.arrived.push_back(Datagram { from, to, bytes: one.into() });
            }
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        self.announce(socket);
    }

    fn announce(&mut self, socket: Handle) {
        if let Some(entry) = self.entries.get_mut(&socket)
            && !std::mem::replace(&mut entry.is_ready_listed, true)
        {
            self.ready.push_back(socket);
        }
    }

    /// Everybody is told the same end.
    pub(super) fn end_all(&mut self, end: &StreamError) {
        let all: Vec<Handle> = self.entries.keys().copied().collect();
        self.leaving.clear();
        for socket in all {
            self.fail(socket, end.clone());
        }
    }

    /// The calls that bind every socket again in a fresh instance. Messages that waited are lost, as datagrams may be.
    pub(super) fn again(&mut self) -> Vec<Call> {
        self.leaving.clear();
        self.entries.retain(|_, entry| !entry.is_closing);
        self.entries.values_mut().for_each(|entry| entry.sending = 0);
        self.entries
            .values()
            .filter(|entry| entry.end.is_none())
            .map(|entry| Call::Bind(entry.bind))
            .collect()
    }

    pub(super) fn fail(&mut self, socket: Handle, end: StreamError) {
        if let Some(entry) = self.entries.get_mut(&socket) {
            entry.end.get_or_insert(end);
            self.announce(socket);
        }
    }

    /// An ICMP error: says whether it was about one of these sockets.
    pub(super) fn warn(&mut self, socket: Handle, reason: u16) -> bool {
        let is_one = self.entries.get_mut(&socket).map(|entry| entry.warned = Some(reason)).is_some();
        self.announce(socket);
        is_one
    }
}

impl Stack {
    /// Binds a datagram socket; `local` must have a port. Errors that only the module finds (the address is in use)
    /// come from the other calls.
    ///
    /// # Errors
    /// [`StreamError::Exhausted`] with too many sockets, or the fault that ended the instance.
    pub fn bind(&mut self, local: Endpoint, options: BindOptions) -> Result<SocketId, StreamError> {
        self.alive()?;
        if self.datagrams.entries.len() >= SOCKETS {
            return Err(StreamError::Exhausted);
        }
        self.datagrams.next = self.datagrams.next.wrapping_add(1);
        let number = self.datagrams.next;
        let slots = (1 << 24) - FIRST_SLOT;
        let socket = Handle::by_host(FIRST_SLOT + number % slots, number / slots + 1);
        let flags = [(options.dual_stack, How::DUAL_STACK), (options.any_port, How::ANY_ADDRESS)];
        let how = flags
            .into_iter()
            .filter(|(is_set, _)| *is_set)
            .fold(How::default(), |how, (_, flag)| how.with(flag));
        let bind = Bind { socket, local, remote: options.remote, how };
        let entry = Entry {
            bind,
            options,
            arrived: VecDeque::new(),
            held: 0,
            sending: 0,
            dropped: 0,
            warned: None,
            end: None,
            is_closing: false,
            is_ready_listed: false,
            waits_for_space: false,
        };
        self.datagrams.entries.insert(socket, entry);
        self.call(Call::Bind(bind));
        Ok(SocketId(socket))
    }

    fn socket(&mut self, id: SocketId) -> Result<&mut Entry, StreamError> {
        let entry = self.datagrams.entries.get_mut(&id.0).filter(|entry| !entry.is_closing);
        entry.ok_or(StreamError::Unknown)
    }

    /// Whether a port is bound, by whatever socket.
    #[must_use]
    pub fn is_bound(&self, port: u16) -> bool {
        self.datagrams.entries.values().any(|entry| entry.bind.local.port == port)
    }

    /// Whether the socket is bound still, as far as the module has answered.
    ///
    /// # Errors
    /// What ended it.
    pub fn is_bound_still(&mut self, id: SocketId) -> Result<(), StreamError> {
        self.socket(id)?.end.clone().map_or(Ok(()), Err)
    }

    /// Gives a datagram to the next step. `from` unspecified (port 0) is the socket's own end.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] while too many bytes wait, [`StreamError::TooLong`], what an ICMP error or the
    /// module said, or the fault.
    pub fn send_to(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        from: Endpoint,
        to: Endpoint,
    ) -> Result<(), StreamError> {
        let most = limits::DATAGRAM - if to.address.is_v4() { 28 } else { 48 };
        let entry = self.socket(id)?;
        if let Some(end) = &entry.end {
            return Err(end.clone());
        }
        if let Some(reason) = entry.warned.take() {
            return Err(StreamError::Ended(reason));
        }
        if bytes.len() > most {
            return Err(StreamError::TooLong);
        }
        let cost = bytes.len() + DATAGRAM_COST;
        if entry.sending > 0 && entry.sending + cost > entry.options.send_max {
            entry.waits_for_space = true;
            return Err(StreamError::WouldBlock);
        }
        entry.sending += cost;
        let message = Message {
            socket: id.0,
            length: bytes.len() as u32,
            hop_limit: 0,
            traffic_class: 0,
            source: from,
            to,
        };
        self.datagrams.leaving.push_back((message, bytes.into()));
        Ok(())
    }

    /// The next datagram: how much of it fitted, who sent it, and to which end of ours. What does not fit is lost, as with
    /// every datagram socket. With `peek` it stays.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] while there is none, what an ICMP error or the module said, or the fault.
    pub fn receive_from(
        &mut self,
        id: SocketId,
        into: &mut [u8],
        peek: bool,
    ) -> Result<(usize, Endpoint, Endpoint), StreamError> {
        let entry = self.socket(id)?;
        let Some(first) = entry.arrived.front() else {
            let warned = entry.warned.take().map(StreamError::Ended);
            return Err(warned.or(entry.end.clone()).unwrap_or(StreamError::WouldBlock));
        };
        let count = first.bytes.len().min(into.len());
        into[..count].copy_from_slice(&first.bytes[..count]);
        let (from, to) = (first.from, first.to);
        if !peek && let Some(taken) = entry.arrived.pop_front() {
            entry.held -= taken.bytes.len() + DATAGRAM_COST;
        }
        Ok((count, from, to))
    }

    /// Whether a read, and whether a write would not block.
    #[must_use]
    pub fn datagram_readiness(&mut self, id: SocketId) -> (bool, bool) {
        let Ok(entry) = self.socket(id) else { return (true, true) };
        let is_over = entry.end.is_some() || entry.warned.is_some();
        let has_space = entry.sending < entry.options.send_max;
        entry.waits_for_space |= !has_space;
        (is_over || !entry.arrived.is_empty(), is_over || has_space)
    }

    /// Datagrams that were dropped because nobody read.
    #[must_use]
    pub fn datagrams_dropped(&mut self, id: SocketId) -> u64 {
        self.socket(id).map_or(0, |entry| entry.dropped)
    }

    /// The next datagram socket with news for its application.
    pub fn next_ready_socket(&mut self) -> Option<SocketId> {
        let socket = self.datagrams.ready.pop_front()?;
        if let Some(entry) = self.datagrams.entries.get_mut(&socket) {
            entry.is_ready_listed = false;
        }
        Some(SocketId(socket))
    }

    /// Sets an option of the socket, [`TTL`](bulkhead_wit::registry::setting::TTL) among them.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] if there is no such socket.
    pub fn set_datagram(&mut self, id: SocketId, setting: Setting) -> Result<(), StreamError> {
        self.socket(id)?;
        self.call(Call::Set(bulkhead_wit::Change { of: id.0, setting }));
        Ok(())
    }

    /// Tells `to` by an ICMP error why what it sends to `from` does not arrive: a reason's number, such as
    /// [`PORT_UNREACHABLE`](bulkhead_wit::registry::reason::PORT_UNREACHABLE). The module bounds how many of them leave.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] while a step's calls wait already, so that a flood of refused datagrams piles nothing up;
    /// as [`bind`](Self::bind).
    pub fn unreachable(&mut self, reason: u16, from: Endpoint, to: Endpoint) -> Result<(), StreamError> {
        if self.calls.len() >= limits::CALLS {
            return Err(StreamError::WouldBlock);
        }
        // A socket with one peer, for as long as it takes to say so: no datagram comes between.
        let socket = self.bind(from, BindOptions { remote: to, ..BindOptions::default() })?;
        self.call(Call::Report(Reason { connection: socket.0, reason, value: 0 }));
        self.unbind(socket);
        Ok(())
    }

    /// The application is done. What it sent before still leaves.
    pub fn unbind(&mut self, id: SocketId) {
        let Ok(entry) = self.socket(id) else { return };
        entry.is_closing = true;
        entry.arrived.clear();
        if entry.sending == 0 {
            self.forget_socket(id.0);
        }
    }

    fn forget_socket(&mut self, socket: Handle) {
        if self.datagrams.entries.remove(&socket).is_some_and(|entry| entry.end.is_none()) {
            self.call(Call::Abort(socket));
        }
    }

    /// Moves messages into the batch; a socket is bound before and closed after its messages.
    pub(crate) fn take_messages(&mut self) {
        self.datagrams.messages.clear();
        let mut bytes = 0;
        while self.calls.is_empty()
            && self.batch.messages.len() < limits::MESSAGES
            && bytes < STEP_BYTES
            && let Some((message, payload)) = self.datagrams.leaving.pop_front()
        {
            bytes += payload.len();
            if let Some(entry) = self.datagrams.entries.get_mut(&message.socket) {
                entry.sending = entry.sending.saturating_sub(payload.len() + DATAGRAM_COST);
                let is_last = entry.is_closing && entry.sending == 0;
                if std::mem::take(&mut entry.waits_for_space) {
                    self.datagrams.announce(message.socket);
                }
                if is_last {
                    self.forget_socket(message.socket);
                }
            }
            self.batch.messages.push(message);
            self.datagrams.messages.push(payload);
        }
    }

    /// What the ledgers must know of a call about sockets, before the module is told.
    pub(super) fn note_socket_call(&mut self, call: &Call) {
        match call {
            Call::Bind(bind) => {
                let socket = Socket { local: bind.local, remote: bind.remote };
                self.ledgers.sockets.insert(bind.socket, socket);
            }
            Call::Abort(socket) => drop(self.ledgers.sockets.remove(socket)),
            _ => {}
        }
    }
}
