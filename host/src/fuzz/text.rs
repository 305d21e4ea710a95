//! Cases as text: a line for each event, for people to read, edit and keep in a repository.
//!
//! ```text
//! # what the peer of flow 0 and the application do
//! seg 0 S opts=mss:1460,scale:7,sackok
//! seg 0 A
//! write 0 65536
//! seg 0 A win=1 len=100 seq=+100
//! wait 200000
//! ```

use std::fmt::{self, Display, Write as _};
use std::str::FromStr;

use bulkhead_wit::Verdict;

use super::case::{Call, Case, Event, FLOWS, Fragment, Icmp, Segment, TcpOption};
use super::limits;

/// Letters of the TCP flags, from the lowest bit on.
const FLAGS: &[u8] = b"FSRPAUEC";
const VERDICTS: [(&str, Verdict); 4] = [
    ("accept", Verdict::Accept),
    ("reset", Verdict::Reset),
    ("unreachable", Verdict::Unreachable),
    ("drop", Verdict::Drop),
];

/// What is wrong with a case's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for TextError {}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl FromStr for Case {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let mut case = Self::default();
        for (number, line) in text.lines().enumerate() {
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let failed = |what| TextError { line: number + 1, what };
            if case.events.len() >= limits::EVENTS {
                return Err(failed(format!("a case has at most {} events", limits::EVENTS)));
            }
            case.events.push(content.parse().map_err(failed)?);
        }
        Ok(case)
    }
}

/// ` key=value`, unless it is the default.
fn field<T: PartialEq + Display>(line: &mut String, key: &str, value: T, default: T) {
    if value != default {
        let _ = write!(line, " {key}={value}");
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => f.write_str(&segment_text(segment)),
            Self::Fragment(Fragment { flow, id, offset, length, more, protocol }) => {
                let more = if *more { " more" } else { "" };
                write!(f, "frag {flow} id={id} off={offset} len={length} proto={protocol}{more}")
            }
            Self::Icmp(Icmp { flow, kind, code, value, seq, quoted }) => {
                write!(f, "icmp {flow} type={kind} code={code} value={value} seq={seq} quoted={quoted}")
            }
            Self::Echo { flow, length } => write!(f, "echo {flow} len={length}"),
            Self::Datagram { flow, port, length } => write!(f, "udp {flow} port={port} len={length}"),
            Self::Raw(bytes) => {
                f.write_str("raw ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Call(call) => call.fmt(f),
            Self::Wait { us } => write!(f, "wait {us}"),
            Self::Stall { us } => write!(f, "stall {us}"),
            Self::Fair { rounds } => write!(f, "fair {rounds}"),
        }
    }
}

fn segment_text(segment: &Segment) -> String {
    let flags: String = FLAGS
        .iter()
        .enumerate()
        .filter(|(bit, _)| segment.flags >> bit & 1 == 1)
        .map(|(_, letter)| char::from(*letter))
        .collect();
    let mut line = format!("seg {} {}", segment.flow, if flags.is_empty() { "-" } else { &flags });
    field(&mut line, "seq", segment.seq, 0);
    field(&mut line, "ack", segment.ack, 0);
    field(&mut line, "win", segment.window, 65_535);
    field(&mut line, "urg", segment.urgent, 0);
    field(&mut line, "len", segment.length, 0);
    field(&mut line, "port", segment.port, 0);
    field(&mut line, "gso", segment.gso, 0);
    field(&mut line, "cut", segment.cut, 0);
    field(&mut line, "repeat", segment.repeat, 0);
    field(&mut line, "stride", segment.stride, 0);
    field(&mut line, "ecn", segment.ecn, 0);
    if !segment.options.is_empty() {
        let options: Vec<String> = segment.options.iter().map(ToString::to_string).collect();
        let _ = write!(line, " opts={}", options.join(","));
    }
    line
}

impl Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("end"),
            Self::Nop => f.write_str("nop"),
            Self::Mss(size) => write!(f, "mss:{size}"),
            Self::WindowScale(shift) => write!(f, "scale:{shift}"),
            Self::SackPermitted => f.write_str("sackok"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(from, to)| write!(f, ":{from}:{to}"))
            }
            Self::Timestamps(value, echo) => write!(f, "ts:{value}:{echo}"),
            Self::Raw(bytes) => {
                f.write_str("raw:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { port, defer } => write!(f, "listen {port}{}", if *defer { " defer" } else { "" }),
            Self::Unlisten => f.write_str("unlisten"),
            Self::Open(flow) => write!(f, "open {flow}"),
            Self::Write(flow, count) => write!(f, "write {flow} {count}"),
            Self::Mark(flow, count, marks) => write!(f, "mark {flow} {count} {marks}"),
            Self::Read(flow, count) => write!(f, "read {flow} {count}"),
            Self::Shutdown(flow) => write!(f, "shutdown {flow}"),
            Self::Close(flow, linger) => write!(f, "close {flow} {linger}"),
            Self::Abort(flow) => write!(f, "abort {flow}"),
            Self::Set(flow, key, value) => write!(f, "set {flow} {key} {value}"),
            Self::Default(key, value) => write!(f, "default {key} {value}"),
            Self::Query(flow) => write!(f, "query {flow}"),
            Self::Decide(flow, verdict) => {
                let name = VERDICTS.iter().find(|(_, one)| one == verdict).map_or("drop", |(name, _)| name);
                write!(f, "decide {flow} {name}")
            }
            Self::Send(flow, length) => write!(f, "send {flow} {length}"),
        }
    }
}

