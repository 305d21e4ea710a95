//! Frames: header bytes and a payload's length.

use bulkhead_wit::{Address, Endpoint, Kind};

/// What travels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub header: Vec<u8>,
    pub length: u32,
    /// Where it is to be cut (0: one frame), and on arrival the real segments' size.
    pub mss: u16,
    pub count: u16,
    pub kind: Kind,
    pub origin: Option<(u64, u64)>,
}

/// A parsed TCP header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    pub source: Endpoint,
    pub destination: Endpoint,
    pub transport: usize,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub has_ack: bool,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub traffic_class: u8,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn parse(header: &[u8]) -> Wire {
    let v4 = header[0] >> 4 == 4;
    let transport = if v4 { 20 } else { 40 };
    let (source, destination) = if v4 {
        let end = |at: usize| Address::from_v4(header[at..at + 4].try_into().expect("four"));
        (end(12), end(16))
    } else {
        let end = |at: usize| Address::from_v6(header[at..at + 16].try_into().expect("sixteen"));
        (end(8), end(24))
    };
    let tcp = &header[transport..];
    let flags = tcp[13];
    Wire {
        source: Endpoint::new(source, be16(tcp, 0)),
        destination: Endpoint::new(destination, be16(tcp, 2)),
        transport,
        seq: be32(tcp, 4),
        ack: be32(tcp, 8),
        flags,
        syn: flags & 2 != 0,
        fin: flags & 1 != 0,
        rst: flags & 4 != 0,
        has_ack: flags & 16 != 0,
        window: be16(tcp, 14),
        urgent: be16(tcp, 18),
        options: tcp[20..usize::from(tcp[12] >> 4) * 4].to_vec(),
        traffic_class: if v4 { header[1] } else { header[0] << 4 | header[1] >> 4 },
    }
}

impl Frame {
    pub fn wire(&self) -> Wire {
        parse(&self.header)
    }

    /// As join cuts it: frames of at most `mss`, PSH and FIN with the last only, CWR with the first only.
    pub fn cut(&self) -> Vec<Self> {
        if self.mss == 0 || self.length <= u32::from(self.mss) {
            return vec![Self { count: 1, mss: self.length.max(1) as u16, ..self.clone() }];
        }
        let transport = self.wire().transport;
        let (seq, flags) = (self.wire().seq, self.wire().flags);
        let mut frames = Vec::new();
        let mut at = 0;
        while at < self.length {
            let length = (self.length - at).min(u32::from(self.mss));
            let mut frame = Self { length, count: 1, mss: length as u16, ..self.clone() };
            frame.header[transport + 4..transport + 8].copy_from_slice(&seq.wrapping_add(at).to_be_bytes());
            let last = at + length == self.length;
            let mut now = if last { flags } else { flags & !(1 | 8) };
            if at > 0 {
                now &= !128;
            }
            frame.header[transport + 13] = now;
            frame.origin = self.origin.map(|(of, from)| (of, from + u64::from(at)));
            frames.push(frame);
            at += length;
        }
        frames
    }
}

/// A TCP segment written by hand.
#[derive(Clone, Debug, Default)]
pub struct Build {
    pub source: Endpoint,
    pub destination: Endpoint,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub length: u32,
    pub mss: u16,
    pub count: u16,
    pub traffic_class: u8,
}

impl Build {
    pub fn frame(&self) -> Frame {
        let mut header = Vec::new();
        if let (Some(source), Some(destination)) = (self.source.address.v4(), self.destination.address.v4()) {
            header.extend_from_slice(&[0x45, self.traffic_class, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            header.extend_from_slice(&source);
            header.extend_from_slice(&destination);
        } else {
            let class = self.traffic_class;
            header.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0, 0, 0, 6, 64]);
            header.extend_from_slice(&self.source.address.octets());
            header.extend_from_slice(&self.destination.address.octets());
        }
        header.extend_from_slice(&self.source.port.to_be_bytes());
        header.extend_from_slice(&self.destination.port.to_be_bytes());
        header.extend_from_slice(&self.seq.to_be_bytes());
        header.extend_from_slice(&self.ack.to_be_bytes());
        assert!(self.options.len().is_multiple_of(4));
        header.extend_from_slice(&[((20 + self.options.len()) / 4 * 16) as u8, self.flags]);
        header.extend_from_slice(&self.window.to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        header.extend_from_slice(&self.urgent.to_be_bytes());
        header.extend_from_slice(&self.options);
        Frame {
            header,
            length: self.length,
            mss: if self.mss > 0 { self.mss } else { self.length.clamp(1, 65_535) as u16 },
            count: self.count.max(1),
            kind: Kind::Whole,
            origin: None,
        }
    }
}
