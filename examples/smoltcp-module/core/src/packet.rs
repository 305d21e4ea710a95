//! Packets as smoltcp has them, and headers with payload apart from them, as the contract has them.

use bulkhead_wit::{Address, Endpoint};
use smoltcp::wire::{
    IpAddress, IpEndpoint, IpProtocol, Ipv4Address, Ipv4Packet, Ipv6Address, Ipv6Packet, TcpOption, TcpPacket,
};

/// What is read of a TCP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) syn: bool,
    pub(crate) has_ack: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// The MSS option of a SYN.
    pub(crate) mss: Option<u16>,
}

/// Where a packet's parts begin, and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) protocol: IpProtocol,
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) transport: usize,
}

pub(crate) fn ip(address: Address) -> IpAddress {
    match address.v4() {
        Some(octets) => IpAddress::Ipv4(Ipv4Address::from(octets)),
        None => IpAddress::Ipv6(Ipv6Address::from(address.octets())),
    }
}

pub(crate) fn ip_end(end: Endpoint) -> IpEndpoint {
    IpEndpoint::new(ip(end.address), end.port)
}

/// Network headers of a packet. Extension headers of IPv6 are not walked: what has some is not TCP to smoltcp either.
pub(crate) fn layout(packet: &[u8]) -> Option<Layout> {
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_unchecked(packet.get(..20).map(|_| packet)?);
            let (source, destination) = (ip.src_addr().octets(), ip.dst_addr().octets());
            Some(Layout {
                protocol: ip.next_header(),
                source: Address::from_v4(source),
                destination: Address::from_v4(destination),
                transport: usize::from(ip.header_len()),
            })
        }
        6 => {
            let ip = Ipv6Packet::new_unchecked(packet.get(..40).map(|_| packet)?);
            let (source, destination) = (ip.src_addr().octets(), ip.dst_addr().octets());
            Some(Layout {
                protocol: ip.next_header(),
                source: Address::from_v6(source),
                destination: Address::from_v6(destination),
                transport: 40,
            })
        }
        _ => None,
    }
}

/// The TCP header of a packet, and its length.
pub(crate) fn tcp(packet: &[u8], layout: Layout) -> Option<(Tcp, usize)> {
    let bytes = packet.get(layout.transport..)?;
    let tcp = TcpPacket::new_checked(bytes).ok()?;
    let mut mss = None;
    let mut options = tcp.options();
    while tcp.syn() && !options.is_empty() {
        let Ok((rest, option)) = TcpOption::parse(options) else { break };
        match option {
            TcpOption::MaxSegmentSize(size) => mss = Some(size),
            TcpOption::EndOfList => break,
            _ => {}
        }
        options = rest;
    }
    let header = Tcp {
        source: Endpoint::new(layout.source, tcp.src_port()),
        destination: Endpoint::new(layout.destination, tcp.dst_port()),
        seq: tcp.seq_number().0.cast_unsigned(),
        ack: tcp.ack_number().0.cast_unsigned(),
        syn: tcp.syn(),
        has_ack: tcp.ack(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        mss,
    };
    Some((header, usize::from(tcp.header_len())))
}

/// A whole packet's length where its header tells it: what the device has merged says something else.
pub(crate) fn set_length(packet: &mut [u8]) {
    let length = packet.len();
    match packet.first().map(|first| first >> 4) {
        Some(4) => put(packet, 2, length),
        Some(6) => put(packet, 4, length.saturating_sub(40)),
        _ => {}
    }
}

fn put(packet: &mut [u8], at: usize, length: usize) {
    if let Some(place) = packet.get_mut(at..at + 2) {
        place.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
}

/// Lengths, identification and checksums are for the host to fill.
pub(crate) fn clear(header: &mut [u8], layout: Layout) {
    let is_v4 = layout.source.is_v4();
    let checksum = layout.transport + if layout.protocol == IpProtocol::Tcp { 16 } else { 2 };
    for at in if is_v4 { [2, 4, 10, checksum] } else { [4, 4, 4, checksum] } {
        if let Some(place) = header.get_mut(at..at + 2) {
            place.fill(0);
        }
    }
}
