//! Fourth: the SYN bit (RFC 9293 3.10.7.4 with RFC 5961 4.2). The third step, security, has nothing to do.

use super::Arrived;
use crate::connection::Connection;
use crate::emit;
use crate::header::tcp::Flags;
use crate::out::Context;
use crate::state::State;

/// In any synchronized state a SYN is answered with a challenge, wherever it lies.
pub(crate) fn arrive(connection: &mut Connection, cx: &mut Context<'_>) {
    emit::challenge(connection, cx);
}

/// In a simultaneous open the peer's SYN comes a second time with its ACK. That SYN is known: what counts is what
/// follows it (Linux does likewise; RFC 9293's test alone would refuse the segment and never finish).
pub(crate) fn strip_simultaneous(connection: &Connection, segment: &Arrived) -> Option<Arrived> {
    let known = segment.tcp.seq.plus(1) == connection.receive.base;
    let both = segment.has(Flags::SYN) && segment.has(Flags::ACK);
    (connection.state == State::SynReceived && both && known).then(|| {
        let mut stripped = *segment;
        // A FIN in the same segment comes again; nobody honest sends both.
        stripped.tcp.flags.0 &= !(Flags::SYN.0 | Flags::FIN.0);
        stripped.tcp.seq = segment.tcp.seq.plus(1);
        // A SYN's window is not scaled (RFC 7323 2.2); the steps that follow will scale it.
        stripped.tcp.window >>= connection.send.scale;
        stripped
    })
}
