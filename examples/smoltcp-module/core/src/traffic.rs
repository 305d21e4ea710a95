//! Segments in, packets out, and what has come of them.

use alloc::vec::Vec;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{
    Event, Finished, Kind, Mark, Opening, Place, Reason, Segment, Send, Source, Target, limits as bounds,
};
use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::{IpListenEndpoint, IpProtocol};

use crate::connection::{self, Connection, Stage};
use crate::packet::{self, Layout, Tcp};
use crate::{Smoltcp, Step, instant, limits};

/// Bytes that smoltcp has received, at most so many and at most those that lie in one piece.
fn take(socket: &mut Socket<'_>, most: usize) -> Vec<u8> {
    let taken = socket.recv(|bytes| {
        let count = bytes.len().min(most);
        (count, bytes.get(..count).map(<[u8]>::to_vec).unwrap_or_default())
    });
    taken.unwrap_or_default()
}

impl Smoltcp {
    /// A segment with its payload, as a packet for smoltcp. Fragments and ICMP errors are nothing to it.
    pub(crate) fn segment(
        &mut self,
        (index, segment): (u32, &Segment),
        header: &[u8],
        step: &mut Step<'_, '_>,
    ) {
        let Some(layout) = packet::layout(header).filter(|_| segment.kind == Kind::Whole) else { return };
        let mut whole = header.to_vec();
        if segment.payload > 0 {
            whole.extend(step.payload.read(Source::Segment, index.into(), 0, segment.payload));
        }
        packet::set_length(&mut whole);
        self.segments_in += u64::from(segment.count);
        match layout.protocol {
            IpProtocol::Tcp => {
                let Some((tcp, _)) = packet::tcp(&whole, layout) else { return };
                if self.is_welcome(&tcp) {
                    self.poll(whole);
                    if let Some(at) = self.find(tcp.destination, tcp.source) {
                        self.look(at, Some((index, tcp)), step);
                    }
                }
            }
            IpProtocol::Icmp | IpProtocol::Icmpv6 => self.poll(whole),
            _ => {}
        }
    }

    fn poll(&mut self, packet: Vec<u8>) {
        let Some(interface) = &mut self.interface else { return };
        self.queues.arriving.push_back(packet);
        // Whether it may have changed something is found out by looking.
        let _ = interface.poll_ingress_single(instant(self.now), &mut self.queues, &mut self.sockets);
    }

    /// A SYN for a listener is given a socket of its own, where the backlog allows for one. Says whether smoltcp is to see it.
    fn is_welcome(&mut self, tcp: &Tcp) -> bool {
        if !tcp.syn || tcp.has_ack || tcp.rst {
            return true;
        }
        if let Some(at) = self.find(tcp.destination, tcp.source) {
            let one = &self.connections[at];
            if one.stage != Stage::Gone || one.state != State::TimeWait {
                return true;
            }
            // RFC 9293 3.6.1: the same ends again, before the last segments have died; a SYN is no old one of these.
            self.remove(at);
        }
        let local = tcp.destination;
        let takes = |one: &&crate::Listener| {
            let at = one.listen.local;
            at.port == local.port && (at.address.is_unspecified() || at.address == local.address)
        };
        let Some(listener) = self.listeners.iter().find(takes) else { return true };
        let number = listener.listen.listener;
        let embryos = || self.connections.iter().filter(|one| one.stage == Stage::Embryo);
        let waiting = embryos().filter(|one| one.listener == number).count() as u64;
        let is_full = listener.accepted + waiting >= listener.listen.allow
            || embryos().count() >= limits::EMBRYOS
            || self.connections.len() >= limits::CONNECTIONS;
        if is_full || !self.is_ours(local.address) {
            return false;
        }
        let settings = [self.config.settings.as_slice(), &listener.listen.settings];
        let mut socket = connection::socket(listener.listen.receive_max, &settings);
        let at = IpListenEndpoint { addr: Some(packet::ip(local.address)), port: local.port };
        if socket.listen(at).is_err() {
            return false;
        }
        let limit = listener.listen.receive_first.into();
        let mut one = Connection::new(self.sockets.add(socket), Stage::Embryo, (local, tcp.source));
        one.listener = number;
        one.limit = limit;
        one.until = self.now.saturating_add(limits::EMBRYO);
        self.connections.push(one);
        true
    }

