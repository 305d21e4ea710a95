//! The module that answers what the guest asks of its link, and what is held against its answers: frames of the kinds that
//! it says it sends, from our address, to the guest, and nothing else. Whatever it does, it touches no datagram.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bulkhead_wit::limits::{self, DEADLINE_MIN};
use bulkhead_wit::registry::{protocol, service, setting};
use bulkhead_wit::{
    Address, Batch, Config, Evidence, Kind, NEVER, Outputs, Prefix, Room, Segment, Service, Setting, Source,
    Time,
};

use super::{HEADER, Mac};
use crate::fault::Fault;
use crate::placement::Instance;
use crate::supervise::{Factory, RESTARTS};

/// Answers of one step at most.
const ANSWERS: u32 = 4;
/// [`RESTARTS`] are counted for so long.
const WINDOW: Duration = Duration::from_secs(60);

/// What the guest is told of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guest {
    /// Its IPv4 address; none is given without one.
    pub address: Option<Ipv4Addr>,
    /// Its name server.
    pub name_server: Option<Ipv4Addr>,
}

/// The module, in whatever placement.
pub struct Neighbours {
    /// None once it was given up.
    instance: Option<Box<dyn Instance>>,
    factory: Factory,
    restarts: VecDeque<Instant>,
    config: Config,
    address: Mac,
    serves: Vec<Service>,
    sends: Vec<Service>,
    batch: Batch,
    outputs: Outputs,
    /// Answers of the last step that were not taken yet.
    answers: VecDeque<(usize, usize)>,
    deadline: Time,
}

impl Neighbours {
    /// A link where our address is `address`, our IP addresses are `ours` (each with its network's length in bits), and
    /// datagrams have up to `mtu` bytes. `factory` makes the module, and another one after each that has failed.
    ///
    /// # Errors
    /// What the module says to this configuration, or how it failed.
    pub fn new(
        mut factory: Factory,
        address: Mac,
        ours: &[(IpAddr, u8)],
        guest: Guest,
        mtu: u32,
    ) -> Result<Self, Fault> {
        let number = |address: Option<Ipv4Addr>| address.map_or(0, |address| u64::from(address.to_bits()));
        let [a, b, c, d, e, f] = address;
        let settings = [
            (setting::LINK_ADDRESS, u64::from_be_bytes([0, 0, a, b, c, d, e, f])),
            (setting::LEASE, number(guest.address)),
            (setting::NAME_SERVER, number(guest.name_server)),
        ];
        let prefix = |&(address, length): &(IpAddr, u8)| {
            let length = if address.is_ipv4() { length.min(32) + 96 } else { length.min(128) };
            Prefix { address: Address::from(address), length }
        };
        let config = Config {
            addresses: ours.iter().map(prefix).collect(),
            mtu,
            shards: 1,
            settings: settings.map(|(key, value)| Setting { key, value }).to_vec(),
            ..Config::default()
        };
        let mut instance = factory()?;
        instance.start(&config)?;
        let (serves, sends) = (instance.description().serves.clone(), instance.description().sends.clone());
        let mut own = Self {
            instance: Some(instance),
            factory,
            restarts: VecDeque::new(),
            config,
            address,
            serves,
            sends,
            batch: Batch::default(),
            outputs: Outputs::default(),
            answers: VecDeque::new(),
            deadline: NEVER,
        };
        // It says when it wants to be called.
        own.wait(0);
        Ok(own)
    }

    /// The bundled module, in a sandbox.
    ///
    /// # Errors
    /// As [`new`](Self::new), and where this machine cannot run it.
    #[cfg(feature = "wasm")]
    pub fn bundled(address: Mac, ours: &[(IpAddr, u8)], guest: Guest, mtu: u32) -> std::io::Result<Self> {
        let artifact = crate::artifact::Artifact::bundled_neighbours().map_err(std::io::Error::other)?;
        artifact.instance().map_err(std::io::Error::other)?;
        let factory = move || Ok(Box::new(artifact.fresh()?) as Box<dyn Instance>);
        Self::new(Box::new(factory), address, ours, guest, mtu).map_err(std::io::Error::other)
    }

    /// Our address on the link.
    #[must_use]
    pub fn address(&self) -> Mac {
        self.address
    }

    /// When it is to be called without a frame.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Whether a frame is for the module: a question about the link, and no datagram on its way through.
    #[must_use]
    pub fn serves(&self, frame: &[u8]) -> bool {
        let is_for_us =
            |to: Address| to.is_broadcast() || self.config.addresses.iter().any(|ours| ours.address == to);
        is_of(frame, &self.serves) && Datagram::parse(frame).is_none_or(|datagram| is_for_us(datagram.to))
    }

    /// The module hears a frame.
    pub(super) fn hear(&mut self, now: Time, frame: &[u8]) {
        self.begin(now);
        let (header, payload) = frame.split_at(frame.len().min(limits::HEADER));
        self.batch.headers.extend_from_slice(header);
        self.batch.segments.push(Segment {
            header: 0,
            payload: payload.len() as u32,
            header_length: header.len() as u16,
            transport: HEADER as u16,
            mss: payload.len().clamp(1, limits::DATAGRAM) as u16,
            count: 1,
            kind: Kind::Frame,
            evidence: Evidence::Absent,
            ..Segment::default()
        });
        self.step();
    }

    /// The module's time has come.
    pub(super) fn wait(&mut self, now: Time) {
        self.begin(now);
        self.step();
    }

    /// The next answer of the last step.
    pub(super) fn next_answer(&mut self) -> Option<&[u8]> {
        let (from, to) = self.answers.pop_front()?;
        self.outputs.headers.get(from..to)
    }

