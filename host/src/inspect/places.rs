//! Rules 6 and 7: bytes of a segment go where its own endpoints and sequence number say, into memory that was
//! granted, and nowhere twice.

use super::ledger::Ledgers;
use super::rule::{Broken, Rule, check};
use super::{Holds, Step};
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
        check(place.source == Source::Segment, Rule::PlaceBinding, || {
            format!("a place from {:?}, which this world does not have", place.source)
        })?;
        let arrived = step.arrived(place.segment, Rule::PlaceBinding)?;
        let inside = u64::from(place.skip) + u64::from(place.length) <= arrived.payload.len() as u64;
        // A datagram may be empty.
        check(inside && (place.length > 0 || place.target == Target::Datagram), Rule::PlaceBinding, || {
            format!(
                "{} bytes after {} of segment {}, whose payload is {}",
                place.length,
                place.skip,
                place.segment,
                arrived.payload.len()
            )
        })?;
        if let Some(count) = of_segment.get_mut(place.segment as usize) {
            *count += 1;
            check(usize::from(*count) <= limits::PLACES_PER_SEGMENT, Rule::Counts, || {
                format!("{count} places of segment {}", place.segment)
            })?;
        }
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
    let arrived = step.arrived_between(place.segment, (ledger.local, ledger.remote), Rule::PlaceBinding)?;
    let whole = step
        .inputs
        .segments
        .get(place.segment as usize)
        .is_some_and(|segment| segment.kind == Kind::Whole && segment.protocol == protocol::TCP);
    let first_byte = arrived
        .facts
        .tcp()
        .map(|facts| facts.first_byte().wrapping_add(place.skip).wrapping_sub(ledger.receive_base));
    check(whole && first_byte == Some(place.at as u32), Rule::PlaceBinding, || {
        format!(
            "{:?}: at {} (mod 2^32 {}), but the segment's bytes are at {first_byte:?}",
            ledger.handle, place.at, place.at as u32
        )
    })?;
    // `at` beyond u64 cannot pass the limit; saturating keeps the sum from wrapping below it.
    let end = place.at.saturating_add(u64::from(place.length));
    check(place.at >= ledger.exposed && end <= ledger.limit, Rule::ReceiveMemory, || {
        format!(
            "{:?}: place {}..{end}, granted {}..{}",
            ledger.handle, place.at, ledger.exposed, ledger.limit
        )
    })?;
    check(ledger.finished.is_none_or(|at| end <= at), Rule::Finished, || {
        format!(
            "{:?}: place {}..{end} beyond the stream's end {:?}",
            ledger.handle, place.at, ledger.finished
        )
    })?;
    ledger.place(place.at, end, islands)
}

/// A datagram goes to the socket that is bound to where it was sent, and goes whole.
fn into_datagram(ledgers: &Ledgers, step: &Step<'_>, place: &Place) -> Result<(), Broken> {
    let arrived = step.arrived(place.segment, Rule::PlaceBinding)?;
    let socket = ledgers.socket(Handle(place.of))?;
    let segment = step.inputs.segments.get(place.segment as usize);
    let is_udp = segment.is_some_and(|s| s.kind == Kind::Whole && s.protocol == protocol::UDP);
    check(is_udp && socket.takes(arrived.ends.source, arrived.ends.destination), Rule::PlaceBinding, || {
        format!(
            "segment {} is from {} to {}, the socket is {} with {}",
            place.segment, arrived.ends.source, arrived.ends.destination, socket.local, socket.remote
        )
    })?;
    let whole = place.at == 0 && place.skip == 0 && place.length as usize == arrived.payload.len();
    check(whole, Rule::PlaceBinding, || {
        format!("{} of {} bytes of a datagram placed", place.length, arrived.payload.len())
    })
}
