//! Data, SYN and FIN: what recovery offers becomes segments.

use super::supply::{is_corked, supply};
use super::{acknowledgement_sent, count, options};
use crate::connection::Connection;
use crate::header::ip::ECN_ECT0;
use crate::header::options::{Options, sack_length};
use crate::header::tcp::Flags;
use crate::limits::{CORK, QUANTUM, RTO_MAX};
use crate::out::{Context, Payload, Segment};
use crate::recovery::{Next, SUPER_SEGMENT, Span, Supply};
use crate::state::State;
use bulkhead_wit::limits::FRAMES_PER_SEND;
use bulkhead_wit::{Choosing, Event, How, NEVER, Source};

/// How a connection's turn to send ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Progress {
    /// It has nothing more to send now.
    Done,
    /// It has, but its share is used up.
    More,
    /// There was no room.
    Starved,
}

/// Sends what may be sent, up to the connection's share, and an acknowledgement if one is still owed.
pub(crate) fn run(connection: &mut Connection, cx: &mut Context<'_>) -> Progress {
    let mut spent = 0;
    connection.recovery.tighten(cx.is_tight);
    loop {
        if spent >= QUANTUM {
            return Progress::More;
        }
        let supply = supply(connection);
        match connection.recovery.next(cx.now, &supply) {
            Next::Send(transmit) => match transmit_span(connection, cx, transmit.span) {
                Some(bytes) => spent += bytes.max(1),
                None => return Progress::Starved,
            },
            Next::Wait(_) => {
                wait(connection, &supply, cx);
                break;
            }
        }
    }
    if connection.ack_now {
        super::ack(connection, cx);
        if connection.ack_now {
            return Progress::Starved;
        }
    }
    Progress::Done
}

/// Nothing may be sent now: sees to the timers that end such a state where no acknowledgement will.
fn wait(connection: &mut Connection, supply: &Supply, cx: &Context<'_>) {
    let recovery = &connection.recovery;
    let waiting = supply.end > recovery.sent_end();
    // RFC 9293 3.8.6.1: with nothing in flight, nobody but a probe can find out that the window has opened.
    if waiting && recovery.acknowledged() == recovery.sent_end() && supply.end > supply.window_end {
        if connection.deadlines.persist == NEVER {
            let interval = recovery.rto().checked_shl(u32::from(connection.send.probe_backoff.min(16)));
            let interval = interval.unwrap_or(RTO_MAX).min(RTO_MAX);
            connection.deadlines.persist = cx.now.saturating_add(interval);
        }
    } else {
        connection.deadlines.persist = NEVER;
        connection.send.probe_backoff = 0;
    }
    if !is_corked(connection, supply) {
        connection.deadlines.cork = NEVER;
    } else if connection.deadlines.cork == NEVER {
        connection.deadlines.cork = cx.now.saturating_add(CORK);
    }
}

/// Sends a prefix of `span` and tells recovery; the bytes of text in it, or `None` without room.
pub(super) fn transmit_span(connection: &mut Connection, cx: &mut Context<'_>, span: Span) -> Option<u64> {
    if span.start == 0 {
        return syn(connection, cx, span).then_some(0);
    }
    let room = u64::from(cx.out.room()?);
    let options = options(connection, cx.now);
    let mss = u64::from(connection.send_mss().saturating_sub(sack_length(options.sack_count)).max(1));
    let cut = cut(connection, span, mss, room);
    if cut.end == cut.start && !cut.fin {
        return None;
    }
    let flags = Flags::ACK
        .with_if(cut.fin, Flags::FIN)
        .with_if(is_pushed(connection, cut, span, mss), Flags::PSH)
        .with_if(connection.send.urgent_at > cut.start, Flags::URG);
    // RFC 3168 6.1.2, 6.1.5: only new data is ECN-capable, and says CWR.
    let fresh =
        connection.negotiated.ecn && cut.end > cut.start && span.start >= connection.recovery.sent_end();
    let flags = flags.with_if(fresh && connection.send.cwr, Flags::CWR);
    let mut tcp = connection.tcp(connection.send.number(span.start), flags);
    tcp.window = connection.receive.announce(connection.settings.window_clamp);
    tcp.urgent = u16::try_from(connection.send.urgent_at.saturating_sub(cut.start)).unwrap_or(u16::MAX);
    let length = cut.end - cut.start;
    let mut ip = connection.ip();
    ip.traffic_class |= if fresh { ECN_ECT0 } else { 0 };
    let sent = cx.out.segment(&Segment {
        ip,
        dont_fragment: connection.settings.pmtu_discover,
        tcp,
        options,
        syn: false,
        payload: Payload {
            of: connection.handle.0,
            at: cut.start,
            length: length as u32,
            mss: mss as u16,
            source: Source::Queue,
            how: How::default(),
        },
    });
    sent.then(|| {
        connection.send.cwr &= !fresh;
        let span = Span::new(span.start, cut.end + 1 + u64::from(cut.fin));
        account(connection, cx, span, length, mss);
        length
    })
}

