//! What the host asks for.

use alloc::vec;
use bulkhead_wit::registry::{census, info, reason};
use bulkhead_wit::{
    Address, Call, Choosing, Close, Endpoint, Event, Failed, Handle, Info, Listen, Listening, Open, Setting,
    Time,
};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpListenEndpoint;

use crate::connection::{self, Connection, Stage};
use crate::{Listener, Smoltcp, Step, limits, packet};

impl Smoltcp {
    pub(crate) fn call(&mut self, index: u32, call: &Call, step: &mut Step<'_, '_>) {
        let done = match call {
            Call::Configure(config) => {
                self.configure(config, step);
                Ok(())
            }
            Call::Reseed(seed) => {
                self.config.seed = *seed;
                self.build();
                Ok(())
            }
            Call::Listen(listen) => self.listen(listen),
            Call::Allow(allow) => {
                let listener = self.listeners.iter_mut().find(|one| one.listen.listener == allow.listener);
                listener
                    .map(|one| one.listen.allow = one.listen.allow.max(allow.up_to))
                    .ok_or(reason::UNKNOWN)
            }
            Call::Unlisten(number) => self.unlisten(*number),
            Call::Open(open) => self.open(open, step),
            Call::Shutdown(handle) => self.by_handle(*handle).map(|at| self.connections[at].is_shut = true),
            Call::Close(close) => self.close(close, step),
            Call::Abort(handle) => self.by_handle(*handle).map(|at| self.abort(at, reason::ABORTED, step)),
            Call::Set(change) => self.set(change.of, change.setting),
            Call::Query(of) => self.query(*of, step),
            Call::Report(report) => self.by_handle(report.connection).map(drop),
            Call::Bind(_) | Call::Decide(_) => Err(reason::UNSUPPORTED),
        };
        if let Err(reason) = done {
            step.outputs.events.push(Event::Failed(Failed { call: index, reason }));
        }
    }

    fn listen(&mut self, listen: &Listen) -> Result<(), u16> {
        let local = listen.local;
        // smoltcp listens at one port of its own addresses, and answers a SYN at once.
        if local.port == 0 || listen.how.0 & (Listening::ANY_ADDRESS.0 | Listening::DEFER.0) != 0 {
            return Err(reason::UNSUPPORTED);
        }
        if !local.address.is_unspecified() && !self.is_ours(local.address) {
            return Err(reason::NOT_AVAILABLE);
        }
        let is_same = |one: &Listener| {
            let other = one.listen.local;
            other.port == local.port
                && (other.address == local.address
                    || other.address.is_unspecified()
                    || local.address.is_unspecified())
        };
        if self.listeners.iter().any(is_same) {
            return Err(reason::IN_USE);
        }
        self.listeners.push(Listener { listen: listen.clone(), accepted: 0 });
        Ok(())
    }

    fn unlisten(&mut self, number: u32) -> Result<(), u16> {
        let at =
            self.listeners.iter().position(|one| one.listen.listener == number).ok_or(reason::UNKNOWN)?;
        self.listeners.remove(at);
        for one in &mut self.connections {
            if one.stage == Stage::Embryo && one.listener == number {
                one.stage = Stage::Gone;
                self.sockets.get_mut::<Socket<'_>>(one.socket).abort();
            }
        }
        Ok(())
    }

    fn open(&mut self, open: &Open, step: &mut Step<'_, '_>) -> Result<(), u16> {
        let (mut local, remote) = (open.local, open.remote);
        if remote.port == 0 || !remote.address.is_unicast() {
            return Err(reason::INVALID);
        }
        if self.connections.len() >= limits::CONNECTIONS {
            return Err(reason::EXHAUSTED);
        }
        if local.address.is_unspecified() {
            local.address = self.config.source_for(remote.address).ok_or(reason::NOT_AVAILABLE)?;
        } else if !self.is_ours(local.address) || local.address.is_v4() != remote.address.is_v4() {
            return Err(reason::NOT_AVAILABLE);
        }
        if local.port == 0 {
            local.port = self.free_port(local.address, remote).ok_or(reason::EXHAUSTED)?;
        } else if self.find(local, remote).is_some() {
            return Err(reason::IN_USE);
        }
        let mut socket = connection::socket(open.receive_max, &[&self.config.settings, &open.settings]);
        let interface = self.interface.as_mut().ok_or(reason::INVALID)?;
        let at = IpListenEndpoint { addr: Some(packet::ip(local.address)), port: local.port };
        socket.connect(interface.context(), packet::ip_end(remote), at).map_err(|_| reason::INVALID)?;
        let mut connection = Connection::new(self.sockets.add(socket), Stage::Opening, (local, remote));
        connection.handle = open.connection;
        connection.limit = open.receive_first.into();
        connection.state = State::SynSent;
        connection.until = self.now.saturating_add(limits::OPEN);
        self.connections.push(connection);
        if local != open.local {
            step.outputs.events.push(Event::Choosing(Choosing { connection: open.connection, local }));
        }
        Ok(())
    }

