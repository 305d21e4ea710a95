//! A client, over the kernel's sockets or a stack of ours, and what it sees of the other side.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::applications::{ANSWER, CHUNK, DISCARD, ECHO, LONG, REQUEST, SHORT, SOURCE};
use crate::net::{Net, TcpStream};

/// What is waited for at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// The other side: how connections to its ports are made.
pub trait Peer: Clone + Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects, without Nagle's algorithm.
    fn connect(&self, port: u16) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Ends a connection by reset.
    ///
    /// # Errors
    /// What the system says.
    fn abort(stream: Self::Stream) -> io::Result<()>;
}

/// Who is at this address, through the kernel's sockets.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(pub IpAddr);

impl Peer for Kernel {
    type Stream = tokio::net::TcpStream;

    async fn connect(&self, port: u16) -> io::Result<Self::Stream> {
        let stream = tokio::net::TcpStream::connect(SocketAddr::new(self.0, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn abort(stream: Self::Stream) -> io::Result<()> {
        stream.set_zero_linger()
    }
}

/// Who is at this address, through a stack.
#[derive(Clone, Debug)]
pub struct Through(pub Net, pub IpAddr);

impl Peer for Through {
    type Stream = TcpStream;

    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let stream = self.0.connect(SocketAddr::new(self.1, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn abort(stream: TcpStream) -> io::Result<()> {
        stream.abort();
        Ok(())
    }
}

/// Runs to its end on a runtime of this thread.
///
/// # Errors
/// Its own, and [`io::ErrorKind::TimedOut`] after a minute.
pub fn run<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await? })
}

fn all<T: Send + 'static>(
    count: usize,
    one: impl Fn() -> Pin<Box<dyn Future<Output = io::Result<T>> + Send>>,
) -> JoinSet<io::Result<T>> {
    let mut tasks = JoinSet::new();
    (0..count).for_each(|_| drop(tasks.spawn(one())));
    tasks
}

async fn joined<T: 'static>(mut tasks: JoinSet<io::Result<T>>) -> io::Result<Vec<T>> {
    let mut results = Vec::new();
    while let Some(result) = tasks.join_next().await {
        results.push(result??);
    }
    Ok(results)
}

