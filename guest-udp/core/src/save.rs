//! The whole state as bytes: numbers of 64 bits, little endian, in one canonical order.

use crate::Udp;
use crate::fragments::Slot;
use crate::sockets::Socket;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::limits::{HOLDS, ISLANDS};
use bulkhead_wit::{Address, Endpoint, Handle, Time};

/// The number of this format. examples/c-module writes and reads the same.
pub(crate) const FORMAT: u32 = 2;
/// The one before, which had no time to live.
const WITHOUT_TTL: u64 = 1;

fn end(end: Endpoint) -> [u64; 3] {
    [end.address.high, end.address.low, u64::from(end.port)]
}

pub(crate) fn save(udp: &Udp) -> Vec<u8> {
    let mut words = Vec::from([u64::from(FORMAT), udp.errors_paid, u64::from(udp.ttl)]);
    words.push(udp.sockets.len() as u64);
    words.extend(udp.counters);
    for (handle, socket) in udp.sockets.iter() {
        words.push(handle.0);
        words.extend(end(socket.local));
        words.extend(end(socket.remote));
        words.push(
            u64::from(socket.dual_stack) | u64::from(socket.ttl) << 8 | u64::from(socket.traffic_class) << 16,
        );
    }
    for (number, slot) in udp.fragments.slots.iter().enumerate() {
        let Some(slot) = slot else { continue };
        let addresses = [slot.source.high, slot.source.low, slot.destination.high, slot.destination.low];
        words.push(number as u64);
        words.extend(addresses);
        let numbers = [u64::from(slot.identification), u64::from(slot.length), slot.deadline];
        words.extend(numbers);
        words.push(slot.runs.len() as u64);
        words.extend(slot.runs.iter().map(|run| u64::from(run.0) << 32 | u64::from(run.1)));
    }
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

struct Words<'a>(&'a [[u8; 8]]);

impl Words<'_> {
    fn next(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    fn end(&mut self) -> Option<Endpoint> {
        let address = Address { high: self.next()?, low: self.next()? };
        Some(Endpoint::new(address, u16::try_from(self.next()?).ok()?))
    }
}

/// Reads a state into an instance that was started with its configuration.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn load(udp: &mut Udp, now: Time, state: &[u8]) -> Result<(), String> {
    let (words, []) = state.as_chunks::<8>() else { return Err(String::from("not whole numbers")) };
    read(udp, now, &mut Words(words)).ok_or_else(|| String::from("the state cannot be read"))
}

fn read(udp: &mut Udp, now: Time, words: &mut Words<'_>) -> Option<()> {
    let format = words.next()?;
    (format == WITHOUT_TTL || format == u64::from(FORMAT)).then_some(())?;
    udp.errors_paid = words.next()?;
    if format != WITHOUT_TTL {
        let ttl = u8::try_from(words.next()?).ok().filter(|ttl| *ttl > 0)?;
        // A configuration that lists settings goes before those of the state.
        udp.ttl = if udp.config.settings.is_empty() { ttl } else { udp.ttl };
    }
    let sockets = words.next()?;
    for counter in &mut udp.counters {
        *counter = words.next()?;
    }
    for _ in 0..sockets.min(crate::limits::SOCKETS as u64) {
        let handle = Handle(words.next()?);
        let (local, remote) = (words.end()?, words.end()?);
        let [dual_stack, ttl, traffic_class, ..] = words.next()?.to_le_bytes();
        udp.sockets.insert(handle, Socket { local, remote, dual_stack: dual_stack == 1, ttl, traffic_class });
    }
    while let Some(number) = words.next() {
        let number = usize::try_from(number).ok().filter(|number| *number < HOLDS)?;
        let source = Address { high: words.next()?, low: words.next()? };
        let destination = Address { high: words.next()?, low: words.next()? };
        let identification = u32::try_from(words.next()?).ok()?;
        let length = u32::try_from(words.next()?).ok()?;
        let deadline = words.next()?.max(now);
        let count = usize::try_from(words.next()?).ok().filter(|count| *count <= ISLANDS)?;
        let mut runs = Vec::new();
        for _ in 0..count {
            let run = words.next()?;
            runs.push(((run >> 32) as u32, run as u32));
        }
        if udp.fragments.slots.len() <= number {
            udp.fragments.slots.resize(number + 1, None);
        }
        *udp.fragments.slots.get_mut(number)? =
            Some(Slot { source, destination, identification, length, deadline, runs });
    }
    Some(())
}
