//! Seventh: the segment text (RFC 9293 3.10.7.4). It is placed in the host's stream at once, in order or not.

use super::Arrived;
use crate::connection::{Connection, Ending};
use crate::emit;
use crate::limits::DELAYED_ACK;
use crate::out::Context;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{NEVER, Place, Source, Target};

/// Takes what is new of the text, within the window.
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    if segment.length == 0 || !connection.state.takes_text() {
        return;
    }
    let start = connection.receive.offset(segment.tcp.seq);
    let end = start + i64::from(segment.length);
    let next = connection.receive.next;
    if connection.closed && end > next as i64 {
        // RFC 2525 2.17, RFC 9293 3.6.1: nobody will read this. A peer that has not got all that we sent would only
        // challenge a reset at SND.NXT (RFC 5961 3.2): SEG.ACK is what it waits for.
        emit::reset_for(segment, cx);
        return connection.end(Ending::Gone(reason::DATA_AFTER_CLOSE, 0));
    }
    connection.activity.received_at = cx.now;
    connection.receive.mss = connection.receive.mss.max(segment.mss);
    let in_order = place(connection, segment, (start, end), cx);
    let sample = super::syn_sent::echoed(connection, segment, cx.now).map(|at| cx.now.saturating_sub(at));
    let receive = &mut connection.receive;
    receive.tuning.arrived(cx.now, receive.next, receive.window(), sample);
    acknowledge(connection, in_order, cx);
}

/// Places the missing parts; false unless everything of it was new, in order and without a hole before or behind.
fn place(
    connection: &mut Connection,
    segment: &Arrived,
    (start, end): (i64, i64),
    cx: &mut Context<'_>,
) -> bool {
    let receive = &mut connection.receive;
    let next = receive.next;
    let from = u64::try_from(start).unwrap_or(0).max(next);
    let most = receive.edge.min(receive.limit).min(receive.fin.get().unwrap_or(u64::MAX));
    let to = u64::try_from(end).unwrap_or(0).min(most);
    note_duplicate(connection, (start, end), (from, to));
    let receive = &mut connection.receive;
    let had_holes = !receive.reassembly.is_empty();
    let islands = if cx.is_tight { 0 } else { usize::from(cx.instance.islands) };
    let (of, places) = (connection.handle.0, &mut cx.out.outputs.places);
    let next_now = receive.reassembly.take(next, (from, to), islands, |from, to| {
        places.push(Place {
            of,
            at: from,
            segment: segment.index,
            skip: (from as i64 - start) as u32,
            length: (to - from) as u32,
            source: Source::Segment,
            target: Target::Stream,
        });
    });
    receive.next = next_now;
    connection.marked |= next_now > next;
    if next_now == next && to > from {
        connection.activity.out_of_order = connection.activity.out_of_order.wrapping_add(1);
    }
    !had_holes && next_now > next && start >= next as i64 && to as i64 == end
}

/// RFC 2883 4: the part that is here already, in order or in an island.
fn note_duplicate(connection: &mut Connection, (start, end): (i64, i64), (from, to): (u64, u64)) {
    let receive = &mut connection.receive;
    let next = receive.next as i64;
    let duplicate = if start < next {
        Some((start.max(0) as u64, end.min(next).max(0) as u64))
    } else {
        receive.reassembly.duplicate(from, to)
    };
    if let Some((left, right)) = duplicate.filter(|(left, right)| left < right) {
        receive.duplicate = Some((receive.number(left).0, receive.number(right).0));
    }
}

/// RFC 9293 3.8.6.3: at least every second full segment (super-segments count for what they stand for), within 40 ms;
/// RFC 5681 4.2: at once when something is missing or was; at the start at once as well.
fn acknowledge(connection: &mut Connection, in_order: bool, cx: &Context<'_>) {
    let receive = &connection.receive;
    let unacknowledged = receive.next.saturating_sub(receive.acked);
    if !in_order
        || unacknowledged > u64::from(receive.mss)
        || receive.quick > 0
        || connection.settings.quickack
    {
        connection.ack_now = true;
    } else if connection.deadlines.delayed_ack == NEVER {
        connection.deadlines.delayed_ack = cx.now.saturating_add(DELAYED_ACK);
    }
}

/// A duplicate acknowledgement must not be merged with the next one: the peer counts them (RFC 5681 3.2).
pub(crate) fn must_be_acknowledged_alone(connection: &Connection) -> bool {
    let receive = &connection.receive;
    receive.duplicate.is_some() || !receive.reassembly.is_empty()
}
