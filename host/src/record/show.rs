//! Segments as lines, in the manner of tcpdump and of the conformance scripts.

use crate::conformance::segment_text;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Kind, Time, limits};
use std::fmt::Write as _;

/// Which way a segment goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// It has arrived.
    In,
    /// The module sends it.
    Out,
}

/// A line about a segment: its time in seconds, its direction, its header, and how much payload goes with it.
#[must_use]
pub fn segment(now: Time, direction: Direction, header: &[u8], payload: u32, kind: Kind) -> String {
    let mut line = format!("{:4}.{:06} ", now / limits::SECOND, now % limits::SECOND / 1000);
    line.push(if direction == Direction::In { '<' } else { '>' });
    line.push(' ');
    match network(header) {
        Some((source, destination, protocol, at)) if kind == Kind::Whole => {
            let transport = header.get(at..).unwrap_or_default();
            line.push_str(&transport_text(source, destination, protocol, transport, payload));
        }
        Some((source, destination, protocol, at)) => {
            let what = match kind {
                Kind::Fragment => "a fragment".to_owned(),
                Kind::IcmpError => {
                    let [kind, code] =
                        header.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
                    format!("ICMP error type {kind} code {code}")
                }
                _ => format!("protocol {protocol}"),
            };
            let _ = write!(line, "{source} > {destination}: {what}, length {payload}");
        }
        None => {
            let _ = write!(line, "a frame, header {} bytes, length {payload}", header.len());
        }
    }
    line
}

fn transport_text(source: Address, destination: Address, number: u8, bytes: &[u8], payload: u32) -> String {
    let port = |at: usize| {
        bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_be_bytes(*bytes))
    };
    let ends = format!("{source}.{} > {destination}.{}", port(0), port(2));
    match number {
        protocol::TCP => {
            let text = segment_text(bytes, payload).unwrap_or_else(|| "TCP, cut off".to_owned());
            format!("{ends}: {text}")
        }
        protocol::UDP => format!("{ends}: UDP, length {payload}"),
        protocol::ICMP | protocol::ICMPV6 => {
            let [kind, code] = bytes.first_chunk().copied().unwrap_or_default();
            format!("{source} > {destination}: ICMP type {kind} code {code}, length {payload}")
        }
        other => format!("{source} > {destination}: protocol {other}, length {payload}"),
    }
}

/// Source, destination, protocol and where the transport header is, of a header without extensions.
fn network(header: &[u8]) -> Option<(Address, Address, u8, usize)> {
    match header.first()? >> 4 {
        4 => {
            let address = |at: usize| header.get(at..)?.first_chunk().map(|octets| Address::from_v4(*octets));
            Some((address(12)?, address(16)?, *header.get(9)?, usize::from(header.first()? & 15) * 4))
        }
        6 => {
            let address = |at: usize| header.get(at..)?.first_chunk().map(|octets| Address::from_v6(*octets));
            Some((address(8)?, address(24)?, *header.get(6)?, 40))
        }
        _ => None,
    }
}
