//! The host's numbers: ledgers and hold slots.

use super::wire::{Carried as _, Malformed, Reader, carried, put, put_bytes, put_count, put_list};
use crate::inspect::{Holds, Ledger, Ledgers, Listener, ModuleSlot, Socket, Stage};
use crate::split::FragmentKey;
use crate::streams::HoldBytes;
use bulkhead_wit::{Handle, limits};

carried! {
    ModuleSlot { index, generation }
    Listener { local, how, allow, accepted, receive_first }
    Socket { local, remote }
    FragmentKey { source, destination, protocol, identification }
}

const CONNECTIONS: usize = limits::CONNECTIONS as usize;
/// Listeners are numbered once; sockets are bounded by their slots.
const SOCKETS: usize = crate::stack::SOCKETS;

fn stage_of(number: u8) -> Option<Stage> {
    [Stage::Gone, Stage::Opening, Stage::Offered, Stage::Open]
        .into_iter()
        .find(|stage| *stage as u8 == number)
}

/// Writes a ledger that is in use: living, or gone while its application still holds the stream.
fn put_ledger(ledger: &Ledger, is_bound: bool, to: &mut Vec<u8>) {
    put!(to, ledger.handle, ledger.local, ledger.remote, ledger.stage as u8, is_bound);
    put!(to, ledger.listener, ledger.receive_first, ledger.receive_base, ledger.send_base);
    put!(to, ledger.limit, ledger.written, ledger.shut, ledger.urgent, ledger.exposed);
    put!(to, ledger.acknowledged, ledger.sent, ledger.finished, ledger.placed);
    put_list(&ledger.islands, to);
}

fn take_ledger(from: &mut Reader<'_>) -> Result<(Ledger, bool), Malformed> {
    let (handle, local, remote) = (from.take()?, from.take()?, from.take()?);
    let stage = stage_of(from.take()?).ok_or(from.malformed("no stage of a connection"))?;
    let is_bound = from.take()?;
    let ledger = Ledger {
        handle,
        local,
        remote,
        stage,
        listener: from.take()?,
        receive_first: from.take()?,
        receive_base: from.take()?,
        send_base: from.take()?,
        limit: from.take()?,
        written: from.take()?,
        shut: from.take()?,
        urgent: from.take()?,
        exposed: from.take()?,
        acknowledged: from.take()?,
        sent: from.take()?,
        finished: from.take()?,
        placed: from.take()?,
        islands: from.list(limits::ISLANDS)?,
        ..Ledger::default()
    };
    let mut last = ledger.placed;
    let has_order = ledger.islands.iter().all(|(begin, end)| {
        let follows = *begin > last && end > begin;
        last = *end;
        follows
    });
    let holds = has_order && ledger.exposed <= ledger.placed && ledger.acknowledged <= ledger.sent;
    from.check(holds, "a connection whose numbers contradict each other")?;
    Ok((ledger, is_bound))
}

/// Writes all of them. `is_used` says which index a stream stands at.
pub(crate) fn put_ledgers(ledgers: &Ledgers, is_used: impl Fn(u32) -> bool, to: &mut Vec<u8>) {
    put_list(&ledgers.generations, to);
    put_list(&ledgers.free, to);
    put_list(&ledgers.by_module, to);
    let used: Vec<(u32, &Ledger)> = (0..)
        .zip(&ledgers.entries)
        .filter(|(index, ledger)| ledger.stage != Stage::Gone || is_used(*index))
        .collect();
    put_count(used.len(), to);
    for (index, ledger) in used {
        index.put(to);
        put_ledger(ledger, ledgers.index_of(ledger.local, ledger.remote) == Some(index), to);
    }
    put_count(ledgers.listeners.len(), to);
    ledgers.listeners.iter().for_each(|(number, listener)| put!(to, *number, listener.clone()));
    put_count(ledgers.sockets.len(), to);
    ledgers.sockets.iter().for_each(|(handle, socket)| put!(to, *handle, *socket));
}

pub(crate) fn take_ledgers(from: &mut Reader<'_>) -> Result<Ledgers, Malformed> {
    let mut ledgers = Ledgers::default();
    ledgers.generations = from.list(CONNECTIONS)?;
    let count = ledgers.generations.len();
    ledgers.entries.resize_with(count, Ledger::default);
    ledgers.free = from.list(count)?;
    ledgers.by_module = from.list(CONNECTIONS)?;
    let within = |index: u32| (index as usize) < count;
    let all_within = ledgers.free.iter().all(|index| within(*index))
        && ledgers.by_module.iter().flatten().all(|slot| within(slot.index));
    from.check(all_within, "a connection that has no place")?;
    for _ in 0..from.count(count)? {
        let index: u32 = from.take()?;
        let (ledger, is_bound) = take_ledger(from)?;
        from.check(within(index), "a connection that has no place")?;
        let ends = (ledger.local, ledger.remote);
        ledgers.offered += u32::from(ledger.stage == Stage::Offered);
        if let Some(entry) = ledgers.get_mut(index) {
            *entry = ledger;
        }
        if is_bound {
            let bound = ledgers.bind(index, ends.0, ends.1);
            from.check(bound.is_ok(), "two connections with the same ends")?;
        }
    }
    for _ in 0..from.count(limits::LISTENERS)? {
        let (number, listener): (u32, Listener) = from.take()?;
        ledgers.listeners.insert(number, listener);
    }
    for _ in 0..from.count(SOCKETS)? {
        let (handle, socket): (Handle, Socket) = from.take()?;
        ledgers.sockets.insert(handle, socket);
    }
    Ok(ledgers)
}

/// Writes hold slots: numbers and bytes.
pub(crate) fn put_holds(holds: &Holds, bytes: &HoldBytes, to: &mut Vec<u8>) {
    put_count(holds.slots.len(), to);
    for slot in &holds.slots {
        slot.key.put(to);
        put_list(&slot.runs, to);
    }
    put_count(bytes.slots.len(), to);
    for slot in &bytes.slots {
        put_bytes(&slot.header, to);
        put_bytes(&slot.bytes, to);
    }
}

pub(crate) fn take_holds(from: &mut Reader<'_>) -> Result<(Holds, HoldBytes), Malformed> {
    let (mut holds, mut bytes) = (Holds::default(), HoldBytes::default());
    holds.slots.resize_with(from.count(limits::HOLDS)?, Default::default);
    for slot in &mut holds.slots {
        slot.key = from.take()?;
        slot.runs = from.list(limits::ISLANDS)?;
    }
    bytes.slots.resize_with(from.count(limits::HOLDS)?, Default::default);
    for slot in &mut bytes.slots {
        slot.header = from.bytes(limits::HEADER)?.to_vec();
        slot.bytes = from.bytes(limits::HOLD_BYTES)?.to_vec();
    }
    Ok((holds, bytes))
}
