//! The UDP core: RFC 768 over both versions of IP, without a clock, without randomness, without a payload byte.
//!
//! A module to stand beside TCP: the host loads both, and hands each the protocols that it serves. [`Udp`] implements
//! the contract's [`Module`]: a datagram that arrives is placed into the socket that it is for, or answered with "port
//! unreachable" (RFC 1122 4.1.3.1, RFC 4443 3.1); a message of the application's leaves with its header in front.
//!
//! - `sockets`: whose a datagram is;
//! - `ip`: network headers;
//! - `fragments`: datagrams in pieces;
//! - `save`: the state as bytes; `limits`: every bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod fragments;
mod ip;
mod limits;
mod save;
mod sockets;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::ip::{Ip, u16_at};
use bulkhead_wit::limits as bounds;
use bulkhead_wit::registry::{census, protocol, reason, service, setting};
use bulkhead_wit::{
    Address, Call, Config, Description, Endpoint, Event, Failed, Handle, How, Info, Inputs, Kind, Message,
    Module, Outputs, Place, Reason, Room, Segment, Send, Service, Source, Summary, Target, Time,
};

use fragments::Fragments;
use sockets::Sockets;

/// Memory that a socket takes, about.
const BYTES_PER_SOCKET: u32 = 256;
/// Datagrams in and out, dropped, echoes (never), errors sent: what the census tells.
const COUNTERS: usize = 4;
const IN: usize = 0;
const OUT: usize = 1;
const DROPPED: usize = 2;
const ERRORS: usize = 3;

/// Type and code of "port unreachable" in ICMPv6 (RFC 4443 3.1) and in ICMP (RFC 1122 4.1.3.1): nobody has this port.
const UNREACHABLE_PORT: [(u8, u8); 2] = [(1, 4), (3, 3)];

/// The UDP module: see [`Module`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Udp {
    config: Config,
    ttl: u8,
    sockets: Sockets,
    fragments: Fragments,
    counters: [u64; COUNTERS],
    /// The time up to which ICMP errors are paid for.
    errors_paid: Time,
}

/// What is left of a step's room.
struct Left {
    sends: u32,
    bytes: u32,
}

impl Left {
    fn take(&mut self, bytes: u32, headers: usize) -> bool {
        let fits = self.sends > 0 && bytes <= self.bytes && headers + 256 <= bounds::HEADER_BYTES;
        if fits {
            self.sends -= 1;
            self.bytes -= bytes;
        }
        fits
    }
}

impl Udp {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn configure(&mut self, config: &Config) {
        self.config = config.clone();
        self.ttl = limits::TTL;
        for change in &config.settings {
            if change.key == setting::TTL && (1..=255).contains(&change.value) {
                self.ttl = change.value as u8;
            }
        }
    }

    // ---- calls

    fn call(&mut self, (index, call): (u32, &Call), now: Time, left: &mut Left, outputs: &mut Outputs) {
        let result = match call {
            Call::Configure(config) => {
                self.configure(config);
                Ok(())
            }
            Call::Bind(bind) => {
                let is_ours = self.config.is_ours(bind.local.address);
                self.sockets.bind(bind, is_ours)
            }
            Call::Abort(handle) => self.remove(*handle),
            Call::Close(close) => self.remove(close.connection),
            Call::Set(change) => self.set(change.of, change.setting.key, change.setting.value),
            Call::Query(of) => {
                let fields = self.figures(*of);
                outputs.events.push(Event::Info(Info { of: *of, fields }));
                Ok(())
            }
            Call::Report(report) => self.report(report, now, left, outputs),
            Call::Reseed(_) => Ok(()),
            Call::Listen(_)
            | Call::Allow(_)
            | Call::Unlisten(_)
            | Call::Open(_)
            | Call::Decide(_)
            | Call::Shutdown(_) => Err(reason::UNSUPPORTED),
        };
        if let Err(reason) = result {
            outputs.events.push(Event::Failed(Failed { call: index, reason }));
        }
    }

