//! Sockets, from `socket` to `close`.

use crate::errno::{Errno, Outcome};
use crate::options::Chosen;
use crate::sysctl;
use crate::watch::Watch;
use crate::world::World;
use bulkhead::{ConnectOptions, ListenOptions, ListenerId, Readiness, Sizes, Stack, StreamId};
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Endpoint, NEVER, Setting};
use libc::c_int;
use std::os::fd::{AsRawFd, OwnedFd};

/// What a socket is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    New,
    Listener(ListenerId),
    Stream(StreamId),
}

/// A socket as its application has it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: Kind,
    /// `AF_INET6`: addresses are told in that form.
    pub(crate) is_v6: bool,
    pub(crate) nonblocking: bool,
    pub(crate) local: Endpoint,
    pub(crate) chosen: Chosen,
    /// As `listen` was told.
    pub(crate) backlog: c_int,
    /// Connections that can be accepted.
    pub(crate) acceptable: u32,
    /// News since the beginning, for those who want each told once.
    pub(crate) in_edges: u64,
    pub(crate) out_edges: u64,
    /// A write found no space, and nobody has been told of any since.
    pub(crate) wants_space: bool,
    /// The stack's own send queue was full the last time.
    pub(crate) is_full: bool,
    /// The largest window that the peer was seen to announce, in bytes.
    pub(crate) window_max: u64,
    /// Bytes written since the beginning.
    pub(crate) written: u64,
    pub(crate) is_shut_for_reading: bool,
    is_shut_for_writing: bool,
    /// The peer's SYN has come and was answered.
    has_answered: bool,
    /// The way in which the connection ended has been told.
    pub(crate) has_told_end: bool,
    /// A `connect` has been answered with success.
    pub(crate) has_told_open: bool,
    ends: Option<(Endpoint, Endpoint)>,
}

impl Socket {
    fn new(fd: OwnedFd, is_v6: bool) -> Self {
        Self {
            fd,
            kind: Kind::New,
            is_v6,
            nonblocking: false,
            local: Endpoint::default(),
            chosen: Chosen::default(),
            backlog: 0,
            acceptable: 0,
            in_edges: 0,
            out_edges: 0,
            wants_space: false,
            is_full: false,
            window_max: 0,
            written: 0,
            is_shut_for_reading: false,
            is_shut_for_writing: false,
            has_answered: false,
            has_told_end: false,
            has_told_open: false,
            ends: None,
        }
    }

    /// Its stream, if it has one.
    pub(crate) fn stream(&self) -> Outcome<StreamId> {
        match self.kind {
            Kind::Stream(stream) => Ok(stream),
            Kind::New | Kind::Listener(_) => Err(Errno::NOT_CONNECTED),
        }
    }

    /// The stack has news of its stream.
    pub(crate) fn told(&mut self, news: Readiness) {
        if news.intersects(Readiness::READABLE.with(Readiness::ENDED)) {
            self.in_edges += 1;
        }
        if news.intersects(Readiness::OPENED.with(Readiness::ENDED)) {
            self.out_edges += 1;
        }
        if news.intersects(Readiness::WRITABLE.with(Readiness::ENDED)) {
            self.is_full = false;
        }
    }

    /// Tells a writer that waits if there is space.
    pub(crate) fn look_for_space(&mut self, stack: &mut Stack, watch: &Watch) {
        if self.ends.is_none()
            && let Kind::Stream(stream) = self.kind
        {
            self.ends = stack.ends(stream).filter(|(local, _)| local.port != 0);
        }
        self.has_answered |= self.ends.is_some_and(|ends| watch.has_answered(ends));
        if self.wants_space && self.has_space(stack, watch) {
            self.wants_space = false;
            self.out_edges += 1;
        }
    }

    /// Bytes in the send buffer with the system's bookkeeping, about a seventh.
    fn charged(&self, stack: &mut Stack) -> u64 {
        let held = self.stream().ok().and_then(|stream| stack.unacknowledged(stream)).unwrap_or(0);
        held + held / 7
    }

    /// Bytes that a write may add at once. The system's queue takes super-segments of `goal` bytes: the last one that
    /// is not sent is filled up, and another begun while the buffer is not full and not too much is unsent.
    pub(crate) fn room(&self, stack: &mut Stack, watch: &Watch, goal: u64) -> u64 {
        let unsent = self.unsent(watch);
        let is_begun = !unsent.is_multiple_of(goal.max(1));
        let has_buffer = self.chosen.send_size.is_none_or(|size| self.charged(stack) < u64::from(size));
        if is_begun {
            goal - unsent % goal
        } else if has_buffer && unsent < u64::from(self.lowat()) {
            goal
        } else {
            0
        }
    }

    /// Whether writes are held to a size of the socket's own.
    pub(crate) fn is_held(&self) -> bool {
        self.chosen.send_size.is_some() || self.lowat() < u32::MAX
    }

    /// Whether a writer that waited is to be told: a third is free, and what is unsent is below half its mark.
    pub(crate) fn has_space(&self, stack: &mut Stack, watch: &Watch) -> bool {
        let is_free = self.chosen.send_size.is_none_or(|size| self.charged(stack) <= u64::from(size) / 3 * 2);
        !self.is_full && is_free && self.unsent(watch) * 2 < u64::from(self.lowat())
    }

