//! CLOSE and ABORT (RFC 9293 3.10.4, 3.10.5).

use crate::arrive::listen;
use crate::connection::{Connection, Ending};
use crate::emit;
use crate::out::Context;
use crate::state::State;
use crate::tables::Tables;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Close, Handle, NEVER};

fn with(
    tables: &mut Tables,
    handle: Handle,
    cx: &mut Context<'_>,
    act: impl FnOnce(&mut Connection, &mut Context<'_>) -> Result<(), u16>,
) -> Result<(), u16> {
    let number = tables.by_handle(cx.instance.keys.table, handle).ok_or(reason::UNKNOWN)?;
    let connection = tables.connections.get_mut(number).ok_or(reason::UNKNOWN)?;
    let done = act(connection, cx);
    tables.settle(number, cx);
    done
}

/// Nothing more will be written: the stream ends with what this step's positions say.
pub(super) fn shutdown(tables: &mut Tables, handle: Handle, cx: &mut Context<'_>) -> Result<(), u16> {
    with(tables, handle, cx, |connection, _| {
        if connection.send.ended {
            return Err(reason::INVALID);
        }
        end_stream(connection);
        Ok(())
    })
}

/// The state after CLOSE; the FIN goes out when all before it has.
fn end_stream(connection: &mut Connection) {
    if connection.send.ended {
        return;
    }
    connection.send.ended = true;
    connection.state = match connection.state {
        State::Established => State::FinWait1,
        State::CloseWait => State::LastAck,
        // SYN-SENT and SYN-RECEIVED: queued until ESTABLISHED.
        state => state,
    };
}

/// Nobody reads any more either.
pub(super) fn close(tables: &mut Tables, close: Close, cx: &mut Context<'_>) -> Result<(), u16> {
    if listen::give_up(tables, close.connection, cx) {
        return Ok(());
    }
    with(tables, close.connection, cx, |connection, cx| {
        if connection.closed {
            return Err(reason::INVALID);
        }
        if connection.state == State::SynSent {
            connection.end(Ending::Gone(reason::ABORTED, 0));
            return Ok(());
        }
        let receive = &connection.receive;
        // RFC 2525 2.17, RFC 9293 3.6.1: data that nobody will read means that the peer must hear of the loss.
        let unread = receive.next > receive.consumed || !receive.reassembly.is_empty();
        if unread || close.linger == 0 {
            emit::reset(connection, cx);
            connection.end(Ending::Gone(reason::ABORTED, 0));
            return Ok(());
        }
        connection.closed = true;
        if close.linger != NEVER {
            connection.deadlines.linger = cx.now.saturating_add(close.linger);
        }
        end_stream(connection);
        if connection.state == State::FinWait2 {
            connection.end(Ending::FinWait2);
        }
        Ok(())
    })
}

/// RFC 9293 3.10.5: a reset where the peer knows of the connection.
pub(super) fn abort(tables: &mut Tables, handle: Handle, cx: &mut Context<'_>) -> Result<(), u16> {
    if listen::give_up(tables, handle, cx) {
        return Ok(());
    }
    with(tables, handle, cx, |connection, cx| {
        emit::reset(connection, cx);
        connection.end(Ending::Gone(reason::ABORTED, 0));
        Ok(())
    })
}
