//! {name}: a protocol module that answers ICMP echo requests over IPv4 (RFC 792), as `ping` sends them, and does no more.
//!
//! A module is a function, `(state, now, inputs) -> (state, outputs)`. It gets headers and lengths, never a byte of payload: the
//! reply names the payload of the request that it answers, and the host puts that behind the header.
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::registry::{protocol, reason, service};
use bulkhead_wit::{
    Address, Call, Config, Description, Event, Failed, How, Info, Inputs, Kind, Module, Outputs, STATELESS,
    Segment, Send, Service, Source, Summary, Time,
};

/// The types of the messages, with the codes that both have.
const ECHO: [u8; 2] = [8, 0];
const REPLY: [u8; 2] = [0, 0];

bulkhead_face::component!(Echo);

/// The module: what it was told, and nothing that it would have to remember.
#[derive(Debug, Default)]
pub struct Echo {
    config: Config,
}

impl Module for Echo {
    fn describe(&self) -> Description {
        let icmp = Service { kind: service::IP_PROTOCOL, value: u16::from(protocol::ICMP) };
        Description {
            name: String::from(env!("CARGO_PKG_NAME")),
            version: String::from(env!("CARGO_PKG_VERSION")),
            // What the host gives us, and what we may send.
            serves: [icmp].into(),
            sends: [icmp].into(),
            state_format: STATELESS,
            ..Description::default()
        }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        self.config = config.clone();
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        for (number, call) in (0..).zip(inputs.calls) {
            match call {
                Call::Configure(config) => self.config = config.clone(),
                Call::Reseed(_) | Call::Report(_) => {}
                Call::Query(of) => outputs.events.push(Event::Info(Info { of: *of, fields: Vec::new() })),
                _ => outputs.events.push(Event::Failed(Failed { call: number, reason: reason::UNSUPPORTED })),
            }
        }
        let mut room = inputs.room;
        for (number, segment) in (0..).zip(inputs.segments) {
            let Some(reply) = inputs.header(segment).and_then(|header| self.reply(header, segment)) else { continue };
            // What does not fit is dropped, as a busy host may; a module that must not would say `unfinished`.
            let bytes = reply.len() as u32 + segment.payload;
            if room.sends == 0 || room.bytes < bytes {
                break;
            }
            (room.sends, room.bytes) = (room.sends - 1, room.bytes - bytes);
            outputs.sends.push(Send {
                header: outputs.headers.len() as u32,
                header_length: reply.len() as u16,
                transport: 20,
                // The payload of this segment, all of it, as one datagram.
                source: Source::Segment,
                of: number,
                at: 0,
                length: segment.payload,
                mss: u16::MAX,
                how: How::MAY_FRAGMENT,
            });
            outputs.headers.extend_from_slice(&reply);
        }
    }

    // A module with a state gives it here, and says its format in `describe`.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, _: &Config, _: Time, _: &[u8]) -> Result<Vec<Summary>, String> {
        Err(String::from("this module has no state"))
    }
}

impl Echo {
    /// The header of a reply, if this is a request for us. Lengths and checksums are the host's to fill in.
    fn reply(&self, header: &[u8], segment: &Segment) -> Option<Vec<u8>> {
        if segment.kind != Kind::Whole || segment.protocol != protocol::ICMP {
            return None;
        }
        let (source, destination) = (octets(header, 12)?, octets(header, 16)?);
        let us = Address::from_v4(destination);
        let icmp = header.get(usize::from(segment.transport)..)?;
        if !self.config.is_ours(us) || !Address::from_v4(source).is_unicast() || !icmp.starts_with(&ECHO) {
            return None;
        }
        // Version and length, no fragments, a hop limit of 64; identifier and sequence number as they came.
        let network = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol::ICMP, 0, 0];
        Some([&network[..], &destination, &source, &REPLY, &[0; 2], &octets(icmp, 4)?].concat())
    }
}

fn octets(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::{Prefix, Room};

    #[test]
    fn a_request_is_answered_with_its_own_payload() {
        let prefix = Prefix { address: Address::from_v4([10, 0, 0, 2]), length: 24 };
        let mut module = Echo::default();
        module.start(&Config { addresses: vec![prefix], ..Config::default() }).unwrap();
        let network = [0x45, 0, 0, 84, 0, 1, 0x40, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let headers = [&network[..], &[8, 0, 0, 0, 0, 7, 0, 1]].concat();
        let request = Segment {
            payload: 56,
            header_length: 28,
            transport: 20,
            protocol: protocol::ICMP,
            ..Segment::default()
        };
        let inputs = Inputs {
            room: Room { sends: 1, bytes: 1500 },
            headers: &headers,
            segments: &[request, request],
            ..Inputs::default()
        };
        let mut outputs = Outputs::default();
        module.step(&inputs, &mut outputs);
        // There was room for one.
        let [reply] = outputs.sends[..] else { panic!("{outputs:?}") };
        assert_eq!((reply.source, reply.of, reply.length), (Source::Segment, 0, 56));
        assert_eq!(outputs.headers[12..], [10, 0, 0, 2, 10, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0, 1]);
    }
}
