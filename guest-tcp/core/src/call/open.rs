//! OPEN, active (RFC 9293 3.10.1).

use crate::connection::{Begin, Connection};
use crate::out::Context;
use crate::ports;
use crate::tables::Tables;
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
    let local = local_end(tables, open, cx)?;
    let number = tables.connections.reserve(cx.instance.connections).ok_or(reason::EXHAUSTED)?.0;
    let settings = if open.settings.is_empty() {
        cx.instance.settings.clone()
    } else {
        Arc::new(cx.instance.settings.with(&open.settings))
    };
    let begin = Begin {
        handle,
        local,
        remote: open.remote,
        settings,
        iss: cx.instance.initial_sequence(cx.now, local, open.remote),
        receive_first: open.receive_first,
        receive_max: open.receive_max,
    };
    let mut connection = Box::new(Connection::new(begin, cx.instance));
    connection.chosen = local != open.local;
    tables.add(key, number, connection);
    tables.settle(number, cx);
    Ok(())
}

/// Our end: as asked for, or chosen.
fn local_end(tables: &Tables, open: &Open, cx: &mut Context<'_>) -> Result<Endpoint, u16> {
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
    if local.port == 0 {
        local.port =
            ports::choose(cx.instance, local.address, open.remote, is_free).ok_or(reason::EXHAUSTED)?;
    } else if !is_free(local) {
        return Err(reason::IN_USE);
    }
    Ok(local)
}
