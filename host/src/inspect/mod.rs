//! Holds every output of a step against what the host knows, before the first is carried out.
//!
//! The module is trusted with nothing but liveness: a compromised one can stall or kill a connection, never read,
//! alter, misplace, truncate or redirect a byte of it. Each rule has a name and a number ([`Rule`]); a step that
//! breaks one is a fault and has had no effect. Inspect repairs nothing.

mod by_ends;
mod endings;
mod header;
mod holds;
mod ledger;
mod marks;
mod openings;
mod places;
mod rule;
mod sends;

pub use holds::Holds;
#[cfg(feature = "net")]
pub(crate) use ledger::ModuleSlot;
pub(crate) use ledger::make_room;
pub use ledger::{Ledger, Ledgers, Listener, Socket, Stage};

use crate::frame::FrameSlice;
use crate::split::Arrived;
use bulkhead_wit::{
    Config, Description, Endpoint, Event, Inputs, NEVER, Outputs, Prefix, Source, limits, registry,
};
use rule::{Broken, Rule};
pub(crate) use rule::{check, violation};

/// What an instance may do: from its configuration and its description.
#[derive(Clone, Debug)]
pub struct Grants {
    addresses: Vec<Prefix>,
    any_address: bool,
    /// The longest datagram of the link, in bytes.
    pub mtu: u32,
    offers: u32,
    islands: usize,
    holds: usize,
    ports: (u16, u16),
    shard: (u16, u16),
    protocols: [u64; 4],
}

impl Grants {
    /// What follows from how the instance is configured and what it says of itself.
    #[must_use]
    pub fn new(config: &Config, description: &Description) -> Self {
        let mut protocols = [0u64; 4];
        for service in description.sends.iter().filter(|s| s.kind == registry::service::IP_PROTOCOL) {
            if let Ok(protocol) = u8::try_from(service.value) {
                protocols[usize::from(protocol >> 6)] |= 1 << (protocol & 63);
            }
        }
        Self {
            addresses: config.addresses.clone(),
            any_address: config.any_address,
            mtu: config.mtu,
            offers: config.offers.min(limits::OFFERS_MAX),
            islands: usize::from(config.islands).min(limits::ISLANDS),
            holds: usize::from(config.holds).min(limits::HOLDS),
            ports: (config.ports_first, config.ports_last),
            shard: (config.shard, config.shards.max(1)),
            protocols,
        }
    }

    fn may_send(&self, protocol: u8) -> bool {
        self.protocols[usize::from(protocol >> 6)] >> (protocol & 63) & 1 == 1
    }

    fn is_ours(&self, address: bulkhead_wit::Address) -> bool {
        self.any_address || self.addresses.iter().any(|prefix| prefix.address == address)
    }
}

/// What is inspected: the inputs of a step, the segments as split saw them, and what the instance may do.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The inputs as the module got them.
    pub inputs: Inputs<'a>,
    /// Beside each segment what split found in it.
    pub arrived: &'a [Arrived],
    /// What the module has staged.
    pub staged: &'a [FrameSlice],
    /// What the instance may do.
    pub grants: &'a Grants,
}

impl Step<'_> {
    fn arrived(&self, segment: u32, rule: Rule) -> Result<&Arrived, Broken> {
        self.arrived.get(segment as usize).ok_or_else(|| {
            violation(rule, format!("segment {segment} of {} does not exist", self.arrived.len()))
        })
    }

    /// The payload that is named: a segment's, or staged bytes.
    fn bytes(&self, source: Source, number: u64, rule: Rule) -> Result<&FrameSlice, Broken> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if source == Source::Segment {
            return self.arrived(number, rule).map(|arrived| &arrived.payload);
        }
        let staged = self.staged.get(number as usize).filter(|_| source == Source::Staged);
        staged.ok_or_else(|| violation(rule, format!("number {number} of {source:?} does not exist")))
    }

    /// The segment, if it came from `remote` to `local`.
    fn arrived_between(
        &self,
        segment: u32,
        (local, remote): (Endpoint, Endpoint),
        rule: Rule,
    ) -> Result<&Arrived, Broken> {
        let arrived = self.arrived(segment, rule)?;
        let (from, to) = (arrived.ends.source, arrived.ends.destination);
        check(from == remote && to == local, rule, || {
            format!("segment {segment} is from {from} to {to}, the connection is {local} with {remote}")
        })?;
        Ok(arrived)
    }
}

/// Inspects the outputs of one step; passes, with the ledgers moved on, or names the first broken rule, with the
/// ledgers as they were.
///
/// # Errors
/// The first rule that is broken.
pub fn inspect(
    ledgers: &mut Ledgers,
    holds: &mut Holds,
    step: &Step<'_>,
    outputs: &Outputs,
) -> Result<(), Broken> {
    ledgers.begin();
    holds.begin();
    let result = rules(ledgers, holds, step, outputs);
    if result.is_err() {
        ledgers.take_back();
        holds.take_back();
    }
    result
}

/// In the order in which outputs are dealt with (contract, D4): openings, places, exposures, sends,
/// acknowledgements, endings.
fn rules(ledgers: &mut Ledgers, holds: &mut Holds, step: &Step<'_>, outputs: &Outputs) -> Result<(), Broken> {
    counts(step, outputs)?;
    deadline(step, outputs)?;
    for event in &outputs.events {
        match event {
            Event::Offered(opening) => openings::offered(ledgers, step, opening)?,
            Event::Accepted(opening) => openings::accepted(ledgers, step, opening)?,
            Event::Opened(opening) => openings::opened(ledgers, step, opening)?,
            Event::Choosing(choosing) => openings::choosing(ledgers, step, choosing)?,
            _ => {}
        }
    }
    places::places(ledgers, holds, step, &outputs.places)?;
    marks::exposures(ledgers, &outputs.marks)?;
    sends::sends(ledgers, step, outputs)?;
    marks::acknowledgements(ledgers, step, &outputs.marks)?;
    for event in &outputs.events {
        endings::ending(ledgers, holds, step, event)?;
    }
    endings::notes(outputs)
}

/// Rule 1.
fn counts(step: &Step<'_>, outputs: &Outputs) -> Result<(), Broken> {
    let sends = limits::SENDS.min(step.inputs.room.sends as usize);
    for (what, count, most) in [
        ("bytes of headers", outputs.headers.len(), limits::HEADER_BYTES),
        ("sends", outputs.sends.len(), sends),
        ("places", outputs.places.len(), limits::PLACES),
        ("marks", outputs.marks.len(), limits::MARKS),
        ("events", outputs.events.len(), limits::EVENTS),
        ("notes", outputs.notes.len(), limits::NOTES),
    ] {
        check(count <= most, Rule::Counts, || format!("{count} {what}, {most} allowed"))?;
    }
    let bytes: u64 =
        outputs.sends.iter().map(|send| u64::from(send.header_length) + u64::from(send.length)).sum();
    check(bytes <= u64::from(step.inputs.room.bytes), Rule::Counts, || {
        format!("{bytes} bytes to send, room for {}", step.inputs.room.bytes)
    })
}

/// Rule 12.
fn deadline(step: &Step<'_>, outputs: &Outputs) -> Result<(), Broken> {
    let (now, deadline) = (step.inputs.now, outputs.deadline);
    let nearest = now.saturating_add(limits::DEADLINE_MIN);
    let fits = outputs.unfinished || deadline >= nearest || deadline == NEVER;
    check(fits, Rule::Deadline, || {
        format!("deadline {deadline} with now {now}, not before {nearest} allowed")
    })
}
