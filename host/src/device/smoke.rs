//! Both TUN devices against the kernel, in a network namespace of the test's own. Only for root; others skip it.
#![expect(unsafe_code, reason = "unshare has no safe face here")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::*;
use crate::join::Join;
use crate::split::network::{TCP, UDP};
use crate::split::{Arrived, Ends, Split};
use bulkhead_wit::{Address, Batch, Endpoint, Evidence, Segment, Send};

/// Runs `test` in a namespace of its own, which ends with its thread; says so if it cannot.
fn in_namespace(test: impl FnOnce() + std::marker::Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: no pointers; it concerns this thread only.
            let is_apart = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            if is_apart && std::path::Path::new("/dev/net/tun").exists() {
                test();
            } else {
                eprintln!("skipped: not root, or no /dev/net/tun");
            }
        });
        thread.join().expect("the test passes");
    });
}

fn options(name: &str) -> TunOptions {
    TunOptions {
        name: name.into(),
        mtu: Some(1400),
        addresses: vec![("10.77.0.1".parse().unwrap(), 24), ("fd77::1".parse().unwrap(), 64)],
        up: true,
        multi_queue: false,
    }
}

/// A device, the rooms on both sides of it, and what has arrived.
struct Bench {
    device: Box<dyn Device>,
    pool: FramePool,
    split: Split,
    join: Join,
    batch: Batch,
    arrived: Vec<Arrived>,
}

impl Bench {
    fn new(device: Box<dyn Device>) -> Self {
        let (split, join) = (Split::new(0), Join::new(1));
        Self { device, pool: FramePool::default(), split, join, batch: Batch::default(), arrived: Vec::new() }
    }

    /// Waits for the next segment of this protocol to us.
    fn next(&mut self, protocol: u8) -> (Segment, Arrived) {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            self.batch.clear();
            self.arrived.clear();
            let Some(frame) = self.device.receive(&mut self.pool).unwrap() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let _ = self.split.split(frame, &mut self.batch, &mut self.arrived);
            if let (Some(segment), Some(arrived)) = (self.batch.segments.pop(), self.arrived.pop())
                && segment.protocol == protocol
            {
                return (segment, arrived);
            }
        }
        panic!("nothing arrived: {:?}", self.split.counters());
    }

    fn send(&mut self, header: &[u8], transport: usize, payload: &[u8], mss: u16) {
        let send = Send {
            length: payload.len() as u32,
            header_length: header.len() as u16,
            transport: transport as u16,
            mss,
            ..Send::default()
        };
        let joined = self.join.join(&send, header, &[payload], &mut *self.device).unwrap();
        assert_eq!(joined.dropped, 0);
    }
}

/// A header as a module writes it, from our end to the peer's.
fn header(ends: Ends, protocol: u8, transport: &[u8]) -> (Vec<u8>, usize) {
    let (us, them) = (ends.destination, ends.source);
    let mut header = match (us.address.v4(), them.address.v4()) {
        (Some(us), Some(them)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend_from_slice(&us);
            header.extend_from_slice(&them);
            header
        }
        _ => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            header.extend_from_slice(&us.address.octets());
            header.extend_from_slice(&them.address.octets());
            header
        }
    };
    let length = header.len();
    header.extend_from_slice(&us.port.to_be_bytes());
    header.extend_from_slice(&them.port.to_be_bytes());
    header.extend_from_slice(transport);
    (header, length)
}

/// Sequence number, acknowledgement, and the rest of a TCP header; no options.
fn tcp(seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    let mut rest = seq.to_be_bytes().to_vec();
    rest.extend_from_slice(&ack.to_be_bytes());
    rest.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    rest
}

/// The kernel takes a moment until it calls a new IPv6 address its own.
fn bind(here: &str) -> UdpSocket {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match UdpSocket::bind(here) {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            socket => return socket.unwrap(),
        }
    }
}

fn datagrams(bench: &mut Bench) {
    for (here, us) in [("10.77.0.1:0", "10.77.0.2:53"), ("[fd77::1]:0", "[fd77::2]:53")] {
        let socket = bind(here);
        let us: SocketAddr = us.parse().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(b"question", us).unwrap();
        let (_, arrived) = bench.next(UDP);
        assert_eq!(arrived.ends.destination, Endpoint::from(us));
        assert_eq!(arrived.ends.source, Endpoint::from(socket.local_addr().unwrap()));
        assert_eq!(&*arrived.payload, b"question");
        let (header, transport) = header(arrived.ends, UDP, &[0, 0, 0, 0]);
        bench.send(&header, transport, b"answer!", 0);
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer!"[..], us));
    }
}

