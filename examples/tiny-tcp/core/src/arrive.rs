//! What a segment does to a connection (RFC 9293 3.10.7.3 and 3.10.7.4), in the RFC's order.

use crate::connection::{Connection, State};
use crate::wire::{ACK, FIN, Header, RST, SYN, Step};
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Event, Finished, NEVER, Place, Source, Target, limits};

pub(crate) fn arrive(one: &mut Connection, header: &Header, step: &mut Step<'_>) {
    if one.state == State::SynSent {
        return answer_to_syn(one, header, step);
    }
    // First, the sequence number: something of the segment lies in the window, or it is an old one.
    let begin = one.theirs(header.sequence);
    let length = i64::from(header.length());
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
        return;
    }
    // Fourth, SYN: the peer has begun anew, or repeats itself; it is told where we are (RFC 5961 4). A handshake ends in order.
    let is_handshake = one.state == State::SynReceived;
    if !is_acceptable || header.has(SYN) || (is_handshake && begin != expected) {
        one.owes_acknowledgement = true;
        // An answer to our own SYN needs no second one: both have called at the same time.
        if header.has(SYN) && !header.has(ACK) && is_handshake {
            one.go_back();
        }
        return;
    }
    // Fifth, ACK.
    if !header.has(ACK) {
        return;
    }
    let acknowledges = one.ours(header.acknowledgement);
    if is_handshake && !(1..=one.highest as i64).contains(&acknowledges) {
        return header.refuse(step);
    }
    if acknowledges > one.highest as i64 {
        one.owes_acknowledgement = true;
        return;
    }
    if is_handshake {
        one.establish(header.number, step);
    }
    acknowledge(one, header, acknowledges, step);
    // Seventh and eighth, text and FIN.
    if one.is_known() {
        text(one, header, begin, step);
    } else {
        // The host has to know the connection before: what came with the end of the handshake comes again.
        one.owes_acknowledgement |= length > 0;
    }
}

/// RFC 9293 3.10.7.3.
fn answer_to_syn(one: &mut Connection, header: &Header, step: &mut Step<'_>) {
    let is_answer = header.has(ACK) && one.ours(header.acknowledgement) == 1 && one.highest == 1;
    if header.has(ACK) && !is_answer {
        header.refuse(step);
    } else if header.has(RST) {
        if is_answer {
            one.gone(reason::REFUSED);
        }
    } else if header.has(SYN) {
        one.synchronise(header);
        if is_answer {
            one.establish(header.number, step);
            acknowledge(one, header, 1, step);
        } else {
            // Both have called at the same time: our SYN again, with an acknowledgement of theirs.
            one.state = State::SynReceived;
            one.go_back();
        }
    }
}

/// What the peer has got, and what it takes.
fn acknowledge(one: &mut Connection, header: &Header, acknowledges: i64, step: &mut Step<'_>) {
    let acknowledges = u64::try_from(acknowledges).unwrap_or(0);
    if acknowledges < one.acknowledged {
        return;
    }
    let window_end = acknowledges + u64::from(header.window);
    let is_same = acknowledges == one.acknowledged && window_end == one.window_end && header.length() == 0;
    one.window_end = window_end;
    if acknowledges > one.acknowledged {
        let fresh = acknowledges - one.acknowledged;
        // Slow start, then a segment more each round trip (RFC 5681 3.1).
        let is_slow_start = one.congestion_window < one.threshold;
        let linear = (one.mss * one.mss / one.congestion_window).max(1);
        let grows = if is_slow_start { fresh.min(2 * one.mss) } else { linear };
        one.congestion_window = (one.congestion_window + grows).min(limits::WINDOW);
        (one.acknowledged, one.acknowledged_by) = (acknowledges, header.number);
        one.next = one.next.max(acknowledges);
        (one.duplicates, one.tries, one.timer) = (0, 0, NEVER);
        one.measure(step.now);
    } else if is_same && one.next > one.acknowledged {
        one.duplicates += 1;
        if one.duplicates == 3 {
            // A segment is lost, and those behind it arrived and were dropped, as we would (RFC 5681 3.2).
            one.slow_down(u64::MAX);
            one.go_back();
        }
    }
    match one.state {
        _ if !one.is_fin_acknowledged() => {}
        State::FinWait1 => one.wait(State::FinWait2, step.now),
        State::Closing => one.wait(State::TimeWait, step.now),
        State::LastAck => one.gone(reason::NORMAL),
        _ => {}
    }
}

/// Bytes in order are placed and exposed; whatever is out of order is dropped, and comes again.
fn text(one: &mut Connection, header: &Header, begin: i64, step: &mut Step<'_>) {
    if header.length() == 0 {
        return;
    }
    one.owes_acknowledgement = true;
    let is_open = matches!(one.state, State::Established | State::FinWait1 | State::FinWait2);
    let skip = u64::try_from(one.expected as i64 - begin).ok().filter(|_| is_open);
    let Some(skip) = skip else { return };
    let length = u64::from(header.payload);
    let fresh = length.saturating_sub(skip).min(one.limit.saturating_sub(one.exposed()));
    if fresh > 0 {
        if one.is_closed() {
            return one.reset(reason::DATA_AFTER_CLOSE, step);
        }
        step.outputs.places.push(Place {
            of: one.handle.0,
            at: one.exposed(),
            segment: header.number,
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
    let end = Finished { connection: one.handle, at: one.exposed(), segment: header.number };
    step.outputs.events.push(Event::Finished(end));
    (one.expected, one.is_ended) = (one.expected + 1, true);
    match one.state {
        State::Established => one.state = State::CloseWait,
        State::FinWait1 => one.state = State::Closing,
        _ => one.wait(State::TimeWait, step.now),
    }
}
