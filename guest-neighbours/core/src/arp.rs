//! ARP for IPv4 over Ethernet (RFC 826).

use crate::Link;
use crate::frame::{ARP, Cast as _, Frame, bytes, ethernet};
use alloc::vec::Vec;
use bulkhead_wit::Address;

/// Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// The answer to "who has an address of ours?".
pub(crate) fn answer(link: &Link, frame: &Frame<'_>) -> Option<Vec<u8>> {
    let question = frame.payload;
    if bytes(question, 0)? != KIND || bytes(question, 6)? != REQUEST {
        return None;
    }
    let (asker, asker_address): ([u8; 6], [u8; 4]) = (bytes(question, 8)?, bytes(question, 14)?);
    let wanted: [u8; 4] = bytes(question, 24)?;
    // Who asks for its own address wants to know whether somebody else has it (RFC 5227).
    if !asker.is_unicast() || asker_address == wanted || !link.answers_for(Address::from_v4(wanted)) {
        return None;
    }
    let mut reply = ethernet(asker, link.ours, ARP);
    reply.extend_from_slice(&KIND);
    reply.extend_from_slice(&REPLY);
    reply.extend_from_slice(&link.ours);
    reply.extend_from_slice(&wanted);
    reply.extend_from_slice(&asker);
    reply.extend_from_slice(&asker_address);
    Some(reply)
}
