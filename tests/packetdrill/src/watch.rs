//! How much of each connection's stream has left the stack: what is written beyond that is unsent.
//!
//! The contract does not say it, and a module may not either; the packets do.

use bulkhead_wit::{Address, Endpoint};
use std::collections::HashMap;

/// Connections that are watched, at most; a script has a handful.
const WATCHED: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Sequence number of the stream's first byte.
    base: u32,
    /// Bytes that were sent at least once, and the FIN.
    length: u32,
    /// The SYN went out with an ACK.
    is_answer: bool,
}

/// The farthest that each connection has sent.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    connections: HashMap<(Endpoint, Endpoint), Sent>,
}

/// The parts of a TCP segment that matter here.
struct Segment {
    ends: (Endpoint, Endpoint),
    sequence: u32,
    length: u32,
    is_syn: bool,
    is_ack: bool,
}

impl Watch {
    /// A packet left the stack.
    pub(crate) fn sent(&mut self, packet: &[u8]) {
        let Some(segment) = parse(packet) else { return };
        if segment.is_syn && self.connections.len() < WATCHED {
            let base = segment.sequence.wrapping_add(1);
            self.connections.insert(segment.ends, Sent { base, length: 0, is_answer: segment.is_ack });
        } else if let Some(sent) = self.connections.get_mut(&segment.ends) {
            let length = segment.sequence.wrapping_sub(sent.base).wrapping_add(segment.length);
            // A keepalive probe lies before the base.
            if length < 1 << 31 {
                sent.length = sent.length.max(length);
            }
        }
    }

    /// Whether we have answered the peer's SYN.
    pub(crate) fn has_answered(&self, ends: (Endpoint, Endpoint)) -> bool {
        self.connections.get(&ends).is_some_and(|sent| sent.is_answer)
    }

    /// Bytes of the connection's stream that were sent at least once.
    pub(crate) fn length(&self, ends: (Endpoint, Endpoint)) -> u64 {
        self.connections.get(&ends).map_or(0, |sent| u64::from(sent.length))
    }
}

fn parse(packet: &[u8]) -> Option<Segment> {
    let byte = |at: usize| packet.get(at).copied();
    let short = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
    let (source, target, at) = if byte(0)? >> 4 == 4 {
        if byte(9)? != 6 {
            return None;
        }
        let address = |at: usize| packet.get(at..at + 4)?.try_into().ok().map(Address::from_v4);
        (address(12)?, address(16)?, usize::from(byte(0)? & 15) * 4)
    } else {
        if byte(6)? != 6 {
            return None;
        }
        let address = |at: usize| packet.get(at..at + 16)?.try_into().ok().map(Address::from_v6);
        (address(8)?, address(24)?, 40)
    };
    let header = usize::from(byte(at + 12)? >> 4) * 4;
    let payload = packet.len().checked_sub(at + header)?;
    Some(Segment {
        ends: (
            Endpoint { address: source, port: short(at)? },
            Endpoint { address: target, port: short(at + 2)? },
        ),
        sequence: u32::from_be_bytes(packet.get(at + 4..at + 8)?.try_into().ok()?),
        length: u32::try_from(payload).ok()?,
        is_syn: byte(at + 13)? & 2 != 0,
        is_ack: byte(at + 13)? & 16 != 0,
    })
}
