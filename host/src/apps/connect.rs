//! Connections that applications open: over the host's own sockets, or through the sandboxed stack.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bulkhead::net::Net;

use super::carried::Carried;
use super::{Listener, limits};

/// Opens connections.
pub(crate) trait Connector: Clone + Send + Sync + 'static {
    /// What it gives.
    type Stream: Carried;

    /// A connection to this end.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The host's own sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host;

impl Connector for Host {
    type Stream = tokio::net::TcpStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<Self::Stream> {
        let stream = within(limits::CONNECT_TIME, tokio::net::TcpStream::connect(to)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Connector for Net {
    type Stream = bulkhead::net::TcpStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<Self::Stream> {
        let stream = self.connect_timeout(to, limits::CONNECT_TIME).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

async fn within<T>(time: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(time, future).await.unwrap_or_else(|late| Err(late.into()))
}

/// A target by name or number, as `HOST:PORT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    /// A name, or an address.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

impl Target {
    /// Connects to the first of its addresses that answers. Names are the host's to resolve.
    pub(crate) async fn connect<C: Connector>(&self, by: &C) -> io::Result<C::Stream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        for address in addresses.take(limits::ADDRESSES) {
            match by.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "HOST:PORT, such as 127.0.0.1:3000, [::1]:3000 or example.org:80";
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return Err(wrong);
        }
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port })
    }
}

impl Listener for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Stream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }

    fn is_final(_: &io::Error) -> bool {
        false
    }
}
