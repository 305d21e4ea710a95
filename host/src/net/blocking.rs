//! The same sockets for programs without a runtime: std's `Read` and `Write`, with timeouts. The stack needs a driver
//! on another thread ([`Builder::spawn`](super::Builder::spawn)).

use super::Net;
use super::info::TcpInfo;
use crate::stack::{ConnectOptions, ListenOptions};
use bulkhead_wit::Setting;
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

fn waker() -> Waker {
    WAKER.with_borrow_mut(|waker| {
        waker.get_or_insert_with(|| Arc::new(Unpark(std::thread::current())).into()).clone()
    })
}

/// Parks the thread until `poll` is ready, or `timeout` is over ([`io::ErrorKind::TimedOut`]).
fn wait<T>(
    timeout: Option<Duration>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> io::Result<T> {
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        if let Poll::Ready(result) = poll(&mut context) {
            return result;
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Accepts connections.
#[derive(Debug)]
pub struct TcpListener {
    listener: super::TcpListener,
    timeout: Mutex<Option<Duration>>,
}

/// A connection. Dropping it closes in kind, as [`super::TcpStream`] does.
#[derive(Debug)]
pub struct TcpStream {
    stream: super::TcpStream,
    timeouts: Mutex<Timeouts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
}

impl TcpListener {
    /// Listens: see [`Net::listen`].
    ///
    /// # Errors
    /// As [`Net::listen`].
    pub fn bind(net: &Net, local: SocketAddr) -> io::Result<Self> {
        Self::bind_with(net, local, ListenOptions::default())
    }

    /// Listens, with options.
    ///
    /// # Errors
    /// As [`Net::listen_with`].
    pub fn bind_with(net: &Net, local: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        Ok(Self { listener: net.listen_with(local, options)?, timeout: Mutex::new(None) })
    }

    /// The next connection that is open, and its peer.
    ///
    /// # Errors
    /// The stack has ended, or [`io::ErrorKind::TimedOut`].
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let timeout = *self.timeout.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, peer) = wait(timeout, |context| self.listener.poll_accept(context))?;
        Ok((stream.into(), peer))
    }

    /// How long an accept waits; `None` has no limit.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        *self.timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
    }

    /// Connections until the first error.
    pub fn incoming(&self) -> impl Iterator<Item = TcpStream> {
        std::iter::from_fn(|| self.accept().ok().map(|(stream, _)| stream))
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }
}

impl From<super::TcpStream> for TcpStream {
    fn from(stream: super::TcpStream) -> Self {
        Self { stream, timeouts: Mutex::default() }
    }
}

impl TcpStream {
    /// Connects: see [`Net::connect`].
    ///
    /// # Errors
    /// As [`Net::connect`].
    pub fn connect(net: &Net, remote: SocketAddr) -> io::Result<Self> {
        Self::connect_with(net, remote, ConnectOptions::default(), None)
    }

    /// Connects, and gives up after `timeout` with [`io::ErrorKind::TimedOut`].
    ///
    /// # Errors
    /// As [`Net::connect`].
    pub fn connect_timeout(net: &Net, remote: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::connect_with(net, remote, ConnectOptions::default(), Some(timeout))
    }

    /// Connects, with options.
    ///
    /// # Errors
    /// As [`Net::connect`].
    pub fn connect_with(
        net: &Net,
        remote: SocketAddr,
        options: ConnectOptions,
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        let mut stream = net.begin_connect(remote, options)?;
        wait(timeout, |context| stream.poll_opened(context))?;
        Ok(stream.into())
    }

    fn timeouts(&self) -> Timeouts {
        *self.timeouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a read waits; `None` has no limit.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner).read = timeout;
    }

    /// How long a write waits; `None` has no limit.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner).write = timeout;
    }

    /// Copies what is there without taking it, and waits for the first byte or the end (0).
    ///
    /// # Errors
    /// Why the connection ended, or [`io::ErrorKind::TimedOut`].
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        wait(self.timeouts().read, |context| self.stream.poll_peek(context, into))
    }

    /// Ends the stream after what was written; reading goes on.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if there is no such stream any more.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown_write()
    }

    /// Our end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr()
    }

    /// The peer's end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr()
    }

    /// Sets an option: see [`super::TcpStream::set`].
    ///
    /// # Errors
    /// The connection or the stack has ended.
    pub fn set(&self, setting: Setting) -> io::Result<()> {
        self.stream.set(setting)
    }

    /// Sends small segments at once: see [`super::TcpStream::set_nodelay`].
    ///
    /// # Errors
    /// The connection or the stack has ended.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.stream.set_nodelay(nodelay)
    }

    /// See [`super::TcpStream::set_linger`].
    pub fn set_linger(&self, linger: Option<Duration>) {
        self.stream.set_linger(linger);
    }

    /// What the module knows of the connection: see [`super::TcpStream::tcp_info`].
    ///
    /// # Errors
    /// The connection or the stack has ended.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        self.stream.tcp_info()
    }

    /// The async stream in it.
    #[must_use]
    pub fn into_inner(self) -> super::TcpStream {
        self.stream
    }
}

impl Read for &TcpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut into = ReadBuf::new(into);
        wait(self.timeouts().read, |context| self.stream.poll_read_shared(context, &mut into))?;
        Ok(into.filled().len())
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        wait(self.timeouts().read, |context| self.stream.poll_read_slices(context, slices))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait(self.timeouts().write, |context| self.stream.poll_write_shared(context, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        wait(self.timeouts().write, |context| self.stream.poll_write_slices(context, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self).read(into)
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(slices)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
