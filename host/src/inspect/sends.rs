//! Rules 2 to 5: what a module sends is well formed, comes from us, and carries only bytes that belong to the
//! connection whose endpoints and sequence numbers its header bears.

use super::Step;
use super::header::{self, Outgoing};
use super::ledger::{Ledgers, Stage};
use super::rule::{Broken, Rule, check, violation};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Handle, How, Outputs, Send, Source, limits};

pub(super) fn sends(ledgers: &mut Ledgers, step: &Step<'_>, outputs: &Outputs) -> Result<(), Broken> {
    for send in &outputs.sends {
        let outgoing = well_formed(step, &outputs.headers, send)?;
        addresses(step, send, &outgoing)?;
        payload(ledgers, step, send, &outgoing)?;
        if outgoing.fin || outgoing.urg {
            stream_flags(ledgers, send, &outgoing)?;
        }
    }
    Ok(())
}

/// Rule 2, and the limits of a single send.
fn well_formed(step: &Step<'_>, headers: &[u8], send: &Send) -> Result<Outgoing, Broken> {
    let from = send.header as usize;
    let header = headers.get(from..from + usize::from(send.header_length)).ok_or_else(|| {
        violation(Rule::Header, format!("the header at {from} lies outside the header bytes"))
    })?;
    let outgoing =
        header::parse(header, send.transport).map_err(|fault| violation(Rule::Header, fault.to_string()))?;
    check(step.grants.may_send(outgoing.protocol), Rule::Header, || {
        format!("sends protocol {}, which its description does not list", outgoing.protocol)
    })?;
    let (length, header_length) = (u64::from(send.length), u64::from(send.header_length));
    let frames = if send.mss == 0 { 1 } else { length.div_ceil(u64::from(send.mss)).max(1) };
    check(frames <= limits::FRAMES_PER_SEND as u64, Rule::Counts, || format!("a send of {frames} frames"))?;
    check(length + header_length <= limits::DATAGRAM as u64, Rule::Counts, || {
        format!("a send of {header_length} + {length} bytes")
    })?;
    let longest = header_length + if send.mss == 0 { length } else { length.min(u64::from(send.mss)) };
    let fits = longest <= u64::from(step.grants.mtu) || send.how.contains(How::MAY_FRAGMENT);
    check(fits, Rule::Counts, || format!("a frame of {longest} bytes with an MTU of {}", step.grants.mtu))?;
    Ok(outgoing)
}

/// Rule 3.
fn addresses(step: &Step<'_>, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    let (source, destination) = (outgoing.source.address, outgoing.destination.address);
    // A connection's own endpoints stand in its ledger; elsewhere an answer may come from where the segment went.
    let mirrored = || {
        send.source == Source::Queue
            || step.arrived.iter().any(|arrived| {
                arrived.ends.destination.address == source && arrived.ends.source.address == destination
            })
    };
    check(source.is_unicast() && (step.grants.is_ours(source) || mirrored()), Rule::Address, || {
        format!("sends from {source}, which is not ours")
    })?;
    let loops = destination.is_loopback() && !step.grants.is_ours(destination);
    check(destination.is_unicast() && !loops, Rule::Address, || {
        format!("sends to {destination}, which is multicast, broadcast, unspecified or loopback")
    })
}

/// Rules 4 and 5.
fn payload(ledgers: &mut Ledgers, step: &Step<'_>, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    match send.source {
        Source::Nothing => check(send.length == 0 && send.of == 0 && send.at == 0, Rule::Payload, || {
            format!("{} bytes from nothing", send.length)
        }),
        Source::Queue => from_queue(ledgers, send, outgoing),
        Source::Segment => from_segment(step, send, outgoing),
        Source::Message => from_message(ledgers, step, send, outgoing),
        Source::Hold => Err(violation(Rule::SendBinding, "bytes of a hold slot may not be forwarded".into())),
        Source::Staged => {
            Err(violation(Rule::Payload, "staged bytes, which this world does not have".into()))
        }
    }
}

