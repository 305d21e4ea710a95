//! The files of tcpdump and Wireshark, in both of their formats.

use std::fmt;

use bulkhead_wit::limits as bounds;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::{From, Traffic};

/// Bytes that a block of a file may have: super-segments and what stands around them.
const BLOCK: usize = 1 << 20;
/// `LINKTYPE_LINUX_SLL2`: 20 bytes before the network header, the first two of which name the protocol.
const SLL2: i32 = 276;
/// EtherTypes of IPv4 and IPv6.
const TYPES: [[u8; 2]; 2] = [[0x08, 0x00], [0x86, 0xdd]];

/// Why a file is no capture that can be read.
#[derive(Debug)]
pub struct CaptureError(String);

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CaptureError {}

/// An interface of a capture: how its packets begin, and ticks of its clock in a second.
#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    ticks: u64,
}

/// Hands every packet of a file in pcap or pcapng to `traffic`. What a file lacks at its end, because it was cut off there, is
/// not missed.
///
/// # Errors
/// Where it is no such file, or damaged.
pub fn capture(bytes: &[u8], traffic: &mut Traffic) -> Result<(), CaptureError> {
    let mut reader = create_reader(BLOCK, bytes).map_err(|_| CaptureError("it is no capture".into()))?;
    let mut interfaces = Vec::new();
    let mut has_more = true;
    loop {
        let is_short = match reader.next() {
            Ok((length, block)) => {
                take(&block, &mut interfaces, traffic);
                reader.consume(length);
                has_more = true;
                false
            }
            Err(PcapError::Eof | PcapError::UnexpectedEof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => true,
            Err(error) => return Err(CaptureError(format!("it is damaged: {error:?}"))),
        };
        if is_short {
            if !has_more || reader.refill().is_err() {
                return Ok(());
            }
            has_more = false;
        }
    }
}

fn take(block: &PcapBlockOwned<'_>, interfaces: &mut Vec<Interface>, traffic: &mut Traffic) {
    let (interface, ticks, data) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let ticks = if header.is_nanosecond_precision() { bounds::SECOND } else { 1_000_000 };
            interfaces.push(Interface { link: header.network, ticks });
            return;
        }
        PcapBlockOwned::Legacy(packet) => {
            let Some(interface) = interfaces.last() else { return };
            let at = u64::from(packet.ts_sec) * interface.ticks + u64::from(packet.ts_usec);
            (*interface, at, packet.data)
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => return interfaces.clear(),
        PcapBlockOwned::NG(Block::InterfaceDescription(about)) => {
            interfaces
                .push(Interface { link: about.linktype, ticks: about.ts_resolution().unwrap_or(1_000_000) });
            return;
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let Some(interface) = interfaces.get(packet.if_id as usize) else { return };
            let at = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
            (*interface, at, data)
        }
        PcapBlockOwned::NG(_) => return,
    };
    let ns = u128::from(ticks) * u128::from(bounds::SECOND) / u128::from(interface.ticks.max(1));
    let Some(frame) = network(interface.link, data) else { return };
    let at = |at: usize| frame.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    let length = match frame.first().map(|first| first >> 4) {
        Some(4) => usize::from(at(2)),
        Some(6) => usize::from(at(4)) + 40,
        _ => return,
    };
    // A super-segment on its way through the kernel may say 0.
    let length = if length <= 40 && frame.len() > 60 { frame.len() } else { length };
    traffic.packet(u64::try_from(ns).unwrap_or(u64::MAX), From::Unknown, frame, length);
}

/// The packet from its network header on, where there is one.
fn network(link: Linktype, data: &[u8]) -> Option<&[u8]> {
    let behind = |kind: usize, header: usize| {
        let found = data.get(kind..kind + 2)?;
        TYPES.iter().any(|known| known == found).then(|| data.get(header..))?
    };
    match link {
        Linktype::ETHERNET => behind(12, 14),
        Linktype::LINUX_SLL => behind(14, 16),
        Linktype(SLL2) => behind(0, 20),
        Linktype::NULL => data.get(4..),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => Some(data),
        _ => None,
    }
}
