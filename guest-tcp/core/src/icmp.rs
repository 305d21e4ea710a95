//! ICMP and `ICMPv6`: echo answered, errors about our segments checked and heeded.

use crate::connection::{Connection, Ending};
use crate::embryo::Embryo;
use crate::entity::EntityKind;
use crate::header::icmp::{Complaint, Quoted, echo_reply, parse_error};
use crate::header::ip::Ip;
use crate::instance::mss_of;
use crate::limits::{BLACK_HOLE_MTU, ECHOES_PER_SECOND, ERRORS_PER_SECOND, PATH_MTU_MIN_V4, PATH_MTU_MIN_V6};
use crate::out::{Context, Payload};
use crate::state::State;
use crate::tables::Tables;
use bulkhead_wit::registry::{protocol, reason};
use bulkhead_wit::{Event, How, Reason, Segment, Source, limits};

/// A network header with extensions that is quoted whole, in bytes.
const QUOTED_MAX: usize = 256;

/// An echo request is answered with its own data (RFC 1122 3.2.2.6, RFC 4443 4.2).
pub(crate) fn message(index: u32, header: &[u8], segment: &Segment, cx: &mut Context<'_>) {
    let Some(ip) = Ip::parse(header) else { return };
    let answerable =
        cx.instance.is_ours(ip.destination) && ip.source.is_unicast() && !ip.source.is_loopback();
    let v4 = ip.destination.is_v4();
    let rest = header.get(usize::from(segment.transport)..).unwrap_or(&[]);
    let room = cx.out.room();
    if !answerable
        || rest.len() != 8
        || room.is_none_or(|bytes| bytes < segment.payload)
        || !cx.instance.echo_rate.take(cx.now, ECHOES_PER_SECOND)
    {
        return;
    }
    let headers = &mut cx.out.outputs.headers;
    let start = headers.len();
    let reply = Ip {
        source: ip.destination,
        destination: ip.source,
        ttl: cx.instance.settings.ttl,
        traffic_class: ip.traffic_class & !3,
    };
    reply.build(if v4 { protocol::ICMP } else { protocol::ICMPV6 }, false, headers);
    let transport = headers.len() - start;
    // With another header than the request had, an answer may be longer than a datagram can be.
    let is_too_long = |headers: &[u8]| headers.len() - start + segment.payload as usize > limits::DATAGRAM;
    if !echo_reply(rest, v4, headers) || is_too_long(headers) {
        headers.truncate(start);
        return;
    }
    let payload = Payload {
        of: u64::from(index),
        at: 0,
        length: segment.payload,
        // One datagram, whatever its length.
        mss: u16::MAX,
        source: Source::Segment,
        // Whoever asks with more than a link takes is answered in as many pieces.
        how: How::MAY_FRAGMENT,
    };
    cx.out.push(start, transport, payload);
    cx.instance.counters.echoes += 1;
}

/// A datagram that nobody here takes: of a protocol that is not spoken (RFC 1122 3.2.2.1: code 2; RFC 4443 3.4: an unknown
/// next header), or of UDP, which comes here only where no module serves it (RFC 1122 4.1.3.1: no such port).
pub(crate) fn no_taker(index: u32, header: &[u8], segment: &Segment, cx: &mut Context<'_>) {
    cx.instance.counters.dropped += 1;
    let Some(ip) = Ip::parse(header) else { return };
    let answerable = cx.instance.is_ours(ip.destination)
        && ip.source.is_unicast()
        && !ip.source.is_loopback()
        && header.len() <= QUOTED_MAX;
    if !answerable || cx.out.room().is_none() || !cx.instance.error_rate.take(cx.now, ERRORS_PER_SECOND) {
        return;
    }
    let v4 = ip.destination.is_v4();
    let answer = Ip {
        source: ip.destination,
        destination: ip.source,
        ttl: cx.instance.settings.ttl,
        traffic_class: 0,
    };
    let headers = &mut cx.out.outputs.headers;
    let start = headers.len();
    answer.build(if v4 { protocol::ICMP } else { protocol::ICMPV6 }, false, headers);
    let transport = headers.len() - start;
    let udp = segment.protocol == protocol::UDP;
    if v4 || udp {
        let (kind, code) = if v4 { (3, if udp { 3 } else { 2 }) } else { (1, 4) };
        headers.extend_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
    } else {
        // Where the next header field stands that is not known.
        let [a, b, c, d] = next_header_field(header).to_be_bytes();
        headers.extend_from_slice(&[4, 1, 0, 0, a, b, c, d]);
    }
    headers.extend_from_slice(header);
    // Some of its payload, so that its sender knows which it was.
    let room = cx.out.room().unwrap_or(0).min(segment.payload).min(8);
    let payload = Payload {
        of: u64::from(index),
        at: 0,
        length: room,
        mss: u16::MAX,
        source: Source::Segment,
        how: How::default(),
    };
    cx.out.push(start, transport, payload);
}

/// Where in an IPv6 header the field is that names what follows its extensions.
fn next_header_field(header: &[u8]) -> u32 {
    let (mut field, mut at) = (6, 40);
    while at + 1 < header.len() {
        let length = header.get(at + 1).map_or(0, |units| (usize::from(*units) + 1) * 8);
        (field, at) = (at, at + length);
    }
    field as u32
}