    /// A port of the ephemeral range and of this shard's class that is free for this peer.
    fn free_port(&mut self, address: Address, remote: Endpoint) -> Option<u16> {
        let (first, last) = (u32::from(self.config.ports_first), u32::from(self.config.ports_last));
        let (shard, shards) = (u32::from(self.config.shard), u32::from(self.config.shards.max(1)));
        let begin = self.random() as u32;
        (0..limits::PORTS).find_map(|tried| {
            let port = first + begin.wrapping_add(tried * shards) % (last - first + 1).max(1);
            let port = port - port % shards + shard;
            let port = u16::try_from(port).ok().filter(|port| (first..=last).contains(&u32::from(*port)))?;
            self.find(Endpoint::new(address, port), remote).is_none().then_some(port)
        })
    }

    fn close(&mut self, close: &Close, step: &mut Step<'_, '_>) -> Result<(), u16> {
        let at = self.by_handle(close.connection)?;
        let connection = &mut self.connections[at];
        (connection.is_shut, connection.is_detached) = (true, true);
        if close.linger == 0 || connection.stage != Stage::Open {
            self.abort(at, reason::ABORTED, step);
        } else {
            connection.until = self.now.saturating_add(close.linger);
        }
        Ok(())
    }

    /// Resets a connection; the host is told.
    pub(crate) fn abort(&mut self, at: usize, why: u16, step: &mut Step<'_, '_>) {
        self.sockets.get_mut::<Socket<'_>>(self.connections[at].socket).abort();
        self.end(at, why, step);
    }

    fn set(&mut self, of: Handle, setting: Setting) -> Result<(), u16> {
        if of == Handle::INSTANCE {
            self.config.settings.retain(|one| one.key != setting.key);
            self.config.settings.push(setting);
            return Ok(());
        }
        let at = self.by_handle(of)?;
        let socket = self.sockets.get_mut::<Socket<'_>>(self.connections[at].socket);
        if connection::set(socket, setting) { Ok(()) } else { Err(reason::UNSUPPORTED) }
    }

    fn query(&mut self, of: Handle, step: &mut Step<'_, '_>) -> Result<(), u16> {
        let fields = if of == Handle::INSTANCE {
            let mut fields = vec![0; usize::from(census::ECHOES) + 1];
            let mut count = |field: u16, number: u64| {
                fields.get_mut(usize::from(field)).into_iter().for_each(|field| *field += number);
            };
            for one in &self.connections {
                count(
                    match one.state {
                        State::SynSent => census::SYN_SENT,
                        State::SynReceived | State::Listen => census::SYN_RECEIVED,
                        State::Established => census::ESTABLISHED,
                        State::TimeWait => census::TIME_WAIT,
                        _ => census::CLOSING,
                    },
                    1,
                );
            }
            count(census::LISTENERS, self.listeners.len() as u64);
            count(census::SEGS_IN, self.segments_in);
            count(census::SEGS_OUT, self.segments_out);
            fields
        } else {
            let one = &self.connections[self.by_handle(of)?];
            let socket = self.sockets.get::<Socket<'_>>(one.socket);
            let window = (socket.recv_capacity() - socket.recv_queue()) as u64;
            let mut fields = vec![0; usize::from(info::UNDONE) + 1];
            for (field, value) in [
                (info::STATE, connection::number(socket.state())),
                (info::SND_MSS, one.mss.into()),
                (info::BYTES_ACKED, one.acknowledged),
                (info::BYTES_RECEIVED, one.exposed),
                (info::RCV_WND, window),
            ] {
                fields.get_mut(usize::from(field)).into_iter().for_each(|field| *field = value);
            }
            fields
        };
        step.outputs.events.push(Event::Info(Info { of, fields }));
        Ok(())
    }

    /// The living connection of this name.
    pub(crate) fn by_handle(&self, handle: Handle) -> Result<usize, u16> {
        let is_it =
            |one: &Connection| one.handle == handle && matches!(one.stage, Stage::Opening | Stage::Open);
        self.connections.iter().position(is_it).ok_or(reason::UNKNOWN)
    }

    /// What is to be given up by now.
    pub(crate) fn expire(&mut self, now: Time, step: &mut Step<'_, '_>) {
        for at in (0..self.connections.len()).rev() {
            let one = &self.connections[at];
            if one.until > now {
                continue;
            }
            match one.stage {
                Stage::Opening | Stage::Open => self.abort(at, reason::TIMED_OUT, step),
                Stage::Embryo | Stage::Gone => self.remove(at),
            }
        }
    }
}
