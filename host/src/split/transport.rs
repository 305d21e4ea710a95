//! Transport headers: TCP, UDP, ICMP; how long they are, and whether their checksum is right.

use bulkhead_wit::{Endpoint, Evidence, Kind};

use crate::checksum::Sum;
use crate::split::network::{ICMP, ICMPV6, Network, TCP, UDP, walk_v6};
use crate::split::reasons::Dropped;
use crate::split::{Ends, Facts, FragmentFacts, TcpFacts};

/// Bytes of transport header that an ICMP error must quote (RFC 792).
const QUOTED: usize = 8;
/// Bytes of an ICMP header: type, code, checksum, and four more whose meaning depends on the type.
const ICMP_HEADER: usize = 8;

/// A segment, measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) kind: Kind,
    /// Bytes of all headers together.
    pub(super) header_length: usize,
    /// Where the payload ends.
    pub(super) end: usize,
    pub(super) ends: Ends,
    pub(super) facts: Facts,
    /// `Absent` if there is nothing to verify.
    pub(super) evidence: Evidence,
}

impl Measured {
    /// A fragment: network header, the rest is payload, and no checksum says anything of a part.
    pub(super) fn fragment(network: &Network, facts: FragmentFacts) -> Self {
        let header_length = network.transport;
        let (ends, end) = (ends(network, 0, 0), network.end);
        let facts = Facts::Fragment(facts);
        Self { kind: Kind::Fragment, header_length, end, ends, facts, evidence: Evidence::Absent }
    }

    fn whole(network: &Network, length: usize, ports: (u16, u16)) -> Self {
        Self {
            kind: Kind::Whole,
            header_length: network.transport + length,
            end: network.end,
            ends: ends(network, ports.0, ports.1),
            facts: Facts::Other,
            evidence: Evidence::Verified,
        }
    }
}

/// Measures the transport header that follows the network header.
pub(super) fn measure(bytes: &[u8], network: &Network, is_super: bool) -> Result<Measured, Dropped> {
    let rest = bytes.get(network.transport..network.end).ok_or(Dropped::Truncated)?;
    let is_v4 = network.destination.is_v4();
    match network.protocol {
        TCP => tcp(rest, network),
        UDP => udp(rest, network, is_super),
        ICMP if is_v4 => icmp(rest, network),
        ICMPV6 if !is_v4 => icmp(rest, network),
        // Of what nobody here can measure, only the network header crosses.
        _ => Ok(Measured { evidence: Evidence::Absent, ..Measured::whole(network, 0, (0, 0)) }),
    }
}

/// Verifies the checksum that `measure` found there to be.
pub(super) fn verify(bytes: &[u8], network: &Network, measured: &Measured) -> Result<Evidence, Dropped> {
    if measured.evidence == Evidence::Absent {
        return Ok(Evidence::Absent);
    }
    let covered = bytes.get(network.transport..measured.end).ok_or(Dropped::Truncated)?;
    // ICMP over IPv4 is the one without a pseudo header (RFC 792).
    let mut sum = if network.protocol == ICMP { Sum::new() } else { network.pseudo(bytes, covered.len()) };
    sum.add(covered);
    if sum.is_right() { Ok(Evidence::Verified) } else { Err(Dropped::TransportChecksum) }
}

/// RFC 9293 3.1.
fn tcp(rest: &[u8], network: &Network) -> Result<Measured, Dropped> {
    let fixed: &[u8; 20] = rest.first_chunk().ok_or(Dropped::Truncated)?;
    let length = usize::from(fixed[12] >> 4) * 4;
    if length < 20 || length > rest.len() {
        return Err(Dropped::TransportLength);
    }
    let ports = (u16::from_be_bytes([fixed[0], fixed[1]]), u16::from_be_bytes([fixed[2], fixed[3]]));
    if ports.0 == ports.1 && network.source == network.destination {
        return Err(Dropped::Land);
    }
    let flags = fixed[13];
    let facts = TcpFacts {
        seq: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        ack: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        fin: flags & 1 != 0,
        syn: flags & 2 != 0,
        rst: flags & 4 != 0,
        ack_flag: flags & 16 != 0,
    };
    Ok(Measured { facts: Facts::Tcp(facts), ..Measured::whole(network, length, ports) })
}

/// RFC 768. What stands beyond the UDP length is not part of the datagram.
fn udp(rest: &[u8], network: &Network, is_super: bool) -> Result<Measured, Dropped> {
    let fixed: &[u8; 8] = rest.first_chunk().ok_or(Dropped::Truncated)?;
    let ports = (u16::from_be_bytes([fixed[0], fixed[1]]), u16::from_be_bytes([fixed[2], fixed[3]]));
    if ports.0 == ports.1 && network.source == network.destination {
        return Err(Dropped::Land);
    }
    let claimed = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let length = if is_super { rest.len() } else { claimed };
    if length < 8 || length > rest.len() {
        return Err(Dropped::TransportLength);
    }
    let mut measured = Measured::whole(network, 8, ports);
    measured.end = network.transport + length;
    if fixed[6] == 0 && fixed[7] == 0 {
        if !network.destination.is_v4() {
            return Err(Dropped::NoChecksum);
        }
        measured.evidence = Evidence::Absent;
    }
    Ok(measured)
}

