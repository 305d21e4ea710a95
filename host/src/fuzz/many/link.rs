//! A connection between two brokers. To its own broker it is a client like any other: what that sends everybody goes to the
//! peer, and what the peer sends goes to that.
//!
//! LLMP has such connections itself, and they are not used: they take memory as the peer's length says, end in a panic where a
//! body is short, pass on the marks by which LLMP controls its own clients, and let anybody who can connect name the
//! memory to be mapped. Here what crosses the network is a case's text.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use libafl::events::{
    Event, EventConfig, EventFirer as _, EventReceiver as _, EventWithStats, HasEventManagerId as _,
};
use libafl::executors::ExitKind;
use libafl_bolts::ClientId;

use super::hub::Hub;
use super::input::Scenario;
use super::limits;
use super::wire::{self, Frame, Inbox, Refusal};
use super::worker::{self, Manager, State};

/// How often a broker that listens or waits looks whether it should go on.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a connection takes at most.
const CONNECTS: Duration = Duration::from_secs(3);
/// How long a broker that is not there yet is waited for.
const AWAITED: Duration = Duration::from_secs(10);
/// How long until a lost connection is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the peer is told the status.
const TOLD: Duration = Duration::from_millis(500);
/// How long a peer may be silent.
const SILENT: Duration = Duration::from_secs(30);
/// How long a peer may take to hear what was said last.
const PARTING: Duration = Duration::from_secs(1);
/// Cases that go to the peer in one turn.
const BATCH: usize = 64;
/// Cases of all peers that may be on their way to the broker. LLMP ends in a panic where somebody sends more than three pages
/// that nobody has read; so many cases never fill them.
const WINDOW: u64 = 4;