    /// What has become of a connection, by a segment or by time.
    fn look(&mut self, at: usize, cause: Option<(u32, Tcp)>, step: &mut Step<'_, '_>) {
        let state = self.sockets.get::<Socket<'_>>(self.connections[at].socket).state();
        let one = &mut self.connections[at];
        // smoltcp takes the first SYN and none that follows it, whatever that says.
        let is_synchronized = !matches!(state, State::Closed | State::Listen | State::SynSent);
        if let Some((_, tcp)) =
            cause.filter(|(_, tcp)| tcp.syn && !tcp.rst && is_synchronized && !one.is_synchronized)
        {
            one.is_synchronized = true;
            one.receive_base = tcp.seq.wrapping_add(1);
            one.mss = tcp.mss.unwrap_or(one.mss);
        }
        match one.stage {
            // Refused, or the peer has thought better of it.
            Stage::Embryo if matches!(state, State::Listen | State::Closed) => return self.remove(at),
            Stage::Opening if state == State::Closed => {
                let is_reset = cause.is_some_and(|(_, tcp)| tcp.rst);
                return self.end(at, if is_reset { reason::REFUSED } else { reason::TIMED_OUT }, step);
            }
            Stage::Embryo | Stage::Opening if matches!(state, State::SynSent | State::SynReceived) => {}
            Stage::Embryo | Stage::Opening => {
                let Some((segment, tcp)) = cause else { return };
                self.begin((at, segment), tcp, step);
            }
            Stage::Open | Stage::Gone => {}
        }
        let one = &mut self.connections[at];
        let before = core::mem::replace(&mut one.state, state);
        if one.stage != Stage::Open {
            return;
        }
        let socket = self.sockets.get::<Socket<'_>>(one.socket);
        let acknowledged = one.fed - socket.send_queue() as u64;
        if let Some((segment, _)) = cause.filter(|_| acknowledged != one.acknowledged) {
            (one.acknowledged, one.by) = (acknowledged, segment);
        }
        let has_fin = matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait);
        if let Some((segment, _)) = cause.filter(|(_, tcp)| tcp.fin && has_fin && one.finished.is_none()) {
            let end = one.exposed + socket.recv_queue() as u64;
            one.finished = Some(end);
            step.outputs.events.push(Event::Finished(Finished { connection: one.handle, at: end, segment }));
        }
        self.drain(at, step);
        self.ended(at, (before, state), cause, step);
    }

    /// The handshake is complete.
    fn begin(&mut self, (at, segment): (usize, u32), tcp: Tcp, step: &mut Step<'_, '_>) {
        let is_open = self.connections[at].stage == Stage::Opening;
        let one = &mut self.connections[at];
        if !tcp.syn && tcp.seq != one.receive_base {
            // Anywhere in the window is enough for smoltcp; the contract wants the segment that shows the first number.
            self.sockets.get_mut::<Socket<'_>>(one.socket).abort();
            return self.end(at, reason::ABORTED, step);
        }
        if !is_open {
            self.connections[at].handle = self.fresh_handle();
        }
        let one = &mut self.connections[at];
        one.stage = Stage::Open;
        one.send_base = tcp.ack;
        one.until = bulkhead_wit::NEVER;
        let headers = if one.local.address.is_v4() { 40 } else { 60 };
        let opening = Opening {
            listener: one.listener,
            connection: one.handle,
            segment,
            receive_base: one.receive_base,
            send_base: one.send_base,
            mss: one.mss.min((self.queues.mtu - headers) as u16).max(1),
        };
        step.outputs.events.push(if is_open { Event::Opened(opening) } else { Event::Accepted(opening) });
        for listener in &mut self.listeners {
            if !is_open && listener.listen.listener == one.listener {
                listener.accepted += 1;
            }
        }
    }

    /// Whether that was the end of an open connection. What was not placed yet holds an end in order back.
    fn ended(
        &mut self,
        at: usize,
        (before, state): (State, State),
        cause: Option<(u32, Tcp)>,
        step: &mut Step<'_, '_>,
    ) {
        let one = &self.connections[at];
        let socket = self.sockets.get::<Socket<'_>>(one.socket);
        let is_placed = socket.recv_queue() == 0 && one.rest.is_empty();
        let why = match state {
            State::Closed if cause.is_some_and(|(_, tcp)| tcp.rst) => reason::RESET,
            State::Closed
                if one.finished.is_some()
                    && matches!(before, State::LastAck | State::TimeWait | State::Closed) =>
            {
                if !is_placed {
                    return;
                }
                reason::NORMAL
            }
            State::Closed => reason::TIMED_OUT,
            State::TimeWait if is_placed => reason::NORMAL,
            // Nothing more is needed of the host: what comes is read by nobody.
            State::FinWait2 if one.is_detached => reason::NORMAL,
            State::Closing if one.is_detached && socket.send_queue() == 0 => reason::NORMAL,
            _ => return,
        };
        self.end(at, why, step);
    }

    /// The last word about a connection.
    pub(crate) fn end(&mut self, at: usize, why: u16, step: &mut Step<'_, '_>) {
        let is_known = matches!(self.connections[at].stage, Stage::Opening | Stage::Open);
        self.mark(at, step);
        let one = &mut self.connections[at];
        one.stage = Stage::Gone;
        one.until = self.now.saturating_add(limits::FIN_WAIT_2);
        if is_known {
            let closed = Reason { connection: one.handle, reason: why, value: 0 };
            step.outputs.events.push(Event::Closed(closed));
        }
    }

    /// What smoltcp has in order is staged and placed, as far as the host has granted.
    fn drain(&mut self, at: usize, step: &mut Step<'_, '_>) {
        let one = &mut self.connections[at];
        let socket = self.sockets.get_mut::<Socket<'_>>(one.socket);
        let is_read = one.stage == Stage::Open && !one.is_detached;
        loop {
            let queue = if one.rest.is_empty() { socket.recv_queue() } else { one.rest.len() };
            // smoltcp takes bytes behind a FIN, too; nobody reads them.
            let is_read = is_read && one.finished.is_none_or(|end| one.exposed < end);
            let limit = one.limit.min(one.finished.unwrap_or(u64::MAX));
            let granted = usize::try_from(limit.saturating_sub(one.exposed)).unwrap_or(usize::MAX);
            let count = if is_read { queue.min(granted).min(bounds::DATAGRAM) } else { queue };
            if count == 0 {
                break;
            }
            let is_full = step.outputs.places.len() == bounds::PLACES || count > step.stage_bytes;
            if is_read && (step.stages == 0 || is_full) {
                step.is_short = true;
                break;
            }
            let bytes =
                if one.rest.is_empty() { take(socket, count) } else { one.rest.drain(..count).collect() };
            if bytes.is_empty() {
                break;
            }
            if !is_read {
                continue;
            }
            let number = step.payload.stage(&bytes);
            step.stages -= 1;
            step.stage_bytes -= bytes.len();
            step.outputs.places.push(Place {
                of: one.handle.0,
                at: one.exposed,
                segment: number,
                skip: 0,
                length: bytes.len() as u32,
                source: Source::Staged,
                target: Target::Stream,
            });
            one.exposed += bytes.len() as u64;
        }
        // In one piece or in two, as the end of a ring has it.
        for _ in 0..2 {
            if matches!(socket.state(), State::TimeWait | State::Closed) {
                one.rest.extend(take(socket, usize::MAX));
            }
        }
    }

    /// What the application has written goes into smoltcp's buffer, and the end of it after it.
    fn feed(&mut self, at: usize, step: &mut Step<'_, '_>) {
        let one = &mut self.connections[at];
        let socket = self.sockets.get_mut::<Socket<'_>>(one.socket);
        if one.stage != Stage::Open || !matches!(socket.state(), State::Established | State::CloseWait) {
            return;
        }
        while one.fed < one.written {
            let space = socket.send_capacity() - socket.send_queue();
            if space == 0 {
                return;
            }
            let wanted = usize::try_from(one.written - one.fed).unwrap_or(usize::MAX).min(space);
            let wanted = wanted.min(step.read_bytes);
            if wanted == 0 {
                step.is_short = true;
                return;
            }
            let bytes = step.payload.read(Source::Queue, one.handle.0, one.fed, wanted as u32);
            let Ok(count) = socket.send_slice(&bytes) else { return };
            step.read_bytes -= wanted;
            one.fed += count as u64;
            if count == 0 {
                return;
            }
        }
        if one.is_shut {
            socket.close();
        }
    }

    /// How far a connection has come, where the host does not know it yet.
    fn mark(&mut self, at: usize, step: &mut Step<'_, '_>) {
        let one = &mut self.connections[at];
        let now = (one.exposed, one.acknowledged);
        if one.stage == Stage::Open && now != one.told {
            one.told = now;
            let (exposed, acknowledged) = now;
            let mark = Mark { connection: one.handle, exposed, acknowledged, by: one.by, ..Mark::default() };
            step.outputs.marks.push(mark);
        }
    }

    /// Everything that can leave now, and what has come of it.
    pub(crate) fn leave(&mut self, step: &mut Step<'_, '_>) {
        for at in 0..self.connections.len() {
            self.feed(at, step);
            self.drain(at, step);
        }
        if let Some(interface) = &mut self.interface {
            interface.poll_maintenance(instant(self.now));
            while self.queues.has_room() {
                let done = interface.poll_egress(instant(self.now), &mut self.queues, &mut self.sockets);
                if done == PollResult::None {
                    break;
                }
            }
        }
        for packet in core::mem::take(&mut self.queues.leaving) {
            self.send(packet, step);
        }
        for at in (0..self.connections.len()).rev() {
            self.look(at, None, step);
        }
        for at in (0..self.connections.len()).rev() {
            self.mark(at, step);
            let one = &self.connections[at];
            let socket = self.sockets.get::<Socket<'_>>(one.socket);
            if one.stage == Stage::Gone
                && socket.state() == State::Closed
                && socket.remote_endpoint().is_none()
            {
                self.remove(at);
            }
        }
    }

    /// A packet of smoltcp's as the contract has it.
    fn send(&mut self, mut packet: Vec<u8>, step: &mut Step<'_, '_>) {
        let Some(layout) = packet::layout(&packet) else { return };
        let header_length = match layout.protocol {
            IpProtocol::Tcp => packet::tcp(&packet, layout).map(|(_, length)| layout.transport + length),
            _ => Some(layout.transport + 8),
        };
        let Some(header_length) = header_length.filter(|length| *length <= packet.len()) else { return };
        let is_tcp = layout.protocol == IpProtocol::Tcp;
        if is_tcp && packet::tcp(&packet, layout).is_some_and(|(tcp, _)| self.is_idle_talk(&tcp)) {
            return;
        }
        let sources = self.source(&packet, layout, header_length, step);
        packet::clear(&mut packet, layout);
        let header = step.outputs.headers.len() as u32;
        step.outputs.headers.extend_from_slice(packet.get(..header_length).unwrap_or_default());
        step.outputs.sends.push(Send {
            header,
            header_length: header_length as u16,
            transport: layout.transport as u16,
            ..sources
        });
        self.segments_out += 1;
    }

    /// A reset for an open that was never answered: it would acknowledge what nobody has said, and RFC 9293 3.10.5 sends none.
    fn is_idle_talk(&self, tcp: &Tcp) -> bool {
        let of = self.find(tcp.source, tcp.destination).and_then(|at| self.connections.get(at));
        tcp.rst && of.is_some_and(|one| !one.is_synchronized)
    }

    /// Where the host finds a packet's payload: a stream's in its own queue, an echo's among what was staged.
    fn source(&self, packet: &[u8], layout: Layout, from: usize, step: &mut Step<'_, '_>) -> Send {
        let payload = packet.get(from..).unwrap_or_default();
        let length = payload.len() as u32;
        if payload.is_empty() {
            return Send::default();
        }
        let Some((tcp, _)) = packet::tcp(packet, layout).filter(|_| layout.protocol == IpProtocol::Tcp)
        else {
            return Send {
                of: step.payload.stage(payload).into(),
                length,
                source: Source::Staged,
                ..Send::default()
            };
        };
        let Some(at) = self.find(tcp.source, tcp.destination) else { return Send::default() };
        let one = &self.connections[at];
        // As the host has its queue before this step's acknowledgements.
        let (_, told) = one.told;
        let offset = tcp.seq.wrapping_sub(one.send_base).wrapping_sub(told as u32);
        let begin = told + u64::from(offset);
        // The byte of a keepalive probe was never written; without it the probe does the same.
        if begin + u64::from(length) > one.fed {
            return Send::default();
        }
        Send { of: one.handle.0, at: begin, length, source: Source::Queue, ..Send::default() }
    }
}