    fn remove(&mut self, handle: Handle) -> Result<(), u16> {
        if self.sockets.remove(handle) { Ok(()) } else { Err(reason::UNKNOWN) }
    }

    fn set(&mut self, of: Handle, key: u16, value: u64) -> Result<(), u16> {
        let value = u8::try_from(value).map_err(|_| reason::INVALID)?;
        if of == Handle::INSTANCE {
            if key == setting::TTL {
                self.ttl = value.max(1);
            }
            return Ok(());
        }
        let socket = self.sockets.get_mut(of).ok_or(reason::UNKNOWN)?;
        match key {
            setting::TTL => socket.ttl = value,
            setting::TRAFFIC_CLASS => socket.traffic_class = value,
            _ => {}
        }
        Ok(())
    }

    fn figures(&self, of: Handle) -> Vec<u64> {
        if of != Handle::INSTANCE {
            return Vec::new();
        }
        let mut fields = alloc::vec![0; usize::from(census::ECHOES) + 1];
        let state = self.sockets.len() as u64 * u64::from(BYTES_PER_SOCKET);
        for (number, value) in [
            (census::LISTENERS, self.sockets.len() as u64),
            (census::SEGS_IN, self.counters[IN]),
            (census::SEGS_OUT, self.counters[OUT]),
            (census::DROPPED, self.counters[DROPPED]),
            (census::STATE_BYTES, state),
        ] {
            if let Some(field) = fields.get_mut(usize::from(number)) {
                *field = value;
            }
        }
        fields
    }

    // ---- messages of the application's

    fn message(&mut self, index: u32, message: &Message, left: &mut Left, outputs: &mut Outputs) {
        let Some(socket) = self.sockets.get(message.socket) else { return self.drop_one() };
        let from = if message.source.port == 0 { socket.local } else { message.source };
        let source = if from.address.is_unspecified() {
            self.config.source_for(message.to.address)
        } else {
            Some(from.address)
        };
        let fits = source.is_some_and(|source| source.is_v4() == message.to.address.is_v4());
        let Some(source) = source.filter(|_| fits && message.to.address.is_unicast()) else {
            return self.drop_one();
        };
        let ttl = [message.hop_limit, socket.ttl, self.ttl].into_iter().find(|ttl| *ttl != 0);
        let class = if message.traffic_class == 0 { socket.traffic_class } else { message.traffic_class };
        if !left.take(message.length.saturating_add(limits::HEADERS), outputs.headers.len()) {
            return self.drop_one();
        }
        let ip = Ip {
            source,
            destination: message.to.address,
            ttl: ttl.unwrap_or(limits::TTL),
            traffic_class: class,
        };
        let start = outputs.headers.len();
        // DF is not set: a datagram that is longer than the link takes goes out in fragments.
        ip.build(protocol::UDP, false, &mut outputs.headers);
        let transport = outputs.headers.len();
        outputs.headers.extend_from_slice(&from.port.to_be_bytes());
        outputs.headers.extend_from_slice(&message.to.port.to_be_bytes());
        outputs.headers.extend_from_slice(&[0; 4]);
        let (of, length) = (u64::from(index), message.length);
        let payload = Send { of, length, source: Source::Message, how: How::MAY_FRAGMENT, ..Send::default() };
        outputs.send(start, transport, payload);
        self.counters[OUT] += 1;
    }

    fn drop_one(&mut self) {
        self.counters[DROPPED] += 1;
    }

    // ---- what arrives

    fn segment(
        &mut self,
        (index, segment): (u32, &Segment),
        header: &[u8],
        now: Time,
        left: &mut Left,
        outputs: &mut Outputs,
    ) {
        let ours = ip::addresses(header).is_some_and(|(_, to)| self.config.is_ours(to));
        match segment.kind {
            Kind::Whole if segment.protocol == protocol::UDP => {
                self.datagram((index, segment), header, now, left, outputs);
            }
            Kind::Fragment if ours => {
                let holds = self.config.holds;
                if !self.fragments.arrive(header, (index, segment), (now, holds), outputs) {
                    self.drop_one();
                }
            }
            Kind::IcmpError => self.error(header, segment, outputs),
            _ => self.drop_one(),
        }
    }