/// A connection of the kernel's, served by hand: 60,000 bytes in one send to the kernel, and as many back.
fn stream(bench: &mut Bench, us: &str, mss: u16) -> (u16, Evidence) {
    let us: SocketAddr = us.parse().unwrap();

    std::thread::scope(|scope| {
        // Sockets of the namespace can only be made by a thread in it: a child inherits it.
        let peer = scope.spawn(move || {
            let mut stream = TcpStream::connect(us).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut got = vec![0; 60_000];
            stream.read_exact(&mut got).unwrap();
            assert!(got.iter().enumerate().all(|(at, byte)| *byte == (at / 7) as u8));
            stream.write_all(&got).unwrap();
            stream
        });
        let (_, syn) = bench.next(TCP);
        let facts = syn.facts.tcp().unwrap();
        assert!(facts.syn && !facts.ack_flag && syn.ends.destination.address == Address::from(us.ip()));
        let reply = |bench: &mut Bench, rest: &[u8], payload: &[u8]| {
            let (header, transport) = header(syn.ends, TCP, rest);
            bench.send(&header, transport, payload, mss);
        };
        let base = facts.seq.wrapping_add(1);
        reply(bench, &tcp(1000, base, 0x12), b"");
        assert_eq!(bench.next(TCP).1.facts.tcp().unwrap().ack, 1001);
        let payload: Vec<u8> = (0..60_000).map(|at| (at / 7) as u8).collect();
        for chunk in 0..2 {
            let at = chunk * 30_000;
            reply(bench, &tcp(1001 + at, base, 0x18), &payload[at as usize..at as usize + 30_000]);
            while bench.next(TCP).1.facts.tcp().unwrap().ack != 1001 + at + 30_000 {}
        }
        let (mut got, mut count, mut evidence) = (Vec::new(), 0, Evidence::Absent);
        while got.len() < 60_000 {
            let (segment, arrived) = bench.next(TCP);
            let facts = arrived.facts.tcp().unwrap();
            if facts.seq == base.wrapping_add(got.len() as u32) && segment.payload > 0 {
                got.extend_from_slice(&arrived.payload);
                (count, evidence) = (count.max(segment.count), segment.evidence);
                reply(bench, &tcp(61_001, base.wrapping_add(got.len() as u32), 0x10), b"");
            }
        }
        assert_eq!(got, payload);
        reply(bench, &tcp(61_001, base.wrapping_add(60_000), 0x14), b"");
        drop(peer.join().unwrap());
        (count, evidence)
    })
}

#[test]
fn the_plain_device_talks_to_the_kernel() {
    in_namespace(|| {
        let bench = &mut Bench::new(Box::new(Tun::open(&options("bhplain")).unwrap()));
        assert_eq!(bench.device.capabilities(), Capabilities::plain(1400));
        datagrams(bench);
        // Somebody changes the MTU, and after a second the device knows it.
        bench.device.set_now(1);
        interface::Interface::new("bhplain").unwrap().set_mtu(1500).unwrap();
        bench.device.set_now(2);
        assert_eq!(bench.device.capabilities().mtu, 1400);
        bench.device.set_now(1 + bulkhead_wit::limits::SECOND);
        assert_eq!(bench.device.capabilities().mtu, 1500);
        assert_eq!(stream(bench, "10.77.0.2:80", 1360), (1, Evidence::Verified));
        assert_eq!(stream(bench, "[fd77::2]:80", 1340), (1, Evidence::Verified));
    });
}

#[test]
fn the_device_with_offload_passes_super_segments() {
    in_namespace(|| {
        let bench = &mut Bench::new(Box::new(OffloadTun::open(&options("bhfast")).unwrap()));
        assert_eq!(bench.device.capabilities().tso6, 65_535);
        datagrams(bench);
        for (us, mss) in [("10.77.0.2:80", 1360), ("[fd77::2]:80", 1340)] {
            let (count, evidence) = stream(bench, us, mss);
            assert!(count > 4, "{count} segments merged");
            assert_eq!(evidence, Evidence::Trusted);
        }
        assert!(bench.join.counters().offloaded >= 4);
    });
}

#[test]
fn what_goes_wrong_is_told_with_advice() {
    in_namespace(|| {
        let _first = Tun::open(&options("bhbusy")).unwrap();
        let again = Tun::open(&options("bhbusy")).unwrap_err();
        assert!(matches!(again, DeviceError::Busy { .. }), "{again}");
        let other = OffloadTun::open(&options("lo")).unwrap_err();
        assert!(matches!(other, DeviceError::OtherKind { .. }), "{other}");
        let long = Tun::open(&options("a-name-too-long-")).unwrap_err();
        assert!(matches!(long, DeviceError::BadName { .. }), "{long}");
        let mut odd = options("bhodd");
        odd.addresses.push(("10.1.1.1".parse().unwrap(), 33));
        let odd = Tun::open(&odd).unwrap_err();
        assert!(odd.to_string().contains("10.1.1.1/33"), "{odd}");
        let mut many = options("bhmany");
        many.multi_queue = true;
        let queues: Vec<_> = (0..3).map(|_| OffloadTun::open(&many).unwrap()).collect();
        assert_eq!(queues[2].interface().mtu().unwrap(), 1400);
    });
}
