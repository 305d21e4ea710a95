//! CLOSED (RFC 9293 3.10.7.1): a segment that nobody takes is answered with a reset.

use super::Arrived;
use crate::emit;
use crate::header::tcp::Flags;
use crate::out::Context;

/// Answers it, unless it is a reset itself or was not sent to us.
pub(crate) fn arrive(segment: &Arrived, cx: &mut Context<'_>) {
    cx.instance.counters.dropped += 1;
    if !segment.has(Flags::RST) && cx.instance.is_ours(segment.local.address) {
        emit::reset_for(segment, cx);
    }
}
