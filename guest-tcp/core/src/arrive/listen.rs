//! LISTEN (RFC 9293 3.10.7.2), and SYN-RECEIVED of an embryo (3.10.7.4 as far as it concerns one).

use super::acceptability::in_window;
use super::{Arrived, ack, closed, syn_sent};
use crate::connection::{Begin, Connection};
use crate::cookie;
use crate::embryo::Embryo;
use crate::emit;
use crate::entity::Entity;
use crate::header::options::Options;
use crate::header::tcp::Flags;
use crate::limits::{EMBRYO_SHARE, EMBRYOS_EACH_MIN, OFFER, SYN_ACK_RETRIES};
use crate::listener::Listener;
use crate::out::Context;
use crate::recovery::{Ack, Span};
use crate::seq::Seq;
use crate::state::State;
use crate::tables::Tables;
use alloc::boxed::Box;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Decide, Event, Handle, Listening, NEVER, Opening, Verdict};

/// A segment that no connection takes: perhaps a listener does.
pub(crate) fn arrive(tables: &mut Tables, segment: &Arrived, cx: &mut Context<'_>) {
    let ours = cx.instance.is_ours(segment.local.address);
    let Some(listener) = tables.listeners.find(cx.instance.keys.table, segment.local, ours) else {
        return closed::arrive(segment, cx);
    };
    // First: a reset is ignored.
    if segment.has(Flags::RST) {
        return;
    }
    // Second: an acknowledgement is reset, unless it brings one of our cookies back.
    if segment.has(Flags::ACK) {
        let number = listener.number;
        let read = |cx: &Context<'_>| cookie::read(cx.instance, segment, cx.now);
        let baked =
            if cx.instance.expects_cookies(cx.now) && !segment.has(Flags::SYN) { read(cx) } else { None };
        return match baked {
            Some(embryo) => {
                cx.instance.counters.cookies_received += 1;
                complete(tables, None, &Embryo { listener: number, ..embryo }, segment, cx);
            }
            None => emit::reset_for(segment, cx),
        };
    }
    // Third: a SYN.
    if !segment.has(Flags::SYN) || segment.has(Flags::FIN) {
        cx.instance.counters.dropped += 1;
        return;
    }
    let mut embryo = Embryo::new(segment, listener, cx.instance, cx.now);
    if listener.how.contains(Listening::DEFER) {
        return offer(tables, embryo, segment, cx);
    }
    let key = cx.instance.keys.table;
    let share = (cx.instance.embryos / EMBRYO_SHARE).max(EMBRYOS_EACH_MIN);
    if tables.embryos.len() >= cx.instance.embryos || tables.embryos_of(key, segment.remote.address) >= share
    {
        cx.instance.cookies_at = Some(cx.now);
        cx.instance.counters.cookies_sent += 1;
        let mut embryo = embryo.into_cookie(cx.instance, cx.now);
        embryo.send_syn_ack(listener, cx);
        return;
    }
    embryo.send_syn_ack(listener, cx);
    tables.add_embryo(cx.instance.keys.table, cx.instance.embryos, embryo);
}

/// A deferring listener lets the host decide before the stranger hears anything. The one state that comes before the
/// handshake, so it is bounded, and there are no cookies for it.
fn offer(tables: &mut Tables, mut embryo: Embryo, segment: &Arrived, cx: &mut Context<'_>) {
    let listener = tables.listeners.get(embryo.listener);
    let free =
        (tables.offers.len() as u32) < cx.instance.offers && listener.is_some_and(Listener::has_credit);
    let place = if free { tables.connections.reserve(cx.instance.connections) } else { None };
    let Some((slot, generation)) = place else {
        cx.instance.counters.backlog_drops += 1;
        return;
    };
    embryo.offered = Handle::by_module(slot, generation);
    embryo.undecided = true;
    embryo.deadline = cx.now.saturating_add(OFFER);
    let most = cx.instance.embryos.saturating_add(cx.instance.offers);
    let Some(number) = tables.add_embryo(cx.instance.keys.table, most, embryo) else {
        tables.connections.release_later(slot);
        return;
    };
    tables.offers.insert(slot, number);
    cx.out.event(Event::Offered(Opening {
        listener: embryo.listener,
        connection: embryo.offered,
        segment: segment.index,
        receive_base: embryo.irs.plus(1).0,
        send_base: 0,
        mss: embryo.peer_mss,
    }));
}

