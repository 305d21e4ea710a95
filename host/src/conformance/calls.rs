//! The sockets of a script, and the calls that do not wait.

use super::flow::{End, pattern};
use super::options::{self, Effect};
use super::script::{Argument, Call, Outcome};
use super::wire::Addresses;
use crate::error::StreamError;
use crate::stack::{ConnectOptions, ListenOptions, ListenerId, Stack, StreamId};
use crate::streams::Sizes;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Address, Endpoint, MarkAt, NEVER, Setting, Time};
use std::collections::BTreeMap;

/// Bytes of one read or write, at most.
const BYTES: usize = 64 << 20;

/// Ports where the script names none.
pub(super) const LOCAL_PORT: u16 = 8080;
/// The remote end's port.
pub(super) const REMOTE_PORT: u16 = 40_000;

/// Why a call has no outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// It would have to wait.
    Waits,
    /// The script is wrong.
    Script(String),
}

fn script<T>(what: &str) -> Result<T, Refusal> {
    Err(Refusal::Script(what.to_owned()))
}

/// One descriptor.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    kind: Kind,
    port: u16,
    settings: Vec<Setting>,
    keepalive: options::Keepalive,
    sizes: Sizes,
    /// `SO_LINGER`, once it is on.
    linger: Option<Time>,
    written: u32,
    consumed: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    New,
    Listening(ListenerId),
    Stream(StreamId),
}

/// All descriptors of a script.
#[derive(Debug)]
pub(super) struct Sockets {
    all: BTreeMap<i64, Socket>,
    /// The one that was connected or accepted last.
    pub latest: Option<i64>,
    addresses: Addresses,
    sizes: Sizes,
}

impl Sockets {
    pub(super) fn new(addresses: Addresses, sizes: Sizes) -> Self {
        Self { all: BTreeMap::new(), latest: None, addresses, sizes }
    }

    pub(super) fn stream(&self, number: i64) -> Option<StreamId> {
        match self.all.get(&number)?.kind {
            Kind::Stream(id) => Some(id),
            _ => None,
        }
    }

    /// Does a call, or says that it must wait. A call that waits is made again with the same arguments.
    pub(super) fn make(&mut self, call: &Call, stack: &mut Stack) -> Result<Outcome, Refusal> {
        if call.name == "socket" {
            return self.socket(&call.result);
        }
        let Some(Argument::Number(number)) = call.arguments.first() else {
            return script("the first argument must be a descriptor");
        };
        let number = *number;
        if call.name == "accept" || call.name == "accept4" {
            return self.accept(number, &call.result, stack);
        }
        let addresses = self.addresses;
        let Some(socket) = self.all.get_mut(&number) else {
            return Ok(Outcome::Error("EBADF".to_owned()));
        };
        let rest = call.arguments.get(1..).unwrap_or_default();
        match call.name.as_str() {
            "fcntl" => Ok(call.result.clone()),
            "bind" => {
                socket.port = port(rest).unwrap_or(LOCAL_PORT);
                Ok(Outcome::Value(0))
            }
            "listen" => listen(socket, addresses, rest, stack),
            "connect" => {
                self.latest = Some(number);
                connect(socket, addresses, rest, stack)
            }
            "setsockopt" => set_option(socket, rest, stack),
            "getsockopt" => error_of(socket, rest, stack),
            "close" | "abort" => {
                let socket = self.all.remove(&number);
                socket.map_or(script("no such socket"), |socket| Ok(close(&socket, &call.name, stack)))
            }
            name => match socket.kind {
                Kind::Stream(id) => on_stream(socket, id, name, rest, stack),
                _ => Ok(Outcome::Error("ENOTCONN".to_owned())),
            },
        }
    }

    fn socket(&mut self, result: &Outcome) -> Result<Outcome, Refusal> {
        let Outcome::Value(number) = *result else { return script("socket gives a number") };
        let socket = Socket::new(Kind::New, 0, self.sizes);
        if self.all.insert(number, socket).is_some() {
            return script("this descriptor is in use");
        }
        Ok(Outcome::Value(number))
    }