/// The words of a line, taken one after the other.
struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        number(self.word(what)?, what)
    }

    fn flow(&mut self) -> Result<u8, String> {
        let flow = self.number("the flow")?;
        if flow < FLOWS { Ok(flow) } else { Err(format!("flows are 0 to {}", FLOWS - 1)) }
    }

    /// The rest: words, and `key=value`.
    fn fields(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.map(|word| word.split_once('=').unwrap_or((word, "")))
    }
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what}: `{text}` is no such number"))
}

fn unknown<T>(key: &str) -> Result<T, String> {
    Err(format!("`{key}` is not known here"))
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = Words(line.split_ascii_whitespace());
        let verb = words.word("the event")?;
        Ok(match verb {
            "seg" => segment(words)?.into(),
            "frag" => fragment(words)?,
            "icmp" => icmp(words)?,
            "echo" | "udp" => datagram(verb, words)?,
            "raw" => Self::Raw(bytes(words.word("the bytes")?, limits::RAW)?),
            "wait" => Self::Wait { us: words.number("microseconds")? },
            "stall" => Self::Stall { us: words.number("microseconds")? },
            "fair" => Self::Fair { rounds: words.number("round trips")? },
            _ => Self::Call(call(verb, words)?),
        })
    }
}

fn segment(mut words: Words<'_>) -> Result<Segment, String> {
    let flow = words.flow()?;
    let mut flags = 0;
    for letter in words.word("the flags")?.bytes().filter(|letter| *letter != b'-') {
        let bit = FLAGS.iter().position(|known| *known == letter);
        flags |=
            1 << bit.ok_or_else(|| format!("flags are - or some of {}", String::from_utf8_lossy(FLAGS)))?;
    }
    let mut segment = Segment::new(flow, flags);
    for (key, value) in words.fields() {
        match key {
            "seq" => segment.seq = number(value, key)?,
            "ack" => segment.ack = number(value, key)?,
            "win" => segment.window = number(value, key)?,
            "urg" => segment.urgent = number(value, key)?,
            "len" => segment.length = number(value, key)?,
            "port" => segment.port = number(value, key)?,
            "gso" => segment.gso = number(value, key)?,
            "cut" => segment.cut = number(value, key)?,
            "repeat" => segment.repeat = number(value, key)?,
            "stride" => segment.stride = number(value, key)?,
            "ecn" => segment.ecn = number::<u8>(value, key)? & 3,
            "opts" => segment.options = value.split(',').map(option).collect::<Result<_, _>>()?,
            _ => return unknown(key),
        }
    }
    Ok(segment)
}

