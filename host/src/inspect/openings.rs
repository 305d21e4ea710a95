//! Rule 10: a connection opens by a segment of this step, for a living listener or open, with a fresh handle and
//! endpoints that are free. Both are read from the segment by the host; the bases that the module tells must be the
//! segment's own.

use super::ledger::{Ledgers, Stage};
use super::rule::{Broken, Rule, check, violation};
use super::{Arrived, Step};
use bulkhead_wit::{Choosing, Endpoint, Listening, Opening};

const RULE: Rule = Rule::Opening;

/// The listener of an opening, if it is there, listens where the segment went, and has credit.
fn listener_takes(
    ledgers: &Ledgers,
    step: &Step<'_>,
    opening: &Opening,
    to: Endpoint,
) -> Result<u32, Broken> {
    let listener = ledgers
        .listeners
        .get(&opening.listener)
        .ok_or_else(|| violation(RULE, format!("there is no listener {}", opening.listener)))?;
    let any = listener.how.contains(Listening::ANY_ADDRESS);
    let at = listener.local;
    let address_fits = if at.address.is_unspecified() {
        any || step.grants.is_ours(to.address)
    } else {
        at.address == to.address
    };
    check(address_fits && (at.port == to.port || (at.port == 0 && any)), RULE, || {
        format!("listener {} is at {at}, the segment went to {to}", opening.listener)
    })?;
    check(listener.accepted < listener.allow, RULE, || {
        format!("listener {} may accept {} in all and has", opening.listener, listener.allow)
    })?;
    Ok(listener.receive_first)
}

/// The peer's numbers in the segment must be those that the module tells.
fn bases_fit(arrived: &Arrived, opening: &Opening, window: u32) -> Result<(), Broken> {
    let facts = arrived.facts.tcp().ok_or_else(|| violation(RULE, "the segment is none of TCP".into()))?;
    let distance = facts.seq.wrapping_sub(opening.receive_base);
    let receive_fits =
        if facts.syn { opening.receive_base == facts.seq.wrapping_add(1) } else { distance <= window };
    check(receive_fits, RULE, || {
        format!("receive base {}, but the segment has sequence number {}", opening.receive_base, facts.seq)
    })?;
    check(facts.ack_flag && opening.send_base == facts.ack, RULE, || {
        format!("send base {}, but the segment acknowledges {}", opening.send_base, facts.ack)
    })?;
    check(!facts.rst && opening.mss > 0, RULE, || "opened by a reset, or with an MSS of 0".into())
}

pub(super) fn offered(ledgers: &mut Ledgers, step: &Step<'_>, opening: &Opening) -> Result<(), Broken> {
    let arrived = step.arrived(opening.segment, RULE)?;
    let (local, remote) = (arrived.ends.destination, arrived.ends.source);
    let first = listener_takes(ledgers, step, opening, local)?;
    let defers = ledgers.listeners.get(&opening.listener).is_some_and(|l| l.how.contains(Listening::DEFER));
    check(defers, RULE, || format!("listener {} does not defer", opening.listener))?;
    check(ledgers.offered < step.grants.offers, RULE, || {
        format!("{} connections are offered already", ledgers.offered)
    })?;
    let facts = arrived.facts.tcp().ok_or_else(|| violation(RULE, "the segment is none of TCP".into()))?;
    let asks = facts.syn && !facts.ack_flag && !facts.rst;
    check(asks && opening.receive_base == facts.seq.wrapping_add(1), RULE, || {
        format!("offered with receive base {} by a segment that does not ask for it", opening.receive_base)
    })?;
    let ledger = ledgers.add_by_module(opening.connection, local, remote, Stage::Offered)?;
    ledger.listener = opening.listener;
    ledger.receive_base = opening.receive_base;
    ledger.receive_first = first;
    ledger.limit = u64::from(first);
    Ok(())
}

pub(super) fn accepted(ledgers: &mut Ledgers, step: &Step<'_>, opening: &Opening) -> Result<(), Broken> {
    let arrived = step.arrived(opening.segment, RULE)?;
    let ends = (arrived.ends.destination, arrived.ends.source);
    let first = listener_takes(ledgers, step, opening, ends.0)?;
    bases_fit(arrived, opening, first)?;
    if ledgers.find(opening.connection).is_some() {
        let (_, ledger) = ledgers.touch(opening.connection)?;
        let continues = ledger.stage == Stage::Offered
            && (ledger.local, ledger.remote) == ends
            && ledger.receive_base == opening.receive_base
            && ledger.listener == opening.listener;
        check(continues, RULE, || {
            format!("{:?} is open already, or was offered otherwise", opening.connection)
        })?;
        ledger.stage = Stage::Open;
        ledger.send_base = opening.send_base;
        ledgers.settle_offer();
    } else {
        let ledger = ledgers.add_by_module(opening.connection, ends.0, ends.1, Stage::Open)?;
        ledger.listener = opening.listener;
        ledger.receive_base = opening.receive_base;
        ledger.send_base = opening.send_base;
        ledger.receive_first = first;
        ledger.limit = u64::from(first);
    }
    ledgers.count_accepted(opening.listener);
    Ok(())
}

pub(super) fn opened(ledgers: &mut Ledgers, step: &Step<'_>, opening: &Opening) -> Result<(), Broken> {
    let (_, ledger) = ledgers.touch(opening.connection)?;
    let ends = (ledger.local, ledger.remote);
    check(ledger.stage == Stage::Opening && ends.0.port != 0, RULE, || {
        format!("{:?} is not being opened", opening.connection)
    })?;
    let window = ledger.receive_first;
    ledger.stage = Stage::Open;
    ledger.receive_base = opening.receive_base;
    ledger.send_base = opening.send_base;
    let arrived = step.arrived_between(opening.segment, ends, RULE)?;
    bases_fit(arrived, opening, window)
}

/// An open's local end is chosen: one of our addresses, a port of the ephemeral range and of this shard's class.
pub(super) fn choosing(ledgers: &mut Ledgers, step: &Step<'_>, choosing: &Choosing) -> Result<(), Broken> {
    let (index, ledger) = ledgers.touch(choosing.connection)?;
    let (asked, chosen, remote) = (ledger.local, choosing.local, ledger.remote);
    let unbound = asked.address.is_unspecified() || asked.port == 0;
    check(ledger.stage == Stage::Opening && unbound, RULE, || {
        format!("{:?} has nothing to choose", choosing.connection)
    })?;
    let address_fits = if asked.address.is_unspecified() {
        step.grants.is_ours(chosen.address) && chosen.address.is_unicast()
    } else {
        asked.address == chosen.address
    };
    let (first, last) = step.grants.ports;
    let (shard, shards) = step.grants.shard;
    let port_fits = if asked.port == 0 {
        (first..=last).contains(&chosen.port) && chosen.port % shards == shard
    } else {
        asked.port == chosen.port
    };
    check(address_fits && port_fits && chosen.port != 0, RULE, || {
        format!("{:?} asked for {asked}, {chosen} was chosen", choosing.connection)
    })?;
    ledger.local = chosen;
    ledgers.bind(index, chosen, remote)
}
