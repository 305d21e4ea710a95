//! The applications over smoltcp: one thread, one loop, a socket for each connection that may be open at once.

use std::os::fd::AsRawFd as _;
use std::process::Command;

use anyhow::{Context as _, anyhow, ensure};
use bulkhead::compare::{ANSWER, CHUNK, DISCARD, ECHO, LONG, REQUEST, SHORT, SOURCE};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::server::ready;
use crate::subject::{PEER4, STACK4};

/// Bytes of a bulk socket's buffer.
const BULK: usize = 4 << 20;
/// Bytes of the other buffers.
const SMALL: usize = 64 << 10;
/// Sockets of each port: those of bulk twice, since a connection that its client has left takes a while to be gone.
const SOCKETS: [(u16, usize); 5] = [(ECHO, 4), (DISCARD, 16), (SOURCE, 16), (SHORT, 128), (LONG, 128)];

/// A socket and what is still to be answered on it.
struct Served {
    port: u16,
    handle: SocketHandle,
    owed: usize,
}

/// The device, up, and the interface over it, with the kernel as its router.
fn open() -> anyhow::Result<(TunTapInterface, Interface)> {
    let mut device = TunTapInterface::new("bench0", Medium::Ip)?;
    let peer = format!("{PEER4}/24");
    for words in [["address", "add", &peer, "dev", "bench0"], ["link", "set", "dev", "bench0", "up"]] {
        ensure!(Command::new("ip").args(words).status()?.success(), "ip {words:?}");
    }
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::now());
    let own: IpAddress = STACK4.parse().map_err(|()| anyhow!("an address"))?;
    // There is room for one address at least.
    interface.update_ip_addrs(|addresses| _ = addresses.push(IpCidr::new(own, 24)));
    interface.routes_mut().add_default_ipv4_route(PEER4.parse()?).map_err(|error| anyhow!("{error}"))?;
    Ok((device, interface))
}

/// Serves until the process is killed.
pub(crate) fn serve() -> anyhow::Result<()> {
    let (mut device, mut interface) = open()?;
    let mut sockets = SocketSet::new(Vec::new());
    let mut all = Vec::new();
    for (port, count) in SOCKETS {
        for _ in 0..count {
            let receive = if port == DISCARD { BULK } else { SMALL };
            let send = if port == SOURCE { BULK } else { SMALL };
            let socket = tcp::Socket::new(buffer(receive), buffer(send));
            all.push(Served { port, handle: sockets.add(socket), owed: 0 });
        }
    }
    ready();
    let file = device.as_raw_fd();
    let mut scratch = vec![0; CHUNK];
    loop {
        interface.poll(Instant::now(), &mut device, &mut sockets);
        let mut has_moved = false;
        for served in &mut all {
            has_moved |= served.turn(sockets.get_mut(served.handle), &mut scratch).context("a socket")?;
        }
        if !has_moved {
            wait(file, interface.poll_delay(Instant::now(), &sockets))?;
        }
    }
}

fn buffer(bytes: usize) -> tcp::SocketBuffer<'static> {
    tcp::SocketBuffer::new(vec![0; bytes])
}

impl Served {
    /// Does what can be done now. Says whether there was anything.
    fn turn(&mut self, socket: &mut tcp::Socket<'_>, scratch: &mut [u8]) -> anyhow::Result<bool> {
        if !socket.is_open() {
            self.owed = 0;
            socket.set_nagle_enabled(false);
            socket.listen(self.port).map_err(|error| anyhow!("{error}"))?;
            return Ok(true);
        }
        let mut has_moved = false;
        match self.port {
            SOURCE if socket.can_send() => {
                has_moved =
                    socket.send(|room| (room.len(), room.len())).map_err(|error| anyhow!("{error}"))? > 0;
            }
            DISCARD if socket.can_recv() => {
                has_moved =
                    socket.recv(|bytes| (bytes.len(), bytes.len())).map_err(|error| anyhow!("{error}"))? > 0;
            }
            ECHO if socket.can_recv() && socket.can_send() => {
                let room = (socket.send_capacity() - socket.send_queue()).min(scratch.len());
                let length = socket.recv_slice(&mut scratch[..room]).map_err(|error| anyhow!("{error}"))?;
                has_moved = socket.send_slice(&scratch[..length]).map_err(|error| anyhow!("{error}"))? > 0;
            }
            SHORT | LONG => {
                let answer = if self.port == LONG { ANSWER } else { REQUEST };
                while socket.recv_queue() >= REQUEST {
                    socket.recv_slice(&mut scratch[..REQUEST]).map_err(|error| anyhow!("{error}"))?;
                    self.owed += answer;
                }
                if self.owed > 0 && socket.can_send() {
                    let length = self.owed.min(scratch.len());
                    let sent = socket.send_slice(&scratch[..length]).map_err(|error| anyhow!("{error}"))?;
                    self.owed -= sent;
                    has_moved = sent > 0;
                }
            }
            _ => {}
        }
        if socket.state() == tcp::State::CloseWait && !socket.can_recv() && self.owed == 0 {
            socket.close();
            has_moved = true;
        }
        Ok(has_moved)
    }
}
