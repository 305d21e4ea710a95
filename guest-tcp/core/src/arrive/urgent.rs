//! Sixth: the URG bit (RFC 9293 3.10.7.4). Urgent data stays in line; only its end is told (RFC 6093).

use super::Arrived;
use crate::connection::Connection;
use crate::header::tcp::Flags;
use crate::out::Context;
use bulkhead_wit::{Event, Urgent};

/// RCV.UP = max(RCV.UP, SEG.UP). The pointer is read as everybody writes it: to the byte after the urgent data.
#[inline]
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    if segment.has(Flags::URG) && connection.state.takes_text() && !connection.closed {
        advance(connection, segment, cx);
    }
}

fn advance(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    let receive = &mut connection.receive;
    let at = receive.offset(segment.tcp.seq) + i64::from(segment.tcp.urgent);
    let Ok(at) = u64::try_from(at) else { return };
    if segment.tcp.urgent > 0 && at > receive.urgent_at && at > receive.next && receive.fin.is_none() {
        receive.urgent_at = at;
        cx.out.event(Event::Urgent(Urgent { connection: connection.handle, at }));
    }
}
