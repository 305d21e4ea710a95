//! OPEN, active (RFC 9293 3.10.1).

use crate::connection::{Begin, Connection};
use crate::entity::EntityKind;
use crate::out::Context;
use crate::ports;
use crate::tables::Tables;
use crate::time_wait::TimeWait;
use alloc::boxed::Box;
use alloc::sync::Arc;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Endpoint, Open};

/// Begins a connection; its SYN is sent in its turn.
pub(super) fn open(tables: &mut Tables, open: &Open, cx: &mut Context<'_>) -> Result<(), u16> {
    let key = cx.instance.keys.table;
    let handle = open.connection;
    let valid = !handle.is_by_module() && handle.is_well_formed() && handle.generation() > 0;
    if !valid || !open.remote.address.is_unicast() || open.remote.port == 0 {
        return Err(reason::INVALID);
    }
    if tables.by_handle(key, handle).is_some() {
        return Err(reason::IN_USE);
    }
    if tables.connections.len() >= cx.instance.connections {
        return Err(reason::EXHAUSTED);
    }
    let settings = if open.settings.is_empty() {
        cx.instance.settings.clone()
    } else {
        Arc::new(cx.instance.settings.with(&open.settings))
    };
    let local = local_end(tables, open, settings.timestamps, cx)?;
    let number = tables.connections.reserve(cx.instance.connections).ok_or(reason::EXHAUSTED)?.0;
    let iss = match remains(tables, local, open.remote, cx) {
        Some((at, remains)) => {
            tables.remove_time_wait(key, at);
            remains.next_initial()
        }
        None => cx.instance.initial_sequence(cx.now, local, open.remote),
    };
    let begin = Begin {
        handle,
        local,
        remote: open.remote,
        settings,
        iss,
        receive_first: open.receive_first,
        receive_max: open.receive_max,
    };
    let mut connection = Box::new(Connection::new(begin, cx.instance));
    connection.chosen = local != open.local;
    tables.add(key, number, connection);
    tables.settle(number, cx);
    Ok(())
}

/// What is in TIME-WAIT at these ends.
fn remains(tables: &Tables, local: Endpoint, remote: Endpoint, cx: &Context<'_>) -> Option<(u32, TimeWait)> {
    let found = tables.find(cx.instance.keys.table, local, remote)?;
    let at = found.number();
    (found.what() == EntityKind::TimeWait).then(|| tables.time_waits.get(at).map(|remains| (at, *remains)))?
}

/// Our end: as asked for, or chosen. With timestamps, ends in TIME-WAIT will do where there are no others.
fn local_end(tables: &Tables, open: &Open, timestamps: bool, cx: &mut Context<'_>) -> Result<Endpoint, u16> {
    let key = cx.instance.keys.table;
    let mut local = open.local;
    if local.address.is_unspecified() {
        local.address = cx.instance.source_for(open.remote.address).ok_or(reason::NOT_AVAILABLE)?;
    }
    if !cx.instance.is_ours(local.address) || local.address.is_v4() != open.remote.address.is_v4() {
        return Err(reason::NOT_AVAILABLE);
    }
    let is_free = |local: Endpoint| {
        tables.find(key, local, open.remote).is_none() && !tables.was_closed(local, open.remote)
    };
    let now = cx.now;
    let is_left = |local: Endpoint| {
        let Some(found) = tables.find(key, local, open.remote).filter(|_| timestamps) else { return false };
        found.what() == EntityKind::TimeWait
            && tables.time_waits.get(found.number()).is_some_and(|remains| remains.may_be_reused(now))
    };
    if local.port == 0 {
        let port = ports::choose(cx.instance, local.address, open.remote, is_free);
        let port = port.or_else(|| ports::choose(cx.instance, local.address, open.remote, is_left));
        local.port = port.ok_or(reason::EXHAUSTED)?;
    } else if !is_free(local) && !is_left(local) {
        return Err(reason::IN_USE);
    }
    Ok(local)
}
