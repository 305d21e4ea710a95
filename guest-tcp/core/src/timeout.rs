//! TIMEOUTS (RFC 9293 3.10.8) of a connection.

use crate::connection::{Connection, Ending};
use crate::emit;
use crate::icmp;
use crate::limits::{BLACK_HOLE_TIMEOUTS, RTO_MAX};
use crate::out::Context;
use crate::recovery::TimerAction;
use crate::state::State;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{NEVER, Time};

/// Fires every timer of the connection that is due.
pub(crate) fn fire(connection: &mut Connection, cx: &mut Context<'_>) {
    let now = cx.now;
    if connection.ending.is_some() {
        return;
    }
    if connection.user_timeout().is_some_and(|at| at <= now) {
        return give_up(connection, reason::TIMED_OUT);
    }
    if connection.recovery.next_deadline().is_some_and(|at| at <= now)
        && connection.recovery.on_timer(now) == TimerAction::Timeout
        && connection.recovery.timeouts() > u32::from(connection.retries())
        && !is_held_back(connection, now)
    {
        return give_up(connection, reason::TIMED_OUT);
    }
    if connection.recovery.timeouts() == BLACK_HOLE_TIMEOUTS && connection.state.is_synchronized() {
        icmp::black_hole(connection, cx);
    }
    if connection.deadlines.delayed_ack <= now {
        connection.deadlines.delayed_ack = NEVER;
        connection.ack_now = true;
    }
    if connection.deadlines.cork <= now {
        connection.deadlines.cork = NEVER;
        connection.send.push_at = connection.send.written;
        connection.send.uncork();
    }
    if connection.deadlines.persist <= now {
        persist(connection, cx);
    }
    if connection.deadlines.keepalive <= now {
        keepalive(connection, cx);
    }
    if connection.deadlines.linger <= now {
        emit::reset(connection, cx);
        connection.end(Ending::Gone(reason::LINGER, 0));
    }
}

/// RFC 9293 3.8.6.1: a peer that closes its window over what is in flight, and goes on to say so, is alive: the
/// connection stays (MUST-37). As Linux, as long as something was heard within the largest timeout.
fn is_held_back(connection: &Connection, now: Time) -> bool {
    connection.send.window == 0
        && connection.state.is_synchronized()
        && now.saturating_sub(connection.activity.acked_at) < RTO_MAX
}

/// A soft error that ICMP told of explains the silence better than the silence does (RFC 5461).
fn give_up(connection: &mut Connection, why: u16) {
    let soft = connection.soft_error;
    connection.end(Ending::Gone(if soft != 0 { soft } else { why }, 0));
}

/// RFC 9293 3.8.6.1: probes go on for as long as they are answered (MUST-37), ever more seldom.
fn persist(connection: &mut Connection, cx: &mut Context<'_>) {
    connection.deadlines.persist = NEVER;
    if connection.send.probes >= connection.retries() {
        return give_up(connection, reason::TIMED_OUT);
    }
    if emit::window_probe(connection, cx) {
        let send = &mut connection.send;
        send.probes = send.probes.saturating_add(1);
        send.probe_backoff = send.probe_backoff.saturating_add(1);
    }
    // The connection's turn to send sets the timer again.
}

/// RFC 9293 3.8.4. With data in flight the retransmission timer watches already.
fn keepalive(connection: &mut Connection, cx: &mut Context<'_>) {
    let settings = &connection.settings;
    let interval = settings.keepalive_interval.min(RTO_MAX * 64);
    if settings.keepalive_idle == 0 {
        connection.deadlines.keepalive = NEVER;
        return;
    }
    if connection.recovery.waiting_since().is_some() || connection.state == State::SynSent {
        connection.deadlines.keepalive = cx.now.saturating_add(settings.keepalive_idle);
        return;
    }
    if connection.send.keepalive_probes >= settings.keepalive_count {
        emit::reset(connection, cx);
        return give_up(connection, reason::KEEPALIVE);
    }
    connection.deadlines.keepalive = cx.now.saturating_add(interval);
    if emit::keepalive(connection, cx) {
        connection.send.keepalive_probes = connection.send.keepalive_probes.saturating_add(1);
    }
}
