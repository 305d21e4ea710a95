//! STATUS (RFC 9293 3.10.6): what `ss` would show, and the census.

use crate::out::Context;
use crate::state::State;
use crate::tables::Tables;
use alloc::vec;
use bulkhead_wit::registry::{census, reason};
use bulkhead_wit::{Event, Handle, Info};

pub(super) fn query(tables: &Tables, handle: Handle, cx: &mut Context<'_>) -> Result<(), u16> {
    let fields = if handle == Handle::INSTANCE {
        count(tables, cx)
    } else {
        let number = tables.by_handle(cx.instance.keys.table, handle).ok_or(reason::UNKNOWN)?;
        tables.connections.get(number).ok_or(reason::UNKNOWN)?.info(cx.now, cx.instance)
    };
    cx.out.event(Event::Info(Info { of: handle, fields }));
    Ok(())
}

fn count(tables: &Tables, cx: &Context<'_>) -> vec::Vec<u64> {
    let mut fields = vec![0_u64; census::ALL.len()];
    let mut set = |key: u16, value: u64| {
        if let Some(field) = fields.get_mut(usize::from(key)) {
            *field = value;
        }
    };
    let of = |state: State| u64::from(tables.states.get(usize::from(state.number())).copied().unwrap_or(0));
    let closing = of(State::FinWait1)
        + of(State::FinWait2)
        + of(State::Closing)
        + of(State::CloseWait)
        + of(State::LastAck);
    let unowned = tables.time_waits.iter().filter(|(_, remains)| remains.fin_wait_2).count() as u64;
    let counters = &cx.instance.counters;
    let bytes = u64::from(tables.connections.len()) * u64::from(crate::BYTES_PER_CONNECTION)
        + (u64::from(tables.embryos.len()) + u64::from(tables.time_waits.len()))
            * u64::from(crate::BYTES_PER_REMAINS);
    for (key, value) in [
        (census::SYN_SENT, of(State::SynSent)),
        (census::SYN_RECEIVED, of(State::SynReceived) + u64::from(tables.embryos.len())),
        (census::ESTABLISHED, of(State::Established)),
        (census::CLOSING, closing + unowned),
        (census::TIME_WAIT, u64::from(tables.time_waits.len()).saturating_sub(unowned)),
        (census::LISTENERS, tables.listeners.all().len() as u64),
        (census::SEGS_IN, counters.segs_in),
        (census::SEGS_OUT, counters.segs_out),
        (census::RETRANS, counters.retrans),
        (census::DROPPED, counters.dropped),
        (census::RESETS_OUT, counters.resets_out),
        (census::RESETS_IN, counters.resets_in),
        (census::CHALLENGES, counters.challenges),
        (census::COOKIES_SENT, counters.cookies_sent),
        (census::COOKIES_RECEIVED, counters.cookies_received),
        (census::BACKLOG_DROPS, counters.backlog_drops),
        (census::STATE_BYTES, bytes),
        (census::ECHOES, counters.echoes),
    ] {
        set(key, value);
    }
    fields
}