    fn datagram(
        &mut self,
        (index, segment): (u32, &Segment),
        header: &[u8],
        now: Time,
        left: &mut Left,
        outputs: &mut Outputs,
    ) {
        self.counters[IN] += u64::from(segment.count);
        let transport = usize::from(segment.transport);
        let ends = ip::addresses(header).zip(u16_at(header, transport)).zip(u16_at(header, transport + 2));
        let Some((((source, destination), from), to)) = ends else { return self.drop_one() };
        let (remote, local) = (Endpoint::new(source, from), Endpoint::new(destination, to));
        if !self.config.is_ours(destination) || outputs.places.len() >= bounds::PLACES {
            return self.drop_one();
        }
        let Some(handle) = self.sockets.find(local, remote) else {
            self.drop_one();
            let code = UNREACHABLE_PORT[usize::from(source.is_v4())];
            return self.tell(code, header, (source, destination), now, left, outputs);
        };
        outputs.places.push(Place {
            of: handle.0,
            at: 0,
            segment: index,
            skip: 0,
            length: segment.payload,
            source: Source::Segment,
            target: Target::Datagram,
        });
    }

    /// What the host has found out about the way on from a socket with one peer: the peer is told, as by the router that it
    /// would be (RFC 1812 5.2.7.1, RFC 4443 3.1). The datagram itself is gone; its ends are what the error is about.
    fn report(
        &mut self,
        report: &Reason,
        now: Time,
        left: &mut Left,
        outputs: &mut Outputs,
    ) -> Result<(), u16> {
        let socket = *self.sockets.get(report.connection).ok_or(reason::UNKNOWN)?;
        let (from, to) = (socket.remote, socket.local);
        if from.port == 0 || to.port == 0 || from.address.is_v4() != to.address.is_v4() {
            return Err(reason::INVALID);
        }
        let code = match (report.reason, from.address.is_v4()) {
            (reason::PORT_UNREACHABLE | reason::REFUSED, is_v4) => UNREACHABLE_PORT[usize::from(is_v4)],
            (reason::NETWORK_UNREACHABLE, true) => (3, 0),
            (reason::NETWORK_UNREACHABLE, false) => (1, 0),
            (reason::HOST_UNREACHABLE, true) => (3, 1),
            (reason::HOST_UNREACHABLE, false) => (1, 3),
            (reason::PROHIBITED, true) => (3, 13),
            (reason::PROHIBITED, false) => (1, 1),
            _ => return Err(reason::INVALID),
        };
        let mut quote = Vec::with_capacity(limits::HEADERS as usize);
        let ip = Ip { source: from.address, destination: to.address, ttl: self.ttl, traffic_class: 0 };
        ip.build(protocol::UDP, false, &mut quote);
        ip::empty(&mut quote);
        quote.extend_from_slice(&from.port.to_be_bytes());
        quote.extend_from_slice(&to.port.to_be_bytes());
        quote.extend_from_slice(&[0, 8, 0, 0]);
        self.tell(code, &quote, (from.address, to.address), now, left, outputs);
        Ok(())
    }

    /// Tells a sender by an ICMP error that its datagram has not arrived, so many times a second (RFC 1812 4.3.2.8,
    /// RFC 4443 2.4).
    fn tell(
        &mut self,
        (kind, code): (u8, u8),
        quoted: &[u8],
        (source, destination): (Address, Address),
        now: Time,
        left: &mut Left,
        outputs: &mut Outputs,
    ) {
        let paid = self.errors_paid.max(now).saturating_add(limits::ERROR_TIME);
        if paid > now.saturating_add(limits::ERROR_TIME * limits::ERRORS_PER_SECOND)
            || !source.is_unicast()
            || !destination.is_unicast()
            || quoted.len() > limits::QUOTE
            || !left.take(quoted.len() as u32 + limits::HEADERS, outputs.headers.len())
        {
            return;
        }
        self.errors_paid = paid;
        let is_v4 = source.is_v4();
        let ip = Ip { source: destination, destination: source, ttl: self.ttl, traffic_class: 0 };
        let start = outputs.headers.len();
        ip.build(if is_v4 { protocol::ICMP } else { protocol::ICMPV6 }, false, &mut outputs.headers);
        let transport = outputs.headers.len();
        outputs.headers.extend_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
        outputs.headers.extend_from_slice(quoted);
        outputs.send(start, transport, Send::default());
        self.counters[ERRORS] += 1;
    }

