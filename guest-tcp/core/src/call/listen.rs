//! OPEN, passive (RFC 9293 3.10.1), and what else a listener is told.

use crate::arrive;
use crate::entity::Entity;
use crate::listener::{Listener, Refused};
use crate::out::Context;
use crate::tables::Tables;
use alloc::vec::Vec;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Allow, Decide, Listen};

pub(super) fn listen(tables: &mut Tables, listen: &Listen, cx: &Context<'_>) -> Result<(), u16> {
    let address = listen.local.address;
    if listen.local.port == 0 && !listen.how.contains(bulkhead_wit::Listening::ANY_ADDRESS) {
        return Err(reason::INVALID);
    }
    if !address.is_unspecified() && !cx.instance.is_ours(address) {
        return Err(reason::NOT_AVAILABLE);
    }
    let listener = Listener::new(listen, &cx.instance.settings);
    tables.listeners.insert(cx.instance.keys.table, listener).map_err(|refused| match refused {
        Refused::InUse => reason::IN_USE,
        Refused::Full => reason::EXHAUSTED,
    })
}

/// More credit; never less.
pub(super) fn allow(tables: &mut Tables, allow: Allow) -> Result<(), u16> {
    let listener = tables.listeners.get_mut(allow.listener).ok_or(reason::UNKNOWN)?;
    listener.allow = listener.allow.max(allow.up_to);
    Ok(())
}

/// RFC 9293 3.10.4, LISTEN: what is half open is forgotten with it, in this step's time if there is room.
pub(super) fn unlisten(tables: &mut Tables, number: u32, cx: &Context<'_>) -> Result<(), u16> {
    tables.listeners.remove(cx.instance.keys.table, number).ok_or(reason::UNKNOWN)?;
    let of_it = |(at, embryo): (u32, &crate::embryo::Embryo)| (embryo.listener == number).then_some(at);
    let embryos: Vec<u32> = tables.embryos.iter().filter_map(of_it).collect();
    for at in embryos {
        tables.timers.set(Entity::embryo(at), cx.now);
    }
    Ok(())
}

/// The host's decision about an offer.
pub(super) fn decide(tables: &mut Tables, decide: Decide, cx: &mut Context<'_>) -> Result<(), u16> {
    arrive::listen::decide(tables, decide, cx)
}
