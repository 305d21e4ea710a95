//! Rules 7 and 8: only placed bytes are exposed; only what was sent and what a segment acknowledges is dropped.

use super::Step;
use super::ledger::Ledgers;
use super::rule::{Broken, Rule, check};
use bulkhead_wit::Mark;

pub(super) fn exposures(ledgers: &mut Ledgers, marks: &[Mark]) -> Result<(), Broken> {
    for mark in marks {
        let (_, ledger) = ledgers.touch_open(mark.connection)?;
        check(!ledger.is_marked, Rule::Counts, || format!("{:?} has two marks in one step", ledger.handle))?;
        ledger.is_marked = true;
        ledger.expose(mark.exposed)?;
    }
    Ok(())
}

pub(super) fn acknowledgements(ledgers: &mut Ledgers, step: &Step<'_>, marks: &[Mark]) -> Result<(), Broken> {
    for mark in marks {
        let (_, ledger) = ledgers.touch_open(mark.connection)?;
        if mark.acknowledged == ledger.acknowledged {
            continue;
        }
        let (handle, before, after, sent) =
            (ledger.handle, ledger.acknowledged, mark.acknowledged, ledger.sent);
        check(after > before && after <= sent, Rule::Acknowledged, || {
            format!("{handle:?}: acknowledged {after}, was {before}, sent up to {sent}")
        })?;
        let ends = (ledger.local, ledger.remote);
        let arrived = step.arrived_between(mark.by, ends, Rule::Acknowledged)?;
        // How far the segment's ACK field is beyond what is acknowledged already. The FIN's own number may be
        // acknowledged too, which is one more than the bytes.
        let base = ledger.send_base.wrapping_add(before as u32);
        let facts = arrived.facts.tcp().filter(|facts| facts.ack_flag);
        let beyond = facts.map_or(0, |facts| facts.ack.wrapping_sub(base));
        let covers =
            beyond.cast_signed() > 0 && (after - before..=sent + 1 - before).contains(&u64::from(beyond));
        check(covers, Rule::Acknowledged, || {
            format!("{handle:?}: {after} acknowledged by {}, which covers {before} + {beyond}", mark.by)
        })?;
        ledger.acknowledged = after;
    }
    Ok(())
}
