//! Rules 9, 13 and 14: the end of a stream is where a FIN has it; nothing is said of what is closed; answers were
//! asked for; text is short.

use super::ledger::Ledgers;
use super::rule::{Broken, Rule, check, violation};
use super::{Holds, Step};
use bulkhead_wit::{Call, Event, Finished, Info, Outputs, limits};

pub(super) fn ending(
    ledgers: &mut Ledgers,
    holds: &mut Holds,
    step: &Step<'_>,
    event: &Event,
) -> Result<(), Broken> {
    match event {
        Event::Finished(end) => finished(ledgers, step, end),
        Event::Urgent(urgent) => {
            let (_, ledger) = ledgers.touch_open(urgent.connection)?;
            let reach = ledger.exposed.saturating_add(limits::WINDOW);
            check(urgent.at <= reach, Rule::ReceiveMemory, || {
                format!("{:?}: urgent data up to {}, beyond any window", ledger.handle, urgent.at)
            })
        }
        Event::Warned(reason) if ledgers.sockets.contains_key(&reason.connection) => Ok(()),
        Event::Warned(reason) => ledgers.touch(reason.connection).map(drop),
        Event::Closed(reason) => ledgers.close(reason.connection).map(drop),
        Event::Resubmit(hold) => holds.resubmit(hold),
        Event::Release(slot) => holds.release(*slot),
        Event::Info(info) => answered(step, info),
        Event::Failed(failed) => check((failed.call as usize) < step.inputs.calls.len(), Rule::Text, || {
            format!("call {} failed, of {}", failed.call, step.inputs.calls.len())
        }),
        Event::Offered(_) | Event::Accepted(_) | Event::Opened(_) | Event::Choosing(_) => Ok(()),
    }
}

fn finished(ledgers: &mut Ledgers, step: &Step<'_>, end: &Finished) -> Result<(), Broken> {
    let (_, ledger) = ledgers.touch_open(end.connection)?;
    let arrived = step.arrived_between(end.segment, (ledger.local, ledger.remote), Rule::Finished)?;
    let facts = arrived.facts.tcp().filter(|facts| facts.fin).ok_or_else(|| {
        violation(Rule::Finished, format!("{:?}: segment {} has no FIN", ledger.handle, end.segment))
    })?;
    let at = facts.first_byte().wrapping_add(arrived.payload.len() as u32).wrapping_sub(ledger.receive_base);
    let placed = ledger.islands.last().map_or(ledger.placed, |island| island.1);
    let fits =
        at == end.at as u32 && end.at >= placed && end.at <= ledger.exposed.saturating_add(limits::WINDOW);
    check(fits && ledger.finished.is_none(), Rule::Finished, || {
        let (handle, told, before) = (ledger.handle, end.at, ledger.finished);
        format!("{handle:?}: ends at {told}, the FIN at {at} (mod 2^32), placed to {placed}, {before:?}")
    })?;
    ledger.finished = Some(end.at);
    Ok(())
}

/// An answer must have been asked for in this step.
fn answered(step: &Step<'_>, info: &Info) -> Result<(), Broken> {
    let asked = step.inputs.calls.iter().any(|call| matches!(call, Call::Query(of) if *of == info.of));
    check(asked && info.fields.len() <= limits::INFO_FIELDS, Rule::Text, || {
        format!("{} fields about {:?}, asked for: {asked}", info.fields.len(), info.of)
    })
}

pub(super) fn notes(outputs: &Outputs) -> Result<(), Broken> {
    for note in &outputs.notes {
        check(note.text.len() <= limits::NOTE_BYTES && (1..=5).contains(&note.level), Rule::Text, || {
            format!("a note of {} bytes and level {}", note.text.len(), note.level)
        })?;
    }
    Ok(())
}
