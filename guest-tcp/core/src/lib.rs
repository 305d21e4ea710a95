//! The TCP core: RFC 9293 and what grew around it, without a clock, without randomness, without a payload byte.
//!
//! [`Tcp`] implements the contract's [`Module`]. A segment's way through it, and where each part lives:
//!
//! - `step`: one step, in the contract's order; read it first; `segments`: its segments, in runs of one connection each;
//! - `header`: IPv4, IPv6, TCP, options and ICMP, parsed and built;
//! - `demux`, `tables`, `slab`, `entity`: whose segment it is, and everything that the stack keeps of its peers;
//! - `arrive`: SEGMENT ARRIVES, a file per step of RFC 9293 3.10.7; `reassembly` for what lies beyond a hole;
//! - `listener`, `embryo`, `cookie`, `time_wait`: what comes before a connection and what remains of it;
//! - `connection`, `state`, `settings`: the transmission control block;
//! - [`recovery`]: what was sent and is not acknowledged: loss, timers, congestion;
//! - `call`: OPEN, CLOSE, ABORT, STATUS and the contract's own calls;
//! - `timer`, `timeout`: deadlines, and what happens at them;
//! - `emit`: what to send, and how it looks; `out` keeps account of the room there is;
//! - `icmp`: echo and errors; `fragment`: datagrams in pieces; `isn` numbers and timestamps come from `instance` by the keys of `hash`; `ports`;
//! - `save`: the whole state as bytes; `limits`: every bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod arrive;
mod call;
mod connection;
mod cookie;
mod demux;
mod embryo;
mod emit;
mod entity;
mod fragment;
mod hash;
mod header;
mod icmp;
mod instance;
mod limits;
mod listener;
mod out;
mod ports;
mod reassembly;
pub mod recovery;
mod save;
mod segments;
mod seq;
mod settings;
mod slab;
mod state;
mod step;
mod tables;
mod time_wait;
mod timeout;
mod timer;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::registry::{protocol, service};
use bulkhead_wit::{Config, Description, Inputs, Module, Outputs, Service, Summary, Time};

pub use seq::Seq;

/// Memory that an idle connection takes, about. A number of its own, since the census tells it and must tell the same in
/// every placement: a recording is replayed in any of them. It is what was promised: 100,000 of them in 100 MiB.
pub(crate) const BYTES_PER_CONNECTION: u32 = 1024;
/// What finding it, its deadline and its place take beside it, and the allocator's own.
const REGISTERED: usize = 64;
const _: () = assert!(size_of::<connection::Connection>() + REGISTERED <= BYTES_PER_CONNECTION as usize);

/// Memory that a half-open connection or one in TIME-WAIT takes, about.
pub(crate) const BYTES_PER_REMAINS: u32 = 96;

/// The TCP module: see [`Module`].
#[derive(Default)]
pub struct Tcp {
    instance: instance::Instance,
    tables: tables::Tables,
    /// The time of the latest step.
    last: Time,
    /// Room for the segment that is looked at, of no meaning between steps: built anew each time it would be copied twice.
    arrived: arrive::Arrived,
}

impl Tcp {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl core::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tcp").field("connections", &self.tables.connections.len()).finish_non_exhaustive()
    }
}

impl Module for Tcp {
    fn describe(&self) -> Description {
        let ip = |value: u8| Service { kind: service::IP_PROTOCOL, value: u16::from(value) };
        let protocols: Vec<Service> = [protocol::TCP, protocol::ICMP, protocol::ICMPV6].map(ip).into();
        Description {
            name: String::from("bulkhead-tcp"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            serves: protocols.clone(),
            sends: protocols,
            bytes_per_connection: BYTES_PER_CONNECTION,
            state_format: save::FORMAT,
            settings: settings::SERVED.to_vec(),
        }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        if config.mtu < limits::PATH_MTU_MIN_V4 {
            return Err(alloc::format!("an MTU of {} is below {}", config.mtu, limits::PATH_MTU_MIN_V4));
        }
        *self = Self::default();
        self.instance.configure(config);
        self.instance.keys = instance::Keys::from_seed(config.seed);
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        step::step(self, inputs, outputs);
    }

    fn save(&self) -> Vec<u8> {
        save::save(self)
    }

    fn load(&mut self, config: &Config, _now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        save::load(self, config, state)
    }
}
