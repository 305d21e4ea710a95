//! Second: the RST bit (RFC 9293 3.10.7.4 with RFC 5961 3.2).

use super::Arrived;
use crate::connection::{Connection, Ending};
use crate::emit;
use crate::header::tcp::Flags;
use crate::out::Context;
use crate::state::State;
use bulkhead_wit::registry::reason;

/// Some systems end a connection with a FIN and a reset of the same number: that reset comes at RCV.NXT-1, and is as
/// hard to guess as one at RCV.NXT (Linux: `tcp_reset_check`).
pub(crate) fn is_after_fin(connection: &Connection, segment: &Arrived) -> bool {
    let receive = &connection.receive;
    segment.has(Flags::RST)
        && receive.fin_taken
        && receive.offset(segment.tcp.seq) + 1 == receive.next_offset() as i64
}

/// Only a reset at exactly RCV.NXT is believed; one elsewhere in the window is answered with a challenge, which makes a
/// true peer send another one at the right place.
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    let exact = connection.receive.offset(segment.tcp.seq) == connection.receive.next_offset() as i64;
    if !exact && !is_after_fin(connection, segment) {
        return emit::challenge(connection, cx);
    }
    cx.instance.counters.resets_in += 1;
    let why = match connection.state {
        State::SynReceived => reason::REFUSED,
        _ => reason::RESET,
    };
    connection.end(Ending::Gone(why, 0));
}
