//! Fifth: the ACK field (RFC 9293 3.10.7.4, RFC 5961 5.2).

use super::{Arrived, syn_sent};
use crate::connection::{Connection, Ending};
use crate::emit;
use crate::header::options::SACK_BLOCKS;
use crate::header::tcp::Flags;
use crate::out::Context;
use crate::recovery::{Ack, Span};
use crate::state::State;
use bulkhead_wit::NEVER;
use bulkhead_wit::registry::reason;

/// Deals with the acknowledgement; false if the segment is to be dropped.
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) -> bool {
    let una = connection.recovery.acknowledged();
    let sent = connection.recovery.sent_end();
    let at = connection.send.offset(segment.tcp.ack, una);
    if connection.state == State::SynReceived {
        if at <= una as i64 || at > sent as i64 {
            emit::reset_for(segment, cx);
            return false;
        }
        if connection.receive.offset(segment.tcp.seq) < 0 {
            // As for an embryo: the host checks the peer's first number by the segment that opens the connection.
            emit::challenge(connection, cx);
            return false;
        }
        syn_sent::establish(connection, segment, cx);
    }
    // RFC 5961 5.2: (SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT.
    if at > sent as i64 || at < una as i64 - i64::from(connection.send.window_max) {
        emit::challenge(connection, cx);
        return false;
    }
    let window_changed = update_window(connection, segment, at);
    acknowledge(connection, segment, at, window_changed, cx);
    transitions(connection);
    true
}

/// SND.WND, SND.WL1 and SND.WL2, by segments with SND.UNA =< SEG.ACK only. Whoever acknowledges more than anybody did before has said
/// it last, whatever SND.WL1 is: with the window from before, its end would move beyond all that the peer has told. The window of a SYN
/// is not scaled, that of any other segment is (RFC 7323 2.3).
fn update_window(connection: &mut Connection, segment: &Arrived, at: i64) -> bool {
    let una = connection.recovery.acknowledged();
    let send = &mut connection.send;
    let at = u64::try_from(at).unwrap_or(0);
    let newer = segment.tcp.seq.after(send.window_seq);
    if at < una || (at == una && (newer < 0 || (newer == 0 && at < send.window_ack))) {
        return false;
    }
    let window = u32::from(segment.tcp.window) << send.scale;
    let changed = window != send.window;
    send.window = window;
    send.window_max = send.window_max.max(window);
    send.window_seq = segment.tcp.seq;
    send.window_ack = at;
    changed
}

/// Tells recovery, and takes note of progress.
fn acknowledge(
    connection: &mut Connection,
    segment: &Arrived,
    at: i64,
    window_changed: bool,
    cx: &mut Context<'_>,
) {
    let una = connection.recovery.acknowledged();
    let to = u64::try_from(at).unwrap_or(0);
    let mut room;
    let (sacks, dsack) = if segment.options.sack_blocks().is_empty() {
        (&[][..], None)
    } else {
        room = [Span::default(); SACK_BLOCKS];
        let (count, dsack) = selective(connection, segment, to, &mut room);
        (room.get(..count).unwrap_or(&[]), dsack)
    };
    let before = connection.acknowledged();
    let ack = Ack {
        to,
        sacks,
        dsack,
        echoed: syn_sent::echoed(connection, segment, cx.now),
        window_changed,
        carries: segment.sequence_length() > 0,
        ecn_echo: connection.negotiated.ecn && segment.has(Flags::ECE) && !segment.has(Flags::SYN),
    };
    let acked = connection.recovery.on_ack(cx.now, &ack);
    connection.send.cwr |= acked.reduced && connection.negotiated.ecn;
    connection.activity.acked_at = cx.now;
    connection.send.probes = 0;
    connection.send.held = false;
    if to > una {
        connection.soft_error = 0;
        let acknowledged = connection.acknowledged();
        connection.send.forget(acknowledged);
        if acknowledged > before {
            connection.marked = true;
            connection.by = segment.index as u16; // a step has 256 at the most
        }
    }
}

/// Sorts the SACK blocks: what lies above the acknowledgement and below SND.NXT, and apart from it the first block if
/// it reports a duplicate (RFC 2883 4). Nonsense is left out.
fn selective(
    connection: &Connection,
    segment: &Arrived,
    to: u64,
    sacks: &mut [Span; SACK_BLOCKS],
) -> (usize, Option<Span>) {
    if !connection.negotiated.sack {
        return (0, None);
    }
    let sent = connection.recovery.sent_end();
    let floor = connection.recovery.acknowledged();
    let span = |&(left, right): &(u32, u32)| {
        let start = connection.send.offset(crate::seq::Seq(left), floor);
        let end = connection.send.offset(crate::seq::Seq(right), floor);
        let (start, end) = (u64::try_from(start).ok()?, u64::try_from(end).ok()?);
        (start < end && end <= sent).then_some(Span::new(start, end))
    };
    let blocks = segment.options.sack_blocks();
    let first = blocks.first().and_then(span);
    let second = blocks.get(1).and_then(span);
    let inside =
        |block: Span| second.is_some_and(|outer| outer.start <= block.start && block.end <= outer.end);
    let dsack = first.filter(|&block| block.end <= to || inside(block));
    let mut count = 0;
    let skip = usize::from(dsack.is_some());
    for block in blocks.iter().skip(skip).filter_map(span).filter(|block| block.start >= to) {
        if let Some(slot) = sacks.get_mut(count) {
            *slot = block;
            count += 1;
        }
    }
    (count, dsack)
}

/// What the acknowledgement of our FIN brings about.
fn transitions(connection: &mut Connection) {
    if !connection.fin_acknowledged() {
        return;
    }
    match connection.state {
        State::FinWait1 => {
            connection.state = State::FinWait2;
            connection.deadlines.persist = NEVER;
        }
        State::Closing => connection.end(Ending::TimeWait),
        State::LastAck => connection.end(Ending::Gone(reason::NORMAL, 0)),
        _ => {}
    }
}

/// Whether a segment acknowledges exactly our SYN: what completes a handshake.
pub(crate) fn completes(segment: &Arrived, iss: crate::seq::Seq) -> bool {
    segment.has(Flags::ACK) && segment.tcp.ack == iss.plus(1)
}
