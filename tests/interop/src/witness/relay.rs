//! The connections that a witness hands on: from a client into the stacks, and out of them to the server.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::flight::Flight;
use super::{Pair, Shared};
use crate::place::ENDING;

/// How often somebody who waits looks whether it is all over.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that are handed on at once.
const CHUNK: usize = 64 << 10;
/// Bytes of the number before a connection.
const NUMBER: usize = 8;

/// At the clients' end: each connection goes on to `target`, through the stacks.
pub(super) fn front(listener: &TcpListener, target: SocketAddr, shared: &Shared) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        serve(listener, shared, |client| {
            let number = shared.number.fetch_add(1, Ordering::Relaxed);
            let pair =
                Arc::new(Pair { ways: [Flight::new(), Flight::new()], is_aborted: AtomicBool::new(false) });
            let by_number = || shared.pairs.lock().unwrap_or_else(PoisonError::into_inner);
            by_number().insert(number, Arc::clone(&pair));
            scope.spawn(move || {
                let opened = TcpStream::connect(target)
                    .and_then(|mut net| net.write_all(&number.to_be_bytes()).map(|()| net));
                match opened
                    .and_then(|net| join(scope, Ends { program: client, net, pair, is_back: false, shared }))
                {
                    Ok(()) => {}
                    Err(error) => shared.fail(format!("no connection: {error}")),
                }
            });
        })
    })
}

/// At the servers' end: each connection goes on to `server`.
pub(super) fn back(listener: &TcpListener, server: SocketAddr, shared: &Shared) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        serve(listener, shared, |net| {
            scope.spawn(move || {
                let joined = reach(&net, server, shared).and_then(|(program, pair)| match program {
                    // It can only have been the program.
                    Err(_) => {
                        pair.is_aborted.store(true, Ordering::Relaxed);
                        Ok(())
                    }
                    Ok(program) => join(scope, Ends { program, net, pair, is_back: true, shared })
                        .map_err(|error| format!("no connection: {error}")),
                });
                joined.unwrap_or_else(|what| shared.fail(what));
            });
        })
    })
}

/// Finds what the other end knows of a connection, and reaches the server when every connection before it has.
fn reach(
    net: &TcpStream,
    server: SocketAddr,
    shared: &Shared,
) -> Result<(io::Result<TcpStream>, Arc<Pair>), String> {
    let mut number = [0; NUMBER];
    let mut net = net;
    net.set_read_timeout(Some(shared.stall))
        .and_then(|()| net.read_exact(&mut number))
        .map_err(|error| format!("a connection does not begin: {error}"))?;
    let number = u64::from_be_bytes(number);
    let pairs = shared.pairs.lock().unwrap_or_else(PoisonError::into_inner);
    let is_early =
        |pairs: &mut BTreeMap<u64, _>| pairs.first_key_value().is_some_and(|(&first, _)| first < number);
    let (mut pairs, _) = shared
        .is_less
        .wait_timeout_while(pairs, shared.stall, |pairs| is_early(pairs))
        .unwrap_or_else(PoisonError::into_inner);
    if is_early(&mut pairs) {
        return Err(format!("connection {number} came, and none before it for {} s", shared.stall.as_secs()));
    }
    let pair = pairs.remove(&number).ok_or("a connection does not begin as it was opened")?;
    // While nobody else can: the order of connecting is the order of accepting.
    let program = TcpStream::connect(server);
    shared.is_less.notify_all();
    Ok((program, pair))
}

/// Takes connections until it is all over.
fn serve(listener: &TcpListener, shared: &Shared, mut take: impl FnMut(TcpStream)) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    while !shared.is_over.load(Ordering::Relaxed) {
        let wait = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&wait)).context("poll")?;
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                take(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("accept"),
        }
    }
    Ok(())
}

/// The two connections that one end of the witness joins.
struct Ends<'a> {
    /// With the program.
    program: TcpStream,
    /// With the other end of the witness, through the stacks.
    net: TcpStream,
    pair: Arc<Pair>,
    is_back: bool,
    shared: &'a Shared,
}

