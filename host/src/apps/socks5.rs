//! A SOCKS5 server (RFC 1928): CONNECT, without authentication. Names are resolved on the host, connections leave
//! through the stack.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::carried::Carried as _;
use super::connect::{Connector, Target};
use super::forward::join;
use super::{Connection, End, Left, Service, Stop, limits};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NOTHING_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;

// RFC 1928 6.
const SUCCEEDED: u8 = 0;
const FAILURE: u8 = 1;
const NETWORK_UNREACHABLE: u8 = 3;
const HOST_UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const COMMAND_UNKNOWN: u8 = 7;
const ADDRESS_UNKNOWN: u8 = 8;

/// The proxy.
#[derive(Debug)]
pub(crate) struct Socks5<C>(pub(crate) C);

impl<C: Connector> Service for Socks5<C> {
    /// It stands still between two bytes of a connection, but not before it is made.
    async fn serve<S: Connection>(&self, mut stream: S, mut left: Left, stop: Stop) -> io::Result<End<S>> {
        if let Some(far) = left.beside.pop() {
            return join(stream, C::Stream::take_up(far)?, left, stop).await;
        }
        let asked = tokio::time::timeout(limits::HEADER_TIME, ask(&mut stream)).await?;
        let target = match asked? {
            Ok(target) => target,
            Err(code) => return refuse(stream, code).await,
        };
        tracing::info!(%target, "asked for");
        match target.connect(&self.0).await {
            Ok(far) => {
                answer(&mut stream, SUCCEEDED).await?;
                join(stream, far, left, stop).await
            }
            Err(error) => {
                tracing::info!(%target, %error, "not connected");
                refuse(stream, code_of(&error)).await
            }
        }
    }
}

fn code_of(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => REFUSED,
        io::ErrorKind::NetworkUnreachable => NETWORK_UNREACHABLE,
        io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut | io::ErrorKind::NotFound => {
            HOST_UNREACHABLE
        }
        _ => FAILURE,
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Greeting and request: where to, or the code to refuse with.
async fn ask(stream: &mut impl Connection) -> io::Result<Result<Target, u8>> {
    if stream.read_u8().await? != VERSION {
        return Err(invalid("no SOCKS5 client"));
    }
    let mut methods = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NOTHING_ACCEPTABLE]).await?;
        return Err(invalid("the client wants to authenticate itself"));
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    let [version, command, _, kind] = request;
    if version != VERSION {
        return Err(invalid("no SOCKS5 request"));
    }
    let host = match kind {
        1 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await?;
            IpAddr::from(octets).to_string()
        }
        3 => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            String::from_utf8(name).map_err(|_| invalid("a name that is no text"))?
        }
        4 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await?;
            IpAddr::from(octets).to_string()
        }
        _ => return Ok(Err(ADDRESS_UNKNOWN)),
    };
    let port = stream.read_u16().await?;
    Ok(if command == CONNECT { Ok(Target { host, port }) } else { Err(COMMAND_UNKNOWN) })
}

async fn answer(stream: &mut impl Connection, code: u8) -> io::Result<()> {
    // The end that we connected from is nobody's business, as most servers have it.
    stream.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

async fn refuse<S: Connection>(mut stream: S, code: u8) -> io::Result<End<S>> {
    answer(&mut stream, code).await?;
    stream.shutdown().await?;
    Ok(End::Over)
}
