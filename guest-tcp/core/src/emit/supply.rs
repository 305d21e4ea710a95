//! What there is to send, and whether a short segment may go: Nagle, cork, records, silly window avoidance.

use crate::connection::Connection;
use crate::recovery::Supply;
use crate::state::State;

/// What recovery is offered.
pub(super) fn supply(connection: &Connection) -> Supply {
    if matches!(connection.state, State::SynSent | State::SynReceived) {
        return Supply { end: 1, window_end: u64::MAX, small: true, fin: false };
    }
    let send = &connection.send;
    let sent = connection.recovery.sent_end();
    let mut end = send.supply();
    // A record's end is a segment's end.
    let record_end = send.record_end_after(sent.saturating_sub(1)).map(|at| at + 1);
    end = record_end.map_or(end, |at| at.min(end));
    let window_end = connection.recovery.acknowledged() + u64::from(send.window);
    let small = if end > window_end {
        is_worth_it(connection, window_end.saturating_sub(sent))
    } else {
        record_end == Some(end) || may_be_small(connection, end)
    };
    Supply { end, window_end, small, fin: send.ended && end == send.supply() }
}

/// RFC 9293 3.8.6.2.1 (3): a window that cuts the data short is used if it is half the largest one that the peer ever
/// offered; a smaller one only by the persist timer.
fn is_worth_it(connection: &Connection, usable: u64) -> bool {
    usable > 0 && usable >= u64::from(connection.send.window_max / 2)
}

/// RFC 9293 3.7.4, Nagle's rule in Minshall's variant (as Linux has it): a short segment waits only for another short
/// one that is not acknowledged. The end of the stream and urgent data do not wait.
fn may_be_small(connection: &Connection, end: u64) -> bool {
    let send = &connection.send;
    if send.ended || send.urgent_at >= end.saturating_sub(1) || send.uncorked + 1 >= end {
        return true;
    }
    if connection.settings.cork || send.held {
        return false;
    }
    connection.settings.nodelay || send.small_end <= connection.recovery.acknowledged()
}

/// Whether a tail is held back only by a cork, which the cork timer ends.
pub(super) fn is_corked(connection: &Connection, supply: &Supply) -> bool {
    (connection.settings.cork || connection.send.held)
        && !supply.small
        && supply.end <= supply.window_end
        && supply.end > connection.recovery.sent_end()
        && connection.send.small_end <= connection.recovery.acknowledged()
}
