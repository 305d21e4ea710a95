//! The applications: the same code over the kernel's sockets, over bulkhead's, and over anything else that is a stream.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::ListenOptions;
use crate::net::Net;

/// Sends back what it is sent. Its port, like those of the others, needs no privileges.
pub const ECHO: u16 = 8007;
/// Reads and says nothing.
pub const DISCARD: u16 = 8009;
/// Sends without end.
pub const SOURCE: u16 = 8019;
/// Answers every 64 bytes with 64 bytes.
pub const SHORT: u16 = 8064;
/// Answers every 64 bytes with 16 KiB.
pub const LONG: u16 = 8016;
/// Where all of them listen.
pub const PORTS: [u16; 5] = [ECHO, DISCARD, SOURCE, SHORT, LONG];
/// Bytes of a request.
pub const REQUEST: usize = 64;
/// Bytes of a long answer.
pub const ANSWER: usize = 16 << 10;
/// Bytes of a read or write in bulk.
pub const CHUNK: usize = 256 << 10;

/// How an application on this port serves a connection.
async fn application(port: u16, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    match port {
        ECHO => {
            let mut buffer = vec![0; CHUNK];
            loop {
                let length = stream.read(&mut buffer).await?;
                if length == 0 {
                    return stream.shutdown().await;
                }
                stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
            }
        }
        DISCARD => {
            let mut buffer = vec![0; CHUNK];
            while stream.read(&mut buffer).await? > 0 {}
            stream.shutdown().await
        }
        SOURCE => {
            let buffer = vec![0x5a; CHUNK];
            loop {
                stream.write_all(&buffer).await?;
            }
        }
        _ => {
            let answer = vec![0x5a; if port == LONG { ANSWER } else { REQUEST }];
            let mut request = [0; REQUEST];
            while stream.read_exact(&mut request).await.is_ok() {
                stream.write_all(&answer).await?;
            }
            stream.shutdown().await
        }
    }
}

/// Serves every connection that `next` gives, until it gives an error.
async fn accept<S, F>(port: u16, mut next: impl FnMut() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    while let Ok(stream) = next().await {
        // A client that has seen enough resets its connection.
        tokio::spawn(async move { drop(application(port, stream).await) });
    }
}

/// Accepts on all ports of the kernel's stack at this address, so many further, on the current runtime.
///
/// # Errors
/// What the system says, as where a port is taken.
pub fn listen_at(address: IpAddr, further: u16) -> io::Result<Vec<JoinHandle<()>>> {
    let mut tasks = Vec::new();
    for port in PORTS {
        let socket = match address {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind((address, port + further).into())?;
        let listener = socket.listen(4096)?;
        tasks.push(tokio::spawn(async move {
            accept(port, async || {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            })
            .await;
        }));
    }
    Ok(tasks)
}

/// Accepts on all ports of a stack, for both versions of IP, on the current runtime.
///
/// # Errors
/// As [`Net::listen_with`].
pub fn listen(net: &Net) -> io::Result<Vec<JoinHandle<()>>> {
    let mut tasks = Vec::new();
    for port in PORTS {
        let local = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let options = ListenOptions { dual_stack: true, ..ListenOptions::default() };
        let listener = net.listen_with(local, options)?;
        tasks.push(tokio::spawn(async move {
            accept(port, async || listener.accept().await.map(|(stream, _)| stream)).await;
        }));
    }
    Ok(tasks)
}
