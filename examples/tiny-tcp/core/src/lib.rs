//! A small TCP, some 1,100 lines, to learn TCP and the contract from. It opens, moves bytes, loses some and sends them again,
//! closes and resets, over both versions of IP. Read it in this order:
//!
//! - `wire`: headers, which is all of a segment that a module ever sees;
//! - `connection`: the two streams of a connection as numbers, and when what is sent;
//! - `arrive`: what a segment does to them (RFC 9293 3.10.7);
//! - this file: the contract ([`Module`]): whose a segment is, and what the host asks for;
//! - `save`: the whole state as bytes, so that another instance can go on.
//!
//! What is missing, and what `guest-tcp/core` has: segments that come out of order are dropped and come again (no reassembly, no
//! SACK); no window scaling, no timestamps, no path MTU discovery, no Nagle, no keepalive, no SYN cookies; Reno without
//! fast recovery; every lookup walks through all connections.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod arrive;
mod connection;
mod save;
mod wire;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::registry::{census, protocol, reason, service};
use bulkhead_wit::{
    Address, Call, Config, Description, Endpoint, Event, Failed, Handle, Info, Inputs, Kind, Listen, Mark,
    Module, NEVER, Open, Outputs, Reason, Service, Summary, Time, limits,
};
use connection::{Connection, State};
use wire::{Header, Room};

/// The TCP module.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    config: Config,
    /// Where all randomness comes from.
    secret: u64,
    /// Listeners, each with the connections that it has given away.
    listeners: Vec<(Listen, u64)>,
    connections: Vec<Connection>,
    /// Handles that we have numbered.
    numbered: u64,
}

impl Tcp {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn is_ours(&self, address: Address) -> bool {
        self.config.any_address || self.config.addresses.iter().any(|prefix| prefix.address == address)
    }

    fn find(&mut self, handle: Handle) -> Result<&mut Connection, u16> {
        let known =
            |one: &&mut Connection| one.handle == handle && handle != Handle::INSTANCE && one.is_known;
        self.connections.iter_mut().find(known).ok_or(reason::UNKNOWN)
    }

    fn at(&self, local: Endpoint, remote: Endpoint) -> Option<&Connection> {
        self.connections.iter().find(|one| one.local == local && one.remote == remote)
    }

    /// An initial sequence number (RFC 9293 3.4.1): a clock of 4 us, and a hash of both ends that nobody else can compute.
    fn initial(&self, now: Time, local: Endpoint, remote: Endpoint) -> u32 {
        let words = [local, remote].map(|end| [end.address.high, end.address.low, u64::from(end.port)]);
        let hash = words.iter().flatten().fold(self.secret, |hash, word| mixed(hash ^ word));
        (hash as u32).wrapping_add((now / 4000) as u32)
    }

    /// A handle for a connection that a stranger opened. A slot is used again when its connection is gone, with a generation
    /// that it has not had.
    fn number(&mut self) -> Handle {
        loop {
            self.numbered += 1;
            let slot = (self.numbered % u64::from(limits::CONNECTIONS)) as u32;
            let generation = (self.numbered / u64::from(limits::CONNECTIONS)) as u32 + 1;
            let handle = Handle::by_module(slot, generation);
            let is_taken = |one: &Connection| one.handle.is_by_module() && one.handle.slot() == slot;
            if !self.connections.iter().any(is_taken) {
                return handle;
            }
        }
    }

    // ---- calls, before the positions

    fn call(&mut self, call: &Call, now: Time) -> Result<(), u16> {
        match call {
            Call::Configure(config) => self.config = config.clone(),
            Call::Reseed(seed) => self.secret = secret(*seed),
            Call::Listen(listen) => {
                if self.listeners.iter().any(|(other, _)| other.local == listen.local) {
                    return Err(reason::IN_USE);
                }
                self.listeners.push((listen.clone(), 0));
            }
            Call::Allow(allow) => {
                let found = self.listeners.iter_mut().find(|(one, _)| one.listener == allow.listener);
                found.ok_or(reason::UNKNOWN)?.0.allow = allow.up_to;
            }
            Call::Unlisten(number) => {
                let at = self.listeners.iter().position(|(one, _)| one.listener == *number);
                self.listeners.remove(at.ok_or(reason::UNKNOWN)?);
                for one in &mut self.connections {
                    if one.handle == Handle::INSTANCE && one.listener == *number {
                        one.reset(None);
                    }
                }
            }
            Call::Open(open) => return self.open(open, now),
            Call::Bind(_) | Call::Decide(_) => return Err(reason::UNSUPPORTED),
            // After the positions, or not served: settings and reports may be ignored.
            Call::Shutdown(_) | Call::Close(_) | Call::Abort(_) | Call::Query(_) => {}
            Call::Set(_) | Call::Report(_) => {}
        }
        Ok(())
    }

