//! The core with the component's imports at hand: what the host gives of payload, and takes.

use crate::bindings::bulkhead::protocol::payload;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_smoltcp::Smoltcp;
use bulkhead_wit::{Config, Description, Inputs, Module, Outputs, Payload, Source, Summary, Time};

/// The host's functions.
struct Host;

impl Payload for Host {
    fn read(&mut self, source: Source, of: u64, at: u64, length: u32) -> Vec<u8> {
        payload::read(source as u8, of, at, length)
    }

    fn stage(&mut self, bytes: &[u8]) -> u32 {
        payload::stage(bytes)
    }
}

/// What the face calls.
pub struct Tcp(Smoltcp);

impl Tcp {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self(Smoltcp::new())
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self::new()
    }
}

impl Module for Tcp {
    fn describe(&self) -> Description {
        self.0.describe()
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        self.0.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        self.0.step_with(inputs, outputs, &mut Host);
    }

    fn save(&self) -> Vec<u8> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.0.load(config, now, state)
    }
}
