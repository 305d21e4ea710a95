//! SYN-SENT (RFC 9293 3.10.7.3).

use super::Arrived;
use crate::connection::{Connection, Ending, default_mss};
use crate::emit;
use crate::header::options::Options;
use crate::header::tcp::Flags;
use crate::instance::ticks;
use crate::limits::{MSS_MIN, TIMESTAMP_TICK};
use crate::out::Context;
use crate::recovery::{Ack, Span};
use crate::seq::Seq;
use crate::state::State;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Event, Opening, Time};

/// The steps for SYN-SENT.
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    let acks = segment.has(Flags::ACK);
    // First: SEG.ACK must be ISS+1, since we send nothing but a SYN.
    if acks && connection.send.offset(segment.tcp.ack, 0) != 1 || connection.recovery.sent_end() == 0 {
        if !segment.has(Flags::RST) {
            emit::reset_for(segment, cx);
        }
        // The peer had half of an old connection, which a reset has just ended (RFC 9293 3.5.1, figure 9): a SYN will be
        // welcome now and not only when its timer is due (as Linux).
        connection.recovery.hasten(cx.now);
        return;
    }
    // Second: a reset counts only with an acceptable acknowledgement.
    if segment.has(Flags::RST) {
        if acks {
            cx.instance.counters.resets_in += 1;
            connection.end(Ending::Gone(reason::REFUSED, 0));
        }
        return;
    }
    // Fourth: the SYN bit. Fifth: without it the segment is dropped.
    if !segment.has(Flags::SYN) {
        cx.instance.counters.dropped += 1;
        return;
    }
    negotiate(connection, &segment.options, cx.now);
    connection.negotiated.ecn = acks && super::ecn::agreed(connection.negotiated.ecn, segment);
    connection.receive.base = segment.tcp.seq.plus(1);
    connection.send.window = u32::from(segment.tcp.window);
    connection.send.window_max = connection.send.window;
    connection.send.window_seq = segment.tcp.seq;
    connection.send.window_ack = 0;
    if acks {
        acknowledged(connection, segment, cx);
        connection.ack_now = true;
    } else {
        simultaneous(connection, cx);
    }
}

/// Options count only if both SYNs carry them (RFC 7323 2.2, 3.2; RFC 2018 2).
pub(crate) fn negotiate(connection: &mut Connection, options: &Options, now: Time) {
    let negotiated = &mut connection.negotiated;
    negotiated.timestamps &= options.timestamps.is_some();
    negotiated.sack &= options.sack_permitted;
    negotiated.window_scale &= options.window_scale.is_some();
    let (sack, timestamps) = (negotiated.sack, negotiated.timestamps);
    if negotiated.window_scale {
        connection.send.scale = options.window_scale.unwrap_or(0);
    } else {
        connection.receive.scale = 0;
    }
    if let Some((value, _)) = options.timestamps.filter(|_| timestamps) {
        connection.receive.timestamp = value;
        connection.receive.timestamp_at = now;
    }
    connection.send.peer_mss = options.mss.unwrap_or(default_mss(connection.remote)).max(MSS_MIN);
    connection.recovery.negotiated(u32::from(connection.send_mss()), sack, timestamps);
}

/// Our SYN is acknowledged.
fn acknowledged(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    let ack = Ack { to: 1, echoed: echoed(connection, segment, cx.now), carries: true, ..Ack::default() };
    let _ = connection.recovery.on_ack(cx.now, &ack);
    connection.send.window_ack = 1;
    establish(connection, segment, cx);
}

/// ESTABLISHED, or FIN-WAIT-1 where the application has already ended its stream.
pub(crate) fn establish(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    connection.state = if connection.send.ended { State::FinWait1 } else { State::Established };
    connection.activity.acked_at = cx.now;
    connection.activity.received_at = cx.now;
    connection.restart_keepalive(cx.now);
    cx.out.event(Event::Opened(Opening {
        listener: 0,
        connection: connection.handle,
        segment: segment.index,
        receive_base: connection.receive.base.0,
        send_base: connection.send.iss.plus(1).0,
        mss: connection.send_mss(),
    }));
}

/// Simultaneous open (RFC 9293 3.5, figure 7): SYN-RECEIVED, and our SYN again with an ACK.
fn simultaneous(connection: &mut Connection, cx: &mut Context<'_>) {
    connection.state = State::SynReceived;
    // Without room now, the retransmission timer sends it.
    let _ = emit::syn(connection, cx, Span::new(0, 1));
}

/// When the segment that TSecr echoes was sent, by our clock (RFC 7323 4.1), if it can be one of ours.
pub(crate) fn echoed(connection: &Connection, segment: &Arrived, now: Time) -> Option<Time> {
    let (_, echo) = segment.options.timestamps.filter(|_| connection.negotiated.timestamps)?;
    let value = Seq(echo.wrapping_sub(connection.negotiated.timestamp_offset));
    let age = u64::try_from(Seq(ticks(now)).after(value)).ok()?;
    (now / TIMESTAMP_TICK).checked_sub(age)?.checked_mul(TIMESTAMP_TICK)
}
