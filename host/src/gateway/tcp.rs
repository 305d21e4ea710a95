//! Connections: the destination first, then the handshake, then the bytes, both ways, each by one copy.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bulkhead::ListenOptions;
use bulkhead::net::{Net, Offer, Offers, TcpStream};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream as HostStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::begun::{Beginning, Begun};
use super::limits::{BACKLOG, CONNECT_TIME, LITTLE, PIECE};
use super::{Gateway, count};

/// ICMP codes of "destination unreachable" (RFC 792, RFC 1812 5.2.7.1; RFC 4443 3.1).
mod code {
    pub(super) const NETWORK: (u8, u8) = (0, 0);
    pub(super) const HOST: (u8, u8) = (1, 3);
    pub(super) const PROHIBITED: (u8, u8) = (13, 1);
}

/// So many a second, and as many at once.
struct Rate {
    a_second: u32,
    /// What is left, in connections.
    left: f64,
    counted: Instant,
}

impl Rate {
    fn new(a_second: u32, now: Instant) -> Self {
        Self { a_second, left: f64::from(a_second), counted: now }
    }

    /// Whether one more may be begun now; 0 a second is no bound.
    fn admits(&mut self, now: Instant) -> bool {
        let most = f64::from(self.a_second);
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        (self.left, self.counted) = ((self.left + passed * most).min(most), now);
        let admits = self.a_second == 0 || self.left >= 1.0;
        self.left -= if admits { 1.0 } else { 0.0 };
        admits
    }
}

/// Listens to everything.
pub(super) fn listen(net: &Net) -> io::Result<Offers> {
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let options =
        ListenOptions { any_address: true, dual_stack: true, backlog: BACKLOG, ..ListenOptions::default() };
    net.offers(everywhere, options)
}

/// Takes offers until the stack ends.
pub(super) async fn serve(offers: Offers, gateway: &Arc<Gateway>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(gateway.connections));
    let begun = Begun::default();
    let mut rate = Rate::new(gateway.rate, Instant::now());
    loop {
        let offer = offers.next().await?;
        let (from, to) = (offer.peer_addr(), offer.local_addr());
        if !gateway.policy.is_ours(from) {
            count(&gateway.counters.strangers, 1);
            continue;
        }
        let place = if rate.admits(Instant::now()) { begun.place(&places).await } else { None };
        let Some(place) = place else {
            count(&gateway.counters.refused, 1);
            offer.reset();
            continue;
        };
        let Some(beginning) = begun.add((from.ip(), to)) else {
            count(&gateway.counters.given_up, 1);
            continue;
        };
        let gateway = Arc::clone(gateway);
        tokio::spawn(async move {
            match one(offer, beginning, &gateway).await {
                Ok(()) => tracing::debug!(%from, %to, "ended"),
                Err(error) => tracing::debug!(%from, %to, %error, "failed"),
            }
            drop(place);
        });
    }
}

async fn one(offer: Offer, mut beginning: Beginning, gateway: &Gateway) -> io::Result<()> {
    let opened = tokio::select! {
        opened = open(offer, gateway) => opened?,
        () = beginning.given_up() => {
            count(&gateway.counters.given_up, 1);
            return Ok(());
        }
    };
    drop(beginning);
    let Some((near, far)) = opened else { return Ok(()) };
    count(&gateway.counters.connections, 1);
    let (out, into) = carry(near, far).await?;
    count(&gateway.counters.bytes_out, out);
    count(&gateway.counters.bytes_in, into);
    Ok(())
}

/// The destination first, then the handshake. None where the policy has refused.
async fn open(offer: Offer, gateway: &Gateway) -> io::Result<Option<(TcpStream, HostStream)>> {
    let to = offer.local_addr();
    let Ok(target) = gateway.policy.target(to) else {
        count(&gateway.counters.denied, 1);
        tracing::info!(from = %offer.peer_addr(), %to, "denied");
        refuse(offer, code::PROHIBITED);
        return Ok(None);
    };
    let far = match timeout(CONNECT_TIME, connect(target, gateway)).await {
        Ok(Ok(far)) => Untaken(Some(far)),
        failed => {
            count(&gateway.counters.failed, 1);
            refuse_in_kind(offer, failed.unwrap_or_else(|late| Err(late.into())))?;
            return Ok(None);
        }
    };
    let near = offer.accept().await?;
    near.set_nodelay(true)?;
    Ok(far.taken().map(|far| (near, far)))
}

