//! An instance by itself, with one connection that receives bulk data: full segments in order, and an application that
//! reads everything at once. What one crossing costs, and what a segment.

use std::time::Instant;

use bulkhead_wit::registry::protocol;
use bulkhead_wit::{
    Address, Batch, Call, Config, Endpoint, Event, Handle, Listen, Outputs, Position, Prefix, Room, Segment,
};

use crate::fault::{Fault, Rule};
use crate::placement::Instance;

/// Payload bytes of a segment.
const MSS: u32 = 1448;
/// Bytes that the application's window is open for.
const WINDOW: u64 = 4 << 20;
const OURS: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];
const SYN: u8 = 2;
const ACK: u8 = 16;

fn header(seq: u32, ack: u32, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0];
    header.extend(PEER);
    header.extend(OURS);
    header.extend(1000u16.to_be_bytes());
    header.extend(80u16.to_be_bytes());
    header.extend(seq.to_be_bytes());
    header.extend(ack.to_be_bytes());
    header.extend([0x50 + ((options.len() as u8 / 4) << 4), flags, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend(options);
    header
}

fn push(batch: &mut Batch, bytes: &[u8], payload: u32) {
    batch.segments.push(Segment {
        header: batch.headers.len() as u32,
        payload,
        header_length: bytes.len() as u16,
        transport: 20,
        mss: payload.max(1) as u16,
        count: 1,
        protocol: protocol::TCP,
        ..Segment::default()
    });
    batch.headers.extend_from_slice(bytes);
}

/// An instance with one open connection, and the peer's side of it.
pub struct Bulk {
    instance: Box<dyn Instance>,
    outputs: Outputs,
    now: u64,
    connection: Handle,
    received: u64,
    peer_seq: u32,
    our_seq: u32,
}

impl Bulk {
    /// Starts the instance and opens a connection of it.
    ///
    /// # Errors
    /// Its fault; a broken rule where it does not answer as TCP does.
    pub fn new(mut instance: Box<dyn Instance>) -> Result<Self, Fault> {
        let address = Address::from_v4(OURS);
        let config = Config {
            addresses: vec![Prefix { address, length: 120 }],
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
        };
        instance.start(&config)?;
        let mut bulk = Self {
            instance,
            outputs: Outputs::default(),
            now: 1_000_000,
            connection: Handle::INSTANCE,
            received: 0,
            peer_seq: 1000,
            our_seq: 0,
        };
        bulk.open(Endpoint::new(address, 80))?;
        Ok(bulk)
    }

    /// The handshake.
    fn open(&mut self, local: Endpoint) -> Result<(), Fault> {
        let no_tcp = || Fault::broken(Rule::Opening, "a SYN is not answered");
        let mut batch = self.batch();
        batch.calls.push(Call::Listen(Listen {
            listener: 1,
            local,
            allow: 16,
            receive_first: WINDOW as u32,
            receive_max: WINDOW as u32,
            ..Listen::default()
        }));
        // MSS 1460, window scale 7.
        push(&mut batch, &header(1000, 0, SYN, &[2, 4, 5, 0xb4, 1, 3, 3, 7]), 0);
        self.step(&batch)?;
        let answer = self.outputs.headers.get(24..28).and_then(|bytes| bytes.try_into().ok());
        self.our_seq = u32::from_be_bytes(answer.ok_or_else(no_tcp)?).wrapping_add(1);
        self.peer_seq = 1001;
        let mut batch = self.batch();
        push(&mut batch, &header(self.peer_seq, self.our_seq, ACK, &[]), 0);
        self.step(&batch)?;
        let opened = self.outputs.events.iter().find_map(|event| match event {
            Event::Accepted(opening) => Some(opening.connection),
            _ => None,
        });
        self.connection = opened.ok_or_else(no_tcp)?;
        Ok(())
    }

    fn batch(&mut self) -> Batch {
        self.now += 100_000;
        Batch { now: self.now, room: Room { sends: 256, bytes: 2 << 20 }, ..Batch::default() }
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Fault> {
        self.instance.step(&batch.inputs(), &mut self.outputs)
    }

    /// A step's inputs: so many full segments, and the news that the application has read what came before.
    fn data(&mut self, segments: u32) -> Batch {
        let mut batch = self.batch();
        batch.positions.push(Position {
            connection: self.connection,
            consumed: self.received,
            limit: self.received + WINDOW,
            ..Position::default()
        });
        for _ in 0..segments {
            push(&mut batch, &header(self.peer_seq, self.our_seq, ACK, &[]), MSS);
            self.peer_seq = self.peer_seq.wrapping_add(MSS);
            self.received += u64::from(MSS);
        }
        batch
    }

    /// The mean time of a step with so many segments, in nanoseconds, over so many steps.
    ///
    /// # Errors
    /// The instance's fault; a broken rule where it does not place what is in order.
    pub fn time(&mut self, segments: u32, steps: u32) -> Result<f64, Fault> {
        let batches: Vec<Batch> = (0..steps).map(|_| self.data(segments)).collect();
        let start = Instant::now();
        for batch in &batches {
            self.step(batch)?;
        }
        let took = start.elapsed().as_nanos() as f64 / f64::from(steps.max(1));
        if self.outputs.places.len() != segments as usize {
            return Err(Fault::broken(Rule::PlaceBinding, "what is in order is not placed"));
        }
        Ok(took)
    }

    /// The mean time of a step with nothing in it but the time, in nanoseconds, over so many steps.
    ///
    /// # Errors
    /// The instance's fault.
    pub fn time_empty(&mut self, steps: u32) -> Result<f64, Fault> {
        let batch = self.batch();
        let start = Instant::now();
        for _ in 0..steps {
            self.step(&batch)?;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(steps.max(1)))
    }
}
