//! News from outside about a connection.

use crate::connection::Ending;
use crate::emit;
use crate::icmp;
use crate::out::Context;
use crate::state::State;
use crate::tables::Tables;
use bulkhead_wit::Reason;
use bulkhead_wit::registry::reason;

/// A path MTU is heeded like one from ICMP; an unreachable peer ends an open, and otherwise only explains a timeout
/// (RFC 5461); everything else ends the connection in kind.
pub(super) fn report(tables: &mut Tables, report: Reason, cx: &mut Context<'_>) -> Result<(), u16> {
    let number = tables.by_handle(cx.instance.keys.table, report.connection).ok_or(reason::UNKNOWN)?;
    let connection = tables.connections.get_mut(number).ok_or(reason::UNKNOWN)?;
    let unreachable = matches!(
        report.reason,
        reason::HOST_UNREACHABLE
            | reason::NETWORK_UNREACHABLE
            | reason::PROHIBITED
            | reason::PORT_UNREACHABLE
    );
    if report.reason == reason::PATH_MTU {
        icmp::too_big(connection, report.value, cx);
    } else if unreachable && connection.state != State::SynSent {
        connection.soft_error = report.reason;
    } else {
        emit::reset(connection, cx);
        connection.end(Ending::Gone(report.reason, report.value));
    }
    tables.settle(number, cx);
    Ok(())
}
