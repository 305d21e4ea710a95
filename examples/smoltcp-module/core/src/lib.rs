//! smoltcp behind the contract, in the world with payload access.
//!
//! smoltcp wants whole packets and keeps the bytes of its streams itself, so this module reads every payload: of segments to
//! build packets of them, of queues to fill smoltcp's send buffers. What smoltcp sends of a stream is named as a range of the host's
//! queue all the same, where inspect holds it to its sequence number; what it has received is staged and placed.
//! Segments are given to it one by one, so that each event knows its segment.
//!
//! - `connection`: a socket and what the host was told of it;
//! - `calls`: what the host asks for;
//! - `traffic`: segments in, packets out, and what has come of them;
//! - `device`: the queues that smoltcp takes for a network card; `packet`: headers apart from payload;
//! - `limits`: every bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod calls;
mod connection;
mod device;
mod limits;
mod packet;
mod traffic;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::limits as bounds;
use bulkhead_wit::registry::{protocol, reason, service, setting};
use bulkhead_wit::{
    Address, Config, Description, Endpoint, Handle, Inputs, Listen, Module, NEVER, Outputs, Payload,
    STATELESS, Service, Source, Summary, Time,
};
use smoltcp::iface::{Config as Settings, Interface, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use connection::Connection;
use device::Queues;

/// A listener, for which sockets are made as strangers ask.
#[derive(Debug)]
struct Listener {
    listen: Listen,
    /// Connections accepted in all.
    accepted: u64,
}

/// smoltcp as a [`Module`].
pub struct Smoltcp {
    config: Config,
    interface: Option<Interface>,
    queues: Queues,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    listeners: Vec<Listener>,
    /// How often each slot of a handle was used.
    generations: Vec<u32>,
    random: u64,
    now: Time,
    segments_in: u64,
    segments_out: u64,
}

/// What is at hand in a step, and what is left of its bounds.
struct Step<'a, 'b> {
    outputs: &'a mut Outputs,
    payload: &'b mut dyn Payload,
    stage_bytes: usize,
    stages: usize,
    read_bytes: usize,
    /// Something was left undone for want of these.
    is_short: bool,
}

/// A payload-blind world: nothing is read, and what is staged goes nowhere.
struct Blind;

impl Payload for Blind {
    fn read(&mut self, _: Source, _: u64, _: u64, _: u32) -> Vec<u8> {
        Vec::new()
    }

    fn stage(&mut self, _: &[u8]) -> u32 {
        u32::MAX
    }
}

impl Default for Smoltcp {
    fn default() -> Self {
        Self::new()
    }
}

impl Smoltcp {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config::default(),
            interface: None,
            queues: Queues::default(),
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            listeners: Vec::new(),
            generations: Vec::new(),
            random: 0,
            now: 0,
            segments_in: 0,
            segments_out: 0,
        }
    }

    /// The interface anew, with the addresses, the MTU and the seed of now. Sockets are not its own, and stay.
    fn build(&mut self) {
        let (one, two, three, four) = self.config.seed;
        self.random = one ^ three.rotate_left(17) | 1;
        self.queues.mtu = self.config.mtu as usize;
        let mut settings = Settings::new(HardwareAddress::Ip);
        settings.random_seed = two ^ four.rotate_left(29);
        let mut interface = Interface::new(settings, &mut self.queues, instant(self.now));
        interface.update_ip_addrs(|addresses| {
            for prefix in &self.config.addresses {
                let length =
                    if prefix.address.is_v4() { prefix.length.saturating_sub(96) } else { prefix.length };
                // `check` has seen that there is room.
                let _ = addresses.push(IpCidr::new(packet::ip(prefix.address), length));
            }
        });
        for prefix in &self.config.addresses {
            // Where the way leads is the host's affair: any next hop will do.
            let _ = match packet::ip(prefix.address) {
                IpAddress::Ipv4(address) => interface.routes_mut().add_default_ipv4_route(address).map(drop),
                IpAddress::Ipv6(address) => interface.routes_mut().add_default_ipv6_route(address).map(drop),
            };
        }
        self.interface = Some(interface);
    }

    fn configure(&mut self, config: &Config, step: &mut Step<'_, '_>) {
        if check(config).is_err() {
            return;
        }
        let seed = self.config.seed;
        self.config = Config { seed, ..config.clone() };
        self.build();
        for at in (0..self.connections.len()).rev() {
            if !self.is_ours(self.connections[at].local.address) {
                self.end(at, reason::NOT_AVAILABLE, step);
                self.remove(at);
            }
        }
    }

    fn is_ours(&self, address: Address) -> bool {
        self.config.addresses.iter().any(|prefix| prefix.address == address)
    }

    fn find(&self, local: Endpoint, remote: Endpoint) -> Option<usize> {
        self.connections.iter().position(|one| one.local == local && one.remote == remote)
    }

    /// Nothing is left of it.
    fn remove(&mut self, at: usize) {
        let connection = self.connections.swap_remove(at);
        drop(self.sockets.remove(connection.socket));
    }

    /// A handle that no connection has had.
    fn fresh_handle(&mut self) -> Handle {
        let taken = |slot: u32| {
            let is_it = |one: &Connection| one.handle.is_by_module() && one.handle.slot() == slot;
            self.connections.iter().any(is_it)
        };
        // There are fewer connections than slots.
        let slot = (0..=limits::CONNECTIONS as u32).find(|slot| !taken(*slot)).unwrap_or_default();
        let at = slot as usize;
        if self.generations.len() <= at {
            self.generations.resize(at + 1, 0);
        }
        self.generations[at] = self.generations[at].wrapping_add(1).max(1);
        Handle::by_module(slot, self.generations[at])
    }

    /// xorshift64*, for ports: what has to be unforeseeable is smoltcp's.
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// When to be asked again.
    fn deadline(&mut self, step: &mut Step<'_, '_>) {
        let own = self.connections.iter().map(|one| one.until).min().unwrap_or(NEVER);
        let at =
            self.interface.as_mut().and_then(|interface| interface.poll_at(instant(self.now), &self.sockets));
        let polled = at.map_or(NEVER, |at| (at.total_micros().max(0).cast_unsigned()).saturating_mul(1000));
        let is_due = polled <= self.now;
        step.outputs.unfinished = step.is_short || is_due && !self.queues.has_room();
        // What smoltcp calls due and does not do when it is asked can wait for a moment.
        let polled = if is_due { self.now.saturating_add(bounds::MILLISECOND) } else { polled };
        step.outputs.deadline = own.min(polled).max(self.now.saturating_add(bounds::DEADLINE_MIN));
    }
}

