//! smoltcp as a peer, as people embed it: hands connections on between smoltcp, behind a TUN device, and the kernel, as
//! `bulkhead run forward` does between its own stack and the kernel. One thread and one loop.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

/// Bytes of a socket's buffer, each way.
const BUFFER: usize = 64 << 10;
/// Bytes that are handed on at once.
const CHUNK: usize = 16 << 10;
/// Sockets that listen: each takes one connection.
const LISTENING: usize = 32;
/// Sockets in TIME-WAIT that are kept, as a small device would.
const WAITING: usize = 128;
/// The first of the ports that connections are opened from.
const PORTS: u16 = 49_152;

/// What is handed on, and where.
#[derive(clap::Args)]
pub(crate) struct Forward {
    /// The TUN device
    device: String,
    /// Its MTU, which it has already
    mtu: usize,
    /// smoltcp's address
    address: IpAddr,
    /// The kernel's, at which it serves, or listens if there is a target
    local: IpAddr,
    /// The port of all three
    port: u16,
    /// Where smoltcp opens connections to; without it, it listens
    target: Option<IpAddr>,
}

/// Two connections that are one.
struct Pair {
    handle: SocketHandle,
    kernel: TcpStream,
    /// From smoltcp, not yet taken by the kernel.
    inward: VecDeque<u8>,
    /// From the kernel, not yet taken by smoltcp.
    out: VecDeque<u8>,
    has_kernel_ended: bool,
    is_kernel_told: bool,
    is_smoltcp_told: bool,
}

struct Peer {
    device: TunTapInterface,
    interface: Interface,
    sockets: SocketSet<'static>,
    listening: Vec<SocketHandle>,
    pairs: Vec<Pair>,
    /// What has been handed on to its end, oldest first.
    ending: VecDeque<SocketHandle>,
    next_port: u16,
    local: SocketAddr,
    target: Option<SocketAddr>,
}

/// Hands on until it is killed.
///
/// # Errors
/// Where the device or the kernel fails.
pub(crate) fn forward(forward: &Forward) -> anyhow::Result<()> {
    let local = SocketAddr::new(forward.local, forward.port);
    // It listens before it has the device, by which is seen that it is there.
    let kernel = forward.target.map(|_| TcpListener::bind(local)).transpose().context("listen")?;
    if let Some(kernel) = &kernel {
        kernel.set_nonblocking(true)?;
    }
    let mut peer = Peer::open(forward, local)?;
    loop {
        peer.interface.poll(Instant::now(), &mut peer.device, &mut peer.sockets);
        while let Some((stream, _)) = kernel.as_ref().and_then(|kernel| kernel.accept().ok()) {
            peer.connect(stream)?;
        }
        peer.accept()?;
        if !peer.hand_on() {
            peer.wait(kernel.as_ref())?;
        }
    }
}

fn socket() -> Socket<'static> {
    let mut socket = Socket::new(SocketBuffer::new(vec![0; BUFFER]), SocketBuffer::new(vec![0; BUFFER]));
    socket.set_nagle_enabled(false);
    socket
}

/// Removes a socket, but not its place: the first socket that a SYN fits takes it, so that one which listens before one that
/// is opening would take a SYN that comes again, and both would answer.
fn retire(sockets: &mut SocketSet<'static>, handle: SocketHandle) {
    sockets.remove(handle);
    sockets.add(Socket::new(SocketBuffer::new(vec![0; 1]), SocketBuffer::new(vec![0; 1])));
}