    fn accept(&mut self, number: i64, result: &Outcome, stack: &mut Stack) -> Result<Outcome, Refusal> {
        let Some(Socket { kind: Kind::Listening(listener), sizes, port, .. }) = self.all.get(&number) else {
            return Ok(Outcome::Error("EINVAL".to_owned()));
        };
        let (sizes, port) = (*sizes, *port);
        match stack.accept(*listener) {
            Ok(accepted) => {
                let next = self.all.keys().next_back().map_or(3, |last| last + 1);
                let number = if let Outcome::Value(number) = result { *number } else { next };
                self.all.insert(number, Socket::new(Kind::Stream(accepted.stream), port, sizes));
                self.latest = Some(number);
                Ok(Outcome::Value(number))
            }
            Err(error) => failed(&error),
        }
    }
}

impl Socket {
    fn new(kind: Kind, port: u16, sizes: Sizes) -> Self {
        Self {
            kind,
            port,
            settings: Vec::new(),
            keepalive: options::Keepalive::default(),
            sizes,
            linger: None,
            written: 0,
            consumed: 0,
        }
    }
}

/// A port among the arguments that stand for an address.
fn port(arguments: &[Argument]) -> Option<u16> {
    arguments.iter().find_map(|argument| match argument {
        Argument::Number(number) => u16::try_from(*number).ok(),
        _ => None,
    })
}

fn listen(
    socket: &mut Socket,
    addresses: Addresses,
    rest: &[Argument],
    stack: &mut Stack,
) -> Result<Outcome, Refusal> {
    let backlog = match rest.first() {
        Some(Argument::Number(backlog)) => u32::try_from(*backlog).unwrap_or(0),
        _ => 0,
    };
    let local = Endpoint::new(addresses.local, socket.port);
    let (sizes, settings) = (Some(socket.sizes), socket.settings.clone());
    match stack.listen(local, ListenOptions { backlog, sizes, settings, ..ListenOptions::default() }) {
        Ok(listener) => {
            socket.kind = Kind::Listening(listener);
            Ok(Outcome::Value(0))
        }
        Err(error) => failed(&error),
    }
}

/// The first time opens; afterwards asks how it went.
fn connect(
    socket: &mut Socket,
    addresses: Addresses,
    rest: &[Argument],
    stack: &mut Stack,
) -> Result<Outcome, Refusal> {
    if let Kind::Stream(id) = socket.kind {
        return match stack.is_open(id) {
            Ok(true) => Ok(Outcome::Value(0)),
            Ok(false) => Err(Refusal::Waits),
            Err(error) => failed(&error),
        };
    }
    let remote = Endpoint::new(addresses.remote, port(rest).unwrap_or(REMOTE_PORT));
    let address = if socket.port == 0 { Address::UNSPECIFIED } else { addresses.local };
    let options = ConnectOptions {
        local: Endpoint::new(address, socket.port),
        sizes: Some(socket.sizes),
        settings: socket.settings.clone(),
    };
    match stack.connect(remote, options) {
        Ok(id) => {
            socket.kind = Kind::Stream(id);
            Err(Refusal::Waits)
        }
        Err(error) => failed(&error),
    }
}

fn set_option(socket: &mut Socket, rest: &[Argument], stack: &mut Stack) -> Result<Outcome, Refusal> {
    let effect = match options::effect(rest, &mut socket.keepalive) {
        Ok(effect) => effect,
        Err(what) => return Err(Refusal::Script(what)),
    };
    match effect {
        Effect::Nothing => {}
        Effect::Linger(linger) => socket.linger = linger,
        Effect::SendBuffer(bytes) => {
            socket.sizes.send_first = bytes;
            socket.sizes.send_max = bytes;
        }
        Effect::ReceiveBuffer(bytes) => {
            socket.sizes.receive_first = bytes;
            socket.sizes.receive_max = bytes;
        }
        Effect::Set(settings) => {
            for setting in settings {
                socket.settings.push(setting);
                if let Kind::Stream(id) = socket.kind
                    && let Err(error) = stack.set(id, setting)
                {
                    return failed(&error);
                }
            }
        }
    }
    Ok(Outcome::Value(0))
}