/// Bytes a second into the stack, over so many connections: until the stack has read all and said so.
///
/// # Errors
/// What happens to a connection.
pub async fn bulk_in(peer: &impl Peer, flows: usize, bytes: u64) -> io::Result<f64> {
    let begun = Instant::now();
    let each = bytes / flows as u64;
    joined(all(flows, || {
        let peer = peer.clone();
        Box::pin(async move {
            let mut stream = peer.connect(DISCARD).await?;
            let chunk = vec![0x5a; CHUNK];
            let mut left = each;
            while left > 0 {
                let length = left.min(CHUNK as u64);
                stream.write_all(chunk.get(..length as usize).unwrap_or_default()).await?;
                left -= length;
            }
            stream.shutdown().await?;
            stream.read(&mut [0; 1]).await
        })
    }))
    .await?;
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

/// Bytes a second out of the stack.
///
/// # Errors
/// What happens to a connection.
pub async fn bulk_out(peer: &impl Peer, flows: usize, bytes: u64) -> io::Result<f64> {
    let begun = Instant::now();
    let each = bytes / flows as u64;
    joined(all(flows, || {
        let peer = peer.clone();
        Box::pin(async move {
            let mut stream = peer.connect(SOURCE).await?;
            let mut chunk = vec![0; CHUNK];
            let mut left = each;
            while left > 0 {
                match stream.read(&mut chunk).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    length => left = left.saturating_sub(length as u64),
                }
            }
            Ok(())
        })
    }))
    .await?;
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

/// Round trips of one byte: every one of them, in nanoseconds, sorted. The first tenth is to warm up.
///
/// # Errors
/// What happens to the connection.
pub async fn ping_pong(peer: &impl Peer, count: usize) -> io::Result<Vec<f64>> {
    let mut stream = peer.connect(ECHO).await?;
    let mut times = Vec::with_capacity(count);
    for round in 0..count + count / 10 {
        let begun = Instant::now();
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0; 1]).await?;
        if round >= count / 10 {
            times.push(begun.elapsed().as_nanos() as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// The value below which this share of sorted values lies.
#[must_use]
pub fn share(sorted: &[f64], share: f64) -> Option<f64> {
    sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied()
}

/// Requests a second, of 64 bytes each, with a short or long answer, over so many connections with one request each under
/// way.
///
/// # Errors
/// What happens to a connection.
pub async fn requests(
    peer: &impl Peer,
    is_long: bool,
    connections: usize,
    time: Duration,
) -> io::Result<f64> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(peer.connect(if is_long { LONG } else { SHORT }).await?);
    }
    let begun = Instant::now();
    let until = begun + time;
    let mut tasks = JoinSet::new();
    for mut stream in open {
        tasks.spawn(async move {
            let mut answer = vec![0; if is_long { ANSWER } else { REQUEST }];
            let mut count = 0u64;
            while Instant::now() < until {
                stream.write_all(&[0x5a; REQUEST]).await?;
                stream.read_exact(&mut answer).await?;
                count += 1;
            }
            Ok(count)
        });
    }
    let counts = joined(tasks).await?;
    Ok(counts.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}

/// Connections that [`connections`] makes and closes at most, so that five repetitions have ports enough: each waits for a
/// minute (TIME-WAIT).
const CONNECTIONS: u64 = 4_000;

/// Connections a second, each with one request and one short answer, `parallel` at a time, for `time` or until there were
/// four thousand.
///
/// # Errors
/// What happens to a connection.
pub async fn connections(peer: &impl Peer, parallel: usize, time: Duration) -> io::Result<f64> {
    let begun = Instant::now();
    let until = begun + time;
    let counts = joined(all(parallel, || {
        let peer = peer.clone();
        Box::pin(async move {
            let mut count = 0u64;
            while Instant::now() < until && count < CONNECTIONS / parallel as u64 {
                let mut stream = peer.connect(SHORT).await?;
                stream.write_all(&[0x5a; REQUEST]).await?;
                stream.read_exact(&mut [0; REQUEST]).await?;
                stream.shutdown().await?;
                // The stack's end of the connection.
                if stream.read(&mut [0; 1]).await? == 0 {
                    count += 1;
                }
            }
            Ok(count)
        })
    }))
    .await?;
    Ok(counts.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}

/// Opens so many connections, lets `look` look, and closes them by reset.
///
/// # Errors
/// What happens to a connection.
pub async fn idle<P: Peer, T>(peer: &P, count: usize, look: impl FnOnce() -> T) -> io::Result<T> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = peer.connect(SHORT).await?;
        stream.write_all(&[0x5a; REQUEST]).await?;
        stream.read_exact(&mut [0; REQUEST]).await?;
        open.push(stream);
    }
    let seen = look();
    for stream in open {
        P::abort(stream)?;
    }
    Ok(seen)
}

/// The first port of ours that [`many`] uses.
const FIRST: usize = 10_000;

/// Opens connections to this port until there are so many, from an address of ours that nobody else uses: some fifty thousand.
///
/// # Errors
/// What happens to a connection.
pub async fn many(
    peer: &Kernel,
    own: Ipv4Addr,
    port: u16,
    open: &mut Vec<tokio::net::TcpStream>,
    count: usize,
) -> io::Result<()> {
    while open.len() < count {
        let socket = tokio::net::TcpSocket::new_v4()?;
        // The kernel's own search for a free one takes longer than all the rest, once half of them are taken.
        let ours = u16::try_from(FIRST + open.len()).map_err(io::Error::other)?;
        socket.bind((own, ours).into())?;
        let mut stream = socket.connect(SocketAddr::new(peer.0, port)).await?;
        stream.set_nodelay(true)?;
        exchange(std::slice::from_mut(&mut stream)).await?;
        open.push(stream);
    }
    Ok(())
}

/// A request on each of these connections, and then the answers.
async fn exchange(streams: &mut [tokio::net::TcpStream]) -> io::Result<()> {
    for stream in &mut *streams {
        stream.write_all(&[0x5a; REQUEST]).await?;
    }
    for stream in streams {
        stream.read_exact(&mut [0; REQUEST]).await?;
    }
    Ok(())
}

/// Requests that are under way at the same time in [`round`].
const UNDER_WAY: usize = 32;

/// About so many requests with short answers, in turns over these connections, some under way at a time: nanoseconds for each.
///
/// # Errors
/// What happens to a connection.
pub async fn round(streams: &mut [tokio::net::TcpStream], requests: usize) -> io::Result<f64> {
    let begun = Instant::now();
    let mut done = 0;
    while done < requests && !streams.is_empty() {
        for some in streams.chunks_mut(UNDER_WAY) {
            exchange(some).await?;
            done += some.len();
            if done >= requests {
                break;
            }
        }
    }
    Ok(begun.elapsed().as_nanos() as f64 / done.max(1) as f64)
}