    /// RFC 9293 3.10.1, active: the SYN leaves at the end of the step.
    fn open(&mut self, open: &Open, now: Time) -> Result<(), u16> {
        let remote = open.remote;
        let mut local = open.local;
        if local.address.is_unspecified() {
            let ours = self.config.addresses.iter();
            let near = ours.clone().find(|prefix| prefix.contains(remote.address));
            let same = ours.clone().find(|prefix| prefix.address.is_v4() == remote.address.is_v4());
            local.address = near.or(same).ok_or(reason::NOT_AVAILABLE)?.address;
        }
        if local.address.is_v4() != remote.address.is_v4() || !self.is_ours(local.address) {
            return Err(reason::NOT_AVAILABLE);
        }
        if local.port == 0 {
            let (first, last) = (self.config.ports_first, self.config.ports_last);
            let count = u64::from(last.saturating_sub(first)) + 1;
            let begin = mixed(self.secret ^ now);
            let ports = (0..count).map(|at| first + (begin.wrapping_add(at) % count) as u16);
            let mut ports = ports.filter(|port| port % self.config.shards.max(1) == self.config.shard);
            let free = ports.find(|port| self.at(Endpoint::new(local.address, *port), remote).is_none());
            local.port = free.ok_or(reason::EXHAUSTED)?;
        } else if self.at(local, remote).is_some() {
            return Err(reason::IN_USE);
        }
        if self.connections.len() >= self.config.connections as usize {
            return Err(reason::EXHAUSTED);
        }
        let iss = self.initial(now, local, remote);
        let mut one = Connection::new(State::SynSent, (local, remote), iss, self.config.mtu);
        (one.handle, one.is_known, one.limit) = (open.connection, true, u64::from(open.receive_first));
        one.is_chosen = local != open.local;
        self.connections.push(one);
        Ok(())
    }

    // ---- calls, after the positions

    fn ending(&mut self, call: &Call, now: Time, outputs: &mut Outputs) -> Result<(), u16> {
        match call {
            Call::Shutdown(handle) => self.find(*handle)?.finish(),
            Call::Abort(handle) => self.find(*handle)?.reset(Some(reason::ABORTED)),
            Call::Close(close) => {
                let one = self.find(close.connection)?;
                if close.linger == 0 || one.state == State::SynSent || one.exposed() > one.consumed {
                    // What arrived and nobody will read is lost, and the peer has to know (RFC 2525 2.17).
                    one.reset(Some(reason::ABORTED));
                } else {
                    one.is_closed = true;
                    one.linger = now.saturating_add(close.linger);
                    one.finish();
                }
            }
            Call::Query(of) => {
                let fields = if *of == Handle::INSTANCE { self.census() } else { Vec::new() };
                outputs.events.push(Event::Info(Info { of: *of, fields }));
            }
            _ => {}
        }
        Ok(())
    }

    fn census(&self) -> Vec<u64> {
        let mut fields = alloc::vec![0; usize::from(census::ECHOES) + 1];
        let in_state = |state| self.connections.iter().filter(|one| one.state == state).count() as u64;
        for (number, value) in [
            (census::LISTENERS, self.listeners.len() as u64),
            (census::ESTABLISHED, in_state(State::Established)),
            (census::TIME_WAIT, in_state(State::TimeWait)),
        ] {
            if let Some(field) = fields.get_mut(usize::from(number)) {
                *field = value;
            }
        }
        fields
    }

    // ---- segments

    fn segment(&mut self, number: u32, header: &Header, step: &mut Step<'_>) {
        if !self.is_ours(header.local.address) || !header.remote.address.is_unicast() {
            return;
        }
        if let Some(at) = self.position(header) {
            let one = &mut self.connections[at];
            // A new SYN to an old end in TIME-WAIT (RFC 9293 3.6.1) begins anew; everything else is the connection's.
            if one.state != State::TimeWait || !header.has(wire::SYN) || !one.is_beyond(header.sequence) {
                if arrive::arrive(one, (number, header), step) {
                    self.accept(at, number, step.outputs);
                }
                return;
            }
            self.connections.remove(at);
        }
        if header.has(wire::SYN)
            && !header.has(wire::ACK)
            && !header.has(wire::RST)
            && self.listen(header, step.now)
        {
            return;
        }
        if !header.has(wire::RST) {
            wire::refuse(header, &mut step.room, step.outputs);
        }
    }

    fn position(&self, header: &Header) -> Option<usize> {
        let is_it = |one: &Connection| one.local == header.local && one.remote == header.remote;
        self.connections.iter().position(|one| is_it(one) && !one.is_gone())
    }

