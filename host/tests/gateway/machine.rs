//! A virtual machine in the place of a program: frames over a Unix socket, and at their other end a stack that is not ours
//! (smoltcp), which asks for its address, looks for its neighbours, and downloads.
//!
//! These need neither root nor a namespace: the servers are on the host's loopback, which `--host-loopback` lets be reached.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint, Ipv4Address, Ipv4Cidr, Ipv6Address};

use super::{MIB, PROGRAM, noise, report};

const PATIENCE: Duration = Duration::from_secs(60);

/// The guest's end of the link.
enum Link {
    Stream(UnixStream, Vec<u8>),
    Datagrams(UnixDatagram, PathBuf),
}

impl Link {
    fn send(&mut self, frame: &[u8]) {
        match self {
            // Of a stream that is full no frame may be lost in the middle.
            Self::Stream(stream, _) => {
                let bytes = [&(frame.len() as u32).to_be_bytes()[..], frame].concat();
                stream.set_nonblocking(false).unwrap();
                stream.write_all(&bytes).unwrap();
                stream.set_nonblocking(true).unwrap();
            }
            Self::Datagrams(socket, to) => drop(socket.send_to(frame, to)),
        }
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut some = vec![0; 70_000];
        match self {
            Self::Stream(stream, read) => loop {
                if let Some((length, rest)) = read.split_first_chunk() {
                    let length = u32::from_be_bytes(*length) as usize;
                    if rest.len() >= length {
                        let frame = rest[..length].to_vec();
                        read.drain(..4 + length);
                        return Some(frame);
                    }
                }
                match stream.read(&mut some) {
                    Ok(0) | Err(_) => return None,
                    Ok(count) => read.extend_from_slice(&some[..count]),
                }
            },
            Self::Datagrams(socket, _) => {
                let count = socket.recv(&mut some).ok()?;
                some.truncate(count);
                Some(some)
            }
        }
    }
}

/// The link as smoltcp knows devices.
struct Card(Link);

impl phy::Device for Card {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Moment) -> Option<(Arrived, Leaving<'_>)> {
        self.0.receive().map(|frame| (Arrived(frame), Leaving(&mut self.0)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Arrived(Vec<u8>);
struct Leaving<'a>(&'a mut Link);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.send(&frame);
        result
    }
}

/// The machine.
struct Guest {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    begun: Instant,
}

impl Guest {
    fn new(link: Link) -> Self {
        let mut card = Card(link);
        let mut config = Config::new(EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]).into());
        config.random_seed = 4711;
        let interface = Interface::new(config, &mut card, Moment::ZERO);
        Self { card, interface, sockets: SocketSet::new(Vec::new()), begun: Instant::now() }
    }

    /// Goes on until it is so.
    fn until<T>(&mut self, mut look: impl FnMut(&mut Interface, &mut SocketSet<'static>) -> Option<T>) -> T {
        loop {
            let now = Moment::from_micros(i64::try_from(self.begun.elapsed().as_micros()).unwrap());
            self.interface.poll(now, &mut self.card, &mut self.sockets);
            if let Some(result) = look(&mut self.interface, &mut self.sockets) {
                return result;
            }
            assert!(self.begun.elapsed() < PATIENCE, "it takes too long");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Asks for an address, and takes it.
    fn configure(&mut self) {
        let dhcp = self.sockets.add(dhcpv4::Socket::new());
        let (address, router, servers) =
            self.until(|interface, sockets| match sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll() {
                Some(dhcpv4::Event::Configured(config)) => {
                    interface.update_ip_addrs(|all| all.push(IpCidr::Ipv4(config.address)).unwrap());
                    interface.routes_mut().add_default_ipv4_route(config.router.unwrap()).unwrap();
                    Some((config.address, config.router, config.dns_servers.to_vec()))
                }
                _ => None,
            });
        assert_eq!(address, Ipv4Cidr::new(Ipv4Address::new(10, 0, 2, 100), 24));
        assert_eq!(router, Some(Ipv4Address::new(10, 0, 2, 2)));
        assert_eq!(servers, [Ipv4Address::new(10, 0, 2, 3)]);
    }

    fn connect(&mut self, to: impl Into<IpEndpoint>, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 << 10]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.connect(self.interface.context(), to, port).unwrap();
        self.sockets.add(socket)
    }

    /// Everything that comes until the end of the stream.
    fn download(&mut self, to: impl Into<IpEndpoint>, port: u16) -> Vec<u8> {
        let handle = self.connect(to, port);
        let mut got = Vec::new();
        self.until(|_, sockets| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
            }
            let is_over = !socket.may_recv() && !matches!(socket.state(), tcp::State::SynSent);
            is_over.then(|| socket.close())
        });
        got
    }
}

/// The gateway, which ends with the test.
struct Gateway(Option<Child>);

