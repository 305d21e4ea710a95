//! A small TCP, less than 800 lines of code, to learn TCP and the contract from. It opens, moves bytes, loses some and sends them again,
//! closes and resets, over both versions of IP. Read it in this order:
//!
//! - `wire`: headers, which is all of a segment that a module ever sees;
//! - `connection`: the two streams of a connection as numbers, and when what is sent;
//! - `arrive`: what a segment does to them (RFC 9293 3.10.7);
//! - this file: the contract ([`Module`]): whose a segment is, and what the host asks for.
//!
//! What is missing, and what `guest-tcp/core` has: segments that come out of order are dropped and come again (no reassembly, no
//! SACK); no window scaling, no timestamps, no path MTU discovery, no Nagle, no keepalive, no SYN cookies; Reno without
//! fast recovery; every lookup walks through all connections.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod arrive;
mod connection;
mod wire;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::registry::{protocol, reason, service};
use bulkhead_wit::{
    Call, Choosing, Config, Description, Endpoint, Event, Failed, Handle, Info, Inputs, Kind, Listen, Mark,
    Module, Open, Outputs, Reason, Room, Service, Summary, Time, kept, limits,
};
use connection::{Connection, State};
use wire::{ACK, Header, RST, SYN, Step};

/// The TCP module.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    config: Config,
    /// Where all randomness comes from: the first word of the seed.
    secret: u64,
    /// Listeners, each with the connections that it has given away.
    listeners: Vec<(Listen, u64)>,
    connections: Vec<Connection>,
    /// Handles that we have numbered.
    numbered: u32,
}

// What another instance needs to go on.
kept! {
    struct Tcp { secret numbered listeners connections }
}

/// The number of this format, and what a state begins with.
const FORMAT: u32 = 2;
const MAGIC: u64 = u64::from_le_bytes(*b"tinytcp\x03");

impl Tcp {
    /// The connection that the host knows by this handle.
    fn find(&mut self, handle: Handle) -> Result<&mut Connection, u16> {
        self.connections.iter_mut().find(|one| one.handle == handle).ok_or(reason::UNKNOWN)
    }

    /// Where the connection with these ends is.
    fn between(&self, local: Endpoint, remote: Endpoint) -> Option<usize> {
        let is_it = |one: &Connection| one.local == local && one.remote == remote;
        self.connections.iter().position(|one| is_it(one) && one.state != State::Closed)
    }

    /// An initial sequence number (RFC 9293 3.4.1): a clock of 4 us, and a hash of both ends that nobody else can compute.
    fn initial(&self, now: Time, local: Endpoint, remote: Endpoint) -> u32 {
        let words = [local, remote].map(|end| [end.address.high, end.address.low, u64::from(end.port)]);
        let hash = words.iter().flatten().fold(self.secret, |hash, word| mixed(hash ^ word));
        (hash as u32).wrapping_add((now / 4000) as u32)
    }

    /// A handle for a connection that a stranger opened: a slot that is free, with a generation that it has not had.
    fn number(&mut self) -> Handle {
        self.numbered += 1;
        let is_by_us = |one: &&Connection| one.handle.is_by_module();
        let taken: Vec<u32> = self.connections.iter().filter(is_by_us).map(|one| one.handle.slot()).collect();
        let slot = (0..limits::CONNECTIONS).find(|slot| !taken.contains(slot));
        Handle::by_module(slot.unwrap_or_default(), self.numbered)
    }

    // ---- calls

