//! A virtual machine in the place of a program: its link comes over a Unix socket.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use anyhow::Context as _;
use bulkhead::device::ethernet::{Datagrams, Ethernet, Guest, Mac, Neighbours, Stream};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;

use super::arguments::{Gateway, Sockets};
use crate::cli::private_socket;
use crate::cli::signals::Signals;

/// Our address on the link: administered locally, and never the guest's, which QEMU's own numbers begin with 52:54:00.
const ADDRESS: Mac = [0x02, 0x62, 0x75, 0x6c, 0x6b, 0x02];

/// A machine that has its link.
pub(super) struct Machine {
    /// Its end is the machine's; a link of datagrams has none.
    end: Option<AsyncFd<OwnedFd>>,
}

impl Machine {
    /// Waits until the machine is there, where that can be told. None if a signal came first.
    ///
    /// # Errors
    /// A line that says what to do.
    pub(super) async fn begin(
        gateway: &Gateway,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<(Self, Ethernet)>> {
        if let Some(sockets) = &gateway.qemu_dgram {
            let device = device(gateway, datagrams(sockets)?)?;
            return Ok(Some((Self { end: None }, device)));
        }
        let Some(path) = &gateway.qemu_stream else { return Ok(None) };
        let listener = private_socket::bind(path, UnixStream::connect, UnixListener::bind);
        let listener = listener.with_context(|| told("--qemu-stream", path))?;
        eprintln!("waiting for the machine at {}", path.display());
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted),
            _ = signals.next() => None,
        };
        // There is one machine: nobody else is to come, and later on no file can be removed.
        let _ = std::fs::remove_file(path);
        let Some(accepted) = accepted else { return Ok(None) };
        let stream = accepted.context("--qemu-stream")?.0.into_std()?;
        let end = watched(stream.try_clone()?.into())?;
        let device = device(gateway, Stream::new(stream)?)?;
        Ok(Some((Self { end: Some(end) }, device)))
    }
}

/// Waits until the machine is gone, if there is one whose end can be told.
pub(super) async fn gone(machine: Option<&Machine>) {
    match machine.and_then(|machine| machine.end.as_ref()) {
        Some(end) => drop(end.ready(Interest::PRIORITY).await),
        None => std::future::pending().await,
    }
}

#[expect(
    deprecated,
    reason = "sound for what owns its descriptor, as ours does; the new name would need unsafe code here"
)]
fn watched(end: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // Nothing urgent ever comes: what is left to be told is the end.
    AsyncFd::with_interest(end, Interest::PRIORITY)
}

/// Both ends by their paths: the machine may be there before us, or after, or twice.
fn datagrams(sockets: &Sockets) -> anyhow::Result<Datagrams> {
    let connect = |path: &Path| UnixDatagram::unbound()?.connect(path);
    let socket = private_socket::bind(&sockets.ours, connect, UnixDatagram::bind);
    let socket = socket.with_context(|| told("--qemu-dgram", &sockets.ours))?;
    Datagrams::new(socket, &sockets.theirs).with_context(|| told("--qemu-dgram", &sockets.theirs))
}

fn told(option: &str, path: &Path) -> String {
    format!("{option}: cannot make the socket {}", path.display())
}

fn device(
    gateway: &Gateway,
    link: impl bulkhead::device::ethernet::Link + 'static,
) -> anyhow::Result<Ethernet> {
    let v4 = |address: &IpAddr| if let IpAddr::V4(address) = address { Some(*address) } else { None };
    let name_server = gateway.name_servers().iter().find_map(v4);
    let guest = Guest { address: Some(gateway.lease()), name_server };
    let neighbours = Neighbours::bundled(ADDRESS, &gateway.ours(), guest, gateway.mtu)?;
    Ok(Ethernet::new(link, neighbours, gateway.mtu))
}