impl Gateway {
    fn start(options: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
        command.args(["gateway", "--json", "--host-loopback"]).args(options).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    fn signal(&self) {
        let id = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A folder for sockets, whose paths must be short; gone when this is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bh-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn connect(path: &str) -> UnixStream {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_nonblocking(true).unwrap();
                return stream;
            }
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{path}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends this to everybody who connects, on both loopback addresses; the port.
fn serve(bytes: &'static [u8]) -> u16 {
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    for listener in [first, TcpListener::bind(("::1", port)).unwrap()] {
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(bytes);
            }
        });
    }
    port
}

/// What every kind of link has to do.
fn downloads(guest: &mut Guest) {
    let bytes: &'static [u8] = noise(4 * MIB).leak();
    let port = serve(bytes);
    guest.configure();
    assert!(guest.download((Ipv4Address::new(10, 0, 2, 2), port), 50_000) == bytes, "IPv4");
    // What nobody listens to is refused at once.
    let refused = guest.connect((Ipv4Address::new(10, 0, 2, 2), 1), 50_001);
    guest.until(|_, sockets| {
        (sockets.get::<tcp::Socket<'_>>(refused).state() == tcp::State::Closed).then_some(())
    });
    // The router by Neighbour Discovery.
    let address = IpCidr::new(IpAddress::Ipv6(Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 5)), 64);
    guest.interface.update_ip_addrs(|all| all.push(address).unwrap());
    let router = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    assert!(guest.download((router, port), 50_002) == bytes, "IPv6");
}

fn told(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    let report = report(output);
    assert_eq!((&report["faults"], &report["gateway"]["connections"]), (&0.into(), &2.into()), "{report}");
    // The last one may not have come to its end, and be counted, when the machine goes.
    assert!(report["gateway"]["bytes_in"].as_u64().unwrap() >= 4 * MIB as u64, "{report}");
}

#[test]
fn a_machine_by_a_stream_of_frames() {
    let folder = Folder::new("stream");
    let path = folder.path("net");
    let gateway = Gateway::start(&["--qemu-stream", &path]);
    let mut guest = Guest::new(Link::Stream(connect(&path), Vec::new()));
    downloads(&mut guest);
    assert!(!Path::new(&path).exists(), "there is one machine, and nobody else is to come");
    drop(guest);
    // The machine's end is the gateway's.
    told(&gateway.end());
}

#[test]
fn a_machine_by_datagrams_that_is_started_twice() {
    let folder = Folder::new("dgram");
    let (ours, theirs) = (folder.path("host"), folder.path("guest"));
    // What a gateway left that is gone.
    drop(UnixDatagram::bind(&ours).unwrap());
    let gateway = Gateway::start(&["--qemu-dgram", &format!("{ours}={theirs}")]);
    let machine = || {
        let socket = UnixDatagram::bind(&theirs).unwrap();
        socket.set_nonblocking(true).unwrap();
        Guest::new(Link::Datagrams(socket, ours.clone().into()))
    };
    machine().configure();
    std::fs::remove_file(&theirs).unwrap();
    downloads(&mut machine());
    gateway.signal();
    told(&gateway.end());
}

#[test]
fn frames_that_are_none_harm_nobody() {
    let folder = Folder::new("bad");
    let path = folder.path("net");
    let gateway = Gateway::start(&["--qemu-stream", &path]);
    let mut guest = Guest::new(Link::Stream(connect(&path), Vec::new()));
    guest.configure();
    let mut state: VecDeque<u8> = noise(MIB).into();
    for length in (1..1600).chain([5_000, 20_000, 65_000, 69_000]) {
        let mut frame: Vec<u8> = state.drain(..length.min(500)).collect();
        frame.resize(length, 7);
        if length > 14 {
            frame[..14].copy_from_slice(&[
                0x02, 0x62, 0x75, 0x6c, 0x6b, 0x02, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0,
            ]);
            [frame[12], frame[13]] = [[8, 0], [8, 6], [0x86, 0xdd]][length % 3];
        }
        guest.card.0.send(&frame);
    }
    let bytes: &'static [u8] = b"as before";
    let port = serve(bytes);
    assert_eq!(guest.download((Ipv4Address::new(10, 0, 2, 2), port), 50_000), bytes);
    // What cannot be the length of a frame ends the link, and with it the gateway.
    let Link::Stream(mut stream, _) = guest.card.0 else { panic!() };
    stream.write_all(&[0xff; 4]).unwrap();
    let output = gateway.end();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(&output)["faults"], 0);
    assert!(matches!(stream.read(&mut [0; 100_000]), Ok(_) | Err(_)));
}

#[test]
fn a_socket_in_use_is_told_and_a_signal_ends_the_waiting() {
    let folder = Folder::new("taken");
    let path = folder.path("net");
    let first = Gateway::start(&["--qemu-stream", &path]);
    let begun = Instant::now();
    while !Path::new(&path).exists() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let file = folder.path("file");
    std::fs::write(&file, "no socket").unwrap();
    let output = Gateway::start(&["--qemu-stream", &file]).end();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&file), "{output:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"no socket");
    first.signal();
    assert_eq!(first.end().status.code(), Some(0));
    assert!(!Path::new(&path).exists());
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::NotFound);
}