/// The host's decision about an offered connection.
pub(crate) fn decide(tables: &mut Tables, decide: Decide, cx: &mut Context<'_>) -> Result<(), u16> {
    let number = *tables.offers.get(&decide.connection.slot()).ok_or(reason::UNKNOWN)?;
    let embryo = tables.embryos.get_mut(number).ok_or(reason::UNKNOWN)?;
    if embryo.offered != decide.connection || !embryo.undecided {
        return Err(reason::UNKNOWN);
    }
    match decide.verdict {
        Verdict::Accept => {
            embryo.undecided = false;
            embryo.sent_at = cx.now;
            if let Some(listener) = tables.listeners.get(embryo.listener) {
                embryo.send_syn_ack(listener, cx);
            }
            let deadline = embryo.deadline;
            tables.timers.set(Entity::embryo(number), deadline);
            return Ok(());
        }
        Verdict::Reset => refuse(embryo, cx),
        Verdict::Unreachable => crate::icmp::unreachable(embryo, decide.code, cx),
        Verdict::Drop => {}
    }
    tables.end_embryo(number, reason::REFUSED, cx);
    Ok(())
}

/// The host wants an offered connection no more, whose handshake is not complete. Says whether it is one.
pub(crate) fn give_up(tables: &mut Tables, handle: Handle, cx: &mut Context<'_>) -> bool {
    let Some(&number) = tables.offers.get(&handle.slot()) else { return false };
    let Some(embryo) = tables.embryos.get(number).filter(|embryo| embryo.offered == handle) else {
        return false;
    };
    refuse(embryo, cx);
    tables.end_embryo(number, reason::ABORTED, cx);
    true
}

/// A reset for an embryo: in answer to its SYN, or at the place that our SYN-ACK made.
fn refuse(embryo: &Embryo, cx: &mut Context<'_>) {
    let seq = if embryo.undecided { Seq(0) } else { embryo.iss.plus(1) };
    let reset = (seq, embryo.irs.plus(1), Flags::RST.with(Flags::ACK));
    emit::reset_plain(embryo.local, embryo.remote, reset, cx);
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
    let is_reset = segment.has(Flags::RST);
    if (old && !is_reset) || !in_window(start, length, 0, i64::from(found.window)) {
        cx.instance.counters.dropped += 1;
        if !is_reset {
            challenge(&found, cx);
        }
        return;
    }
    if is_reset {
        // RFC 5961 3.2; the listener stays as it was (RFC 9293 3.10.7.4, second).
        if start != 0 {
            return challenge(&found, cx);
        }
        cx.instance.counters.resets_in += 1;
        return tables.end_embryo(number, reason::RESET, cx);
    }
    if segment.has(Flags::SYN) {
        // RFC 9293 3.10.7.4, fourth: back to LISTEN; the peer begins anew.
        return tables.end_embryo(number, reason::RESET, cx);
    }
    if !segment.has(Flags::ACK) || found.undecided {
        return;
    }
    if start < 0 {
        // It begins before our window, which no handshake does. The contract has the host check the peer's first number by
        // the segment that opens the connection, so this one must not.
        cx.instance.counters.dropped += 1;
        return challenge(&found, cx);
    }
    if !ack::completes(segment, found.iss) {
        return emit::reset_for(segment, cx);
    }
    if !waits_for_data(tables, number, segment, cx) {
        complete(tables, Some(number), &found, segment, cx);
    }
}

fn challenge(embryo: &Embryo, cx: &mut Context<'_>) {
    if !embryo.undecided && cx.instance.may_challenge(cx.now) {
        embryo.send_ack(cx);
    }
}

/// Deferred accept: a bare acknowledgement is not news until the time for data is over (Linux: `TCP_DEFER_ACCEPT`).
fn waits_for_data(tables: &mut Tables, number: u32, segment: &Arrived, cx: &Context<'_>) -> bool {
    let Some(embryo) = tables.embryos.get_mut(number) else { return false };
    let wait = tables.listeners.get(embryo.listener).map_or(0, |listener| listener.settings.defer_accept);
    let until = embryo.sent_at.saturating_add(wait);
    if wait == 0 || segment.length > 0 || segment.has(Flags::FIN) || until <= cx.now {
        return false;
    }
    embryo.completed = true;
    // At the end of the wait the SYN-ACK goes out again, and its acknowledgement counts.
    embryo.deadline = until;
    tables.timers.set(Entity::embryo(number), until);
    true
}

