//! From the script's numbers to the wire's and back.

use super::script::{Number, Tcp, TcpOption, flag};

/// One pair of ports. The script counts sequence numbers from 0 at each end, and our timestamps from wherever its
/// first expected segment says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// Our port; not known before an active open's SYN is seen.
    pub local_port: Option<u16>,
    /// What the remote end's 0 is on the wire.
    pub remote_base: u32,
    /// What our 0 is, once a SYN of ours was seen.
    pub local_base: Option<u32>,
    /// What our timestamp 0 is, once the script has named one.
    pub clock_base: Option<u32>,
}

/// Who sends a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Local,
    Remote,
}

impl Flow {
    pub(super) fn new(remote_base: u32) -> Self {
        Self { local_port: None, remote_base, local_base: None, clock_base: None }
    }

    fn bases(&self, from: End) -> (u32, u32) {
        let local = self.local_base.unwrap_or(0);
        if from == End::Local { (local, self.remote_base) } else { (self.remote_base, local) }
    }

    /// The script's numbers become the wire's.
    pub(super) fn to_wire(self, tcp: &Tcp, from: End) -> Tcp {
        let (own, other) = self.bases(from);
        self.shifted(tcp, own, other, from, u32::wrapping_add)
    }

    /// The wire's numbers become the script's.
    pub(super) fn to_script(self, tcp: &Tcp, from: End) -> Tcp {
        let (own, other) = self.bases(from);
        // Without ACK the field means nothing, and an RST for a segment without ACK counts from zero.
        self.shifted(tcp, own, other, from, u32::wrapping_sub)
    }

    fn shifted(&self, tcp: &Tcp, own: u32, other: u32, from: End, shift: fn(u32, u32) -> u32) -> Tcp {
        let clock = self.clock_base.unwrap_or(0);
        let ours = |number: Number| match number {
            Number::Is(number) => Number::Is(shift(number, clock)),
            Number::Any => Number::Any,
        };
        let options = tcp.options.as_ref().map(|options| {
            let shifted = options.iter().map(|option| match option {
                TcpOption::Sack(blocks) => TcpOption::Sack(
                    blocks.iter().map(|(left, right)| (shift(*left, other), shift(*right, other))).collect(),
                ),
                TcpOption::Timestamps(value, echo) if from == End::Local => {
                    TcpOption::Timestamps(ours(*value), *echo)
                }
                TcpOption::Timestamps(value, echo) => TcpOption::Timestamps(*value, ours(*echo)),
                other => other.clone(),
            });
            shifted.collect()
        });
        let ack = tcp.ack.map(|ack| match ack {
            Number::Is(ack) => Number::Is(shift(ack, other)),
            Number::Any => Number::Any,
        });
        Tcp { seq: shift(tcp.seq, own), ack, options, ..tcp.clone() }
    }

    /// Learns our bases from a segment that we sent, with the numbers that the script expects in its place.
    pub(super) fn learn(&mut self, seen: &Tcp, expected: Option<&Tcp>) {
        if seen.flags & flag::SYN != 0 && self.local_base.is_none() {
            self.local_base = Some(seen.seq.wrapping_sub(expected.map_or(0, |expected| expected.seq)));
        }
        let value = |tcp: &Tcp| {
            tcp.options.iter().flatten().find_map(|option| match option {
                TcpOption::Timestamps(Number::Is(value), _) => Some(*value),
                _ => None,
            })
        };
        if self.clock_base.is_none()
            && let (Some(seen), Some(expected)) = (value(seen), expected.and_then(value))
        {
            self.clock_base = Some(seen.wrapping_sub(expected));
        }
    }
}

/// A byte of the stream that an end sends, by its offset: what is lost, doubled or misplaced shows.
pub(super) fn pattern(from: End, offset: u32) -> u8 {
    let salt = if from == End::Local { 0x5a } else { 0 };
    (offset.wrapping_mul(31) ^ offset >> 8 ^ offset >> 16) as u8 ^ salt
}

/// The offset in its stream of a segment's first byte, by the script's sequence numbers.
pub(super) fn offset(tcp: &Tcp) -> u32 {
    tcp.seq.wrapping_add(u32::from(tcp.flags & flag::SYN != 0)).wrapping_sub(1)
}