/// A connection to a destination that the inside has not taken yet. Dropped as it is, it is reset: an orderly close would
/// keep its port for a minute (TIME-WAIT, RFC 9293 3.6.1), and whoever begins many and takes none could have all ports
/// that the host has for a destination, with the kernel looking through all of them for each that anybody begins.
struct Untaken(Option<HostStream>);

impl Untaken {
    fn taken(mut self) -> Option<HostStream> {
        self.0.take()
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        if let Some(far) = &self.0 {
            let _ = far.set_zero_linger();
        }
    }
}

async fn connect(target: SocketAddr, gateway: &Gateway) -> io::Result<HostStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = gateway.bound_for(target) {
        socket.bind(from)?;
    }
    let far = socket.connect(target).await?;
    far.set_nodelay(true)?;
    Ok(far)
}

/// The inside is told what the host's own socket was told.
fn refuse_in_kind(offer: Offer, result: io::Result<HostStream>) -> io::Result<()> {
    let Err(error) = result else { return Ok(()) };
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => offer.reset(),
        ErrorKind::NetworkUnreachable => refuse(offer, code::NETWORK),
        ErrorKind::HostUnreachable => refuse(offer, code::HOST),
        ErrorKind::PermissionDenied => refuse(offer, code::PROHIBITED),
        // Silence is answered by silence.
        ErrorKind::TimedOut => drop(offer),
        _ => refuse(offer, code::HOST),
    }
    Err(error)
}

fn refuse(offer: Offer, (v4, v6): (u8, u8)) {
    let code = if offer.local_addr().is_ipv4() { v4 } else { v6 };
    offer.unreachable(code);
}

/// Carries bytes, half closes and resets between a stream of the stack's and one of the host's, until both have ended.
/// Returns the bytes out of the stack and into it.
///
/// # Errors
/// What ended either side before its time; the other one is reset.
pub(crate) async fn carry(near: TcpStream, mut far: HostStream) -> io::Result<(usize, usize)> {
    let (read, write) = far.split();
    let result = tokio::try_join!(out(&near, write), into(&near, read));
    if result.is_err() {
        near.abort();
        // The end of a stream would tell that all of it was there.
        let _ = far.set_zero_linger();
    }
    result
}

/// From the stack to the host: frames are handed on as they arrived.
async fn out(near: &TcpStream, mut far: WriteHalf<'_>) -> io::Result<usize> {
    let mut total = 0;
    loop {
        let mut bytes = near.read_bytes(PIECE).await?;
        if bytes.is_empty() {
            far.shutdown().await?;
            return Ok(total);
        }
        total += bytes.len();
        while !bytes.is_empty() {
            match far.try_write(&bytes) {
                Ok(count) => bytes.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => far.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

/// From the host to the stack: what is read at once is lent to the send queue. A connection that says nothing holds no
/// buffer, and one that says little a small one.
async fn into(near: &TcpStream, far: ReadHalf<'_>) -> io::Result<usize> {
    let (mut total, mut size) = (0, LITTLE);
    loop {
        far.readable().await?;
        let mut buffer = BytesMut::with_capacity(size);
        match far.try_read_buf(&mut buffer) {
            Ok(0) => {
                near.shutdown_write()?;
                return Ok(total);
            }
            Ok(count) => {
                total += count;
                // A large buffer is not to be held for the little that is in it.
                let is_little = count < size / 2;
                let mut bytes = if is_little { Bytes::copy_from_slice(&buffer) } else { buffer.freeze() };
                size = match count {
                    _ if count == size => (size * 4).min(PIECE),
                    _ if is_little => LITTLE,
                    _ => size,
                };
                while !bytes.is_empty() {
                    near.write_bytes(&mut bytes).await?;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_at_once_as_a_second_and_then_by_the_clock() {
        let begin = Instant::now();
        let mut rate = Rate::new(10, begin);
        assert_eq!((0..20).filter(|_| rate.admits(begin)).count(), 10);
        let later = begin + Duration::from_millis(250);
        assert_eq!((0..20).filter(|_| rate.admits(later)).count(), 2);
        // Silence saves up no more than a second.
        let much_later = begin + Duration::from_secs(3600);
        assert_eq!((0..20).filter(|_| rate.admits(much_later)).count(), 10);
        let mut unbounded = Rate::new(0, begin);
        assert!((0..1000).all(|_| unbounded.admits(begin)));
    }
}
