//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): echo, and the errors that concern a connection.

use super::{bytes, ip, tcp::Tcp, u16_at, u32_at};
use crate::seq::Seq;
use alloc::vec::Vec;
use bulkhead_wit::{Address, Endpoint};

/// Bytes of an ICMP header.
pub(crate) const HEADER: u16 = 8;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
const V6_UNREACHABLE: u8 = 1;
const V6_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;
const V6_PARAMETER_PROBLEM: u8 = 4;
const V6_ECHO: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// If `header` is an echo request: appends the header of its reply, identifier and sequence as they came, checksum zero.
pub(crate) fn echo_reply(header: &[u8], v4: bool, to: &mut Vec<u8>) -> bool {
    let Some([kind, code, _, _, i0, i1, s0, s1]) = bytes(header, 0) else { return false };
    let reply = match (v4, kind, code) {
        (true, ECHO, 0) => ECHO_REPLY,
        (false, V6_ECHO, 0) => V6_ECHO_REPLY,
        _ => return false,
    };
    to.extend_from_slice(&[reply, 0, 0, 0, i0, i1, s0, s1]);
    true
}

/// What an ICMP error says (RFC 5461, RFC 5927 name these classes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Complaint {
    /// The datagram was longer than the next link takes; its MTU in bytes, 0 if the router did not say (RFC 1191).
    TooBig(u32),
    NetworkUnreachable,
    HostUnreachable,
    PortUnreachable,
    Prohibited,
    /// Anything that is no reason to do something.
    Other,
}

/// An ICMP error about a TCP segment that we may have sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quoted {
    /// Our end, as quoted.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// The sequence number of the quoted segment.
    pub seq: Seq,
    pub complaint: Complaint,
    /// ICMP type and code.
    pub number: u16,
}

/// Reads an ICMP error about TCP, the ICMP header first.
pub(crate) fn parse_error(header: &[u8], v4: bool) -> Option<Quoted> {
    let kind = *header.first()?;
    let code = *header.get(1)?;
    let complaint = if v4 { complaint_v4(header, kind, code)? } else { complaint_v6(header, kind, code)? };
    let quoted = header.get(usize::from(HEADER)..)?;
    let ip = ip::Ip::parse(quoted)?;
    let (protocol, transport) = ip::transport_of(quoted)?;
    if protocol != bulkhead_wit::registry::protocol::TCP {
        return None;
    }
    let (source, destination, seq) = Tcp::parse_quoted(quoted.get(transport..)?)?;
    let end = |address: Address, port| Endpoint::new(address, port);
    Some(Quoted {
        local: end(ip.source, source),
        remote: end(ip.destination, destination),
        seq,
        complaint,
        number: u16::from(kind) << 8 | u16::from(code),
    })
}

fn complaint_v4(header: &[u8], kind: u8, code: u8) -> Option<Complaint> {
    Some(match (kind, code) {
        (UNREACHABLE, 4) => Complaint::TooBig(u32::from(u16_at(header, 6)?)),
        (UNREACHABLE, 0 | 5 | 6 | 11) => Complaint::NetworkUnreachable,
        (UNREACHABLE, 1 | 7 | 8 | 12) => Complaint::HostUnreachable,
        (UNREACHABLE, 2 | 3) => Complaint::PortUnreachable,
        (UNREACHABLE, 9 | 10 | 13..=15) => Complaint::Prohibited,
        (TIME_EXCEEDED | PARAMETER_PROBLEM, _) => Complaint::Other,
        _ => return None,
    })
}

fn complaint_v6(header: &[u8], kind: u8, code: u8) -> Option<Complaint> {
    Some(match (kind, code) {
        (V6_TOO_BIG, _) => Complaint::TooBig(u32_at(header, 4)?),
        (V6_UNREACHABLE, 0) => Complaint::NetworkUnreachable,
        (V6_UNREACHABLE, 1 | 5 | 6) => Complaint::Prohibited,
        (V6_UNREACHABLE, 2 | 3) => Complaint::HostUnreachable,
        (V6_UNREACHABLE, 4) => Complaint::PortUnreachable,
        (V6_TIME_EXCEEDED | V6_PARAMETER_PROBLEM, _) => Complaint::Other,
        _ => return None,
    })
}
