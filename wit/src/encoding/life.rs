//! What an instance is started with, what it says of itself, and what it accounts for.

use alloc::vec::Vec;

use super::DecodeError;
use super::wire::{Reader, Sink, Wire, put_list, put_text, record};
use crate::limits;
use crate::types::{Config, Description, Endpoint, Handle, Prefix, Setting, Summary};

record!(Summary {
    connection: Handle,
    local: Endpoint,
    remote: Endpoint,
    receive_base: u32,
    send_base: u32,
    exposed: u64,
    acknowledged: u64,
    sent: u64,
    limit: u64,
});

/// The most bytes that a configuration takes.
pub(super) const CONFIG_MAX: usize =
    Config::LEAST + limits::ADDRESSES * Prefix::LEAST + limits::SETTINGS * Setting::LEAST;

impl Wire for Config {
    /// Two empty lists, a flag, four numbers of four bytes, a seed, and six numbers of two.
    const LEAST: usize = 2 * u32::LEAST + 1 + 4 * u32::LEAST + <(u64, u64, u64, u64)>::LEAST + 6 * u16::LEAST;

    fn put(&self, sink: &mut impl Sink) {
        put_list(&self.addresses, sink);
        self.any_address.put(sink);
        self.mtu.put(sink);
        self.seed.put(sink);
        self.shard.put(sink);
        self.shards.put(sink);
        self.ports_first.put(sink);
        self.ports_last.put(sink);
        self.connections.put(sink);
        self.embryos.put(sink);
        self.offers.put(sink);
        self.islands.put(sink);
        self.holds.put(sink);
        put_list(&self.settings, sink);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut addresses = Vec::new();
        reader.list("addresses", limits::ADDRESSES, &mut addresses)?;
        // Fields are read in the order in which they are named.
        Ok(Self {
            addresses,
            any_address: Wire::take(reader)?,
            mtu: Wire::take(reader)?,
            seed: Wire::take(reader)?,
            shard: Wire::take(reader)?,
            shards: Wire::take(reader)?,
            ports_first: Wire::take(reader)?,
            ports_last: Wire::take(reader)?,
            connections: Wire::take(reader)?,
            embryos: Wire::take(reader)?,
            offers: Wire::take(reader)?,
            islands: Wire::take(reader)?,
            holds: Wire::take(reader)?,
            settings: take_settings(reader)?,
        })
    }
}

/// A list of settings, of whatever has them.
pub(super) fn take_settings(reader: &mut Reader<'_>) -> Result<Vec<Setting>, DecodeError> {
    let mut settings = Vec::new();
    reader.list("settings", limits::SETTINGS, &mut settings)?;
    Ok(settings)
}

impl Wire for Description {
    const LEAST: usize = 5 * u32::LEAST + 2 * u32::LEAST;

    fn put(&self, sink: &mut impl Sink) {
        put_text(&self.name, sink);
        put_text(&self.version, sink);
        put_list(&self.serves, sink);
        put_list(&self.sends, sink);
        self.bytes_per_connection.put(sink);
        self.state_format.put(sink);
        put_list(&self.settings, sink);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut own = Self {
            name: reader.text("bytes of a name", limits::NAME_BYTES)?,
            version: reader.text("bytes of a version", limits::NAME_BYTES)?,
            ..Self::default()
        };
        reader.list("services", limits::SERVICES, &mut own.serves)?;
        reader.list("services", limits::SERVICES, &mut own.sends)?;
        own.bytes_per_connection = Wire::take(reader)?;
        own.state_format = Wire::take(reader)?;
        reader.list("settings", limits::SETTINGS, &mut own.settings)?;
        Ok(own)
    }
}
