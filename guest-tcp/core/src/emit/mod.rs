//! What to send, and how it looks.

mod data;
mod probe;
mod reset;
mod supply;

pub(crate) use data::{Progress, run, syn};
pub(crate) use probe::{keepalive, window_probe};
pub(crate) use reset::{reset, reset_for, reset_plain};

use crate::connection::Connection;
use crate::header::options::{Options, SACK_BLOCKS};
use crate::header::tcp::Flags;
use crate::limits::OUT_OF_WINDOW_INTERVAL;
use crate::out::{Context, Payload, Segment};
use crate::seq::Seq;
use bulkhead_wit::{NEVER, Time};

/// SACK blocks that fit beside timestamps (RFC 2018 3).
const SACK_BLOCKS_WITH_TIMESTAMPS: usize = 3;

/// An empty acknowledgement; without room it stays owed.
pub(crate) fn ack(connection: &mut Connection, cx: &mut Context<'_>) {
    let seq = connection.send.number(connection.recovery.sent_end());
    if !empty(connection, cx, seq) {
        connection.ack_now = true;
    }
}

/// A challenge acknowledgement (RFC 5961 7), within the connection's rate (Linux: `tcp_invalid_ratelimit`) and the
/// instance's.
pub(crate) fn challenge(connection: &mut Connection, cx: &mut Context<'_>) {
    let last = connection.out_of_window_at;
    if last > 0 && cx.now.saturating_sub(last) < OUT_OF_WINDOW_INTERVAL {
        return;
    }
    if cx.instance.may_challenge(cx.now) {
        connection.out_of_window_at = cx.now.max(1);
        ack(connection, cx);
    }
}

/// An empty segment at `seq`; false without room.
pub(super) fn empty(connection: &mut Connection, cx: &mut Context<'_>, seq: Seq) -> bool {
    if cx.out.room().is_none() {
        return false;
    }
    let options = options(connection, cx.now);
    let mut tcp = connection.tcp(seq, Flags::ACK);
    tcp.window = connection.receive.announce(connection.settings.window_clamp);
    let sent = cx.out.segment(&Segment {
        ip: connection.ip(),
        dont_fragment: connection.settings.pmtu_discover,
        tcp,
        options,
        syn: false,
        payload: Payload::default(),
    });
    if sent {
        acknowledgement_sent(connection);
        count(connection, cx, 1);
    }
    sent
}

/// The options of a segment that is no SYN: timestamps, and what arrived beyond RCV.NXT, a duplicate first.
pub(super) fn options(connection: &Connection, now: Time) -> Options {
    let mut options = Options::default();
    let mut most = SACK_BLOCKS;
    if connection.negotiated.timestamps {
        options.timestamps = Some((connection.timestamp(now), connection.receive.timestamp));
        most = SACK_BLOCKS_WITH_TIMESTAMPS;
    }
    let receive = &connection.receive;
    if !connection.negotiated.sack || (receive.duplicate.is_none() && receive.reassembly.is_empty()) {
        return options;
    }
    let mut push = |block: (u32, u32)| {
        if let Some(slot) = options.sack.get_mut(usize::from(options.sack_count)) {
            *slot = block;
            options.sack_count += 1;
        }
    };
    if let Some(block) = receive.duplicate {
        push(block);
        most -= 1;
    }
    receive.reassembly.latest(most, |start, end| push((receive.number(start).0, receive.number(end).0)));
    options
}

/// Every segment that leaves acknowledges; nothing is owed any more.
pub(super) fn acknowledgement_sent(connection: &mut Connection) {
    let receive = &mut connection.receive;
    receive.acked = receive.next_offset();
    receive.duplicate = None;
    receive.quick = receive.quick.saturating_sub(1);
    connection.ack_now = false;
    connection.deadlines.delayed_ack = NEVER;
}

/// Counts real segments that leave.
pub(super) fn count(connection: &mut Connection, cx: &mut Context<'_>, segments: u32) {
    connection.activity.segs_out = connection.activity.segs_out.wrapping_add(segments);
    cx.instance.counters.segs_out += u64::from(segments);
}
