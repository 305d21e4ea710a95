//! First: the sequence number (RFC 9293 3.10.7.4), and before it the timestamp (RFC 7323 5.3, R1).

use super::Arrived;
use crate::connection::Connection;
use crate::emit;
use crate::header::tcp::Flags;
use crate::limits::{OUT_OF_WINDOW_INTERVAL, PAWS_IDLE};
use crate::out::Context;
use crate::seq::Seq;
use bulkhead_wit::Time;

/// Whether a segment goes on to the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Verdict {
    Acceptable,
    Unacceptable,
}

/// PAWS, then the four cases of the acceptability test.
pub(crate) fn check(connection: &Connection, segment: &Arrived, now: Time) -> Verdict {
    if is_old_duplicate(connection, segment, now) && !segment.has(Flags::RST) {
        return Verdict::Unacceptable;
    }
    let start = connection.receive.offset(segment.tcp.seq);
    let acceptable = in_window(
        start,
        i64::from(segment.sequence_length()),
        connection.receive.next_offset() as i64,
        connection.receive.window() as i64,
    );
    if acceptable { Verdict::Acceptable } else { Verdict::Unacceptable }
}

/// RFC 9293 3.4, table 6. With a zero window nothing with text is acceptable, but allowance is made for valid ACKs,
/// URGs and RSTs (3.10.7.4): a segment that begins at RCV.NXT goes on, and the text step takes none of its text.
pub(crate) fn in_window(start: i64, length: i64, next: i64, window: i64) -> bool {
    let begins = next <= start && start < next + window;
    match (length, window) {
        (0, 0) => start == next,
        (0, _) => begins,
        (_, 0) => start == next,
        _ => {
            begins || (next < start + length && start + length <= next + window) || spans(start, length, next)
        }
    }
}

/// A super-segment stands for several segments, of which one in the middle may be acceptable while neither its first
/// nor its last byte lies in the window.
fn spans(start: i64, length: i64, next: i64) -> bool {
    start <= next && next < start + length
}

/// RFC 7323 5.3 R1, with 5.5's exception for connections that were idle too long.
fn is_old_duplicate(connection: &Connection, segment: &Arrived, now: Time) -> bool {
    let Some((value, _)) = segment.options.timestamps.filter(|_| connection.negotiated.timestamps) else {
        return false;
    };
    let receive = &connection.receive;
    Seq(value).is_before(Seq(receive.timestamp)) && now.saturating_sub(receive.timestamp_at) < PAWS_IDLE
}

/// RFC 7323 4.3 (2): TS.Recent follows segments at or before Last.ACK.sent; back in time only after 5.5's idleness.
pub(crate) fn remember_timestamp(connection: &mut Connection, segment: &Arrived, now: Time) {
    let Some((value, _)) = segment.options.timestamps.filter(|_| connection.negotiated.timestamps) else {
        return;
    };
    let is_old = is_old_duplicate(connection, segment, now);
    let receive = &mut connection.receive;
    if !is_old && receive.offset(segment.tcp.seq) <= receive.acked as i64 {
        receive.timestamp = value;
        receive.timestamp_at = now;
    }
}

/// An unacceptable segment is answered with an acknowledgement, unless it is a reset; without text only every so
/// often, so that two confused ends cannot storm (RFC 5961 7; Linux: `tcp_invalid_ratelimit`).
pub(crate) fn refuse(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    cx.instance.counters.dropped += 1;
    if segment.has(Flags::RST) {
        return;
    }
    if segment.has(Flags::SYN) {
        return super::syn::arrive(connection, cx);
    }
    let is_bare = segment.length == 0 && !segment.has(Flags::FIN) && !is_probe(connection, segment);
    if is_bare || is_far(connection, segment) {
        let last = connection.out_of_window_at;
        if last > 0 && cx.now.saturating_sub(last) < OUT_OF_WINDOW_INTERVAL {
            return;
        }
        connection.out_of_window_at = cx.now.max(1);
    }
    connection.restart_keepalive(cx.now);
    note_duplicate(connection, segment);
    connection.ack_now = true;
    emit::ack(connection, cx);
}

/// Farther from the window than anything that a peer has sent or could send: a guess. Answering each with an
/// acknowledgement would let a stranger flood the peer through us (RFC 5961 10).
fn is_far(connection: &Connection, segment: &Arrived) -> bool {
    let receive = &connection.receive;
    let start = receive.offset(segment.tcp.seq);
    let span = i64::from(receive.max).max(crate::limits::WINDOW_UNSCALED as i64);
    start < receive.next_offset() as i64 - span || start > receive.edge as i64 + span
}

/// A keepalive or window probe: the byte before RCV.NXT, which must always be answered (RFC 9293 3.8.4).
fn is_probe(connection: &Connection, segment: &Arrived) -> bool {
    connection.receive.offset(segment.tcp.seq) == connection.receive.next_offset() as i64 - 1
}

/// RFC 2883 4.1: text that is here already is reported.
fn note_duplicate(connection: &mut Connection, segment: &Arrived) {
    let receive = &mut connection.receive;
    let start = receive.offset(segment.tcp.seq);
    let end = start + i64::from(segment.length);
    if segment.length > 0 && start < receive.next as i64 {
        let end = end.min(receive.next as i64);
        receive.duplicate = Some((receive.number(start as u64).0, receive.number(end as u64).0));
    }
}

#[cfg(test)]
mod tests {
    use super::in_window;

    #[test]
    fn the_four_cases_of_table_6() {
        // length 0, window 0
        assert!(in_window(100, 0, 100, 0));
        assert!(!in_window(99, 0, 100, 0));
        assert!(!in_window(101, 0, 100, 0));
        // length 0, window > 0
        assert!(in_window(100, 0, 100, 10));
        assert!(in_window(109, 0, 100, 10));
        assert!(!in_window(110, 0, 100, 10));
        assert!(!in_window(99, 0, 100, 10));
        // length > 0, window 0: only for its acknowledgement
        assert!(in_window(100, 5, 100, 0));
        assert!(!in_window(101, 5, 100, 0));
        assert!(!in_window(99, 1, 100, 0));
        // length > 0, window > 0
        assert!(in_window(95, 6, 100, 10));
        assert!(!in_window(95, 5, 100, 10));
        assert!(in_window(109, 50, 100, 10));
        assert!(!in_window(110, 1, 100, 10));
        assert!(in_window(90, 500, 100, 10));
    }
}