/// `getsockopt(4, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], ...) = 0`; the value stands in brackets.
fn error_of(socket: &Socket, rest: &[Argument], stack: &mut Stack) -> Result<Outcome, Refusal> {
    let is_error = matches!(rest.get(1), Some(Argument::Word(name)) if name == "SO_ERROR");
    let Some(Argument::List(expected)) = rest.get(2).filter(|_| is_error) else {
        return script("only SO_ERROR can be asked for: use %{ }% for the rest");
    };
    let Kind::Stream(id) = socket.kind else { return Ok(Outcome::Error("ENOTCONN".to_owned())) };
    let got = match stack.is_open(id) {
        Err(error) => errno(&error).to_owned(),
        Ok(_) => match stack.peek_into(id, &mut [0]) {
            Err(StreamError::WouldBlock) | Ok(_) => "0".to_owned(),
            Err(error) => errno(&error).to_owned(),
        },
    };
    let is_it = match expected.first() {
        Some(Argument::Number(0)) => got == "0",
        Some(Argument::Word(name)) => *name == got,
        _ => false,
    };
    Ok(if is_it { Outcome::Value(0) } else { Outcome::Flags(format!("0 with [{got}]")) })
}

fn close(socket: &Socket, name: &str, stack: &mut Stack) -> Outcome {
    match socket.kind {
        Kind::New => {}
        Kind::Listening(listener) => stack.unlisten(listener),
        Kind::Stream(id) if name == "abort" || socket.linger == Some(0) => stack.abort(id),
        // A lingering close waits in the kernel; here it only bounds the time.
        Kind::Stream(id) => stack.close(id, socket.linger.unwrap_or(NEVER)),
    }
    Outcome::Value(0)
}

fn on_stream(
    socket: &mut Socket,
    id: StreamId,
    name: &str,
    rest: &[Argument],
    stack: &mut Stack,
) -> Result<Outcome, Refusal> {
    let count = rest.iter().find_map(|argument| match argument {
        Argument::Number(number) => usize::try_from(*number).ok().filter(|count| *count <= BYTES),
        _ => None,
    });
    let flags = rest.iter().find_map(|argument| match argument {
        Argument::Word(word) => Some(word.as_str()),
        _ => None,
    });
    let has = |flag: &str| flags.is_some_and(|flags| flags.split('|').any(|one| one == flag));
    match (name, count) {
        ("read" | "recv", Some(count)) => read(socket, id, count, has("MSG_PEEK"), stack),
        ("write" | "send", Some(count)) => {
            let mut marks = if has("MSG_MORE") { MarkAt::MORE } else { MarkAt::PUSH };
            for (flag, mark) in [("MSG_EOR", MarkAt::END_OF_RECORD), ("MSG_OOB", MarkAt::URGENT)] {
                marks = if has(flag) { marks.with(mark) } else { marks };
            }
            write(socket, id, count, marks, stack)
        }
        ("shutdown", _) if has("SHUT_RD") => Ok(Outcome::Value(0)),
        ("shutdown", _) => match stack.shutdown(id) {
            Ok(()) => Ok(Outcome::Value(0)),
            Err(error) => failed(&error),
        },
        ("poll", _) => Ok(poll(id, stack)),
        ("unread", _) => Ok(Outcome::Value(stack.readable(id).map_or(-1, |(bytes, _)| bytes as i64))),
        ("unacknowledged", _) => {
            Ok(Outcome::Value(stack.unacknowledged(id).map_or(-1, |bytes| bytes as i64)))
        }
        ("urgent", _) => Ok(Outcome::Value(stack.urgent(id).map_or(-1, |at| at as i64))),
        _ => script(&format!("no such call, or an argument is missing: {name}")),
    }
}

