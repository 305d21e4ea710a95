//! Resets (RFC 9293 3.5.2).

use super::count;
use crate::arrive::Arrived;
use crate::connection::Connection;
use crate::header::ip::Ip;
use crate::header::options::Options;
use crate::header::tcp::{Flags, Tcp};
use crate::out::{Context, Payload, Segment};
use crate::seq::Seq;
use bulkhead_wit::Endpoint;

/// The reset of a connection of ours: at SND.NXT, with an ACK. Without room it is not sent: whatever the peer sends
/// next is answered with another one.
pub(crate) fn reset(connection: &mut Connection, cx: &mut Context<'_>) {
    if !connection.state.is_synchronized() && connection.receive.base == Seq(0) {
        // SYN-SENT: there is nobody to tell yet (3.10.5).
        return;
    }
    let seq = connection.send.number(connection.recovery.sent_end());
    let tcp = connection.tcp(seq, Flags::RST.with(Flags::ACK));
    // RFC 7323 3.2: a reset should carry the option, too.
    let echo = connection.receive.timestamp;
    let timestamps = connection.negotiated.timestamps.then(|| (connection.timestamp(cx.now), echo));
    let options = Options { timestamps, ..Options::default() };
    if send(connection.ip(), tcp, options, cx) {
        count(connection, cx, 1);
    }
}

/// The answer to a segment that fits no connection (group 1), or acknowledges what was never sent (groups 1 and 2).
pub(crate) fn reset_for(segment: &Arrived, cx: &mut Context<'_>) {
    let (seq, ack, flags) = if segment.has(Flags::ACK) {
        (segment.tcp.ack, Seq(0), Flags::RST)
    } else {
        (Seq(0), segment.tcp.seq.plus(segment.sequence_length()), Flags::RST.with(Flags::ACK))
    };
    reset_plain(segment.local, segment.remote, (seq, ack, flags), cx);
}

/// A reset from one end to another.
pub(crate) fn reset_plain(
    local: Endpoint,
    remote: Endpoint,
    (seq, ack, flags): (Seq, Seq, Flags),
    cx: &mut Context<'_>,
) {
    let settings = &cx.instance.settings;
    let ip = Ip {
        source: local.address,
        destination: remote.address,
        ttl: settings.ttl,
        traffic_class: settings.traffic_class,
    };
    let tcp =
        Tcp { source_port: local.port, destination_port: remote.port, seq, ack, flags, window: 0, urgent: 0 };
    if send(ip, tcp, Options::default(), cx) {
        cx.instance.counters.segs_out += 1;
    }
}

fn send(ip: Ip, tcp: Tcp, options: Options, cx: &mut Context<'_>) -> bool {
    let segment = Segment { ip, dont_fragment: true, tcp, options, syn: false, payload: Payload::default() };
    let sent = cx.out.segment(&segment);
    cx.instance.counters.resets_out += u64::from(sent);
    sent
}
