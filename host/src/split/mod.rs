//! Frame in; header bytes and the length of the payload out.
//!
//! Split measures, alone: lengths, the transport header's place, the protocol, the number of real segments (D3 of the
//! contract). It verifies checksums that the device does not vouch for, and drops and counts whatever is not what it
//! claims to be. It knows no connections, and it is the only place where the host reads sequence numbers off the wire,
//! once a segment, for inspect's comparisons ([`TcpFacts`]).
//!
//! The order of the checks is that of the bytes: network header, its extensions, addresses, transport header, checksum.

use bulkhead_wit::{Address, Batch, Endpoint, Evidence, Segment, limits};

use crate::device::{ChecksumState, Gso};
use crate::frame::{Frame, FrameSlice};

#[cfg(test)]
pub(crate) mod build;
pub(crate) mod network;
mod reasons;
#[cfg(test)]
mod tests;
mod transport;

pub use reasons::{Dropped, SplitCounters};

use network::Network;
use transport::Measured;

/// Both ends of a segment as its header has them; ports are 0 where the protocol has none, and of fragments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Ends {
    /// Who sent it.
    pub source: Endpoint,
    /// To whom.
    pub destination: Endpoint,
}

impl Ends {
    /// The ends of an answer.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

/// What the host reads of a TCP header (RFC 9293 3.1), to compare it with what the module says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct TcpFacts {
    /// The sequence number field. The first payload byte has this number, plus one if `syn`.
    pub seq: u32,
    /// The acknowledgement number field; means something only with `ack_flag`.
    pub ack: u32,
    /// SYN is set.
    pub syn: bool,
    /// FIN is set.
    pub fin: bool,
    /// RST is set.
    pub rst: bool,
    /// ACK is set.
    pub ack_flag: bool,
}

impl TcpFacts {
    /// The sequence number of the first payload byte.
    #[must_use]
    pub const fn first_byte(self) -> u32 {
        self.seq.wrapping_add(self.syn as u32)
    }
}

/// Where a fragment belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct FragmentFacts {
    /// IPv4's protocol field; for IPv6 always 44, since there the identification stands alone (RFC 8200 4.5).
    pub key_protocol: u8,
    /// Identification: 16 bits for IPv4, 32 for IPv6.
    pub identification: u32,
    /// Where its bytes belong in the datagram's payload, in bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// What names the datagram that a fragment is a part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct FragmentKey {
    /// Who sent it.
    pub source: Address,
    /// To whom.
    pub destination: Address,
    /// See [`FragmentFacts::key_protocol`].
    pub protocol: u8,
    /// See [`FragmentFacts::identification`].
    pub identification: u32,
}

/// What the host has to know of a segment beyond its ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Facts {
    /// Nothing more: UDP, ICMP but for errors, other protocols.
    #[default]
    Other,
    /// A TCP segment.
    Tcp(TcpFacts),
    /// A fragment.
    Fragment(FragmentFacts),
    /// An ICMP error.
    IcmpError {
        /// The protocol of the datagram that it quotes.
        protocol: u8,
        /// The ends of the datagram that it quotes: `source` is the one whose datagram could not be delivered.
        quoted: Ends,
    },
}

impl Facts {
    /// The TCP header's facts, if it is a TCP segment.
    #[must_use]
    pub const fn tcp(&self) -> Option<TcpFacts> {
        if let Self::Tcp(facts) = self { Some(*facts) } else { None }
    }
}

/// What the host keeps of an arrived segment for the length of its step, beside what the module gets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Arrived {
    /// Both ends.
    pub ends: Ends,
    /// What the host has to know of it.
    pub facts: Facts,
    /// The payload, where it was received. Empty slices hold no memory.
    pub payload: FrameSlice,
}

impl Arrived {
    /// Which datagram it is a fragment of.
    #[must_use]
    pub fn fragment_key(&self) -> Option<FragmentKey> {
        let Facts::Fragment(facts) = self.facts else { return None };
        Some(FragmentKey {
            source: self.ends.source.address,
            destination: self.ends.destination.address,
            protocol: facts.key_protocol,
            identification: facts.identification,
        })
    }
}

/// Splits the frames of one device.
#[derive(Clone, Debug, Default)]
pub struct Split {
    device: u8,
    counters: SplitCounters,
}

impl Split {
    /// For the device with this number, which every segment from it carries.
    #[must_use]
    pub const fn new(device: u8) -> Self {
        Self { device, counters: SplitCounters::new() }
    }

    /// What was passed and dropped so far.
    #[must_use]
    pub const fn counters(&self) -> &SplitCounters {
        &self.counters
    }

    /// Whether one more segment surely fits into the batch. To be asked before a frame is received.
    #[must_use]
    pub fn has_room(batch: &Batch) -> bool {
        batch.segments.len() < limits::SEGMENTS
            && batch.headers.len() + limits::HEADER <= limits::HEADER_BYTES
    }

