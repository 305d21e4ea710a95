//! Settings, configuration and randomness.

use crate::connection::{Ending, parameters};
use crate::entity::Entity;
use crate::instance::Keys;
use crate::out::Context;
use crate::settings::Refused;
use crate::tables::Tables;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bulkhead_wit::registry::{reason, setting};
use bulkhead_wit::{Change, Config, Handle};

/// A setting of a connection, or the default of those to come.
pub(super) fn set(tables: &mut Tables, change: Change, cx: &mut Context<'_>) -> Result<(), u16> {
    let refused = |refused| match refused {
        Refused::Unknown => reason::UNSUPPORTED,
        Refused::Value => reason::INVALID,
    };
    if change.of == Handle::INSTANCE {
        return Arc::make_mut(&mut cx.instance.settings).set(change.setting).map_err(refused);
    }
    let number = tables.by_handle(cx.instance.keys.table, change.of).ok_or(reason::UNKNOWN)?;
    let connection = tables.connections.get_mut(number).ok_or(reason::UNKNOWN)?;
    Arc::make_mut(&mut connection.settings).set(change.setting).map_err(refused)?;
    match change.setting.key {
        setting::KEEPALIVE_IDLE | setting::KEEPALIVE_INTERVAL => connection.restart_keepalive(cx.now),
        setting::MAXSEG => {
            let mss = u32::from(connection.send_mss());
            connection.recovery.mss_changed(mss);
        }
        setting::MAX_PACING_RATE | setting::RTO_MIN | setting::CONGESTION => {
            let parameters = parameters(&connection.settings);
            connection.recovery.reconfigure(&parameters);
        }
        // As Linux: what a cork or the hope for more holds back goes now.
        setting::NODELAY if connection.settings.nodelay => connection.send.uncork(),
        setting::QUICKACK if connection.settings.quickack => {
            connection.ack_now |= connection.deadlines.delayed_ack != bulkhead_wit::NEVER;
        }
        _ => {}
    }
    tables.settle(number, cx);
    Ok(())
}

/// New addresses, MTU and defaults. Connections keep their ends as long as these are ours; another MTU cuts their
/// segments anew.
pub(super) fn configure(tables: &mut Tables, config: &Config, cx: &mut Context<'_>) -> Result<(), u16> {
    let before = cx.instance.mtu;
    cx.instance.configure(config);
    leave_gone_addresses(tables, cx);
    let mtu = cx.instance.mtu;
    if mtu == before {
        return Ok(());
    }
    let numbers: Vec<u32> = tables.connections.iter().map(|(number, _)| number).collect();
    for number in numbers {
        if let Some(connection) = tables.connections.get_mut(number) {
            // What was found out about a path stays, but a longer link may carry what the old one did not.
            connection.path_mtu =
                if connection.path_mtu == before { mtu } else { connection.path_mtu.min(mtu) };
            let mss = u32::from(connection.send_mss());
            if mss < connection.recovery.mss() {
                connection.recovery.mss_changed(mss);
                connection.recovery.too_big(cx.now);
            }
            tables.settle(number, cx);
        }
    }
    Ok(())
}

/// What has an end that is not ours any more is over: nothing can be sent from there, not even a reset.
fn leave_gone_addresses(tables: &mut Tables, cx: &mut Context<'_>) {
    let is_gone = |address| !cx.instance.is_ours(address);
    let connections: Vec<u32> = tables
        .connections
        .iter()
        .filter_map(|(number, connection)| is_gone(connection.local.address).then_some(number))
        .collect();
    let embryos: Vec<u32> = tables
        .embryos
        .iter()
        .filter_map(|(number, embryo)| is_gone(embryo.local.address).then_some(number))
        .collect();
    let remains: Vec<u32> = tables
        .time_waits
        .iter()
        .filter_map(|(number, remains)| is_gone(remains.local.address).then_some(number))
        .collect();
    for number in connections {
        if let Some(connection) = tables.connections.get_mut(number) {
            connection.end(Ending::Gone(reason::NOT_AVAILABLE, 0));
        }
        // There may be more of them than a step has events: they end as fast as timers fire.
        tables.timers.set(Entity::connection(number), cx.now);
    }
    for number in embryos {
        tables.end_embryo(number, reason::NOT_AVAILABLE, cx);
    }
    for number in remains {
        tables.remove_time_wait(cx.instance.keys.table, number);
    }
}

/// Secrets anew: initial sequence numbers, ports and cookies. Tables and the timestamps of living connections keep
/// their keys, since these stand in what is already there.
pub(super) fn reseed(seed: (u64, u64, u64, u64), cx: &mut Context<'_>) -> Result<(), u16> {
    let new = Keys::from_seed(seed);
    let keys = &mut cx.instance.keys;
    (keys.isn, keys.ports, keys.cookies) = (new.isn, new.ports, new.cookies);
    Ok(())
}
