//! The peer: the kernel's sockets, and what they see of a stack.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::server::{ANSWER, CHUNK, DISCARD, ECHO, LONG, REQUEST, SHORT, SOURCE};

/// What is waited for at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs to its end on a runtime of this thread, which has to live in the peer's namespace.
pub(crate) fn run<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await? })
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn all<T: Send + 'static>(
    count: usize,
    one: impl Fn() -> std::pin::Pin<Box<dyn Future<Output = io::Result<T>> + Send>>,
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
pub(crate) async fn bulk_in(to: SocketAddr, flows: usize, bytes: u64) -> io::Result<f64> {
    let to = SocketAddr::new(to.ip(), DISCARD);
    let begun = Instant::now();
    let each = bytes / flows as u64;
    joined(all(flows, || {
        Box::pin(async move {
            let mut stream = connect(to).await?;
            let chunk = vec![0x5a; CHUNK];
            let mut left = each;
            while left > 0 {
                let length = left.min(CHUNK as u64) as usize;
                stream.write_all(&chunk[..length]).await?;
                left -= length as u64;
            }
            stream.shutdown().await?;
            stream.read(&mut [0; 1]).await
        })
    }))
    .await?;
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

/// Bytes a second out of the stack.
pub(crate) async fn bulk_out(to: SocketAddr, flows: usize, bytes: u64) -> io::Result<f64> {
    let to = SocketAddr::new(to.ip(), SOURCE);
    let begun = Instant::now();
    let each = bytes / flows as u64;
    joined(all(flows, || {
        Box::pin(async move {
            let mut stream = connect(to).await?;
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

/// Round trips of one byte: every one of them, in nanoseconds.
pub(crate) async fn ping_pong(to: SocketAddr, count: usize) -> io::Result<Vec<f64>> {
    let mut stream = connect(SocketAddr::new(to.ip(), ECHO)).await?;
    let mut times = Vec::with_capacity(count);
    for round in 0..count + count / 10 {
        let begun = Instant::now();
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0; 1]).await?;
        // The first tenth is to warm up.
        if round >= count / 10 {
            times.push(begun.elapsed().as_nanos() as f64);
        }
    }
    Ok(times)
}

/// Requests a second, of 64 bytes each, with a short or long answer, over so many connections with one request each under
/// way.
pub(crate) async fn requests(
    to: SocketAddr,
    is_long: bool,
    connections: usize,
    time: Duration,
) -> io::Result<f64> {
    let to = SocketAddr::new(to.ip(), if is_long { LONG } else { SHORT });
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(connect(to).await?);
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

/// Connections a second, each with one request and one short answer, `parallel` at a time.
pub(crate) async fn connections(to: SocketAddr, parallel: usize, time: Duration) -> io::Result<f64> {
    let to = SocketAddr::new(to.ip(), SHORT);
    let begun = Instant::now();
    let until = begun + time;
    let counts = joined(all(parallel, || {
        Box::pin(async move {
            let mut count = 0u64;
            while Instant::now() < until {
                let mut stream = connect(to).await?;
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
pub(crate) async fn idle<T>(to: SocketAddr, count: usize, look: impl FnOnce() -> T) -> io::Result<T> {
    let to = SocketAddr::new(to.ip(), SHORT);
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = connect(to).await?;
        stream.write_all(&[0x5a; REQUEST]).await?;
        stream.read_exact(&mut [0; REQUEST]).await?;
        open.push(stream);
    }
    let seen = look();
    for stream in &open {
        stream.set_zero_linger()?;
    }
    Ok(seen)
}