    fn lowat(&self) -> u32 {
        // Zero stands for the namespace's.
        match self.chosen.notsent_lowat {
            0 => sysctl::notsent_lowat(),
            lowat => lowat,
        }
    }

    /// Bytes written that have never been sent.
    pub(crate) fn unsent(&self, watch: &Watch) -> u64 {
        let sent = self.ends.map_or(0, |ends| watch.length(ends));
        self.written.saturating_sub(sent)
    }

    /// Why the connection ended, once, as the system calls tell it.
    pub(crate) fn pending_error(&self, stack: &mut Stack) -> Option<Errno> {
        let stream = self.stream().ok().filter(|_| !self.has_told_end)?;
        let error = stack.end_of(stream)?;
        if matches!(error, bulkhead::StreamError::Ended(reason::NORMAL | reason::ABORTED)) {
            return None;
        }
        let has_peer_finished = stack.readable(stream).is_some_and(|(_, at_end)| at_end);
        match Errno::from(&error) {
            // The peer had finished already: only what we still send is lost.
            Errno(libc::ECONNRESET) if has_peer_finished && !self.is_shut_for_writing => Some(Errno::PIPE),
            // RFC 9293 3.10.7.4 says "refused" in SYN-RECEIVED too; the system says so in SYN-SENT only.
            Errno(libc::ECONNREFUSED) if self.has_answered => Some(Errno(libc::ECONNRESET)),
            error => Some(error),
        }
    }
}

impl World {
    pub(crate) fn new_socket(&mut self, domain: c_int, kind: c_int, protocol: c_int) -> Outcome<c_int> {
        if domain != libc::AF_INET && domain != libc::AF_INET6 {
            return Err(Errno(libc::EAFNOSUPPORT));
        }
        if kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != libc::SOCK_STREAM {
            return Err(Errno(libc::ESOCKTNOSUPPORT));
        }
        if protocol != 0 && protocol != libc::IPPROTO_TCP {
            return Err(Errno(libc::EPROTONOSUPPORT));
        }
        let mut socket = Socket::new(Self::descriptor()?, domain == libc::AF_INET6);
        socket.nonblocking = kind & libc::SOCK_NONBLOCK != 0;
        Ok(self.insert(socket))
    }

    pub(crate) fn bind(&mut self, fd: c_int, local: Endpoint) -> Outcome<()> {
        let socket = self.socket_mut(fd)?;
        if socket.kind != Kind::New || socket.local != Endpoint::default() {
            return Err(Errno::INVALID);
        }
        if !local.address.is_unspecified() {
            let is_free = socket.chosen.is_freebind;
            let stack = self.started(Some(local.address.into()))?;
            if !is_free && !stack.is_local(local.address) {
                return Err(Errno(libc::EADDRNOTAVAIL));
            }
        }
        self.socket_mut(fd)?.local = local;
        Ok(())
    }

    /// What the namespace and the socket's own options say.
    fn settings(&mut self, fd: c_int) -> Outcome<(Vec<Setting>, Option<Sizes>)> {
        let mut settings = if self.setup.sysctl { sysctl::settings() } else { Vec::new() };
        // What the loader asked for stands above the namespace.
        settings.retain(|setting| self.setup.settings.iter().all(|own| own.key != setting.key));
        let sizes = self.sizes();
        let chosen = &self.socket_mut(fd)?.chosen;
        settings.retain(|setting| chosen.settings.iter().all(|own| own.key != setting.key));
        settings.extend(chosen.settings.iter().copied());
        let sizes = match (sizes, chosen.receive_size) {
            (sizes, None) => sizes,
            (sizes, Some(size)) => {
                Some(Sizes { receive_first: size, receive_max: size, ..sizes.unwrap_or_default() })
            }
        };
        Ok((settings, sizes))
    }

