//! Rules 2 to 5: what a module sends is well formed, comes from us, and carries only bytes that belong to the
//! connection whose endpoints and sequence numbers its header bears.

use super::Step;
use super::header::{self, Outgoing};
use super::ledger::{Ledgers, Stage};
use super::rule::{Broken, Rule, check, violation};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Endpoint, Handle, How, Outputs, Send, Source, limits};

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
        Source::Staged => staged(ledgers, step, send, outgoing),
    }
}

fn from_queue(ledgers: &mut Ledgers, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    let (_, ledger) = ledgers.touch_open(Handle(send.of))?;
    let (handle, at, written, acknowledged) = (ledger.handle, send.at, ledger.written, ledger.acknowledged);
    let end = at.saturating_add(u64::from(send.length));
    check(at >= acknowledged && end <= written && send.length > 0, Rule::Payload, || {
        format!("{handle:?}: sends {at}..{end}, the queue holds {acknowledged}..{written}")
    })?;
    let (from, to) = (outgoing.source, outgoing.destination);
    check((from, to) == (ledger.local, ledger.remote), Rule::SendBinding, || {
        format!("bytes of {handle:?} to {} under a header from {from} to {to}", ledger.remote)
    })?;
    let (sequence, base) = (outgoing.first_byte, ledger.send_base);
    check(sequence.wrapping_sub(base) == at as u32, Rule::SendBinding, || {
        format!("{handle:?}: bytes at {at} under sequence number {sequence}, base {base}")
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
    let (handle, written, shut) = (ledger.handle, ledger.written, ledger.shut);
    check(!outgoing.fin || shut && end == written as u32, Rule::SendBinding, || {
        format!("{handle:?}: FIN at {end}, {written} bytes were written, the stream is ended: {shut}")
    })?;
    check(!outgoing.urg || ledger.urgent, Rule::SendBinding, || {
        format!("{handle:?}: urgent data, which the application has not sent")
    })
}

/// The range lies within the payload that it is of: a segment's, or staged bytes.
fn within(step: &Step<'_>, send: &Send) -> Result<(), Broken> {
    let payload = step.bytes(send.source, send.of, Rule::Payload)?.len() as u64;
    check(send.at.saturating_add(u64::from(send.length)) <= payload, Rule::Payload, || {
        let Send { of, at, length, source, .. } = send;
        format!("{length} bytes after {at} of {source:?} {of}, which has {payload}")
    })
}

/// Staged bytes go to whom this module may write: the peer of an open stream, at a place that its application has written, or
/// else to the sender of a segment or the receiver of a message of this step. Only the module knows what they are.
fn staged(ledgers: &mut Ledgers, step: &Step<'_>, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    within(step, send)?;
    let (from, to) = (outgoing.source, outgoing.destination);
    if outgoing.protocol != protocol::TCP {
        let fits = |end: Endpoint| end.address == to.address && (to.port == 0 || to.port == end.port);
        let known = step.arrived.iter().any(|arrived| fits(arrived.ends.source))
            || step.inputs.messages.iter().any(|message| fits(message.to));
        return check(known, Rule::SendBinding, || format!("staged bytes to {to}, who is nobody here"));
    }
    let handle = ledgers.between(from, to).map(|ledger| ledger.handle).unwrap_or_default();
    let (_, ledger) = ledgers.touch_open(handle)?;
    let offset = outgoing.first_byte.wrapping_sub(ledger.send_base);
    let at = ledger.acknowledged + u64::from(offset.wrapping_sub(ledger.acknowledged as u32));
    from_queue(ledgers, &Send { of: handle.0, at, ..*send }, outgoing)
}

/// A segment's bytes go back to its sender and nowhere else.
fn from_segment(step: &Step<'_>, send: &Send, outgoing: &Outgoing) -> Result<(), Broken> {
    within(step, send)?;
    let segment = send.of as u32;
    let arrived = step.arrived(segment, Rule::Payload)?;
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
    let header = (outgoing.source, outgoing.destination);
    check(from_fits && header.1 == message.to, Rule::SendBinding, || {
        format!("a message from {from} to {} under a header from {} to {}", message.to, header.0, header.1)
    })
}
