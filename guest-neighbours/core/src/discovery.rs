//! Neighbour Discovery, a router's part (RFC 4861), with prefixes that guests make their addresses of (RFC 4862).

use crate::Link;
use crate::frame::{Frame, IPV6, Mac, Message, bytes, ethernet, message};
use crate::limits::{OPTIONS, PREFIX_SECONDS, ROUTER_SECONDS};
use alloc::vec::Vec;
use bulkhead_wit::Address;

/// ICMPv6 types.
pub(crate) const SOLICITS_ROUTERS: u8 = 133;
pub(crate) const ADVERTISES_ROUTER: u8 = 134;
pub(crate) const SOLICITS_NEIGHBOUR: u8 = 135;
pub(crate) const ADVERTISES_NEIGHBOUR: u8 = 136;

/// Options (RFC 4861 4.6).
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;

const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_LINK: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// A neighbour advertisement's flags: we are a router; this answers a question; believe it whatever was before.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// A prefix option's flags: the network is this link; addresses may be made in it.
const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;

/// Our own address of the link, made of the link address (RFC 4291, appendix A).
pub(crate) fn link_local([a, b, c, d, e, f]: Mac) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

/// The answer to "who has an address of ours?" and "who is a router here?".
pub(crate) fn answer(link: &Link, frame: &Frame<'_>) -> Option<Vec<u8>> {
    let question = Message::parse(frame.payload)?;
    match question.body.first() {
        Some(&SOLICITS_NEIGHBOUR) => neighbour(link, frame, &question),
        Some(&SOLICITS_ROUTERS) if are_options(question.body.get(8..)?) => advertisement(link),
        _ => None,
    }
}

/// Every option has a length (RFC 4861 6.1.1, 7.1.1).
fn are_options(mut rest: &[u8]) -> bool {
    for _ in 0..OPTIONS {
        let Some(length) = rest.get(1).map(|length| usize::from(*length) * 8) else { return rest.is_empty() };
        match rest.get(length..) {
            Some(next) if length > 0 => rest = next,
            _ => return false,
        }
    }
    false
}

fn neighbour(link: &Link, frame: &Frame<'_>, question: &Message<'_>) -> Option<Vec<u8>> {
    let target: [u8; 16] = bytes(question.body, 8)?;
    // IPv6 is not spoken where there is no network for it.
    link.v6?;
    if !link.answers_for(Address::from_v6(target)) || !are_options(question.body.get(24..)?) {
        return None;
    }
    // Somebody without an address asks whether it can have this one: all are told that it cannot (RFC 4861 7.2.4).
    let is_asked_for = question.source == [0; 16];
    let (to, to_link, flags) = match is_asked_for {
        true => (ALL_NODES, ALL_NODES_LINK, ROUTER | OVERRIDE),
        false => (question.source, frame.source, ROUTER | SOLICITED | OVERRIDE),
    };
    let mut body = Vec::from([ADVERTISES_NEIGHBOUR, 0, 0, 0, flags, 0, 0, 0]);
    body.extend_from_slice(&target);
    body.extend_from_slice(&[TARGET_LINK_ADDRESS, 1]);
    body.extend_from_slice(&link.ours);
    let mut reply = ethernet(to_link, link.ours, IPV6);
    message(&mut reply, target, to, body);
    Some(reply)
}

/// What a router tells everybody: it is there, the MTU, and the network to make addresses in.
pub(crate) fn advertisement(link: &Link) -> Option<Vec<u8>> {
    let (network, length) = link.v6?;
    let mut body = Vec::from([ADVERTISES_ROUTER, 0, 0, 0, crate::limits::TTL, 0]);
    body.extend_from_slice(&ROUTER_SECONDS.to_be_bytes());
    // How long neighbours are believed and when they are asked again is for the guest to say.
    body.extend_from_slice(&[0; 8]);
    body.extend_from_slice(&[SOURCE_LINK_ADDRESS, 1]);
    body.extend_from_slice(&link.ours);
    body.extend_from_slice(&[MTU, 1, 0, 0]);
    body.extend_from_slice(&link.mtu.to_be_bytes());
    body.extend_from_slice(&[PREFIX, 4, length, ON_LINK_AND_AUTONOMOUS]);
    for seconds in PREFIX_SECONDS {
        body.extend_from_slice(&seconds.to_be_bytes());
    }
    body.extend_from_slice(&[0; 4]);
    let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
    body.extend_from_slice(&(u128::from_be_bytes(network) & mask).to_be_bytes());
    let mut frame = ethernet(ALL_NODES_LINK, link.ours, IPV6);
    message(&mut frame, link_local(link.ours), ALL_NODES, body);
    Some(frame)
}