/// An error about a segment that we sent. RFC 5927 4.1: it counts only if the quoted sequence number is in flight.
pub(crate) fn error(tables: &mut Tables, header: &[u8], segment: &Segment, cx: &mut Context<'_>) {
    let Some(ip) = Ip::parse(header) else { return };
    let icmp = header.get(usize::from(segment.transport)..).unwrap_or(&[]);
    let Some(quoted) = parse_error(icmp, ip.destination.is_v4()) else { return };
    let Some(entity) = tables.find(cx.instance.keys.table, quoted.local, quoted.remote) else { return };
    if entity.what() != EntityKind::Connection {
        return;
    }
    let number = entity.number();
    let Some(connection) = tables.connections.get_mut(number) else { return };
    let una = connection.recovery.acknowledged();
    let at = connection.send.offset(quoted.seq, una);
    if at < una as i64 || at >= connection.recovery.sent_end() as i64 {
        cx.instance.counters.dropped += 1;
        return;
    }
    heed(connection, &quoted, cx);
    tables.settle(number, cx);
}

fn heed(connection: &mut Connection, quoted: &Quoted, cx: &mut Context<'_>) {
    let soft = match quoted.complaint {
        Complaint::TooBig(mtu) => return too_big(connection, mtu, cx),
        Complaint::NetworkUnreachable => reason::NETWORK_UNREACHABLE,
        Complaint::HostUnreachable => reason::HOST_UNREACHABLE,
        Complaint::PortUnreachable => reason::PORT_UNREACHABLE,
        Complaint::Prohibited => reason::PROHIBITED,
        Complaint::Other => return,
    };
    let hard = matches!(quoted.complaint, Complaint::PortUnreachable | Complaint::Prohibited);
    // RFC 5927 5.2, RFC 1122 4.2.3.9: an error ends only a connection that is not synchronized yet.
    if hard && connection.state == State::SynSent {
        return connection.end(Ending::Gone(soft, u32::from(quoted.number)));
    }
    connection.soft_error = soft;
    let warning = Reason { connection: connection.handle, reason: soft, value: u32::from(quoted.number) };
    cx.out.event(Event::Warned(warning));
}

/// Path MTU discovery (RFC 1191, RFC 8201): smaller than before, not absurdly small.
pub(crate) fn too_big(connection: &mut Connection, mtu: u32, cx: &mut Context<'_>) {
    let v4 = connection.remote.address.is_v4();
    let least = if v4 { PATH_MTU_MIN_V4 } else { PATH_MTU_MIN_V6 };
    if mtu >= connection.path_mtu || !connection.settings.pmtu_discover {
        return;
    }
    let mtu = mtu.max(least);
    if mtu >= connection.path_mtu {
        return;
    }
    connection.path_mtu = mtu;
    let mss = u32::from(connection.send_mss());
    if mss < connection.recovery.mss() {
        connection.recovery.mss_changed(mss);
        connection.recovery.too_big(cx.now);
    }
    let warning = Reason { connection: connection.handle, reason: reason::PATH_MTU, value: mtu };
    cx.out.event(Event::Warned(warning));
}

/// Nothing comes back, and no router says why: perhaps it is the size (RFC 4821 7.7).
pub(crate) fn black_hole(connection: &mut Connection, cx: &mut Context<'_>) {
    let mss = connection.recovery.mss();
    let smaller = u32::from(mss_of(BLACK_HOLE_MTU, connection.remote.address));
    // Only segments that are larger than that can be the cause. What is outstanding counts: after a timeout nothing of
    // it is believed to be in flight.
    let outstanding = connection.recovery.sent_end() - connection.recovery.acknowledged();
    if mss > smaller && outstanding > u64::from(smaller) {
        too_big(connection, BLACK_HOLE_MTU, cx);
    }
}

/// The host's "unreachable" in answer to a stranger's SYN (RFC 792, RFC 4443 3.1), which quotes it: ends, ports and
/// sequence number are all that a peer looks at.
pub(crate) fn unreachable(embryo: &Embryo, code: u16, cx: &mut Context<'_>) {
    if cx.out.room().is_none() {
        return;
    }
    let v4 = embryo.local.address.is_v4();
    let settings = &cx.instance.settings;
    let ours = Ip {
        source: embryo.local.address,
        destination: embryo.remote.address,
        ttl: settings.ttl,
        traffic_class: 0,
    };
    let theirs = Ip { source: ours.destination, destination: ours.source, ttl: 64, traffic_class: 0 };
    let headers = &mut cx.out.outputs.headers;
    let start = headers.len();
    ours.build(if v4 { protocol::ICMP } else { protocol::ICMPV6 }, false, headers);
    let transport = headers.len() - start;
    headers.extend_from_slice(&[if v4 { 3 } else { 1 }, code as u8, 0, 0, 0, 0, 0, 0]);
    theirs.build(protocol::TCP, true, headers);
    headers.extend_from_slice(&embryo.remote.port.to_be_bytes());
    headers.extend_from_slice(&embryo.local.port.to_be_bytes());
    headers.extend_from_slice(&embryo.irs.0.to_be_bytes());
    cx.out.push(start, transport, Payload::default());
}
