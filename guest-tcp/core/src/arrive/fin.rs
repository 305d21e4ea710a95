//! Eighth: the FIN bit (RFC 9293 3.10.7.4).

use super::Arrived;
use crate::connection::{Connection, Ending};
use crate::header::tcp::Flags;
use crate::out::Context;
use crate::recovery::Maybe;
use crate::state::State;
use bulkhead_wit::{Event, Finished};

/// Notes where the peer's stream ends, and takes the FIN once everything before it is here.
#[inline]
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    if segment.has(Flags::FIN) {
        note(connection, segment, cx);
    }
    let receive = &connection.receive;
    if !receive.fin_taken && receive.fin.get() == Some(receive.next) {
        take(connection);
    }
}

fn take(connection: &mut Connection) {
    connection.receive.fin_taken = true;
    connection.ack_now = true;
    match connection.state {
        State::Established | State::SynReceived => connection.state = State::CloseWait,
        State::FinWait1 => connection.state = State::Closing,
        State::FinWait2 => connection.end(Ending::TimeWait),
        _ => {}
    }
}

/// The FIN's place must lie within the window and beyond all text; a second, different one is a lie.
fn note(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    let receive = &mut connection.receive;
    let Ok(at) = u64::try_from(receive.offset(segment.tcp.seq) + i64::from(segment.length)) else { return };
    if receive.fin.is_some() || !connection.state.takes_text() {
        // It came again: our acknowledgement was lost.
        connection.ack_now = true;
        return;
    }
    let beyond_text = at >= receive.next && receive.reassembly.end().is_none_or(|end| end <= at);
    if beyond_text && at <= receive.edge.min(receive.limit) {
        receive.fin = Maybe::some(at);
        cx.out.event(Event::Finished(Finished { connection: connection.handle, at, segment: segment.index }));
    }
    connection.ack_now = true;
}
