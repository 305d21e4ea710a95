//! A peer written by hand: it says what the test tells it to say.

use super::wire::{Build, Frame, Wire};
use super::{Host, config, v4};
use bulkhead_wit::{Endpoint, Handle};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

/// A host that serves port 80, and a peer that is connected to it.
pub fn server() -> (Host, Peer, Handle) {
    let mut host = Host::new(config(v4(1), 5));
    host.listen(80);
    host.settle();
    let mut peer = Peer::new(80);
    let handle = peer.connect(&mut host);
    (host, peer, handle)
}

/// The peer's end of one connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub here: Endpoint,
    pub there: Endpoint,
    /// Its next sequence number.
    pub seq: u32,
    /// What it acknowledges.
    pub ack: u32,
    pub window: u16,
    pub options: Vec<u8>,
}

/// The options of an ordinary SYN: `mss 1460, sackOK, TS, nop, wscale 7`.
pub fn syn_options(value: u32) -> Vec<u8> {
    let mut options = vec![2, 4, 5, 180, 4, 2, 8, 10];
    options.extend_from_slice(&value.to_be_bytes());
    options.extend_from_slice(&[0, 0, 0, 0, 1, 3, 3, 7]);
    options
}

/// `nop,nop,TS`.
pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend_from_slice(&value.to_be_bytes());
    options.extend_from_slice(&echo.to_be_bytes());
    options
}

impl Peer {
    pub fn new(port: u16) -> Self {
        Self {
            here: Endpoint::new(v4(2), 40_000),
            there: Endpoint::new(v4(1), port),
            seq: 1000,
            ack: 0,
            window: 65_535,
            options: Vec::new(),
        }
    }

    /// A segment at its place, which moves on by what the segment takes.
    pub fn segment(&mut self, flags: u8, length: u32) -> Frame {
        let frame = self.at(self.seq, flags, length);
        let taken = length + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.seq = self.seq.wrapping_add(taken);
        frame
    }

    /// A segment at any place.
    pub fn at(&self, seq: u32, flags: u8, length: u32) -> Frame {
        self.build(seq, flags, length).frame()
    }

    pub fn build(&self, seq: u32, flags: u8, length: u32) -> Build {
        Build {
            source: self.here,
            destination: self.there,
            seq,
            ack: if flags & ACK != 0 { self.ack } else { 0 },
            flags,
            window: self.window,
            options: self.options.clone(),
            length,
            ..Build::default()
        }
    }

    /// The host's one answer to a segment.
    pub fn says(&mut self, host: &mut Host, flags: u8, length: u32) -> Vec<Wire> {
        let frame = self.segment(flags, length);
        host.inject(&frame);
        wires(host.settle())
    }

    /// Opens a connection to the host's listener, with plain options.
    pub fn connect(&mut self, host: &mut Host) -> Handle {
        self.connect_with(host, vec![2, 4, 5, 180])
    }

    pub fn connect_with(&mut self, host: &mut Host, options: Vec<u8>) -> Handle {
        let mut frame = self.build(self.seq, SYN, 0);
        frame.options = options;
        self.seq = self.seq.wrapping_add(1);
        host.inject(&frame.frame());
        let answer = wires(host.settle());
        assert_eq!(answer.len(), 1, "a SYN-ACK");
        assert_eq!(answer[0].flags, SYN | ACK);
        assert_eq!(answer[0].ack, self.seq);
        self.ack = answer[0].seq.wrapping_add(1);
        self.says(host, ACK, 0);
        host.accepted()
    }

    /// Takes what the host sent: acknowledges all of it.
    pub fn takes(&mut self, frames: &[Frame]) {
        for frame in frames {
            let wire = frame.wire();
            let length = frame.length + u32::from(wire.syn) + u32::from(wire.fin);
            let end = wire.seq.wrapping_add(length);
            if end.wrapping_sub(self.ack) < 1 << 31 {
                self.ack = end;
            }
        }
    }
}

pub fn wires(frames: Vec<Frame>) -> Vec<Wire> {
    frames.iter().map(Frame::wire).collect()
}
