//! Window probes (RFC 9293 3.8.6.1) and keepalive probes (3.8.4).

use super::data::transmit_span;
use super::empty;
use crate::connection::Connection;
use crate::out::Context;
use crate::recovery::Span;

/// The persist timer: sends what the window takes, be it little (the override of silly window avoidance), or else the
/// byte before SND.UNA without its text, which the peer must answer (as Linux does). False without room.
pub(crate) fn window_probe(connection: &mut Connection, cx: &mut Context<'_>) -> bool {
    let sent = connection.recovery.sent_end();
    let window_end = connection.recovery.acknowledged() + u64::from(connection.send.window);
    let end = connection.send.supply().min(window_end);
    if end > sent {
        return transmit_span(connection, cx, Span::new(sent, end)).is_some();
    }
    before_una(connection, cx)
}

/// A keepalive probe: SEG.SEQ = SND.NXT-1 without text.
pub(crate) fn keepalive(connection: &mut Connection, cx: &mut Context<'_>) -> bool {
    before_una(connection, cx)
}

fn before_una(connection: &mut Connection, cx: &mut Context<'_>) -> bool {
    let seq = connection.send.number(connection.recovery.acknowledged()).minus(1);
    empty(connection, cx, seq)
}
