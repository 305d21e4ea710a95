//! Packets: `[ect0] P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 100 ecr 5>` and `icmp ...`.

use super::Wrong;
use super::cursor::Cursor;
use crate::conformance::script::{Body, Icmp, Network, Number, Packet, Tcp, TcpOption, flag};

/// ICMP errors by name: ICMPv4 type and code. `icmp6` names are told apart by `ERRORS_V6`.
const ERRORS: [(&str, &str, (u8, u8)); 12] = [
    ("unreachable", "net", (3, 0)),
    ("unreachable", "host", (3, 1)),
    ("unreachable", "protocol", (3, 2)),
    ("unreachable", "port", (3, 3)),
    ("unreachable", "frag_needed", (3, 4)),
    ("unreachable", "source_route", (3, 5)),
    ("unreachable", "net_prohibited", (3, 9)),
    ("unreachable", "host_prohibited", (3, 10)),
    ("unreachable", "prohibited", (3, 13)),
    ("source_quench", "", (4, 0)),
    ("time_exceeded", "", (11, 0)),
    ("parameter_problem", "", (12, 0)),
];

const ERRORS_V6: [(&str, &str, (u8, u8)); 8] = [
    ("unreachable", "no_route", (1, 0)),
    ("unreachable", "prohibited", (1, 1)),
    ("unreachable", "scope", (1, 2)),
    ("unreachable", "address", (1, 3)),
    ("unreachable", "port", (1, 4)),
    ("packet_too_big", "", (2, 0)),
    ("time_exceeded", "", (3, 0)),
    ("parameter_problem", "", (4, 0)),
];

/// A packet of either direction.
pub(super) fn packet(cursor: &mut Cursor<'_>) -> Result<Packet, Wrong> {
    let network = if cursor.eat("[") { network(cursor)? } else { Network::default() };
    let body = if cursor.eat_word("icmp6") {
        Body::Icmp(icmp(cursor, &ERRORS_V6)?)
    } else if cursor.eat_word("icmp") {
        Body::Icmp(icmp(cursor, &ERRORS)?)
    } else {
        Body::Tcp(tcp(cursor)?)
    };
    Ok(Packet { network, body })
}

fn network(cursor: &mut Cursor<'_>) -> Result<Network, Wrong> {
    let mut network = Network::default();
    loop {
        match cursor.word() {
            "noecn" => network.ecn = Some(0),
            "ect1" => network.ecn = Some(1),
            "ect0" => network.ecn = Some(2),
            "ce" => network.ecn = Some(3),
            "ttl" => network.ttl = Some(cursor.small()?),
            "tos" => network.tos = Some(cursor.small()?),
            "df" => network.df = Some(true),
            "nodf" => network.df = Some(false),
            "port" => network.port = Some(cursor.small()?),
            "local" => network.local = Some(cursor.small()?),
            "new" => network.is_new = true,
            "badsum" => network.is_corrupt = true,
            "fragments" => network.fragments = cursor.small()?,
            "merged" => network.merged_from = cursor.small()?,
            "reverse" => network.is_reverse = true,
            other => return cursor.wrong(&format!("unknown in brackets: `{other}`")),
        }
        if cursor.eat("]") {
            return Ok(network);
        }
        cursor.need(",")?;
    }
}

fn tcp(cursor: &mut Cursor<'_>) -> Result<Tcp, Wrong> {
    let flags = flags(cursor)?;
    let (seq, length) = range(cursor)?;
    let mut tcp =
        Tcp { flags, seq, length, ack: None, window: None, urgent: None, options: Some(Vec::new()) };
    loop {
        if cursor.eat_word("ack") {
            tcp.ack = Some(number(cursor)?);
        } else if cursor.eat_word("win") {
            tcp.window = Some(number(cursor)?);
        } else if cursor.eat_word("urg") {
            tcp.urgent = Some(cursor.small()?);
        } else if cursor.eat("<...>") {
            tcp.options = None;
        } else if cursor.eat("<") {
            tcp.options = Some(options(cursor)?);
        } else {
            break;
        }
    }
    if (flags & flag::ACK != 0) != tcp.ack.is_some() {
        return cursor.wrong("`.` among the flags goes with `ack`");
    }
    Ok(tcp)
}

fn flags(cursor: &mut Cursor<'_>) -> Result<u8, Wrong> {
    let before = *cursor;
    let text = cursor.take_while(|c| !c.is_whitespace());
    let mut flags = 0;
    for letter in text.chars().filter(|c| *c != '-') {
        match flag::LETTERS.iter().find(|entry| entry.1 == letter) {
            Some(entry) => flags |= entry.0,
            None => return before.wrong("unknown flag"),
        }
    }
    if text.is_empty() { before.wrong("expected flags") } else { Ok(flags) }
}

