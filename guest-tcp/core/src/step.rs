//! One step, in the contract's order: calls, positions, messages, segments, time; then what there is to send.

use crate::Tcp;
use crate::arrive;
use crate::call;
use crate::connection::Connection;
use crate::emit::{self, Progress};
use crate::entity::{Entity, EntityKind};
use crate::limits::TIMERS_PER_STEP;
use crate::out::{Context, Out};
use crate::segments;
use crate::tables::Tables;
use crate::timeout;
use alloc::boxed::Box;
use bulkhead_wit::limits::DEADLINE_MIN;
use bulkhead_wit::{Handle, Inputs, NEVER, Outputs, Position, Time};

/// The whole step.
pub(crate) fn step(tcp: &mut Tcp, inputs: &Inputs<'_>, outputs: &mut Outputs) {
    let Tcp { instance, tables, last, arrived } = tcp;
    // Time never goes back, whatever the host says.
    *last = inputs.now.max(*last);
    let is_tight = tables.is_tight();
    let mut cx = Context { now: *last, instance, is_tight, out: Out::new(outputs, inputs.room) };
    call::first(tables, inputs.calls, &mut cx);
    for position in inputs.positions {
        arrive_position(tables, position, &mut cx);
    }
    call::second(tables, inputs.calls, &mut cx);
    segments::arrive(tables, arrived, inputs, &mut cx);
    fire_timers(tables, &mut cx);
    send(tables, &mut cx);
    call::queries(tables, inputs.calls, &mut cx);
    tables.flush(&mut cx);
    finish(tables, &mut cx);
}

/// Where an application stands: more to send, or more room to receive.
fn arrive_position(tables: &mut Tables, position: &Position, cx: &mut Context<'_>) {
    let Some(number) = tables.by_handle(cx.instance.keys.table, position.connection) else { return };
    let Some(connection) = tables.connections.get_mut(number) else { return };
    connection.approach(cx.now);
    connection.send.write(position.written, position.marks);
    let receive = &mut connection.receive;
    let most = receive.next.saturating_add(bulkhead_wit::limits::WINDOW);
    receive.limit = receive.limit.max(position.limit.min(most));
    let consumed = position.consumed.min(receive.next);
    let was_read = consumed > receive.consumed;
    receive.consumed = receive.consumed.max(consumed);
    if receive.tuning.consumed(cx.now, receive.consumed, receive.mss, receive.max) {
        connection.marked = true;
    }
    let receive = &connection.receive;
    // A window that was closed is announced as soon as it opens by as much as RFC 9293 3.8.6.2.2 asks for; Linux's
    // measure for the rest is twice what is left (`tcp_cleanup_rbuf`).
    let clamp = connection.settings.window_clamp;
    let matters = was_read || receive.window() < u64::from(receive.mss);
    let open = connection.state.is_synchronized() && !receive.fin_taken;
    connection.ack_now |= matters && open && receive.opens_widely(clamp);
    tables.settle(number, cx);
}

/// Fires what is due, each entity at most once.
fn fire_timers(tables: &mut Tables, cx: &mut Context<'_>) {
    let key = cx.instance.keys.table;
    for _ in 0..TIMERS_PER_STEP {
        let Some((_, entity)) = tables.timers.first().filter(|(at, _)| *at <= cx.now) else { return };
        if !cx.out.may_say_more() {
            return;
        }
        let number = entity.number();
        match entity.what() {
            EntityKind::Connection => {
                if let Some(connection) = tables.connections.get_mut(number) {
                    timeout::fire(connection, cx);
                }
                tables.settle(number, cx);
                defer(tables, entity, cx.now);
            }
            EntityKind::Embryo => arrive::listen::fire(tables, number, cx),
            EntityKind::TimeWait => tables.remove_time_wait(key, number),
            EntityKind::Hold => tables.fragments.release(&mut tables.timers, number, cx),
        }
    }
}

/// What is still due after it fired waits for the next step.
fn defer(tables: &mut Tables, entity: Entity, now: Time) {
    if tables.timers.first().is_some_and(|(at, first)| at <= now && first == entity) {
        tables.timers.set(entity, now + 1);
    }
}

/// Everybody with something to send gets a turn, until all are done or the room is used up.
fn send(tables: &mut Tables, cx: &mut Context<'_>) {
    while let Some(number) = tables.ready.pop_front() {
        let is_waiting = |connection: &&mut Box<Connection>| connection.ready && connection.ending.is_none();
        let Some(connection) = tables.connections.get_mut(number).filter(is_waiting) else {
            continue;
        };
        match emit::run(connection, cx) {
            Progress::Done => connection.ready = false,
            Progress::More => tables.ready.push_back(number),
            Progress::Starved => {
                tables.ready.push_front(number);
                tables.rest(number);
                return;
            }
        }
        tables.rest(number);
    }
}

/// The deadline, and whether the step stopped early.
fn finish(tables: &mut Tables, cx: &mut Context<'_>) {
    let outputs = &mut *cx.out.outputs;
    outputs.unfinished = !tables.ready.is_empty();
    (outputs.deadline, outputs.deadline_of) = match tables.timers.first() {
        None => (NEVER, Handle::INSTANCE),
        Some((at, entity)) => {
            let handle = match entity.what() {
                EntityKind::Connection => tables.connections.get(entity.number()).map(|c| c.handle),
                EntityKind::Embryo | EntityKind::TimeWait | EntityKind::Hold => None,
            };
            (at.max(cx.now.saturating_add(DEADLINE_MIN)), handle.unwrap_or_default())
        }
    };
}