fn option(text: &str) -> Result<TcpOption, String> {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    Ok(match name {
        "end" => TcpOption::End,
        "nop" => TcpOption::Nop,
        "mss" => TcpOption::Mss(number(value, name)?),
        "scale" => TcpOption::WindowScale(number(value, name)?),
        "sackok" => TcpOption::SackPermitted,
        "ts" => {
            let (value, echo) = value.split_once(':').ok_or("ts has two numbers")?;
            TcpOption::Timestamps(number(value, name)?, number(echo, name)?)
        }
        "sack" => {
            let ends: Vec<i32> = value
                .split(':')
                .filter(|end| !end.is_empty())
                .map(|end| number(end, name))
                .collect::<Result<_, _>>()?;
            TcpOption::Sack(
                ends.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect(),
            )
        }
        "raw" => TcpOption::Raw(bytes(value, limits::OPTION_BYTES)?),
        _ => return unknown(name),
    })
}

fn fragment(mut words: Words<'_>) -> Result<Event, String> {
    let mut fragment = Fragment { flow: words.flow()?, protocol: 17, ..Fragment::default() };
    for (key, value) in words.fields() {
        match key {
            "id" => fragment.id = number(value, key)?,
            "off" => fragment.offset = number(value, key)?,
            "len" => fragment.length = number(value, key)?,
            "proto" => fragment.protocol = number(value, key)?,
            "more" => fragment.more = true,
            _ => return unknown(key),
        }
    }
    Ok(Event::Fragment(fragment))
}

fn icmp(mut words: Words<'_>) -> Result<Event, String> {
    let mut icmp = Icmp { flow: words.flow()?, quoted: 8, ..Icmp::default() };
    for (key, value) in words.fields() {
        match key {
            "type" => icmp.kind = number(value, key)?,
            "code" => icmp.code = number(value, key)?,
            "value" => icmp.value = number(value, key)?,
            "seq" => icmp.seq = number(value, key)?,
            "quoted" => icmp.quoted = number(value, key)?,
            _ => return unknown(key),
        }
    }
    Ok(Event::Icmp(icmp))
}

fn datagram(verb: &str, mut words: Words<'_>) -> Result<Event, String> {
    let flow = words.flow()?;
    let (mut port, mut length) = (0, 0);
    for (key, value) in words.fields() {
        match key {
            "port" => port = number(value, key)?,
            "len" => length = number(value, key)?,
            _ => return unknown(key),
        }
    }
    Ok(if verb == "echo" { Event::Echo { flow, length } } else { Event::Datagram { flow, port, length } })
}

fn call(verb: &str, mut words: Words<'_>) -> Result<Call, String> {
    Ok(match verb {
        "listen" => Call::Listen { port: words.number("the port")?, defer: words.0.next() == Some("defer") },
        "unlisten" => Call::Unlisten,
        "open" => Call::Open(words.flow()?),
        "write" => Call::Write(words.flow()?, words.number("bytes")?),
        "mark" => Call::Mark(words.flow()?, words.number("bytes")?, words.number("marks")?),
        "read" => Call::Read(words.flow()?, words.number("bytes")?),
        "shutdown" => Call::Shutdown(words.flow()?),
        "close" => Call::Close(words.flow()?, words.number("milliseconds")?),
        "abort" => Call::Abort(words.flow()?),
        "set" => Call::Set(words.flow()?, words.number("the setting")?, words.number("its value")?),
        "default" => Call::Default(words.number("the setting")?, words.number("its value")?),
        "query" => Call::Query(words.flow()?),
        "decide" => {
            let flow = words.flow()?;
            let name = words.word("the verdict")?;
            let verdict = VERDICTS.iter().find(|(one, _)| *one == name).map(|(_, verdict)| *verdict);
            Call::Decide(flow, verdict.ok_or_else(|| format!("`{name}` is no verdict"))?)
        }
        "send" => Call::Send(words.flow()?, words.number("bytes")?),
        _ => return Err(format!("`{verb}` is no event")),
    })
}

fn bytes(text: &str, most: usize) -> Result<Vec<u8>, String> {
    if text.len() > 2 * most {
        return Err(format!("at most {most} bytes"));
    }
    let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len())
        .step_by(2)
        .map(|at| pair(at).ok_or_else(|| "bytes are pairs of hexadecimal digits".to_owned()))
        .collect()
}
