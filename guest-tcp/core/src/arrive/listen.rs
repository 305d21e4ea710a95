//! LISTEN (RFC 9293 3.10.7.2), and SYN-RECEIVED of an embryo (3.10.7.4 as far as it concerns one).

use super::acceptability::in_window;
use super::{Arrived, ack, closed, syn_sent};
use crate::connection::{Begin, Connection};
use crate::embryo::Embryo;
use crate::emit;
use crate::entity::Entity;
use crate::header::options::Options;
use crate::header::tcp::Flags;
use crate::listener::Listener;
use crate::out::Context;
use crate::recovery::{Ack, Span};
use crate::seq::Seq;
use crate::state::State;
use crate::tables::Tables;
use alloc::boxed::Box;
use bulkhead_wit::{Event, Handle, Opening};

/// A segment that no connection takes: perhaps a listener does.
pub(crate) fn arrive(tables: &mut Tables, segment: &Arrived, cx: &mut Context<'_>) {
    let ours = cx.instance.is_ours(segment.local.address);
    let Some(listener) = tables.listeners.find(segment.local, ours) else {
        return closed::arrive(segment, cx);
    };
    // First: a reset is ignored. Second: an acknowledgement is reset. Third: a SYN.
    if segment.has(Flags::RST) {
        return;
    }
    if segment.has(Flags::ACK) {
        return emit::reset_for(segment, cx);
    }
    if !segment.has(Flags::SYN) || segment.has(Flags::FIN) {
        cx.instance.counters.dropped += 1;
        return;
    }
    let mut embryo = Embryo::new(segment, listener, cx.instance, cx.now);
    if tables.embryos.len() >= cx.instance.embryos {
        cx.instance.counters.backlog_drops += 1;
        return;
    }
    let _ = embryo.send_syn_ack(listener, cx);
    tables.add_embryo(cx.instance.keys.table, cx.instance.embryos, embryo);
}

/// A segment for an embryo.
pub(crate) fn embryo(tables: &mut Tables, number: u32, segment: &Arrived, cx: &mut Context<'_>) {
    let Some(&found) = tables.embryos.get(number) else { return };
    let start = i64::from(segment.tcp.seq.after(found.irs.plus(1)));
    let again = segment.has(Flags::SYN) && segment.tcp.seq == found.irs;
    if again && !segment.has(Flags::ACK) && !segment.has(Flags::RST) {
        return repeat(tables, number, cx);
    }
    let old = found
        .timestamp
        .zip(segment.options.timestamps)
        .is_some_and(|(recent, (value, _))| Seq(value).is_before(Seq(recent)));
    let length = i64::from(segment.sequence_length());
    if old || !in_window(start, length, 0, i64::from(found.window)) {
        cx.instance.counters.dropped += 1;
        if !segment.has(Flags::RST) && cx.instance.may_challenge(cx.now) {
            found.send_ack(cx);
        }
        return;
    }
    if segment.has(Flags::RST) {
        // RFC 5961 3.2; the listener stays as it was (RFC 9293 3.10.7.4, second).
        if start == 0 {
            cx.instance.counters.resets_in += 1;
            tables.remove_embryo(cx.instance.keys.table, number);
        } else if cx.instance.may_challenge(cx.now) {
            found.send_ack(cx);
        }
        return;
    }
    if segment.has(Flags::SYN) {
        // RFC 9293 3.10.7.4, fourth: back to LISTEN; the peer begins anew.
        tables.remove_embryo(cx.instance.keys.table, number);
        return;
    }
    if !segment.has(Flags::ACK) {
        return;
    }
    if !ack::completes(segment, found.iss) {
        return emit::reset_for(segment, cx);
    }
    complete(tables, number, &found, segment, cx);
}

/// The same SYN again: our SYN-ACK was lost.
fn repeat(tables: &mut Tables, number: u32, cx: &mut Context<'_>) {
    let Some(embryo) = tables.embryos.get_mut(number) else { return };
    let Some(listener) = tables.listeners.get(embryo.listener) else { return };
    if embryo.send_syn_ack(listener, cx) {
        cx.instance.counters.retrans += 1;
        // Karn's rule: it cannot be told which of them is acknowledged.
        embryo.retransmitted = embryo.retransmitted.max(1);
    }
    let deadline = embryo.deadline;
    tables.timers.set(Entity::embryo(number), deadline);
}

/// The handshake is complete: the embryo becomes a connection, if its listener has credit left.
fn complete(tables: &mut Tables, number: u32, embryo: &Embryo, segment: &Arrived, cx: &mut Context<'_>) {
    let key = cx.instance.keys.table;
    let Some(listener) = tables.listeners.get_mut(embryo.listener) else { return };
    if !listener.has_credit() {
        // As in Linux: the acknowledgement counts as lost, the SYN-ACK goes out again in time.
        cx.instance.counters.backlog_drops += 1;
        return;
    }
    let Some((slot, generation)) = tables.connections.reserve(cx.instance.connections) else {
        cx.instance.counters.backlog_drops += 1;
        return;
    };
    listener.accepted += 1;
    let handle = Handle::by_module(slot, generation);
    let connection = accept(embryo, listener, handle, segment, cx);
    cx.out.event(Event::Accepted(Opening {
        listener: embryo.listener,
        connection: handle,
        segment: segment.index,
        receive_base: connection.receive.base.0,
        send_base: connection.send.iss.plus(1).0,
        mss: connection.send_mss(),
    }));
    tables.remove_embryo(key, number);
    tables.add(key, slot, connection);
    if let Some(connection) = tables.connections.get_mut(slot) {
        super::arrive(connection, segment, cx);
    }
    tables.settle(slot, cx);
}

/// A connection in ESTABLISHED from an embryo.
fn accept(
    embryo: &Embryo,
    listener: &Listener,
    handle: Handle,
    segment: &Arrived,
    cx: &Context<'_>,
) -> Box<Connection> {
    let begin = Begin {
        handle,
        local: embryo.local,
        remote: embryo.remote,
        settings: listener.settings.clone(),
        iss: embryo.iss,
        receive_first: listener.receive_first,
        receive_max: listener.receive_max,
    };
    let mut connection = Box::new(Connection::new(begin, cx.instance));
    let options = Options {
        mss: Some(embryo.peer_mss),
        window_scale: embryo.peer_scale,
        sack_permitted: embryo.sack,
        timestamps: embryo.timestamp.map(|value| (value, 0)),
        ..Options::default()
    };
    connection.recovery.on_sent(embryo.sent_at, Span::new(0, 1));
    if embryo.retransmitted > 0 {
        connection.recovery.on_sent(embryo.sent_at, Span::new(0, 1));
    }
    syn_sent::negotiate(&mut connection, &options, embryo.timestamp_at);
    connection.receive.base = embryo.irs.plus(1);
    connection.receive.edge = u64::from(embryo.window).min(connection.receive.limit);
    connection.send.window_seq = embryo.irs;
    connection.send.window_ack = 1;
    connection.state = State::Established;
    let echoed = syn_sent::echoed(&connection, segment, cx.now);
    let ack = Ack { to: 1, echoed, carries: true, ..Ack::default() };
    let _ = connection.recovery.on_ack(cx.now, &ack);
    connection
}

/// The host's decision about an offered connection.
pub(crate) fn decide(
    tables: &mut Tables,
    decide: bulkhead_wit::Decide,
    cx: &mut Context<'_>,
) -> Result<(), u16> {
    let _ = (tables, decide, cx);
    Err(bulkhead_wit::registry::reason::UNKNOWN)
}