/// Both ways, until both have ended: one on a thread of its own, the other on this one.
fn join<'scope>(scope: &'scope Scope<'scope, '_>, ends: Ends<'scope>) -> io::Result<()> {
    for stream in [&ends.program, &ends.net] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(ENDING))?;
    }
    let ends = Arc::new(ends);
    let other = Arc::clone(&ends);
    scope.spawn(move || other.out());
    ends.inward();
    Ok(())
}

/// What came of a wait for bytes.
enum Read {
    Bytes(usize),
    End,
    Reset,
    Nothing,
}

fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> Read {
    match stream.read(buffer) {
        Ok(0) => Read::End,
        Ok(length) => Read::Bytes(length),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Read::Nothing,
        Err(_) => Read::Reset,
    }
}

/// No more bytes follow.
fn end(stream: &TcpStream) {
    // It may be gone already.
    let _ = stream.shutdown(Shutdown::Write);
}

impl Ends<'_> {
    /// The way on which this end sends, or that on which it gets.
    fn way(&self, is_sending: bool) -> &Flight {
        &self.pair.ways[usize::from(self.is_back == is_sending)]
    }

    fn abort(&self) {
        self.pair.is_aborted.store(true, Ordering::Relaxed);
        self.close();
    }

    fn close(&self) {
        // They may be gone already.
        let _ = self.program.shutdown(Shutdown::Both);
        let _ = self.net.shutdown(Shutdown::Both);
    }

    /// Something is wrong, but for a connection that a program has reset.
    fn fail(&self, what: String) {
        if !self.pair.is_aborted.load(Ordering::Relaxed) {
            self.shared.fail(what);
        }
        self.abort();
    }

    /// From the program into the stacks.
    fn out(&self) {
        let (mut buffer, mut over) = (vec![0; CHUNK], None);
        loop {
            match read(&self.program, &mut buffer) {
                Read::Bytes(length) => {
                    let bytes = &buffer[..length];
                    self.way(true).send(bytes, Instant::now());
                    if let Err(error) = (&self.net).write_all(bytes) {
                        return self.fail(format!("bytes are not taken: {error}"));
                    }
                }
                Read::End => return end(&self.net),
                Read::Reset => return self.abort(),
                Read::Nothing if self.is_late(&mut over) => {
                    return self.fail("leaked: a program's connection does not end".into());
                }
                Read::Nothing => {}
            }
        }
    }

    /// From the stacks to the program.
    fn inward(&self) {
        let (mut buffer, mut over) = (vec![0; CHUNK], None);
        let mut asked = Instant::now();
        loop {
            let outcome = read(&self.net, &mut buffer);
            let now = Instant::now();
            match outcome {
                Read::Bytes(length) => {
                    let bytes = &buffer[..length];
                    match self.way(false).arrive(bytes, asked, now) {
                        Ok(waited) => self.note(length, waited),
                        Err(what) => return self.fail(what),
                    }
                    if (&self.program).write_all(bytes).is_err() {
                        return self.abort();
                    }
                    asked = Instant::now();
                }
                Read::End => {
                    let missing = self.way(false).under_way();
                    if missing > 0 {
                        return self.fail(format!("it ended with {missing} bytes missing"));
                    }
                    return end(&self.program);
                }
                Read::Reset => return self.fail("it was reset, and by no program".into()),
                Read::Nothing if self.way(false).waits(asked, now) > self.shared.stall => {
                    let (bytes, stall) = (self.way(false).under_way(), self.shared.stall.as_secs());
                    return self.fail(format!(
                        "stalled: {bytes} bytes are under way, and none arrived for {stall} s"
                    ));
                }
                Read::Nothing if self.is_late(&mut over) => {
                    return self.fail("leaked: a connection does not end".into());
                }
                Read::Nothing => {}
            }
        }
    }

    fn note(&self, length: usize, waited: Duration) {
        let ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
        self.shared.longest_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// Whether the programs have been gone for longer than a connection may take to end. `over` is since when they are.
    fn is_late(&self, over: &mut Option<Instant>) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
            && over.get_or_insert_with(Instant::now).elapsed() > ENDING
    }
}