    fn call(&mut self, call: &Call, step: &mut Step<'_>) -> Result<(), u16> {
        match call {
            Call::Configure(config) => self.config = config.clone(),
            Call::Reseed(seed) => self.secret = seed.0,
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
                let is_own = |one: &&mut Connection| one.is_embryo() && one.listener == *number;
                self.connections.iter_mut().filter(is_own).for_each(|one| one.reset(reason::ABORTED, step));
            }
            Call::Open(open) => return self.open(open, step),
            Call::Shutdown(handle) => self.find(*handle)?.finish(),
            Call::Abort(handle) => self.find(*handle)?.reset(reason::ABORTED, step),
            Call::Close(close) => {
                let one = self.find(close.connection)?;
                one.linger =
                    if one.state == State::SynSent { 0 } else { step.now.saturating_add(close.linger) };
                one.finish();
            }
            Call::Query(of) => step.outputs.events.push(Event::Info(Info { of: *of, fields: Vec::new() })),
            Call::Bind(_) | Call::Decide(_) => return Err(reason::UNSUPPORTED),
            // There are no settings, and nothing to report to.
            Call::Set(_) | Call::Report(_) => {}
        }
        Ok(())
    }

    /// RFC 9293 3.10.1, active: the SYN leaves at the end of the step.
    fn open(&mut self, open: &Open, step: &mut Step<'_>) -> Result<(), u16> {
        let (mut local, remote) = (open.local, open.remote);
        if local.address.is_unspecified() {
            local.address = self.config.source_for(remote.address).ok_or(reason::NOT_AVAILABLE)?;
        }
        if local.address.is_v4() != remote.address.is_v4() || !self.config.is_ours(local.address) {
            return Err(reason::NOT_AVAILABLE);
        }
        if local.port == 0 {
            let (first, last) = (self.config.ports_first, self.config.ports_last);
            let count = u64::from(last.saturating_sub(first)) + 1;
            let begin = mixed(self.secret ^ step.now);
            let ports = (0..count).map(|at| first + (begin.wrapping_add(at) % count) as u16);
            let mut ports = ports.filter(|port| port % self.config.shards.max(1) == self.config.shard);
            let free = ports.find(|port| self.between(Endpoint::new(local.address, *port), remote).is_none());
            local.port = free.ok_or(reason::EXHAUSTED)?;
        } else if self.between(local, remote).is_some() {
            return Err(reason::IN_USE);
        }
        if self.connections.len() >= self.config.connections as usize {
            return Err(reason::EXHAUSTED);
        }
        self.begin(State::SynSent, (local, remote), open.receive_first, step.now).handle = open.connection;
        if local != open.local {
            step.outputs.events.push(Event::Choosing(Choosing { connection: open.connection, local }));
        }
        Ok(())
    }

    fn begin(&mut self, state: State, ends: (Endpoint, Endpoint), limit: u32, now: Time) -> &mut Connection {
        let one = Connection::new(state, ends, self.initial(now, ends.0, ends.1), self.config.mtu);
        self.connections.push(Connection { limit: u64::from(limit), ..one });
        let last = self.connections.len() - 1;
        &mut self.connections[last]
    }

    // ---- segments

    fn segment(&mut self, header: &Header, step: &mut Step<'_>) {
        if !self.config.is_ours(header.local.address) || !header.remote.address.is_unicast() {
            return;
        }
        let is_syn = header.flags & (SYN | ACK | RST) == SYN;
        if let Some(at) = self.between(header.local, header.remote) {
            let one = &mut self.connections[at];
            // A new SYN to an old end in TIME-WAIT (RFC 9293 3.6.1) begins anew; everything else is the connection's.
            let is_new = is_syn && one.theirs(header.sequence) >= one.expected as i64;
            if !is_new || one.state != State::TimeWait {
                arrive::arrive(one, header, step);
                if one.state == State::Established && !one.is_known() {
                    self.accept(at, header.number, step.outputs);
                }
                return;
            }
            self.connections.remove(at);
        }
        if !is_syn || !self.listen(header, step.now) {
            header.refuse(step);
        }
    }

    /// A SYN for a listener (RFC 9293 3.10.7.2). Says whether there is one.
    fn listen(&mut self, header: &Header, now: Time) -> bool {
        let address = header.local.address;
        let listens = |(one, _): &&(Listen, u64)| {
            let own = one.local.address;
            let is_any = own.is_unspecified() && (address.is_v4() || !own.is_v4());
            one.local.port == header.local.port && (is_any || own == address)
        };
        let Some((listen, accepted)) = self.listeners.iter().find(listens) else {
            return false;
        };
        let embryos = self.connections.iter().filter(|one| one.is_embryo());
        let own = embryos.clone().filter(|one| one.listener == listen.listener).count() as u64;
        let is_full = embryos.count() >= self.config.embryos as usize
            || self.connections.len() >= self.config.connections as usize
            || accepted + own >= listen.allow;
        // Where it is full nothing is said: the peer tries again.
        if !is_full {
            let (listener, limit) = (listen.listener, listen.receive_first);
            let one = self.begin(State::SynReceived, (header.local, header.remote), limit, now);
            one.listener = listener;
            one.synchronise(header);
        }
        true
    }

    /// A handshake is complete: the host is told of the connection.
    fn accept(&mut self, at: usize, segment: u32, outputs: &mut Outputs) {
        let number = self.number();
        let one = &mut self.connections[at];
        one.handle = number;
        outputs.events.push(Event::Accepted(one.opening(segment)));
        let own = self.listeners.iter_mut().filter(|(listen, _)| listen.listener == one.listener);
        own.for_each(|(_, accepted)| *accepted += 1);
    }

    // ---- the end of a step

    /// Sends what may be sent, tells what has changed, and forgets what is over.
    fn conclude(&mut self, step: &mut Step<'_>) {
        for one in &mut self.connections {
            one.expire(step);
            step.outputs.unfinished |= one.send(step);
            let (connection, outputs) = (one.handle, &mut *step.outputs);
            let told = (one.exposed(), one.acknowledged());
            if one.is_known() && told != one.told {
                one.told = told;
                let (exposed, acknowledged) = told;
                let by = one.acknowledged_by;
                outputs.marks.push(Mark { connection, exposed, acknowledged, by, ..Mark::default() });
            }
            if one.is_known() && one.is_over() {
                one.handle = Handle::INSTANCE;
                outputs.events.push(Event::Closed(Reason { connection, reason: one.why, value: 0 }));
            }
            if one.deadline() < outputs.deadline {
                outputs.deadline = one.deadline();
                outputs.deadline_of = one.handle;
            }
        }
        self.connections.retain(|one| one.state != State::Closed);
        let deadline = &mut step.outputs.deadline;
        *deadline = (*deadline).max(step.now.saturating_add(limits::DEADLINE_MIN));
    }
}

