//! Explicit congestion notification, the receiver's half (RFC 3168 6.1.3).

use super::Arrived;
use crate::connection::Connection;
use crate::header::tcp::Flags;

/// From a segment with CE on, every acknowledgement carries ECE, until the sender says CWR.
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived) {
    if !connection.negotiated.ecn {
        return;
    }
    if segment.has(Flags::CWR) {
        connection.receive.ecn_echo = false;
    }
    if segment.ce && segment.length > 0 {
        connection.receive.ecn_echo = true;
        // The sender should know soon (Linux: quick acknowledgements).
        connection.ack_now = true;
    }
}

/// RFC 3168 6.1.1: a SYN asks with ECE and CWR, its answer agrees with ECE alone.
pub(crate) fn agreed(asked: bool, segment: &Arrived) -> bool {
    asked && segment.has(Flags::ECE) && !segment.has(Flags::CWR)
}

/// Whether a SYN asks for ECN, and we answer such questions.
pub(crate) fn asked(setting: u8, segment: &Arrived) -> bool {
    setting > 0 && segment.has(Flags::ECE) && segment.has(Flags::CWR)
}