/// RFC 792, RFC 4443. Eight bytes are header, and what an error quotes; the rest is payload, of echoes and all others.
fn icmp(rest: &[u8], network: &Network) -> Result<Measured, Dropped> {
    let fixed: &[u8; ICMP_HEADER] = rest.first_chunk().ok_or(Dropped::Truncated)?;
    let mut measured = Measured::whole(network, ICMP_HEADER, (0, 0));
    let is_error = if network.destination.is_v4() {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        matches!(fixed[0], 3 | 4 | 5 | 11 | 12)
    } else {
        // RFC 4443 2.1: errors have the high bit clear.
        fixed[0] < 128
    };
    if is_error {
        let quote = Quote::parse(rest.get(ICMP_HEADER..).unwrap_or_default(), network.destination.is_v4())?;
        measured.kind = Kind::IcmpError;
        measured.header_length += quote.header_length;
        measured.facts = Facts::IcmpError { protocol: quote.protocol, quoted: quote.ends };
    }
    Ok(measured)
}

/// The datagram that an ICMP error is about, as far as it was quoted.
struct Quote {
    /// Bytes of its network header and, as far as quoted, of its transport header.
    header_length: usize,
    protocol: u8,
    ends: Ends,
}

impl Quote {
    /// Its lengths and checksums are not verified: routers change a datagram on its way, and cut it.
    fn parse(quote: &[u8], is_v4: bool) -> Result<Self, Dropped> {
        let (network, is_later_fragment) = if is_v4 { quoted_v4(quote)? } else { quoted_v6(quote)? };
        if is_later_fragment {
            return Err(Dropped::QuotedFragment);
        }
        let transport = quote.get(network.transport..).ok_or(Dropped::Quote)?;
        let eight: &[u8; QUOTED] = transport.first_chunk().ok_or(Dropped::Quote)?;
        let mut ports = (0, 0);
        if matches!(network.protocol, TCP | UDP) {
            ports = (u16::from_be_bytes([eight[0], eight[1]]), u16::from_be_bytes([eight[2], eight[3]]));
        }
        let length = match (network.protocol, transport.get(12)) {
            (TCP, Some(offset)) => (usize::from(offset >> 4) * 4).clamp(20, 60),
            (TCP, None) => 20,
            _ => QUOTED,
        };
        Ok(Self {
            header_length: network.transport + length.min(transport.len()),
            protocol: network.protocol,
            ends: ends(&network, ports.0, ports.1),
        })
    }
}

fn quoted_v4(quote: &[u8]) -> Result<(Network, bool), Dropped> {
    let fixed: &[u8; 20] = quote.first_chunk().ok_or(Dropped::Quote)?;
    let transport = usize::from(fixed[0] & 15) * 4;
    if fixed[0] >> 4 != 4 || transport < 20 {
        return Err(Dropped::Quote);
    }
    let is_later_fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff != 0;
    let address = |at: usize| {
        let octets = fixed.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 4]);
        bulkhead_wit::Address::from_v4(*octets)
    };
    let (source, destination) = (address(12), address(16));
    let (protocol, end) = (fixed[9], quote.len());
    Ok((Network { source, destination, protocol, transport, end, fragment: None }, is_later_fragment))
}

fn quoted_v6(quote: &[u8]) -> Result<(Network, bool), Dropped> {
    let fixed: &[u8; 40] = quote.first_chunk().ok_or(Dropped::Quote)?;
    if fixed[0] >> 4 != 6 {
        return Err(Dropped::Quote);
    }
    // A quote with a routing header under way tells nothing of a connection of ours.
    let walked = walk_v6(quote).map_err(|_| Dropped::Quote)?;
    let is_later_fragment = walked.fragment.is_some_and(|fragment| fragment.offset != 0);
    let address = |at: usize| {
        let octets = fixed.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 16]);
        bulkhead_wit::Address::from_v6(*octets)
    };
    let (source, destination) = (address(8), address(24));
    let (protocol, transport, end) = (walked.protocol, walked.transport, quote.len());
    Ok((Network { source, destination, protocol, transport, end, fragment: None }, is_later_fragment))
}

fn ends(network: &Network, source: u16, destination: u16) -> Ends {
    Ends {
        source: Endpoint::new(network.source, source),
        destination: Endpoint::new(network.destination, destination),
    }
}