fn instant(now: Time) -> Instant {
    Instant::from_micros((now / 1000).cast_signed())
}

fn check(config: &Config) -> Result<(), String> {
    if config.any_address {
        return Err("smoltcp serves its own addresses only".into());
    }
    if config.addresses.len() > limits::ADDRESSES {
        return Err(alloc::format!("this smoltcp is built for {} addresses", limits::ADDRESSES));
    }
    if !(576..=65_535).contains(&config.mtu) {
        return Err(alloc::format!("an MTU of {} bytes", config.mtu));
    }
    Ok(())
}

impl Module for Smoltcp {
    fn describe(&self) -> Description {
        let services: Vec<Service> = [protocol::TCP, protocol::ICMP, protocol::ICMPV6]
            .map(|value| Service { kind: service::IP_PROTOCOL, value: value.into() })
            .into();
        let known = [
            setting::NODELAY,
            setting::QUICKACK,
            setting::KEEPALIVE_IDLE,
            setting::USER_TIMEOUT,
            setting::TTL,
        ];
        Description {
            name: "smoltcp".into(),
            version: "0.13".into(),
            serves: services.clone(),
            sends: services,
            bytes_per_connection: (limits::SEND as u32) + limits::RECEIVE.1 + 1024,
            state_format: STATELESS,
            settings: known.into(),
        }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        check(config)?;
        *self = Self { config: config.clone(), ..Self::new() };
        self.build();
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        self.step_with(inputs, outputs, &mut Blind);
    }

    fn has_payload(&self) -> bool {
        true
    }

    fn step_with(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs, payload: &mut dyn Payload) {
        self.now = inputs.now;
        self.queues.begin(inputs.room);
        let mut step = Step {
            outputs,
            payload,
            stage_bytes: limits::STAGE_BYTES,
            stages: limits::STAGES,
            read_bytes: limits::READ_BYTES,
            is_short: false,
        };
        for (index, call) in (0..).zip(inputs.calls) {
            self.call(index, call, &mut step);
        }
        for position in inputs.positions {
            if let Ok(at) = self.by_handle(position.connection) {
                let one = &mut self.connections[at];
                one.written = one.written.max(position.written);
                one.limit = one.limit.max(position.limit);
            }
        }
        for (index, segment) in (0..).zip(inputs.segments) {
            self.segment((index, segment), inputs.header(segment).unwrap_or_default(), &mut step);
        }
        self.expire(inputs.now, &mut step);
        self.leave(&mut step);
        self.deadline(&mut step);
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, _: &Config, _: Time, _: &[u8]) -> Result<Vec<Summary>, String> {
        Err("smoltcp cannot take a state over".into())
    }
}

impl core::fmt::Debug for Smoltcp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Smoltcp").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}