/// The same SYN again: our SYN-ACK was lost.
fn repeat(tables: &mut Tables, number: u32, cx: &mut Context<'_>) {
    let Some(embryo) = tables.embryos.get_mut(number).filter(|embryo| !embryo.undecided) else { return };
    let Some(listener) = tables.listeners.get(embryo.listener) else { return };
    if embryo.send_syn_ack(listener, cx) {
        cx.instance.counters.retrans += 1;
        // Karn's rule: it cannot be told which of them is acknowledged.
        embryo.retransmitted = embryo.retransmitted.max(1);
    }
    let deadline = embryo.deadline;
    tables.timers.set(Entity::embryo(number), deadline);
}

/// An embryo's deadline: its SYN-ACK again, or the end of the waiting.
pub(crate) fn fire(tables: &mut Tables, number: u32, cx: &mut Context<'_>) {
    let listeners = &tables.listeners;
    let Some(embryo) = tables.embryos.get_mut(number) else { return };
    match listeners.get(embryo.listener) {
        Some(listener) if embryo.retransmitted < SYN_ACK_RETRIES && !embryo.undecided => {
            embryo.send_again(listener, cx);
            let deadline = embryo.deadline;
            tables.timers.set(Entity::embryo(number), deadline);
        }
        Some(_) => tables.end_embryo(number, reason::TIMED_OUT, cx),
        None => {
            // A stranger that has heard nothing yet is told; another will be, when its acknowledgement comes (3.10.7.1).
            if embryo.undecided {
                refuse(embryo, cx);
            }
            tables.end_embryo(number, reason::ABORTED, cx);
        }
    }
}

/// The handshake is complete: the embryo becomes a connection, if its listener has credit left.
fn complete(
    tables: &mut Tables,
    number: Option<u32>,
    embryo: &Embryo,
    segment: &Arrived,
    cx: &mut Context<'_>,
) {
    let key = cx.instance.keys.table;
    let Some(listener) = tables.listeners.get_mut(embryo.listener) else { return };
    // As in Linux: without credit the acknowledgement counts as lost, the SYN-ACK goes out again in time.
    let place = if !listener.has_credit() {
        None
    } else if embryo.offered != Handle::INSTANCE {
        Some(embryo.offered)
    } else {
        let place = tables.connections.reserve(cx.instance.connections);
        place.map(|(slot, generation)| Handle::by_module(slot, generation))
    };
    let Some(handle) = place else {
        cx.instance.counters.backlog_drops += 1;
        return;
    };
    listener.accepted += 1;
    let connection = accept(embryo, listener, handle, segment, cx);
    cx.out.event(Event::Accepted(Opening {
        listener: embryo.listener,
        connection: handle,
        segment: segment.index,
        receive_base: connection.receive.base.0,
        send_base: connection.send.iss.plus(1).0,
        mss: connection.send_mss(),
    }));
    if let Some(number) = number {
        tables.remove_embryo(key, number);
    }
    let slot = handle.slot();
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
    // Karn's rule where the SYN-ACK was sent twice; a cookie does not know when it was sent.
    let sent_at = if embryo.cookie { cx.now } else { embryo.sent_at };
    connection.recovery.on_sent(sent_at, Span::new(0, 1));
    if embryo.retransmitted > 0 {
        connection.recovery.on_sent(sent_at, Span::new(0, 1));
    }
    syn_sent::negotiate(&mut connection, &options, embryo.timestamp_at);
    connection.negotiated.ecn = embryo.ecn;
    connection.receive.base = embryo.irs.plus(1);
    let window = if embryo.cookie { u64::from(u16::MAX) } else { u64::from(embryo.window) };
    connection.receive.edge = window.min(connection.receive.limit);
    connection.send.window_seq = embryo.irs;
    connection.send.window_ack = 1;
    connection.state = State::Established;
    let echoed = syn_sent::echoed(&connection, segment, cx.now).filter(|_| !embryo.cookie);
    let ack = Ack { to: 1, echoed, carries: true, ..Ack::default() };
    let _ = connection.recovery.on_ack(cx.now, &ack);
    connection.deadlines.keepalive = NEVER;
    connection
}