/// A number in which every bit depends on every bit of another (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
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
            state_format: FORMAT,
            settings: Vec::new(),
        }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        *self = Self { config: config.clone(), secret: config.seed.0, ..Self::default() };
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        let room = Room { sends: inputs.room.sends.min(limits::SENDS as u32), ..inputs.room };
        let mut step = Step { now: inputs.now, room, outputs };
        for (number, call) in (0..).zip(inputs.calls) {
            if let Err(reason) = self.call(call, &mut step) {
                step.outputs.events.push(Event::Failed(Failed { call: number, reason }));
            }
        }
        for position in inputs.positions {
            if let Ok(one) = self.find(position.connection) {
                one.position(position);
            }
        }
        for (number, segment) in (0..).zip(inputs.segments) {
            let is_tcp = segment.kind == Kind::Whole && segment.protocol == protocol::TCP;
            let bytes = inputs.header(segment).filter(|_| is_tcp);
            if let Some(header) = bytes.and_then(|bytes| Header::parse(number, bytes, segment)) {
                self.segment(&header, &mut step);
            }
        }
        self.conclude(&mut step);
    }

    fn save(&self) -> Vec<u8> {
        kept::save(MAGIC, &mut self.clone())
    }

    fn load(&mut self, config: &Config, _: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        *self = Self { config: config.clone(), ..Self::default() };
        if !kept::load(MAGIC, state, self) {
            return Err(String::from("this is no state of tiny-tcp's"));
        }
        Ok(self.connections.iter().filter(|one| one.is_known()).map(Connection::summary).collect())
    }
}
