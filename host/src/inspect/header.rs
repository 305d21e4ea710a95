//! Reads the header of a send, as far as inspect must know it: rule 2.

use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Endpoint, limits};

/// What a send's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub(super) protocol: u8,
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    /// The sequence number of the first payload byte; 0 where the protocol has none.
    pub(super) first_byte: u32,
    pub(super) is_v4: bool,
    /// FIN or URG is set, which say something of the application's stream.
    pub(super) fin: bool,
    pub(super) urg: bool,
}

type Parsed<T> = Result<T, &'static str>;

fn bytes<const N: usize>(header: &[u8], at: usize) -> Parsed<[u8; N]> {
    header.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or("the header is cut short")
}

fn word(header: &[u8], at: usize) -> Parsed<u16> {
    bytes(header, at).map(u16::from_be_bytes)
}

fn is(holds: bool, fault: &'static str) -> Parsed<()> {
    if holds { Ok(()) } else { Err(fault) }
}

/// Parses and checks: version, header lengths, the transport's offset, and that the fields which join fills are zero.
pub(super) fn parse(header: &[u8], transport: u16) -> Parsed<Outgoing> {
    is(
        (limits::HEADER_MIN..=limits::HEADER).contains(&header.len()),
        "the header is not 20 to 512 bytes long",
    )?;
    let transport = usize::from(transport);
    let (protocol, source, destination, is_v4) = match header.first().map_or(0, |first| first >> 4) {
        4 => {
            let (protocol, source, destination) = ipv4(header, transport)?;
            (protocol, source, destination, true)
        }
        6 => {
            let (protocol, source, destination) = ipv6(header, transport)?;
            (protocol, source, destination, false)
        }
        _ => return Err("the IP version is neither 4 nor 6"),
    };
    let mut outgoing = Outgoing {
        protocol,
        source: Endpoint::new(source, 0),
        destination: Endpoint::new(destination, 0),
        first_byte: 0,
        is_v4,
        fin: false,
        urg: false,
    };
    transport_header(header, transport, &mut outgoing)?;
    Ok(outgoing)
}

fn ipv4(header: &[u8], transport: usize) -> Parsed<(u8, Address, Address)> {
    let ihl = usize::from(header.first().map_or(0, |first| first & 0xf)) * 4;
    is(ihl >= 20 && ihl == transport, "the IPv4 header does not end where the transport header begins")?;
    is(word(header, 2)? == 0 && word(header, 4)? == 0, "total length or identification is not zero")?;
    is(word(header, 6)? & !0x4000 == 0, "a fragment, or the reserved flag")?;
    is(word(header, 10)? == 0, "the IPv4 checksum is not zero")?;
    let [protocol] = bytes(header, 9)?;
    Ok((protocol, Address::from_v4(bytes(header, 12)?), Address::from_v4(bytes(header, 16)?)))
}

fn ipv6(header: &[u8], transport: usize) -> Parsed<(u8, Address, Address)> {
    is(word(header, 4)? == 0, "the payload length is not zero")?;
    let (source, destination) = (Address::from_v6(bytes(header, 8)?), Address::from_v6(bytes(header, 24)?));
    is(!source.is_v4() && !destination.is_v4(), "an IPv4-mapped address in an IPv6 header")?;
    let [mut next] = bytes(header, 6)?;
    let mut at = 40;
    let mut walked = 0;
    // Hop-by-hop, routing and destination options; join makes fragments itself.
    while matches!(next, 0 | 43 | 60) {
        let [following, length] = bytes(header, at)?;
        next = following;
        at += 8 + usize::from(length) * 8;
        walked += 1;
        let short = walked <= limits::EXTENSION_HEADERS && at <= 40 + limits::EXTENSION_BYTES;
        is(short, "too many extension headers")?;
    }
    is(at == transport, "the IPv6 headers do not end where the transport header begins")?;
    Ok((next, source, destination))
}

fn transport_header(header: &[u8], transport: usize, outgoing: &mut Outgoing) -> Parsed<()> {
    let length =
        header.len().checked_sub(transport).ok_or("the transport header begins beyond the header")?;
    match outgoing.protocol {
        protocol::TCP => {
            let [offset, flags] = bytes(header, transport + 12)?;
            is(length >= 20 && usize::from(offset >> 4) * 4 == length, "the TCP data offset is wrong")?;
            is(word(header, transport + 16)? == 0, "the TCP checksum is not zero")?;
            let syn = u32::from(flags >> 1 & 1);
            (outgoing.fin, outgoing.urg) = (flags & 1 != 0, flags & 0x20 != 0);
            outgoing.first_byte = u32::from_be_bytes(bytes(header, transport + 4)?).wrapping_add(syn);
            ports(header, transport, outgoing)
        }
        protocol::UDP => {
            is(length == 8, "the UDP header is not 8 bytes long")?;
            is(word(header, transport + 4)? == 0, "the UDP length is not zero")?;
            is(word(header, transport + 6)? == 0, "the UDP checksum is not zero")?;
            ports(header, transport, outgoing)
        }
        protocol::ICMP | protocol::ICMPV6 => {
            is((outgoing.protocol == protocol::ICMP) == outgoing.is_v4, "ICMP of the other IP version")?;
            is(length >= 8, "the ICMP header is cut short")?;
            is(word(header, transport + 2)? == 0, "the ICMP checksum is not zero")
        }
        _ => Ok(()),
    }
}

fn ports(header: &[u8], transport: usize, outgoing: &mut Outgoing) -> Parsed<()> {
    outgoing.source.port = word(header, transport)?;
    outgoing.destination.port = word(header, transport + 2)?;
    Ok(())
}