/// Connects to a broker, which may not be there yet. It is given up, as interrupted, once it need not go on.
pub(super) fn dial(
    hub: &Hub<'_>,
    peer: &str,
    waits: bool,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<TcpStream, Refusal> {
    let begun = Instant::now();
    loop {
        match connect(peer, goes_on) {
            Ok(mut stream) => return wire::greet(&mut stream, &hub.hello, goes_on).map(|()| stream),
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && waits && begun.elapsed() < AWAITED =>
            {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(Refusal::Broken(error)),
        }
    }
}

/// A connection, made by a thread of its own, which is left alone once it need not go on: neither a name nor a
/// connection that is looked for can be called off.
fn connect(peer: &str, goes_on: &mut dyn FnMut() -> bool) -> io::Result<TcpStream> {
    let (done, result) = mpsc::channel();
    let peer = peer.to_owned();
    std::thread::Builder::new().name("bulkhead-dial".into()).spawn(move || {
        let connected = peer.to_socket_addrs().and_then(|mut found| {
            let address = found.next().ok_or(io::ErrorKind::NotFound)?;
            TcpStream::connect_timeout(&address, CONNECTS)
        });
        // Nobody listens any more where it was given up.
        let _ = done.send(connected);
    })?;
    while goes_on() {
        match result.recv_timeout(PAUSE) {
            Ok(connected) => return connected,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::Other.into()),
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// Keeps a connection that was dialled, and dials again when it is lost.
pub(super) fn keep(hub: &Hub<'_>, port: u16, peer: &str, first: TcpStream) {
    let mut next = Some(first);
    while !hub.is_closing() {
        let result = match next.take() {
            Some(stream) => serve(hub, port, stream).map_err(Refusal::Broken),
            None => dial(hub, peer, false, &mut || !hub.is_closing()).map(|stream| next = Some(stream)),
        };
        match result {
            Err(_) if hub.is_closing() => {}
            Err(refusal @ Refusal::Broken(_)) => {
                hub.complain(format!("{peer} {refusal}"));
                let lost = Instant::now();
                while !hub.is_closing() && lost.elapsed() < AGAIN {
                    std::thread::sleep(PAUSE);
                }
            }
            Err(refusal) => return hub.complain(format!("{peer} {refusal}")),
            Ok(()) => {}
        }
    }
}

/// Lets other brokers in, so many at a time.
pub(super) fn listen<'s>(scope: &'s Scope<'s, '_>, hub: &'s Hub<'s>, port: u16, listener: &TcpListener) {
    if let Err(error) = listener.set_nonblocking(true) {
        return hub.complain(error.to_string());
    }
    while !hub.is_closing() {
        match listener.accept() {
            Ok((stream, from)) if hub.links.load(Ordering::Relaxed) < limits::LINKS => {
                hub.links.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move || {
                    let result = admit(hub, port, stream);
                    hub.links.fetch_sub(1, Ordering::Relaxed);
                    if let Err(refusal) = result {
                        hub.complain(format!("{from} {refusal}"));
                    }
                });
            }
            Ok(_) => {
                hub.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn admit(hub: &Hub<'_>, port: u16, mut stream: TcpStream) -> Result<(), Refusal> {
    stream.set_nonblocking(false).map_err(Refusal::Broken)?;
    if let Err(refusal) = wire::greet(&mut stream, &hub.hello, &mut || !hub.is_closing()) {
        hub.refused.fetch_add(1, Ordering::Relaxed);
        return Err(refusal);
    }
    exchange(hub, port, stream).map_err(Refusal::Broken)
}

fn serve(hub: &Hub<'_>, port: u16, stream: TcpStream) -> io::Result<()> {
    hub.links.fetch_add(1, Ordering::Relaxed);
    let result = exchange(hub, port, stream);
    hub.links.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Both directions in turn, until the campaign or the connection ends.
fn exchange(hub: &Hub<'_>, port: u16, stream: TcpStream) -> io::Result<()> {
    let manager = worker::connect(port).map_err(io::Error::other)?;
    let state = worker::no_state().map_err(io::Error::other)?;
    let mut link = Link { hub, stream, manager, state, inbox: Inbox::default(), has_caught_up: false };
    let result = link.turns();
    worker::leave(link.manager);
    result
}

struct Link<'h> {
    hub: &'h Hub<'h>,
    stream: TcpStream,
    manager: Manager,
    state: State,
    inbox: Inbox,
    /// All cases that were there in the beginning are sent.
    has_caught_up: bool,
}

impl Link<'_> {
    fn turns(&mut self) -> io::Result<()> {
        let (mut told, mut heard) = (None::<Instant>, Instant::now());
        while !self.hub.is_closing() {
            self.send()?;
            if told.is_none_or(|told| told.elapsed() >= TOLD) {
                told = Some(Instant::now());
                self.tell()?;
            }
            if self.receive()? {
                heard = Instant::now();
            } else if heard.elapsed() > SILENT {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        // What was found last.
        while self.send()? {}
        self.tell()?;
        self.part()
    }

    /// Waits until the peer has heard it: a socket that is closed with something unread in it resets the connection, and what is on
    /// its way is lost.
    fn part(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let (begun, mut unread) = (Instant::now(), [0; 4096]);
        while begun.elapsed() < PARTING {
            match self.stream.read(&mut unread) {
                Ok(0) => break,
                Err(error)
                    if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn tell(&mut self) -> io::Result<()> {
        let frames: Vec<u8> =
            self.hub.news().into_iter().flat_map(|status| wire::bytes(&Frame::Status(status))).collect();
        self.stream.write_all(&frames)
    }

    /// Sends the peer what the broker has for everybody: some of it. Says whether there may be more.
    fn send(&mut self) -> io::Result<bool> {
        for _ in 0..BATCH {
            let received = self.manager.try_receive(&mut self.state).map_err(io::Error::other)?;
            let Some((event, _)) = received else {
                if !std::mem::replace(&mut self.has_caught_up, true) {
                    self.stream.write_all(&wire::bytes(&Frame::CaughtUp))?;
                }
                return Ok(false);
            };
            if let (Event::NewTestcase { input, .. }, _) = event.into_parts() {
                self.stream.write_all(&wire::bytes(&Frame::Case(input)))?;
            }
        }
        Ok(true)
    }

    /// Gives the broker what the peer has sent, as fast as it takes it. Says whether anything came.
    fn receive(&mut self) -> io::Result<bool> {
        let has_come = self.inbox.fill(&mut self.stream)?;
        while self.hub.in_flight() < WINDOW {
            match self.inbox.next() {
                Ok(None) => break,
                Ok(Some(Frame::Case(input))) => self.bring(input).map_err(io::Error::other)?,
                Ok(Some(Frame::Status(status))) => self.hub.hear(status),
                Ok(Some(Frame::CaughtUp)) => drop(self.hub.caught_up.fetch_add(1, Ordering::Relaxed)),
                Ok(Some(Frame::Malformed)) => drop(self.hub.dropped.fetch_add(1, Ordering::Relaxed)),
                Err(()) => {
                    self.hub.dropped.fetch_add(1, Ordering::Relaxed);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "sends what is no frame"));
                }
            }
        }
        Ok(has_come)
    }

    fn bring(&mut self, input: Scenario) -> Result<(), libafl_bolts::Error> {
        let event = Event::NewTestcase {
            input,
            observers_buf: None,
            exit_kind: ExitKind::Ok,
            corpus_size: 0,
            client_config: EventConfig::AlwaysUnique,
            // By this the broker knows that it came from elsewhere.
            forward_id: Some(ClientId(self.manager.mgr_id().0 as u32)),
        };
        self.hub.brought.fetch_add(1, Ordering::Relaxed);
        self.manager.fire(&mut self.state, EventWithStats::with_current_time(event, 0))
    }
}
