//! What a guest asks of its link before it can send a datagram, answered: who has this address (ARP, RFC 826; Neighbour
//! Discovery, RFC 4861), which address is mine (DHCP, RFC 2131; router advertisements, RFC 4861), who knows names.
//!
//! A module as TCP and UDP are, with a wall of its own, without a clock, without randomness. It serves whole frames: the host
//! gives it the first [`HEADER`](bulkhead_wit::limits::HEADER) bytes of each, which is all of what it understands, and its
//! answers are frames that are nothing but header. It remembers nothing of anybody.
//!
//! - `frame`: Ethernet, IPv4, IPv6 and UDP, as much as is needed, and their checksums;
//! - `arp`, `discovery`, `dhcp`: who asks what, and the answer;
//! - `limits`: every bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod arp;
mod dhcp;
mod discovery;
mod frame;
mod limits;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::limits as bounds;
use bulkhead_wit::registry::{census, reason, service, setting};
use bulkhead_wit::{
    Address, Call, Config, Description, Event, Failed, Handle, Info, Inputs, Kind, Module, NEVER, Outputs,
    Prefix, Send, Service, Summary, Time,
};

use frame::{Cast as _, Frame, Mac};

/// The number of the format that `save` writes.
const FORMAT: u32 = 1;

/// What is known of the link, all of it from the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Link {
    /// Our own address on it.
    ours: Mac,
    mtu: u32,
    /// Our IPv4 address, and the length of its network in bits.
    v4: Option<([u8; 4], u8)>,
    /// The network that guests make their IPv6 addresses in.
    v6: Option<([u8; 16], u8)>,
    /// Every address that we answer for.
    answered: Vec<Address>,
    /// The IPv4 address of the guest.
    lease: Option<[u8; 4]>,
    name_server: Option<[u8; 4]>,
}

/// The module: see [`Module`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Neighbours {
    link: Link,
    /// When routers' news are told without being asked for.
    advertise_at: Time,
    heard: u64,
    answered: u64,
}

impl Link {
    fn new(config: &Config) -> Self {
        let value =
            |key| config.settings.iter().find(|setting| setting.key == key).map(|setting| setting.value);
        let v4 = |key| value(key).and_then(|value| u32::try_from(value).ok()).filter(|value| *value != 0);
        let [_, _, ours @ ..] = value(setting::LINK_ADDRESS).unwrap_or_default().to_be_bytes();
        let name_server = v4(setting::NAME_SERVER).map(u32::to_be_bytes);
        let is_v4 = |prefix: &&Prefix| prefix.address.is_v4();
        let mut answered: Vec<Address> = config.addresses.iter().map(|prefix| prefix.address).collect();
        answered.extend(name_server.map(Address::from_v4));
        answered.push(Address::from_v6(discovery::link_local(ours)));
        let first_v4 = config.addresses.iter().find(is_v4);
        let first_v6 = config.addresses.iter().find(|prefix| !is_v4(prefix));
        Self {
            ours,
            mtu: config.mtu,
            v4: first_v4.and_then(|prefix| Some((prefix.address.v4()?, prefix.length.saturating_sub(96)))),
            v6: first_v6.map(|prefix| (prefix.address.octets(), prefix.length)),
            answered,
            lease: v4(setting::LEASE).map(u32::to_be_bytes),
            name_server,
        }
    }

    fn answers_for(&self, address: Address) -> bool {
        self.answered.contains(&address)
    }
}

impl Neighbours {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn call(&mut self, index: u32, call: &Call, outputs: &mut Outputs) {
        let result = match call {
            Call::Configure(config) => {
                self.link = Link::new(config);
                Ok(())
            }
            Call::Query(of) => {
                let fields = if *of == Handle::INSTANCE { self.figures() } else { Vec::new() };
                outputs.events.push(Event::Info(Info { of: *of, fields }));
                Ok(())
            }
            Call::Reseed(_) | Call::Report(_) | Call::Set(_) => Ok(()),
            _ => Err(reason::UNSUPPORTED),
        };
        if let Err(reason) = result {
            outputs.events.push(Event::Failed(Failed { call: index, reason }));
        }
    }

