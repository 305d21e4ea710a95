//! The segments of a step: whose each of them is.
//!
//! What a device delivers at once belongs to few connections, so segments come in runs: a connection is looked up by the
//! first of a run, and its deadline, marks and turn are seen to after the last. In between nobody else is looked at, so
//! nobody can tell.

use crate::arrive::{self, Arrived};
use crate::entity::EntityKind;
use crate::icmp;
use crate::out::Context;
use crate::tables::Tables;
use crate::time_wait::Then;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Inputs, Kind, Segment};

/// All of them, in order; `arrived` has room for the one that is looked at.
pub(crate) fn arrive(tables: &mut Tables, arrived: &mut Arrived, inputs: &Inputs<'_>, cx: &mut Context<'_>) {
    let mut run = Run(None);
    for (index, segment) in (0_u32..).zip(inputs.segments) {
        let Some(header) = inputs.header(segment) else {
            cx.instance.counters.dropped += 1;
            continue;
        };
        cx.instance.counters.segs_in += u64::from(segment.count.max(1));
        if (segment.kind, segment.protocol) != (Kind::Whole, protocol::TCP) {
            run.end(tables, cx);
            other(tables, index, header, segment, cx);
            continue;
        }
        match arrived.read(index, header, segment) {
            Some(()) => run.take(tables, arrived, cx),
            None => cx.instance.counters.dropped += 1,
        }
    }
    run.end(tables, cx);
}

/// What is no TCP.
fn other(tables: &mut Tables, index: u32, header: &[u8], segment: &Segment, cx: &mut Context<'_>) {
    match (segment.kind, segment.protocol) {
        (Kind::Whole, protocol::ICMP | protocol::ICMPV6) => icmp::message(index, header, segment, cx),
        (Kind::Fragment, _) => {
            tables.fragments.arrive(&mut tables.timers, header, (index, segment), cx);
        }
        (Kind::IcmpError, _) => icmp::error(tables, header, segment, cx),
        (Kind::Whole, _) => icmp::no_taker(index, header, segment, cx),
        (Kind::Frame, _) => cx.instance.counters.dropped += 1,
    }
}

/// The connection whose segments are arriving, which is not settled yet.
struct Run(Option<u32>);

impl Run {
    /// One segment, which goes on with the run or begins another.
    fn take(&mut self, tables: &mut Tables, segment: &Arrived, cx: &mut Context<'_>) {
        let connection = self.0.and_then(|number| tables.connections.get(number));
        let goes_on = connection.is_some_and(|c| c.remote == segment.remote && c.local == segment.local);
        if !goes_on {
            self.end(tables, cx);
            self.0 = demultiplex(tables, segment, cx);
        }
        let Some(connection) = self.0.and_then(|number| tables.connections.get_mut(number)) else { return };
        if !goes_on {
            connection.approach(cx.now);
        }
        if connection.ending.is_none() {
            arrive::arrive(connection, segment, cx);
        }
        // What has ended is found by nobody, so it must not wait for the rest of its run.
        if connection.ending.is_some() {
            self.end(tables, cx);
        }
    }

    fn end(&mut self, tables: &mut Tables, cx: &mut Context<'_>) {
        if let Some(number) = self.0.take() {
            tables.settle(number, cx);
        }
    }
}

/// Finds out whose segment it is: a connection's, or somebody's who deals with it here.
fn demultiplex(tables: &mut Tables, segment: &Arrived, cx: &mut Context<'_>) -> Option<u32> {
    let key = cx.instance.keys.table;
    let Some(entity) = tables.find(key, segment.local, segment.remote) else {
        // The host still holds the ends of what was closed in this step; the peer will send again.
        if !tables.was_closed(segment.local, segment.remote) {
            arrive::listen::arrive(tables, segment, cx);
        }
        return None;
    };
    let number = entity.number();
    match entity.what() {
        EntityKind::Connection => return Some(number),
        EntityKind::Embryo => arrive::listen::embryo(tables, number, segment, cx),
        EntityKind::TimeWait => {
            let remains = tables.time_waits.get_mut(number)?;
            let then = remains.arrive(segment, cx);
            let deadline = remains.deadline;
            match then {
                Then::Stay => tables.timers.set(entity, deadline),
                Then::End => tables.remove_time_wait(key, number),
                Then::Anew => {
                    tables.remove_time_wait(key, number);
                    arrive::listen::arrive(tables, segment, cx);
                }
            }
        }
        // Nothing is found by ends that has none.
        EntityKind::Hold => {}
    }
    None
}