    /// Splits a frame: its header is appended to `batch.headers`, its description to `batch.segments`, and what the host
    /// keeps to `arrived`, so that the two lists run in parallel.
    ///
    /// # Errors
    /// Why the frame was dropped. It is counted already and nothing was appended; never a reason to stop.
    pub fn split(
        &mut self,
        frame: Frame,
        batch: &mut Batch,
        arrived: &mut Vec<Arrived>,
    ) -> Result<(), Dropped> {
        let result = self.try_split(frame, batch, arrived);
        match result {
            Ok(()) => self.counters.passed += 1,
            Err(reason) => self.counters.count(reason),
        }
        result
    }

    /// Both ends of a frame and what is known of it, before anything is verified: whose it would be.
    #[cfg(feature = "net")]
    pub(crate) fn ends(bytes: &[u8], is_super: bool) -> Option<(Ends, Facts)> {
        measure(bytes, is_super).ok().map(|(_, Measured { ends, facts, .. })| (ends, facts))
    }

    fn try_split(&self, frame: Frame, batch: &mut Batch, arrived: &mut Vec<Arrived>) -> Result<(), Dropped> {
        if !Self::has_room(batch) {
            return Err(Dropped::BatchFull);
        }
        let Frame { bytes, offload } = frame;
        let is_super = offload.gso != Gso::None;
        let (network, measured) = measure(&bytes, is_super)?;
        check_addresses(&network)?;
        if is_super {
            check_super(&network, offload.gso, offload.gso_size)?;
        }
        let Measured { kind, header_length, end, ends, facts, .. } = measured;
        let header = bytes.get(..header_length).ok_or(Dropped::Truncated)?;
        let payload = end.checked_sub(header_length).ok_or(Dropped::TransportLength)?;
        if header_length > limits::HEADER {
            return Err(Dropped::LongHeader);
        }
        if payload > limits::DATAGRAM {
            return Err(Dropped::LongPayload);
        }
        // A checksum to be completed covers our transport header only if it begins there.
        let is_vouched = match offload.checksum {
            ChecksumState::None => false,
            ChecksumState::Needs { start, .. } => usize::from(start) == network.transport,
            ChecksumState::Verified => true,
        };
        let evidence = if is_vouched && measured.evidence == Evidence::Verified {
            Evidence::Trusted
        } else {
            transport::verify(&bytes, &network, &measured)?
        };
        let (mss, count) = real_segments(payload, is_super.then_some(offload.gso_size));
        batch.segments.push(Segment {
            header: batch.headers.len() as u32,
            payload: payload as u32,
            header_length: header_length as u16,
            transport: network.transport as u16,
            mss,
            count,
            protocol: network.protocol,
            kind,
            evidence,
            device: self.device,
        });
        batch.headers.extend_from_slice(header);
        arrived.push(Arrived { ends, facts, payload: bytes.into_slice(header_length..end) });
        Ok(())
    }
}

fn measure(bytes: &[u8], is_super: bool) -> Result<(Network, Measured), Dropped> {
    let network = Network::parse(bytes, is_super)?;
    let measured = match network.fragment {
        Some(facts) => Measured::fragment(&network, facts),
        None => transport::measure(bytes, &network, is_super)?,
    };
    Ok((network, measured))
}

/// RFC 1122 3.2.1.3 and RFC 4291 2.5, 2.7: who can be a source, and whom TCP can be sent to.
fn check_addresses(network: &Network) -> Result<(), Dropped> {
    let Network { source, destination, protocol, .. } = *network;
    let is_tcp = protocol == network::TCP;
    if source.is_multicast() || source.is_broadcast() || source.is_loopback() {
        return Err(Dropped::Source);
    }
    // Unspecified is the source of hosts that have no address yet: DHCP, neighbour discovery.
    if source.is_unspecified() && is_tcp {
        return Err(Dropped::Source);
    }
    if destination.is_unspecified() || destination.is_loopback() || (is_tcp && !destination.is_unicast()) {
        return Err(Dropped::Destination);
    }
    Ok(())
}

/// A super-segment is whole, of the protocol that the device says, and was cut at some size.
fn check_super(network: &Network, gso: Gso, gso_size: u16) -> Result<(), Dropped> {
    let fits = match gso {
        Gso::None => true,
        Gso::Tcp4 => network.protocol == network::TCP && network.destination.is_v4(),
        Gso::Tcp6 => network.protocol == network::TCP && !network.destination.is_v4(),
        Gso::Udp => network.protocol == network::UDP,
    };
    if fits && gso_size > 0 && network.fragment.is_none() { Ok(()) } else { Err(Dropped::Gso) }
}

/// The largest payload and the number of the real segments; both at least 1 (D3).
fn real_segments(payload: usize, gso_size: Option<u16>) -> (u16, u16) {
    let whole = payload.clamp(1, limits::DATAGRAM) as u16;
    match gso_size {
        Some(size) if size > 0 && size < whole => (size, whole.div_ceil(size)),
        _ => (whole, 1),
    }
}
