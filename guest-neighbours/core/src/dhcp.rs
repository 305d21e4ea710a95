//! DHCP for IPv4, the server's part for one guest with one address (RFC 2131, options of RFC 2132).

use crate::Link;
use crate::frame::{BROADCAST, Cast as _, Frame, IPV4, Mac, Udp, bytes, ethernet, udp, word};
use crate::limits::{LEASE_SECONDS, OPTIONS};
use alloc::vec::Vec;

/// UDP ports.
pub(crate) const SERVER: u16 = 67;
pub(crate) const CLIENT: u16 = 68;

/// Where options begin, after a cookie.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Bytes that a message has at least (RFC 1542 2.1).
const LENGTH_MIN: usize = 300;
/// "Answer by broadcast", in the flags.
const BY_BROADCAST: u16 = 0x8000;
const ANYBODY: [u8; 4] = [255; 4];

/// Options.
mod option {
    pub(super) const MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const NAME_SERVER: u8 = 6;
    pub(super) const MTU: u8 = 26;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const KIND: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const END: u8 = 255;
}

/// Messages.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const INFORM: u8 = 8;

/// What a guest says.
struct Question {
    transaction: [u8; 4],
    flags: u16,
    /// Its address, if it has one already.
    address: [u8; 4],
    hardware: Mac,
    kind: u8,
    requested: Option<[u8; 4]>,
    server: Option<[u8; 4]>,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        // A request of an Ethernet host that no relay has passed on.
        let is_ours = bytes(message, 0)? == [1, 1, 6]
            && bytes(message, 24)? == [0; 4]
            && bytes(message, FIXED)? == COOKIE;
        let mut question = Self {
            transaction: bytes(message, 4)?,
            flags: word(message, 10)?,
            address: bytes(message, 12)?,
            hardware: bytes(message, 28)?,
            kind: 0,
            requested: None,
            server: None,
        };
        let mut rest = message.get(FIXED + COOKIE.len()..)?;
        for _ in 0..OPTIONS {
            let Some((&code, after)) = rest.split_first().filter(|(code, _)| **code != option::END) else {
                break;
            };
            if code == 0 {
                rest = after;
                continue;
            }
            let Some(value) =
                after.split_first().and_then(|(length, value)| value.get(..usize::from(*length)))
            else {
                break;
            };
            match code {
                option::KIND => question.kind = *value.first()?,
                option::REQUESTED => question.requested = bytes(value, 0),
                option::SERVER => question.server = bytes(value, 0),
                _ => {}
            }
            rest = after.get(1 + value.len()..)?;
        }
        (is_ours && question.hardware.is_unicast()).then_some(question)
    }

    /// The kind of the answer, if there is to be one (RFC 2131 4.3).
    fn answered_by(&self, ours: [u8; 4], lease: [u8; 4]) -> Option<u8> {
        if self.server.is_some_and(|server| server != ours) {
            return None;
        }
        match self.kind {
            DISCOVER => Some(OFFER),
            REQUEST => {
                let wanted = self.requested.unwrap_or(self.address);
                Some(if wanted == lease { ACK } else { NAK })
            }
            INFORM => Some(ACK),
            _ => None,
        }
    }
}

/// The answer to a request for an address, or for what else there is to know.
pub(crate) fn answer(link: &Link, frame: &Frame<'_>) -> Option<Vec<u8>> {
    let datagram = Udp::parse(frame.payload).filter(|datagram| datagram.to_port == SERVER)?;
    let question = Question::parse(datagram.payload)?;
    let (ours, network) = link.v4?;
    let lease = link.lease?;
    let kind = question.answered_by(ours, lease)?;
    let is_given = matches!(kind, OFFER | ACK) && question.kind != INFORM;
    let given = if is_given { lease } else { [0; 4] };
    let mut message = Vec::from([2, 1, 6, 0]);
    message.extend_from_slice(&question.transaction);
    message.extend_from_slice(&[0; 2]);
    message.extend_from_slice(&question.flags.to_be_bytes());
    message.extend_from_slice(if kind == ACK { &question.address } else { &[0; 4] });
    message.extend_from_slice(&given);
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&question.hardware);
    message.resize(FIXED, 0);
    message.extend_from_slice(&COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        message.extend_from_slice(&[code, value.len() as u8]);
        message.extend_from_slice(value);
    };
    option(option::KIND, &[kind]);
    option(option::SERVER, &ours);
    if kind != NAK {
        let mask = u32::MAX.checked_shl(32 - u32::from(network.min(32))).unwrap_or(0);
        option(option::MASK, &mask.to_be_bytes());
        option(option::ROUTER, &ours);
        if let Some(server) = link.name_server {
            option(option::NAME_SERVER, &server);
        }
        option(option::MTU, &u16::try_from(link.mtu).unwrap_or(u16::MAX).to_be_bytes());
    }
    if is_given {
        option(option::LEASE, &LEASE_SECONDS.to_be_bytes());
    }
    message.push(option::END);
    message.resize(message.len().max(LENGTH_MIN), 0);
    let (to, to_link) = destination(&question, kind, lease);
    let mut reply = ethernet(to_link, link.ours, IPV4);
    udp(&mut reply, (ours, SERVER), (to, CLIENT), &message);
    Some(reply)
}

/// Where an answer goes (RFC 2131 4.1).
fn destination(question: &Question, kind: u8, lease: [u8; 4]) -> ([u8; 4], Mac) {
    match kind {
        NAK => (ANYBODY, BROADCAST),
        _ if question.address != [0; 4] => (question.address, question.hardware),
        _ if question.flags & BY_BROADCAST != 0 => (ANYBODY, BROADCAST),
        _ => (lease, question.hardware),
    }
}