/// `1:1001(1000)`.
fn range(cursor: &mut Cursor<'_>) -> Result<(u32, u32), Wrong> {
    let before = *cursor;
    let seq: u32 = cursor.small()?;
    cursor.need(":")?;
    let end: u32 = cursor.small()?;
    cursor.need("(")?;
    let length: u32 = cursor.small()?;
    cursor.need(")")?;
    if end.wrapping_sub(seq) != length || length > 65_535 {
        return before.wrong("a range whose length is not its end less its begin");
    }
    Ok((seq, length))
}

fn number(cursor: &mut Cursor<'_>) -> Result<Number, Wrong> {
    if cursor.eat("*") { Ok(Number::Any) } else { cursor.small().map(Number::Is) }
}

fn options(cursor: &mut Cursor<'_>) -> Result<Vec<TcpOption>, Wrong> {
    let mut options = Vec::new();
    loop {
        options.push(option(cursor)?);
        if cursor.eat(">") {
            return Ok(options);
        }
        cursor.need(",")?;
    }
}

fn option(cursor: &mut Cursor<'_>) -> Result<TcpOption, Wrong> {
    Ok(match cursor.word() {
        "eol" => TcpOption::End,
        "nop" => TcpOption::Nop,
        "mss" => TcpOption::Mss(number(cursor)?),
        "wscale" => TcpOption::WindowScale(number(cursor)?),
        "sackOK" => TcpOption::SackOk,
        "TS" => {
            if !cursor.eat_word("val") {
                return cursor.wrong("expected `val`");
            }
            let value = number(cursor)?;
            if !cursor.eat_word("ecr") {
                return cursor.wrong("expected `ecr`");
            }
            TcpOption::Timestamps(value, number(cursor)?)
        }
        "sack" => {
            let mut blocks = Vec::new();
            while cursor.rest().starts_with(|c: char| c.is_ascii_digit()) {
                let left = cursor.small()?;
                cursor.need(":")?;
                blocks.push((left, cursor.small()?));
            }
            TcpOption::Sack(blocks)
        }
        "hex" => {
            let digits = cursor.take_while(|c| c.is_ascii_hexdigit());
            let pairs = digits.as_bytes().chunks(2);
            let bytes = pairs.map(|pair| {
                std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
            });
            match bytes.collect::<Option<Vec<u8>>>() {
                Some(bytes) if digits.len().is_multiple_of(2) => TcpOption::Hex(bytes),
                _ => return cursor.wrong("expected pairs of hexadecimal digits"),
            }
        }
        other => return cursor.wrong(&format!("unknown option `{other}`")),
    })
}

fn icmp(cursor: &mut Cursor<'_>, errors: &[(&str, &str, (u8, u8))]) -> Result<Icmp, Wrong> {
    let name = cursor.word();
    if name == "echo_request" || name == "echo_reply" {
        let (mut id, mut seq, mut length) = (0, 0, 0);
        loop {
            match cursor.word() {
                "id" => id = cursor.small()?,
                "seq" => seq = cursor.small()?,
                "len" => length = cursor.small::<u16>()?.into(),
                "" => break,
                other => return cursor.wrong(&format!("unknown in an echo: `{other}`")),
            }
        }
        return Ok(Icmp::Echo { is_reply: name == "echo_reply", id, seq, length });
    }
    let mut copy = *cursor;
    let code = copy.word();
    let found = errors.iter().find(|error| error.0 == name && (error.1.is_empty() || error.1 == code));
    let Some(&(_, named, kind)) = found else {
        return cursor.wrong(&format!("unknown ICMP error `{name} {code}`"));
    };
    if !named.is_empty() {
        *cursor = copy;
    }
    let mtu = if cursor.eat_word("mtu") { cursor.small()? } else { 0 };
    let mut quoted = None;
    if cursor.eat("[") {
        quoted = Some(if cursor.rest().starts_with(|c: char| c.is_ascii_digit()) {
            let (seq, length) = range(cursor)?;
            let ack = Some(Number::Any);
            Tcp { flags: flag::ACK, seq, length, ack, window: None, urgent: None, options: Some(Vec::new()) }
        } else {
            tcp(cursor)?
        });
        cursor.need("]")?;
    }
    Ok(Icmp::Error { kind, mtu, quoted })
}