fn read(
    socket: &mut Socket,
    id: StreamId,
    count: usize,
    is_peek: bool,
    stack: &mut Stack,
) -> Result<Outcome, Refusal> {
    let mut bytes = vec![0; count];
    let got = if is_peek { stack.peek_into(id, &mut bytes) } else { stack.read(id, &mut bytes) };
    let got = match got {
        Ok(got) => got,
        Err(error) => return failed(&error),
    };
    let from = socket.consumed;
    let is_right = (0_u32..)
        .zip(bytes.iter().take(got))
        .all(|(at, byte)| *byte == pattern(End::Remote, from.wrapping_add(at)));
    if !is_right {
        return Ok(Outcome::Flags(format!("{got} bytes, not those that the peer sent")));
    }
    if !is_peek {
        socket.consumed = from.wrapping_add(u32::try_from(got).unwrap_or(0));
    }
    Ok(Outcome::Value(got as i64))
}

fn write(
    socket: &mut Socket,
    id: StreamId,
    count: usize,
    marks: MarkAt,
    stack: &mut Stack,
) -> Result<Outcome, Refusal> {
    let from = socket.written;
    let bytes: Vec<u8> = (0_u32..).take(count).map(|at| pattern(End::Local, from.wrapping_add(at))).collect();
    match stack.write_marked(id, &bytes, marks) {
        Ok(got) => {
            socket.written = from.wrapping_add(u32::try_from(got).unwrap_or(0));
            Ok(Outcome::Value(got as i64))
        }
        Err(error) => failed(&error),
    }
}

fn poll(id: StreamId, stack: &mut Stack) -> Outcome {
    let readable = stack.readable(id);
    let is_readable = readable.is_some_and(|(bytes, is_end)| bytes > 0 || is_end);
    let end = match stack.peek_into(id, &mut [0]) {
        Ok(_) | Err(StreamError::WouldBlock) => stack.is_open(id).err(),
        Err(error) => Some(error),
    };
    let is_open = end.is_none() && stack.is_open(id).is_ok_and(|is_open| is_open);
    let mut names = Vec::new();
    if is_readable || end.is_some() {
        names.push("POLLIN");
    }
    if is_open && stack.may_write(id) {
        names.push("POLLOUT");
    }
    if end.is_some() {
        names.push("POLLERR");
    }
    if names.is_empty() { Outcome::Value(0) } else { Outcome::Flags(names.join("|")) }
}

fn failed(error: &StreamError) -> Result<Outcome, Refusal> {
    match error {
        StreamError::WouldBlock => Err(Refusal::Waits),
        other => Ok(Outcome::Error(errno(other).to_owned())),
    }
}

/// The error as a script names it.
fn errno(error: &StreamError) -> &'static str {
    match error {
        StreamError::WouldBlock => "EAGAIN",
        StreamError::Fault(_) => "EFAULT",
        StreamError::Shut => "EPIPE",
        StreamError::Unknown => "EBADF",
        StreamError::Exhausted => "ENOMEM",
        StreamError::TooLong => "EMSGSIZE",
        StreamError::Ended(number) => match *number {
            reason::RESET | reason::DATA_AFTER_CLOSE => "ECONNRESET",
            reason::REFUSED | reason::PORT_UNREACHABLE => "ECONNREFUSED",
            reason::TIMED_OUT | reason::KEEPALIVE | reason::LINGER => "ETIMEDOUT",
            reason::ABORTED => "ECONNABORTED",
            reason::HOST_UNREACHABLE | reason::PROHIBITED => "EHOSTUNREACH",
            reason::NETWORK_UNREACHABLE => "ENETUNREACH",
            reason::IN_USE => "EADDRINUSE",
            reason::NOT_AVAILABLE => "EADDRNOTAVAIL",
            reason::EXHAUSTED => "ENOMEM",
            reason::NORMAL => "EPIPE",
            _ => "EINVAL",
        },
    }
}