/// What one send covers, in offsets of the stream.
#[derive(Clone, Copy, Debug)]
struct Cut {
    start: u64,
    end: u64,
    fin: bool,
}

/// Cuts a range at the end of the stream, at ends of records, where urgent data asks for single frames (every frame
/// would carry the same urgent pointer), and to the room there is.
fn cut(connection: &Connection, span: Span, mss: u64, room: u64) -> Cut {
    let send = &connection.send;
    let start = span.start - 1;
    let wanted = (span.end - 1).max(start);
    let stream_end = send.written;
    let mut end = wanted.min(stream_end);
    if let Some(record_end) = send.record_end_after(start) {
        end = end.min(record_end);
    }
    if send.urgent_at > start {
        end = end.min(start + mss);
    }
    // A probe's span is what the window takes, which can be longer than a datagram.
    let most = room.min(mss * FRAMES_PER_SEND as u64).min(SUPER_SEGMENT.max(mss));
    if end - start.min(end) > most {
        end = start + if most >= mss { most / mss * mss } else { 0 };
    }
    let end = end.max(start);
    let fin = send.end().is_some_and(|at| wanted > at && end == at.max(start));
    Cut { start, end, fin }
}

/// PSH where what was written or a record ends, or where the application asked for it (RFC 9293 3.9.1.2); and at the
/// end of every new run of segments, so that a receiver that merges what arrives need not wait for more (as Linux).
fn is_pushed(connection: &Connection, Cut { start, end, .. }: Cut, span: Span, mss: u64) -> bool {
    let send = &connection.send;
    let at_end = (end == send.written || send.record_end_after(start) == Some(end)) && !send.more;
    let is_run = end.saturating_sub(start) > mss && span.start >= connection.recovery.sent_end();
    end > start && (at_end || is_run || (start < send.push_at && send.push_at <= end))
}

/// After a send: recovery, counters, and what Nagle's rule must remember.
fn account(connection: &mut Connection, cx: &mut Context<'_>, span: Span, length: u64, mss: u64) {
    let again = span.start < connection.recovery.sent_end();
    connection.recovery.on_sent_in(cx.now, span, u16::try_from(mss).unwrap_or(u16::MAX));
    let segments = length.div_ceil(mss).max(1) as u32;
    if again {
        cx.instance.counters.retrans += u64::from(segments);
    } else if !length.is_multiple_of(mss) {
        connection.send.small_end = span.end;
    }
    let activity = &mut connection.activity;
    activity.bytes_sent += length;
    activity.sent_at = cx.now;
    if connection.ack_now || connection.deadlines.delayed_ack != NEVER {
        // The application answers what it is asked: acknowledgements can ride on its answers (Linux: "ping-pong").
        connection.receive.quick = 0;
    }
    acknowledgement_sent(connection);
    count(connection, cx, segments);
}

/// A SYN, or SYN and ACK after a simultaneous open; false without room.
pub(crate) fn syn(connection: &mut Connection, cx: &mut Context<'_>, span: Span) -> bool {
    let answers = connection.state == State::SynReceived;
    // A SYN that asks for ECN and is not answered may have been dropped for it: the next one is plain.
    connection.negotiated.ecn &= !answers && connection.recovery.timeouts() == 0;
    let asks = Flags::ECE.with(Flags::CWR);
    let flags = Flags::SYN.with_if(answers, Flags::ACK).with_if(connection.negotiated.ecn, asks);
    let negotiated = &connection.negotiated;
    let echo = if answers { connection.receive.timestamp } else { 0 };
    let options = Options {
        mss: Some(connection.announced_mss(cx.instance)),
        window_scale: negotiated.window_scale.then_some(connection.receive.scale),
        sack_permitted: negotiated.sack,
        timestamps: negotiated.timestamps.then(|| (connection.timestamp(cx.now), echo)),
        ..Options::default()
    };
    let mut tcp = connection.tcp(connection.send.iss, flags);
    tcp.window = connection.receive.announce_unscaled(connection.settings.window_clamp);
    let sent = cx.out.segment(&Segment {
        ip: connection.ip(),
        dont_fragment: connection.settings.pmtu_discover,
        tcp,
        options,
        syn: true,
        payload: Payload::default(),
    });
    if !sent {
        return false;
    }
    if connection.chosen {
        connection.chosen = false;
        cx.out.event(Event::Choosing(Choosing { connection: connection.handle, local: connection.local }));
    }
    if connection.recovery.sent_end() > 0 {
        cx.instance.counters.retrans += 1;
    }
    connection.recovery.on_sent(cx.now, Span::new(span.start, 1));
    count(connection, cx, 1);
    true
}
