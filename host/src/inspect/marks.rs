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
        check(
            mark.acknowledged > ledger.acknowledged && mark.acknowledged <= ledger.sent,
            Rule::Acknowledged,
            || {
                format!(
                    "{:?}: acknowledged {}, was {}, sent up to {}",
                    ledger.handle, mark.acknowledged, ledger.acknowledged, ledger.sent
                )
            },
        )?;
        let ends = (ledger.local, ledger.remote);
        let arrived = step.arrived_between(mark.by, ends, Rule::Acknowledged)?;
        // How far the segment's ACK field is beyond what is acknowledged already. The FIN's own number may be
        // acknowledged too, which is one more than the bytes.
        let beyond = arrived.facts.tcp().filter(|facts| facts.ack_flag).map_or(0, |facts| {
            facts.ack.wrapping_sub(ledger.send_base.wrapping_add(ledger.acknowledged as u32))
        });
        let covers = beyond.cast_signed() > 0
            && u64::from(beyond) >= mark.acknowledged - ledger.acknowledged
            && u64::from(beyond) <= ledger.sent + 1 - ledger.acknowledged;
        check(covers, Rule::Acknowledged, || {
            format!(
                "{:?}: {} said to be acknowledged by segment {}, which covers {beyond} bytes from {} on",
                ledger.handle, mark.acknowledged, mark.by, ledger.acknowledged
            )
        })?;
        ledger.acknowledged = mark.acknowledged;
    }
    Ok(())
}
