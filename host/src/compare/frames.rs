//! Headers of a peer's segments, as a module sees them, and a listener for them.

use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Batch, Config, Endpoint, Prefix, Segment};

/// The module's end.
pub(super) const OURS: [u8; 4] = [10, 0, 0, 1];
pub(super) const PORT: u16 = 80;
pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;
/// MSS 1460, window scale 7.
pub(super) const OPTIONS: [u8; 8] = [2, 4, 5, 0xb4, 1, 3, 3, 7];

/// What a peer's segments say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remote {
    pub(super) address: [u8; 4],
    pub(super) port: u16,
    /// Its next sequence number.
    pub(super) seq: u32,
    /// What it acknowledges.
    pub(super) ack: u32,
}

impl Remote {
    /// Adds its next segment to a batch.
    pub(super) fn say(&mut self, batch: &mut Batch, flags: u8, payload: u32) {
        let options: &[u8] = if flags & SYN != 0 { &OPTIONS } else { &[] };
        let begin = batch.headers.len();
        let header = &mut batch.headers;
        header.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
        header.extend(self.address.iter().chain(&OURS));
        header.extend(self.port.to_be_bytes().into_iter().chain(PORT.to_be_bytes()));
        header.extend(self.seq.to_be_bytes().into_iter().chain(self.ack.to_be_bytes()));
        header.extend([0x50 + ((options.len() as u8 / 4) << 4), flags, 0xff, 0xff, 0, 0, 0, 0]);
        header.extend(options);
        batch.segments.push(Segment {
            header: begin as u32,
            payload,
            header_length: (batch.headers.len() - begin) as u16,
            transport: 20,
            mss: payload.max(1) as u16,
            count: 1,
            protocol: protocol::TCP,
            ..Segment::default()
        });
        self.seq = self.seq.wrapping_add(payload + u32::from(flags & SYN != 0));
    }
}

/// Where the module listens.
pub(super) fn local() -> Endpoint {
    Endpoint::new(Address::from_v4(OURS), PORT)
}

/// What the module is started with.
pub(super) fn config() -> Config {
    Config {
        addresses: vec![Prefix { address: Address::from_v4(OURS), length: 120 }],
        mtu: 1500,
        seed: (1, 2, 3, 4),
        shards: 1,
        ports_first: 32_768,
        ports_last: 60_999,
        connections: 1 << 20,
        embryos: 1024,
        offers: 256,
        islands: 64,
        holds: 64,
        ..Config::default()
    }
}

/// The sequence and acknowledgement numbers of a header that the module has written.
pub(super) fn numbers(headers: &[u8], begin: u32) -> Option<(u32, u32)> {
    let at = begin as usize + 24;
    let number = |at: usize| Some(u32::from_be_bytes(headers.get(at..at + 4)?.try_into().ok()?));
    number(at).zip(number(at + 4))
}