    pub(crate) fn listen(&mut self, fd: c_int, backlog: c_int) -> Outcome<()> {
        let (local, is_v6) = match self.socket_mut(fd)? {
            Socket { kind: Kind::New, local, is_v6, .. } => (*local, *is_v6),
            Socket { kind: Kind::Listener(_), .. } => return Ok(()),
            Socket { kind: Kind::Stream(_), .. } => return Err(Errno::INVALID),
        };
        let (settings, sizes) = self.settings(fd)?;
        self.socket_mut(fd)?.backlog = backlog;
        // The system takes one more than it is told.
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX - 1).min(4096) + 1;
        let options =
            ListenOptions { backlog, dual_stack: is_v6, sizes, settings, ..ListenOptions::default() };
        let listener = self.started(None)?.listen(local, options)?;
        self.socket_mut(fd)?.kind = Kind::Listener(listener);
        Ok(())
    }

    pub(crate) fn accept(&mut self, fd: c_int) -> Outcome<(c_int, Endpoint, bool)> {
        let Kind::Listener(listener) = self.socket_mut(fd)?.kind else { return Err(Errno::INVALID) };
        let accepted = self.stack()?.accept(listener)?;
        let listening = self.socket_mut(fd)?;
        listening.acceptable = listening.acceptable.saturating_sub(1);
        let is_v6 = listening.is_v6;
        let mut socket = Socket::new(Self::descriptor()?, is_v6);
        socket.kind = Kind::Stream(accepted.stream);
        socket.local = accepted.local;
        socket.has_told_open = true;
        socket.chosen = listening.chosen.clone();
        socket.ends = Some((accepted.local, accepted.remote));
        socket.in_edges = 1;
        socket.out_edges = 1;
        Ok((self.insert(socket), accepted.remote, is_v6))
    }

    /// Whether a call on this socket may wait.
    pub(crate) fn patience_of(&mut self, fd: c_int, flags: c_int) -> bool {
        flags & libc::MSG_DONTWAIT == 0 && self.sockets.get(&fd).is_some_and(|socket| !socket.nonblocking)
    }

    /// Begins to connect, or says how far that is: `EAGAIN` until it is open.
    pub(crate) fn connect(&mut self, fd: c_int, remote: Endpoint) -> Outcome<()> {
        match self.socket_mut(fd)?.kind {
            Kind::Listener(_) => return Err(Errno(libc::EISCONN)),
            Kind::Stream(stream) => return self.connected(fd, stream),
            Kind::New => {}
        }
        let (settings, sizes) = self.settings(fd)?;
        let local = self.socket_mut(fd)?.local;
        let stream = self.started(None)?.connect(remote, ConnectOptions { local, sizes, settings })?;
        self.socket_mut(fd)?.kind = Kind::Stream(stream);
        Err(Errno::AGAIN)
    }

    fn connected(&mut self, fd: c_int, stream: StreamId) -> Outcome<()> {
        let state = self.stack()?.is_open(stream);
        let socket = self.socket_mut(fd)?;
        match state {
            Ok(true) if socket.has_told_open => Err(Errno(libc::EISCONN)),
            Ok(true) => {
                socket.has_told_open = true;
                Ok(())
            }
            Ok(false) => Err(Errno::AGAIN),
            Err(_) if socket.has_told_end => Err(Errno(libc::ECONNABORTED)),
            Err(error) => {
                socket.has_told_end = true;
                Err(Errno::from(error))
            }
        }
    }

    /// Whether a `connect` is under way already.
    pub(crate) fn is_connecting(&self, fd: c_int) -> bool {
        self.sockets.get(&fd).is_some_and(|socket| matches!(socket.kind, Kind::Stream(_)))
    }

    /// `connect` to nowhere: the socket is as new.
    pub(crate) fn disconnect(&mut self, fd: c_int) -> Outcome<()> {
        let kind = self.socket_mut(fd)?.kind;
        if let (Kind::Stream(stream), Ok(stack)) = (kind, self.stack()) {
            stack.abort(stream);
        }
        let socket = self.socket_mut(fd)?;
        let descriptor = socket.fd.try_clone().map_err(|_| Errno(libc::EMFILE))?;
        let fresh = Socket {
            chosen: socket.chosen.clone(),
            nonblocking: socket.nonblocking,
            ..Socket::new(descriptor, socket.is_v6)
        };
        // The number stays: only the state is new.
        let old = std::mem::replace(socket, fresh);
        socket.fd = old.fd;
        Ok(())
    }

    pub(crate) fn shutdown(&mut self, fd: c_int, how: c_int) -> Outcome<()> {
        let kind = self.socket_mut(fd)?.kind;
        if !(libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how) {
            return Err(Errno::INVALID);
        }
        match kind {
            Kind::New => return Err(Errno::NOT_CONNECTED),
            Kind::Listener(listener) => {
                if how != libc::SHUT_WR {
                    self.stack()?.unlisten(listener);
                    self.socket_mut(fd)?.kind = Kind::New;
                }
                return Ok(());
            }
            Kind::Stream(stream) => {
                if how != libc::SHUT_RD {
                    self.stack()?.shutdown(stream)?;
                }
            }
        }
        let socket = self.socket_mut(fd)?;
        socket.is_shut_for_reading |= how != libc::SHUT_WR;
        socket.is_shut_for_writing |= how != libc::SHUT_RD;
        socket.in_edges += 1;
        Ok(())
    }

    /// Lets go of a socket or of a set of them. Other descriptors are not ours.
    pub(crate) fn close(&mut self, fd: c_int) -> Outcome<()> {
        if self.epolls.remove(&fd).is_some() {
            return Ok(());
        }
        let socket = self.sockets.remove(&fd).ok_or(Errno::BADF)?;
        self.epolls.values_mut().for_each(|epoll| epoll.forget(socket.fd.as_raw_fd()));
        match socket.kind {
            Kind::New => {}
            Kind::Listener(listener) => self.stack()?.unlisten(listener),
            Kind::Stream(stream) => match socket.chosen.linger_s {
                Some(0) => self.stack()?.abort(stream),
                Some(seconds) => self.stack()?.close(stream, u64::from(seconds) * SECOND),
                None => self.stack()?.close(stream, NEVER),
            },
        }
        Ok(())
    }
}
