//! Rules 6 and 7: bytes of a segment go where its own endpoints and sequence number say, into memory that was
//! granted, and nowhere twice.

use super::ledger::{Ledger, Ledgers};
use super::rule::{Broken, Rule, check};
use super::{Holds, Step};
use crate::split::TcpFacts;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Handle, Kind, Place, Source, Target, limits};

pub(super) fn places(
    ledgers: &mut Ledgers,
    holds: &mut Holds,
    step: &Step<'_>,
    places: &[Place],
) -> Result<(), Broken> {
    let mut of_segment = [0u8; limits::SEGMENTS];
    for place in places {
        let is_staged = place.source == Source::Staged;
        let payload = step.bytes(place.source, place.segment.into(), Rule::PlaceBinding)?;
        let inside = u64::from(place.skip) + u64::from(place.length) <= payload.len() as u64;
        // A datagram may be empty.
        check(inside && (place.length > 0 || place.target == Target::Datagram), Rule::PlaceBinding, || {
            let (length, skip, whole) = (place.length, place.skip, payload.len());
            format!("{length} bytes after {skip} of {:?} {}, which has {whole}", place.source, place.segment)
        })?;
        if !is_staged && let Some(count) = of_segment.get_mut(place.segment as usize) {
            *count += 1;
            check(usize::from(*count) <= limits::PLACES_PER_SEGMENT, Rule::Counts, || {
                format!("{count} places of segment {}", place.segment)
            })?;
        }
        check(!is_staged || place.target == Target::Stream, Rule::PlaceBinding, || {
            format!("staged bytes into a {:?}", place.target)
        })?;
        match place.target {
            Target::Stream => into_stream(ledgers, step, place)?,
            Target::Hold => holds.place(step, place)?,
            Target::Datagram => into_datagram(ledgers, step, place)?,
        }
    }
    Ok(())
}

fn into_stream(ledgers: &mut Ledgers, step: &Step<'_>, place: &Place) -> Result<(), Broken> {
    let islands = step.grants.islands;
    let (_, ledger) = ledgers.touch_open(Handle(place.of))?;
    if place.source == Source::Segment {
        comes_from(step, place, ledger)?;
    }
    // `at` beyond u64 cannot pass the limit; saturating keeps the sum from wrapping below it.
    let (handle, at, exposed, limit) = (ledger.handle, place.at, ledger.exposed, ledger.limit);
    let end = at.saturating_add(u64::from(place.length));
    check(at >= exposed && end <= limit, Rule::ReceiveMemory, || {
        format!("{handle:?}: place {at}..{end}, granted {exposed}..{limit}")
    })?;
    check(ledger.finished.is_none_or(|last| end <= last), Rule::Finished, || {
        format!("{handle:?}: place {at}..{end} beyond the stream's end {:?}", ledger.finished)
    })?;
    ledger.place(at, end, islands)
}

/// A segment's bytes belong to the connection with its endpoints, where its sequence number says. Of staged bytes only the
/// module knows where they belong (contract, D1).
fn comes_from(step: &Step<'_>, place: &Place, ledger: &Ledger) -> Result<(), Broken> {
    let arrived = step.arrived_between(place.segment, (ledger.local, ledger.remote), Rule::PlaceBinding)?;
    let segment = step.inputs.segments.get(place.segment as usize);
    let whole = segment.is_some_and(|s| s.kind == Kind::Whole && s.protocol == protocol::TCP);
    let first = |facts: TcpFacts| facts.first_byte().wrapping_add(place.skip);
    let first_byte = arrived.facts.tcp().map(|facts| first(facts).wrapping_sub(ledger.receive_base));
    check(whole && first_byte == Some(place.at as u32), Rule::PlaceBinding, || {
        let (handle, at, modulo) = (ledger.handle, place.at, place.at as u32);
        format!("{handle:?}: at {at} (mod 2^32 {modulo}), but the segment's bytes are at {first_byte:?}")
    })
}

/// A datagram goes to the socket that is bound to where it was sent, and goes whole.
fn into_datagram(ledgers: &Ledgers, step: &Step<'_>, place: &Place) -> Result<(), Broken> {
    let arrived = step.arrived(place.segment, Rule::PlaceBinding)?;
    let socket = ledgers.socket(Handle(place.of))?;
    let segment = step.inputs.segments.get(place.segment as usize);
    let is_udp = segment.is_some_and(|s| s.kind == Kind::Whole && s.protocol == protocol::UDP);
    let (from, to) = (arrived.ends.source, arrived.ends.destination);
    check(is_udp && socket.takes(from, to), Rule::PlaceBinding, || {
        format!("segment {} is from {from} to {to}, the socket is {socket:?}", place.segment)
    })?;
    let whole = place.at == 0 && place.skip == 0 && place.length as usize == arrived.payload.len();
    check(whole, Rule::PlaceBinding, || {
        format!("{} of {} bytes of a datagram placed", place.length, arrived.payload.len())
    })
}
