//! What a segment does to a connection (RFC 9293 3.10.7.3 and 3.10.7.4), in the RFC's order.

use crate::Step;
use crate::connection::{Connection, State};
use crate::wire::{self, ACK, FIN, Header, RST, SYN};
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Event, Finished, Place, Source, Target, limits};

/// Says whether this segment has completed the handshake of a stranger.
pub(crate) fn arrive(one: &mut Connection, (number, header): (u32, &Header), step: &mut Step<'_>) -> bool {
    if one.state == State::SynSent {
        answer_to_syn(one, (number, header), step);
        return false;
    }
    // First, the sequence number: something of the segment lies in the window, or it is an old one.
    let begin = one.theirs(header.sequence);
    let length = i64::from(header.payload) + i64::from(header.has(SYN)) + i64::from(header.has(FIN));
    let expected = one.expected as i64;
    let window_end = (1 + one.limit.max(one.exposed())) as i64;
    let is_acceptable = begin <= window_end.max(expected) && begin + length >= expected;
    // Second, RST: only the exact number ends the connection (RFC 5961 3).
    if header.has(RST) {
        if begin == expected {
            one.gone(reason::RESET);
        } else if is_acceptable {
            one.owes_acknowledgement = true;
        }
        return false;
    }
    // Fourth, SYN: the peer has begun anew, or repeats itself; it is told where we are (RFC 5961 4).
    if !is_acceptable || header.has(SYN) {
        one.owes_acknowledgement = true;
        if header.has(SYN) && one.state == State::SynReceived {
            one.go_back();
        }
        return false;
    }
    // Fifth, ACK.
    if !header.has(ACK) {
        return false;
    }
    let acknowledges = one.ours(header.acknowledgement);
    if one.state == State::SynReceived && (acknowledges < 1 || acknowledges > one.highest as i64) {
        wire::refuse(header, &mut step.room, step.outputs);
        return false;
    }
    if acknowledges > one.highest as i64 {
        one.owes_acknowledgement = true;
        return false;
    }
    let is_handshake = one.state == State::SynReceived;
    if is_handshake {
        one.state = State::Established;
        if one.is_known {
            step.outputs.events.push(Event::Opened(one.opening(number)));
        }
        if one.is_finished {
            one.finish();
        }
    }
    acknowledge(one, (number, header), acknowledges, step);
    // Seventh and eighth, text and FIN; the host has to know the connection before.
    if is_handshake && !one.is_known {
        // What came with the last segment of the handshake comes again.
        one.owes_acknowledgement |= length > 0;
        return true;
    }
    text((number, header), begin, one, step);
    false
}

/// RFC 9293 3.10.7.3.
fn answer_to_syn(one: &mut Connection, (number, header): (u32, &Header), step: &mut Step<'_>) {
    let acknowledges = one.ours(header.acknowledgement);
    let is_answer = header.has(ACK) && acknowledges == 1 && one.highest >= 1;
    if header.has(ACK) && !is_answer {
        if !header.has(RST) {
            wire::refuse(header, &mut step.room, step.outputs);
        }
        return;
    }
    if header.has(RST) {
        if is_answer {
            one.gone(reason::REFUSED);
        }
        return;
    }
    if !header.has(SYN) {
        return;
    }
    one.synchronise(header);
    if is_answer {
        one.state = State::Established;
        step.outputs.events.push(Event::Opened(one.opening(number)));
        if one.is_finished {
            one.finish();
        }
        acknowledge(one, (number, header), acknowledges, step);
    } else {
        // Both have called at the same time: our SYN again, with an acknowledgement of theirs.
        one.state = State::SynReceived;
        one.go_back();
    }
}

/// What the peer has got, and what it takes.
fn acknowledge(
    one: &mut Connection,
    (number, header): (u32, &Header),
    acknowledges: i64,
    step: &mut Step<'_>,
) {
    let Ok(acknowledges) = u64::try_from(acknowledges) else {
        return;
    };
    if acknowledges < one.acknowledged {
        return;
    }
    let window_end = acknowledges + u64::from(header.window);
    let is_same = acknowledges == one.acknowledged && window_end == one.window_end && header.payload == 0;
    let is_duplicate = is_same && one.next > one.acknowledged && !header.has(FIN);
    one.window_end = window_end;
    if acknowledges > one.acknowledged {
        let fresh = acknowledges - one.acknowledged;
        // Slow start, then a segment more each round trip (RFC 5681 3.1).
        let grows = if one.congestion_window < one.threshold {
            fresh.min(2 * one.mss)
        } else {
            (one.mss * one.mss / one.congestion_window).max(1)
        };
        one.congestion_window = (one.congestion_window + grows).min(limits::WINDOW);
        (one.acknowledged, one.acknowledged_by) = (acknowledges, number);
        one.next = one.next.max(acknowledges);
        (one.duplicates, one.tries, one.timer) = (0, 0, bulkhead_wit::NEVER);
        one.measure(step.now);
    } else if is_duplicate {
        one.duplicates += 1;
        if one.duplicates == 3 {
            // A segment is lost, and those behind it arrived and were dropped, as we would (RFC 5681 3.2).
            one.threshold = ((one.next - one.acknowledged) / 2).max(2 * one.mss);
            one.congestion_window = one.threshold;
            one.go_back();
        }
    }
    if one.is_fin_acknowledged() {
        match one.state {
            State::FinWait1 => one.wait_for_end(step.now),
            State::Closing => one.wait_in_time(step.now),
            State::LastAck => one.gone(reason::NORMAL),
            _ => {}
        }
    }
}

/// Bytes in order are placed and exposed; whatever is out of order is dropped, and comes again.
fn text((number, header): (u32, &Header), begin: i64, one: &mut Connection, step: &mut Step<'_>) {
    let length = u64::from(header.payload);
    if length == 0 && !header.has(FIN) {
        return;
    }
    one.owes_acknowledgement = true;
    let is_open = matches!(one.state, State::Established | State::FinWait1 | State::FinWait2);
    let skip = u64::try_from(one.expected as i64 - begin).ok().filter(|_| is_open);
    let Some(skip) = skip else { return };
    let room = one.limit.saturating_sub(one.exposed());
    let fresh = length.saturating_sub(skip).min(room);
    if fresh > 0 {
        if one.is_closed {
            return one.reset(Some(reason::DATA_AFTER_CLOSE));
        }
        if step.outputs.places.len() >= limits::PLACES {
            return;
        }
        step.outputs.places.push(Place {
            of: one.handle.0,
            at: one.exposed(),
            segment: number,
            skip: skip as u32,
            length: fresh as u32,
            source: Source::Segment,
            target: Target::Stream,
        });
        one.expected += fresh;
    }
    // The FIN counts once all before it has arrived.
    if !header.has(FIN) || skip + fresh < length || skip > length {
        return;
    }
    let at = one.exposed();
    (one.expected, one.is_ended) = (one.expected + 1, true);
    step.outputs.events.push(Event::Finished(Finished { connection: one.handle, at, segment: number }));
    match one.state {
        State::Established => one.state = State::CloseWait,
        State::FinWait1 => one.state = State::Closing,
        State::FinWait2 => one.wait_in_time(step.now),
        _ => {}
    }
}