impl Peer {
    fn open(forward: &Forward, local: SocketAddr) -> anyhow::Result<Self> {
        let mut device = TunTapInterface::new(&forward.device, Medium::Ip)?;
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::now());
        let (own, bits) = (IpAddress::from(forward.address), if forward.address.is_ipv4() { 24 } else { 64 });
        // There is room for one address at least.
        interface.update_ip_addrs(|addresses| _ = addresses.push(IpCidr::new(own, bits)));
        // There is one other end, whoever the router is.
        match forward.address {
            IpAddr::V4(address) => interface.routes_mut().add_default_ipv4_route(address).map(drop),
            IpAddr::V6(address) => interface.routes_mut().add_default_ipv6_route(address).map(drop),
        }
        .map_err(|error| anyhow!("{error}"))?;
        Ok(Self {
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            listening: Vec::new(),
            pairs: Vec::new(),
            ending: VecDeque::new(),
            next_port: PORTS,
            local,
            target: forward.target.map(|address| SocketAddr::new(address, forward.port)),
        })
    }

    fn pair(&mut self, handle: SocketHandle, kernel: TcpStream) -> anyhow::Result<()> {
        kernel.set_nonblocking(true)?;
        kernel.set_nodelay(true)?;
        let (inward, out) = (VecDeque::new(), VecDeque::new());
        let (has_kernel_ended, is_kernel_told, is_smoltcp_told) = (false, false, false);
        self.pairs.push(Pair {
            handle,
            kernel,
            inward,
            out,
            has_kernel_ended,
            is_kernel_told,
            is_smoltcp_told,
        });
        Ok(())
    }

    /// The kernel has taken a connection: smoltcp opens its other half.
    fn connect(&mut self, stream: TcpStream) -> anyhow::Result<()> {
        let target = self.target.context("a target")?;
        let mut socket = socket();
        self.next_port = self.next_port.checked_add(1).unwrap_or(PORTS);
        socket
            .connect(self.interface.context(), target, self.next_port)
            .map_err(|error| anyhow!("{error}"))?;
        let handle = self.sockets.add(socket);
        self.pair(handle, stream)
    }

    /// What smoltcp has taken goes on to the kernel, and as many sockets listen as before.
    fn accept(&mut self) -> anyhow::Result<()> {
        if self.target.is_some() {
            return Ok(());
        }
        let is_taken = |handle: &mut SocketHandle| {
            let state = self.sockets.get::<Socket<'_>>(*handle).state();
            !matches!(state, State::Listen | State::SynReceived)
        };
        let taken: Vec<_> = self.listening.extract_if(.., is_taken).collect();
        for handle in taken {
            // To a listener of the same kernel, which takes it at once.
            let kernel = TcpStream::connect(self.local);
            let Ok(kernel) = kernel else {
                self.sockets.get_mut::<Socket<'_>>(handle).abort();
                self.ending.push_back(handle);
                continue;
            };
            self.pair(handle, kernel)?;
        }
        let is_free =
            |handle: &&SocketHandle| self.sockets.get::<Socket<'_>>(**handle).state() == State::Listen;
        let free = self.listening.iter().filter(is_free).count();
        for _ in free..LISTENING {
            let mut socket = socket();
            socket.listen(self.local.port()).map_err(|error| anyhow!("{error}"))?;
            self.listening.push(self.sockets.add(socket));
        }
        Ok(())
    }

    /// Does what can be done now. Says whether there was anything.
    fn hand_on(&mut self) -> bool {
        let (sockets, ending) = (&mut self.sockets, &mut self.ending);
        let mut has_moved = false;
        self.pairs.retain_mut(|pair| {
            let socket = sockets.get_mut::<Socket<'_>>(pair.handle);
            let moved = pair.inward(socket).and_then(|inward| Ok(inward | pair.out(socket)?));
            let is_over = match moved {
                Ok(moved) => {
                    has_moved |= moved;
                    pair.is_kernel_told && pair.is_smoltcp_told
                }
                // One side is gone: the other is told by a reset, or by an end where the kernel has no other way.
                Err(_) => {
                    socket.abort();
                    true
                }
            };
            if is_over {
                ending.push_back(pair.handle);
            }
            !is_over
        });
        ending.retain(|handle| {
            let is_gone = sockets.get::<Socket<'_>>(*handle).state() == State::Closed;
            if is_gone {
                retire(sockets, *handle);
            }
            !is_gone
        });
        let mut surplus = ending.len().saturating_sub(WAITING);
        ending.retain(|handle| {
            let is_dropped = surplus > 0 && sockets.get::<Socket<'_>>(*handle).state() == State::TimeWait;
            if is_dropped {
                retire(sockets, *handle);
                surplus -= 1;
            }
            !is_dropped
        });
        has_moved
    }

    /// Until a frame comes, the kernel has bytes or takes some, or a timer of smoltcp's is due.
    fn wait(&mut self, kernel: Option<&TcpListener>) -> anyhow::Result<()> {
        let delay = self.interface.poll_delay(Instant::now(), &self.sockets).map(Duration::from);
        let delay = delay.unwrap_or(Duration::from_secs(1));
        let delay = Timespec { tv_sec: delay.as_secs().cast_signed(), tv_nsec: delay.subsec_nanos().into() };
        // SAFETY: the device is open for as long as it is ours.
        #[expect(unsafe_code, reason = "smoltcp's device lends its descriptor as a number")]
        let device = unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) };
        let mut waits = vec![PollFd::from_borrowed_fd(device, PollFlags::IN)];
        waits.extend(kernel.map(|kernel| PollFd::new(kernel, PollFlags::IN)));
        for pair in &self.pairs {
            let socket = self.sockets.get::<Socket<'_>>(pair.handle);
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, pair.out.is_empty() && !pair.has_kernel_ended && socket.can_send());
            flags.set(PollFlags::OUT, !pair.inward.is_empty());
            if !flags.is_empty() {
                waits.push(PollFd::new(&pair.kernel, flags));
            }
        }
        match poll(&mut waits, Some(&delay)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Pair {
    /// Bytes from smoltcp on to the kernel.
    fn inward(&mut self, socket: &mut Socket<'_>) -> std::io::Result<bool> {
        if !socket.is_open() && !self.is_smoltcp_told {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let mut has_moved = false;
        while self.inward.len() < CHUNK && socket.can_recv() {
            let taken = socket.recv(|bytes| {
                self.inward.extend(&*bytes);
                (bytes.len(), bytes.len())
            });
            has_moved |= taken.is_ok_and(|count| count > 0);
        }
        while !self.inward.is_empty() {
            let (front, _) = self.inward.as_slices();
            match self.kernel.write(front) {
                Ok(count) => {
                    self.inward.drain(..count);
                    has_moved = true;
                }
                // A connection on its way is not connected.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let has_ended = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
        );
        if has_ended && !socket.can_recv() && self.inward.is_empty() && !self.is_kernel_told {
            self.kernel.shutdown(Shutdown::Write)?;
            self.is_kernel_told = true;
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Bytes from the kernel on to smoltcp.
    fn out(&mut self, socket: &mut Socket<'_>) -> std::io::Result<bool> {
        let mut has_moved = false;
        if self.out.is_empty() && !self.has_kernel_ended && socket.can_send() {
            let mut buffer = [0; CHUNK];
            match self.kernel.read(&mut buffer) {
                Ok(0) => self.has_kernel_ended = true,
                Ok(count) => self.out.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        while !self.out.is_empty() && socket.can_send() {
            let (front, _) = self.out.as_slices();
            let Ok(count @ 1..) = socket.send_slice(front) else { break };
            self.out.drain(..count);
            has_moved = true;
        }
        if self.has_kernel_ended && self.out.is_empty() && !self.is_smoltcp_told {
            socket.close();
            self.is_smoltcp_told = true;
            has_moved = true;
        }
        Ok(has_moved)
    }
}