    /// An error about a datagram of ours is news for a socket with one peer (RFC 1122 4.1.3.3).
    fn error(&mut self, header: &[u8], segment: &Segment, outputs: &mut Outputs) {
        let Some(quoted) = header.get(usize::from(segment.transport) + 8..) else { return };
        let icmp = header.get(usize::from(segment.transport)..).and_then(|rest| rest.first_chunk::<2>());
        let Some((source, destination)) = ip::addresses(quoted) else { return };
        // Split has let nothing pass that lacks these bytes; UDP's header is the last eight of the quote.
        let Some(at) = quoted.len().checked_sub(8) else { return };
        let ports = u16_at(quoted, at).zip(u16_at(quoted, at + 2));
        let (Some([kind, code]), Some((from, to))) = (icmp, ports) else { return };
        let (local, remote) = (Endpoint::new(source, from), Endpoint::new(destination, to));
        let Some(handle) = self.sockets.find(local, remote) else { return };
        if self.sockets.get(handle).is_none_or(|socket| socket.remote != remote) {
            return;
        }
        let why = match (source.is_v4(), kind, code) {
            (true, 3, 3) | (false, 1, 4) => reason::PORT_UNREACHABLE,
            (true, 3, 0) => reason::NETWORK_UNREACHABLE,
            (true, 3, 9 | 10 | 13) | (false, 1, 1) => reason::PROHIBITED,
            (true, 3, 4) | (false, 2, _) => return,
            (true, 3, _) | (false, 1, _) => reason::HOST_UNREACHABLE,
            _ => return,
        };
        let value = u32::from(*kind) << 8 | u32::from(*code);
        outputs.events.push(Event::Warned(Reason { connection: handle, reason: why, value }));
    }
}

impl Module for Udp {
    fn describe(&self) -> Description {
        let ip = |value: u8| Service { kind: service::IP_PROTOCOL, value: u16::from(value) };
        Description {
            name: String::from("bulkhead-udp"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            serves: [ip(protocol::UDP)].into(),
            sends: [protocol::UDP, protocol::ICMP, protocol::ICMPV6].map(ip).into(),
            bytes_per_connection: BYTES_PER_SOCKET,
            state_format: save::FORMAT,
            settings: [setting::TTL, setting::TRAFFIC_CLASS].into(),
        }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        *self = Self::default();
        self.configure(config);
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        let Room { sends, bytes } = inputs.room;
        let mut left = Left { sends: sends.min(bounds::SENDS as u32), bytes };
        for (index, call) in (0..).zip(inputs.calls) {
            self.call((index, call), inputs.now, &mut left, outputs);
        }
        for (index, message) in (0..).zip(inputs.messages) {
            self.message(index, message, &mut left, outputs);
        }
        for (index, segment) in (0..).zip(inputs.segments) {
            let header = inputs.header(segment).unwrap_or_default();
            self.segment((index, segment), header, inputs.now, &mut left, outputs);
        }
        self.fragments.expire(inputs.now, outputs);
        self.fragments.end_step();
        outputs.deadline = self.fragments.deadline().max(inputs.now.saturating_add(bounds::DEADLINE_MIN));
    }

    fn save(&self) -> Vec<u8> {
        save::save(self)
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.start(config)?;
        save::load(self, now, state)?;
        Ok(Vec::new())
    }
}