    fn begin(&mut self, now: Time) {
        self.batch.clear();
        self.answers.clear();
        self.batch.now = now;
        self.batch.room = Room { sends: ANSWERS, bytes: ANSWERS * limits::HEADER as u32 };
    }

    /// A step that fails has had no effect but that a fresh instance follows. The guest asks again.
    fn step(&mut self) {
        let Some(instance) = &mut self.instance else { return };
        let done = instance.step(&self.batch.inputs(), &mut self.outputs).map_err(|fault| fault.to_string());
        match done.and_then(|()| self.inspect()) {
            Ok(answers) => {
                self.answers.extend(answers);
                self.deadline = self.outputs.deadline;
            }
            Err(error) => {
                self.instance = self.follow(&error);
                self.deadline = if self.instance.is_some() { self.batch.now + DEADLINE_MIN } else { NEVER };
            }
        }
    }

    /// Each answer's place among the headers, if everything is as it must be.
    fn inspect(&self) -> Result<Vec<(usize, usize)>, String> {
        let Outputs { deadline, unfinished, sends, places, marks, events, .. } = &self.outputs;
        if !places.is_empty() || !marks.is_empty() || !events.is_empty() || *unfinished {
            return Err("it answers what it was not asked".to_owned());
        }
        if *deadline < self.batch.now.saturating_add(DEADLINE_MIN) {
            return Err(format!("a deadline at {deadline}, {} now", self.batch.now));
        }
        if sends.len() > ANSWERS as usize {
            return Err(format!("{} frames in a step", sends.len()));
        }
        sends
            .iter()
            .map(|send| {
                let from = send.header as usize;
                let range = (from, from.saturating_add(send.header_length.into()));
                let frame =
                    self.outputs.headers.get(range.0..range.1).filter(|frame| frame.len() <= limits::HEADER);
                let is_all = send.source == Source::Nothing && send.length == 0 && send.mss == 0;
                match frame {
                    Some(frame) if is_all && self.may_send(frame) => Ok(range),
                    _ => Err("a frame that it may not send".to_owned()),
                }
            })
            .collect()
    }

    /// Of a kind that it has named, and from ourselves.
    fn may_send(&self, frame: &[u8]) -> bool {
        let is_ours = |from: Address| {
            let is_link_local = from.octets()[..8] == [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
            is_link_local || self.config.addresses.iter().any(|ours| ours.address == from)
        };
        let has_source = frame.get(6..12) == Some(&self.address[..]);
        let is_to_another = frame.get(..6) != Some(&self.address[..]);
        let is_from_us = Datagram::parse(frame).is_none_or(|datagram| is_ours(datagram.from));
        has_source && is_to_another && is_from_us && is_of(frame, &self.sends)
    }

    /// What follows an instance that has failed.
    fn follow(&mut self, error: &str) -> Option<Box<dyn Instance>> {
        let now = Instant::now();
        self.restarts.retain(|at| now.duration_since(*at) < WINDOW);
        if self.restarts.len() >= RESTARTS {
            tracing::error!(%error, "the module of the link is given up: the guest finds no neighbours any more");
            return None;
        }
        self.restarts.push_back(now);
        tracing::error!(%error, "the module of the link has failed; a fresh one follows");
        let mut instance = (self.factory)().ok()?;
        instance.start(&self.config).ok()?;
        Some(instance)
    }
}

/// As much of a frame with a datagram as tells whose it is.
struct Datagram {
    from: Address,
    to: Address,
    /// UDP's port of the destination, or ICMPv6's type.
    service: Option<Service>,
}

impl Datagram {
    fn parse(frame: &[u8]) -> Option<Self> {
        fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
            frame.get(HEADER + at..)?.first_chunk().copied()
        }
        match frame.get(12..HEADER)? {
            [0x08, 0x00] => {
                let [first] = bytes(frame, 0)?;
                let is_first = u16::from_be_bytes(bytes(frame, 6)?) & 0x1fff == 0;
                let is_udp = is_first && bytes(frame, 9)? == [protocol::UDP];
                let port = bytes(frame, usize::from(first & 15) * 4 + 2).filter(|_| is_udp);
                let service =
                    port.map(|port| Service { kind: service::UDP_PORT, value: u16::from_be_bytes(port) });
                Some(Self {
                    from: Address::from_v4(bytes(frame, 12)?),
                    to: Address::from_v4(bytes(frame, 16)?),
                    service,
                })
            }
            [0x86, 0xdd] => {
                let kind = bytes(frame, 40).filter(|_| bytes(frame, 6) == Some([protocol::ICMPV6]));
                let service =
                    kind.map(|[kind]| Service { kind: service::ICMPV6_TYPE, value: u16::from(kind) });
                Some(Self {
                    from: Address::from_v6(bytes(frame, 8)?),
                    // What is asked of the link goes to groups of it, and to us.
                    to: Address::from_v4([255; 4]),
                    service,
                })
            }
            _ => None,
        }
    }
}

/// Whether a frame is of one of these kinds.
fn is_of(frame: &[u8], services: &[Service]) -> bool {
    let Some(kind) = frame.get(12..HEADER).and_then(|kind| kind.first_chunk()) else { return false };
    let ethertype = Service { kind: service::ETHERTYPE, value: u16::from_be_bytes(*kind) };
    let of_datagram = Datagram::parse(frame).and_then(|datagram| datagram.service);
    services.contains(&ethertype) || of_datagram.is_some_and(|service| services.contains(&service))
}
