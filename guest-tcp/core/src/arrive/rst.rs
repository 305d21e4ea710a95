//! Second: the RST bit (RFC 9293 3.10.7.4 with RFC 5961 3.2).

use super::Arrived;
use crate::connection::{Connection, Ending};
use crate::emit;
use crate::out::Context;
use crate::state::State;
use bulkhead_wit::registry::reason;

/// Only a reset at exactly RCV.NXT is believed; one elsewhere in the window is answered with a challenge, which makes a
/// true peer send another one at the right place.
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    if connection.receive.offset(segment.tcp.seq) != connection.receive.next_offset() as i64 {
        return emit::challenge(connection, cx);
    }
    cx.instance.counters.resets_in += 1;
    let why = match connection.state {
        State::SynReceived => reason::REFUSED,
        _ => reason::RESET,
    };
    connection.end(Ending::Gone(why, 0));
}