fn from_queue(ledgers: &mut Ledgers, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    let (_, ledger) = ledgers.touch_open(Handle(send.of))?;
    let end = send.at.saturating_add(u64::from(send.length));
    check(send.at >= ledger.acknowledged && end <= ledger.written && send.length > 0, Rule::Payload, || {
        format!(
            "{:?}: sends {}..{end}, the queue holds {}..{}",
            ledger.handle, send.at, ledger.acknowledged, ledger.written
        )
    })?;
    check(
        outgoing.source == ledger.local && outgoing.destination == ledger.remote,
        Rule::SendBinding,
        || {
            format!(
                "bytes of {:?} ({} to {}) under a header from {} to {}",
                ledger.handle, ledger.local, ledger.remote, outgoing.source, outgoing.destination
            )
        },
    )?;
    check(outgoing.first_byte.wrapping_sub(ledger.send_base) == send.at as u32, Rule::SendBinding, || {
        format!(
            "{:?}: bytes at {} under sequence number {}, base {}",
            ledger.handle, send.at, outgoing.first_byte, ledger.send_base
        )
    })?;
    ledger.sent = ledger.sent.max(end);
    Ok(())
}

/// Rule 5 for what a header says of the stream: a FIN stands after the last byte of an application that has ended its
/// stream, or the peer would take a part for the whole; a peer may take a byte called urgent out of the stream.
fn stream_flags(ledgers: &Ledgers, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    let ledger = ledgers.between(outgoing.source, outgoing.destination);
    let Some(ledger) = ledger.filter(|ledger| ledger.stage == Stage::Open) else { return Ok(()) };
    let end = outgoing.first_byte.wrapping_sub(ledger.send_base).wrapping_add(send.length);
    let may_end = ledger.shut && end == ledger.written as u32;
    check(!outgoing.fin || may_end, Rule::SendBinding, || {
        format!(
            "{:?}: FIN at {end}, {} bytes were written, the stream is ended: {}",
            ledger.handle, ledger.written, ledger.shut
        )
    })?;
    check(!outgoing.urg || ledger.urgent, Rule::SendBinding, || {
        format!("{:?}: urgent data, which the application has not sent", ledger.handle)
    })
}

/// A segment's bytes go back to its sender and nowhere else.
fn from_segment(step: &Step<'_>, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    let segment = u32::try_from(send.of).unwrap_or(u32::MAX);
    let arrived = step.arrived(segment, Rule::Payload)?;
    let payload = arrived.payload.len() as u64;
    check(send.at.saturating_add(u64::from(send.length)) <= payload, Rule::Payload, || {
        format!("{} bytes after {} of segment {segment}, whose payload is {payload}", send.length, send.at)
    })?;
    let back = outgoing.destination.address == arrived.ends.source.address
        && (outgoing.destination.port == 0 || outgoing.destination.port == arrived.ends.source.port);
    check(back, Rule::SendBinding, || {
        format!("bytes from {} sent to {}", arrived.ends.source, outgoing.destination)
    })?;
    // A stream's bytes come from its queue alone: the peer's own, sent back, would be the application's word.
    check(outgoing.protocol != protocol::TCP, Rule::SendBinding, || {
        format!("bytes of segment {segment} in a stream to {}", outgoing.destination)
    })
}

/// A message goes from its socket to where the application said.
fn from_message(ledgers: &Ledgers, step: &Step<'_>, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    let message = usize::try_from(send.of).ok().and_then(|number| step.inputs.messages.get(number));
    let message =
        message.ok_or_else(|| violation(Rule::Payload, format!("message {} does not exist", send.of)))?;
    let whole = send.at == 0 && send.length == message.length && outgoing.protocol == protocol::UDP;
    check(whole, Rule::Payload, || {
        format!("{} bytes after {} of a message of {}", send.length, send.at, message.length)
    })?;
    let socket = ledgers.socket(message.socket)?;
    let from = if message.source.port == 0 { socket.local } else { message.source };
    let from_fits = outgoing.source.port == from.port
        && (from.address.is_unspecified() || outgoing.source.address == from.address);
    check(from_fits && outgoing.destination == message.to, Rule::SendBinding, || {
        format!(
            "a message from {from} to {} under a header from {} to {}",
            message.to, outgoing.source, outgoing.destination
        )
    })
}