    fn figures(&self) -> Vec<u64> {
        let mut fields = alloc::vec![0; usize::from(census::ECHOES) + 1];
        for (number, value) in [(census::SEGS_IN, self.heard), (census::SEGS_OUT, self.answered)] {
            if let Some(field) = fields.get_mut(usize::from(number)) {
                *field = value;
            }
        }
        fields
    }

    /// The answer to a frame, where it is a question, and for us.
    fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let frame = Frame::parse(bytes)?;
        if !frame.source.is_unicast()
            || !(frame.destination == self.link.ours || frame.destination.is_group())
        {
            return None;
        }
        match frame.kind {
            frame::ARP => arp::answer(&self.link, &frame),
            frame::IPV4 => dhcp::answer(&self.link, &frame),
            frame::IPV6 => discovery::answer(&self.link, &frame),
            _ => None,
        }
    }

    fn send(&mut self, frame: &[u8], left: &mut u32, outputs: &mut Outputs) {
        let fits =
            frame.len() <= bounds::HEADER && outputs.headers.len() + frame.len() <= bounds::HEADER_BYTES;
        if *left == 0 || !fits {
            return;
        }
        *left -= 1;
        outputs.sends.push(Send {
            header: outputs.headers.len() as u32,
            header_length: frame.len() as u16,
            transport: frame::HEADER as u16,
            ..Send::default()
        });
        outputs.headers.extend_from_slice(frame);
        self.answered += 1;
    }
}

impl Module for Neighbours {
    fn describe(&self) -> Description {
        let of = |kind: u8, value: u16| Service { kind, value };
        let frames = |port, types: [u8; 2]| {
            let [first, second] = types.map(|kind| of(service::ICMPV6_TYPE, kind.into()));
            Vec::from([of(service::ETHERTYPE, frame::ARP), of(service::UDP_PORT, port), first, second])
        };
        Description {
            name: String::from("bulkhead-neighbours"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            serves: frames(dhcp::SERVER, [discovery::SOLICITS_ROUTERS, discovery::SOLICITS_NEIGHBOUR]),
            sends: frames(dhcp::CLIENT, [discovery::ADVERTISES_ROUTER, discovery::ADVERTISES_NEIGHBOUR]),
            bytes_per_connection: 0,
            state_format: FORMAT,
            settings: [setting::LINK_ADDRESS, setting::LEASE, setting::NAME_SERVER].into(),
        }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        let link = Link::new(config);
        if !link.ours.is_unicast() {
            return Err(String::from("no link address is set that could be ours"));
        }
        *self = Self { link, advertise_at: limits::ADVERTISE, ..Self::default() };
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        let mut left = inputs.room.sends.min(bounds::SENDS as u32);
        for (index, call) in (0..).zip(inputs.calls) {
            self.call(index, call, outputs);
        }
        for segment in inputs.segments.iter().filter(|segment| segment.kind == Kind::Frame) {
            self.heard += 1;
            if let Some(answer) = inputs.header(segment).and_then(|frame| self.answer(frame)) {
                self.send(&answer, &mut left, outputs);
            }
        }
        let advertisement = discovery::advertisement(&self.link);
        outputs.deadline = NEVER;
        if let Some(advertisement) = advertisement {
            if self.advertise_at <= inputs.now {
                self.advertise_at = inputs.now.saturating_add(limits::ADVERTISE);
                self.send(&advertisement, &mut left, outputs);
            }
            outputs.deadline = self.advertise_at.max(inputs.now.saturating_add(bounds::DEADLINE_MIN));
        }
    }

    fn save(&self) -> Vec<u8> {
        [u64::from(FORMAT), self.advertise_at, self.heard, self.answered]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    fn load(&mut self, config: &Config, _now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.start(config)?;
        let (words, rest) = state.as_chunks::<8>();
        match words.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>()[..] {
            [format, advertise_at, heard, answered] if format == u64::from(FORMAT) && rest.is_empty() => {
                (self.advertise_at, self.heard, self.answered) = (advertise_at, heard, answered);
                Ok(Vec::new())
            }
            _ => Err(String::from("no state of this module")),
        }
    }
}