    /// A SYN for a listener (RFC 9293 3.10.7.2). Says whether there is one.
    fn listen(&mut self, header: &Header, now: Time) -> bool {
        let listens = |(one, _): &(Listen, u64)| {
            let address = one.local.address;
            let any = address.is_unspecified();
            let is_same = any && (address.is_v4() == header.local.address.is_v4() || !address.is_v4());
            one.local.port == header.local.port && (is_same || address == header.local.address)
        };
        let Some(at) = self.listeners.iter().position(listens) else {
            return false;
        };
        let (listener, accepted) = &self.listeners[at];
        let embryos = self.connections.iter().filter(|one| one.handle == Handle::INSTANCE);
        let own = embryos.clone().filter(|one| one.listener == listener.listener).count() as u64;
        let is_full = embryos.count() >= self.config.embryos as usize
            || self.connections.len() >= self.config.connections as usize
            || accepted + own >= listener.allow;
        if is_full {
            // Nothing is said: the peer tries again.
            return true;
        }
        let (number, limit) = (listener.listener, u64::from(listener.receive_first));
        let iss = self.initial(now, header.local, header.remote);
        let ends = (header.local, header.remote);
        let mut one = Connection::new(State::SynReceived, ends, iss, self.config.mtu);
        (one.listener, one.limit) = (number, limit);
        one.synchronise(header);
        self.connections.push(one);
        true
    }

    /// A handshake is complete: the host is told of the connection.
    fn accept(&mut self, at: usize, segment: u32, outputs: &mut Outputs) {
        let number = self.number();
        let one = &mut self.connections[at];
        (one.handle, one.is_known) = (number, true);
        outputs.events.push(Event::Accepted(one.opening(segment)));
        if let Some((_, accepted)) = self.listeners.iter_mut().find(|(own, _)| own.listener == one.listener) {
            *accepted += 1;
        }
    }

    // ---- the end of a step

    /// Sends what may be sent, tells what has changed, and forgets what is over.
    fn conclude(&mut self, step: &mut Step<'_>) {
        let Step { now, room, outputs } = step;
        for one in &mut self.connections {
            one.expire(*now);
            one.send(*now, room, outputs);
            let mark = (one.exposed(), one.acknowledged());
            if one.is_known && mark != one.told {
                one.told = mark;
                outputs.marks.push(Mark {
                    connection: one.handle,
                    exposed: mark.0,
                    acknowledged: mark.1,
                    by: one.acknowledged_by,
                    ..Mark::default()
                });
            }
            if let Some(why) = one.ending().filter(|_| one.is_known) {
                one.is_known = false;
                let value = Reason { connection: one.handle, reason: why, value: 0 };
                outputs.events.push(Event::Closed(value));
            }
            outputs.unfinished |= one.waits_for_room;
            if one.deadline() < outputs.deadline {
                outputs.deadline = one.deadline();
                outputs.deadline_of = if one.is_known { one.handle } else { Handle::INSTANCE };
            }
        }
        self.connections.retain(|one| !one.is_gone() || one.is_known);
        if outputs.deadline != NEVER {
            outputs.deadline = outputs.deadline.max(now.saturating_add(limits::DEADLINE_MIN));
        }
    }
}

/// What a step works with.
pub(crate) struct Step<'a> {
    pub(crate) now: Time,
    pub(crate) room: Room,
    pub(crate) outputs: &'a mut Outputs,
}

/// A number in which every bit depends on every bit of another (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

fn secret(seed: (u64, u64, u64, u64)) -> u64 {
    [seed.0, seed.1, seed.2, seed.3].iter().fold(0, |hash, word| mixed(hash ^ word))
}

impl Module for Tcp {
    fn describe(&self) -> Description {
        let tcp = Service { kind: service::IP_PROTOCOL, value: u16::from(protocol::TCP) };
        Description {
            name: String::from("tiny-tcp"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            serves: [tcp].into(),
            sends: [tcp].into(),
            bytes_per_connection: size_of::<Connection>() as u32,
            state_format: save::FORMAT,
            settings: Vec::new(),
        }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        *self = Self { config: config.clone(), secret: secret(config.seed), ..Self::default() };
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        let now = inputs.now;
        let failed = |index: u32, result: Result<(), u16>, outputs: &mut Outputs| {
            if let Err(reason) = result {
                outputs.events.push(Event::Failed(Failed { call: index, reason }));
            }
        };
        for (index, call) in (0..).zip(inputs.calls) {
            failed(index, self.call(call, now), outputs);
        }
        for position in inputs.positions {
            if let Ok(one) = self.find(position.connection) {
                one.position(position);
            }
        }
        for (index, call) in (0..).zip(inputs.calls) {
            let result = self.ending(call, now, outputs);
            failed(index, result, outputs);
        }
        let mut step = Step { now, room: Room::new(inputs.room), outputs };
        for (number, segment) in (0..).zip(inputs.segments) {
            let begin = segment.header as usize;
            let bytes = inputs.headers.get(begin..begin + usize::from(segment.header_length));
            let is_tcp = segment.kind == Kind::Whole && segment.protocol == protocol::TCP;
            if let Some(header) = bytes.filter(|_| is_tcp).and_then(|bytes| Header::parse(bytes, segment)) {
                self.segment(number, &header, &mut step);
            }
        }
        self.conclude(&mut step);
    }

    fn save(&self) -> Vec<u8> {
        save::save(self)
    }

    fn load(&mut self, config: &Config, _: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        *self = save::load(config, state).ok_or_else(|| String::from("this is no state of tiny-tcp's"))?;
        Ok(self.connections.iter().filter(|one| one.is_known).map(Connection::summary).collect())
    }
}
