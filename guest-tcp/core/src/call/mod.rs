//! The calls of RFC 9293 3.10.1 to 3.10.6, and the contract's own. Those that end a stream come after the step's
//! positions, so that they cover what these say was written; queries come last.

mod close;
mod listen;
mod open;
mod query;
mod report;
mod set;

use crate::out::Context;
use crate::tables::Tables;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Call, Event, Failed};

/// Says that a call cannot be done at all.
fn failed(index: u32, reason: u16, cx: &mut Context<'_>) {
    cx.out.event(Event::Failed(Failed { call: index, reason }));
}

/// Calls that come before the positions.
pub(crate) fn first(tables: &mut Tables, calls: &[Call], cx: &mut Context<'_>) {
    for (index, call) in (0_u32..).zip(calls) {
        let done = match call {
            Call::Configure(config) => set::configure(tables, config, cx),
            Call::Reseed(seed) => set::reseed(*seed, cx),
            Call::Listen(listen) => listen::listen(tables, listen, cx),
            Call::Allow(allow) => listen::allow(tables, *allow),
            Call::Unlisten(number) => listen::unlisten(tables, *number, cx),
            Call::Open(open) => open::open(tables, open, cx),
            // Datagrams are another module's.
            Call::Bind(_) => Err(reason::UNSUPPORTED),
            Call::Decide(decide) => listen::decide(tables, *decide, cx),
            Call::Set(change) => set::set(tables, *change, cx),
            Call::Report(report) => report::report(tables, *report, cx),
            Call::Shutdown(_) | Call::Close(_) | Call::Abort(_) | Call::Query(_) => Ok(()),
        };
        if let Err(reason) = done {
            failed(index, reason, cx);
        }
    }
}

/// Calls that come after the positions.
pub(crate) fn second(tables: &mut Tables, calls: &[Call], cx: &mut Context<'_>) {
    for (index, call) in (0_u32..).zip(calls) {
        let done = match call {
            Call::Shutdown(handle) => close::shutdown(tables, *handle, cx),
            Call::Close(close) => close::close(tables, *close, cx),
            Call::Abort(handle) => close::abort(tables, *handle, cx),
            _ => Ok(()),
        };
        if let Err(reason) = done {
            failed(index, reason, cx);
        }
    }
}

/// Queries, which see the step's end.
pub(crate) fn queries(tables: &Tables, calls: &[Call], cx: &mut Context<'_>) {
    for (index, call) in (0_u32..).zip(calls) {
        if let Call::Query(handle) = call
            && let Err(reason) = query::query(tables, *handle, cx)
        {
            failed(index, reason, cx);
        }
    }
}
