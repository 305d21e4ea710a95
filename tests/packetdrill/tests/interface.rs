//! The shared object, loaded and driven as packetdrill would, without packetdrill.
//!
//! The peer is this test: it writes bare IPv4 packets by hand and reads those of the stack.
#![expect(unsafe_code, reason = "the interface is C's")]

use bulkhead_packetdrill::Interface;
use libc::{c_int, c_void, sockaddr, sockaddr_in, socklen_t};
use std::ffi::CString;
use std::mem::{MaybeUninit, transmute, zeroed};
use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

const OURS: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];
const PORT: u16 = 8080;
const PEER_PORT: u16 = 40_000;
const SYN: u8 = 2;
const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// One test at a time: a descriptor that one of them has closed may be another's the next moment.
static ALONE: Mutex<()> = Mutex::new(());

/// A loaded interface, and the peer's side of one connection.
struct Loaded {
    _alone: MutexGuard<'static, ()>,
    calls: Interface,
    sequence: u32,
    acknowledgement: u32,
}

/// A segment of the stack's, and the virtual microseconds at which it came.
#[derive(Debug)]
struct Got {
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    payload: Vec<u8>,
    time: i64,
}

fn load() -> Loaded {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().join("libbulkhead_packetdrill.so");
    let path = CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
    let flags = CString::new("placement=native,address=10.0.0.1/24,sysctl=off,profile=1").unwrap();
    let mut calls = MaybeUninit::uninit();
    // SAFETY: the symbol has the type that the interface says.
    let calls = unsafe {
        let object = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!object.is_null(), "{path:?} is built with this test");
        let symbol = libc::dlsym(object, c"packetdrill_interface_init".as_ptr());
        assert!(!symbol.is_null());
        let init: unsafe extern "C" fn(*const libc::c_char, *mut Interface) = transmute(symbol);
        init(flags.as_ptr(), calls.as_mut_ptr());
        calls.assume_init()
    };
    Loaded { _alone: alone, calls, sequence: 1000, acknowledgement: 0 }
}

/// A call of the interface.
macro_rules! call {
    ($loaded:expr, $name:ident $(, $argument:expr)*) => {{
        let (calls, data) = (&$loaded.calls, $loaded.calls.userdata);
        // SAFETY: `userdata` is the interface's own, and the arguments are as the call of this name wants them.
        unsafe { (calls.$name)(data $(, $argument)*) }
    }};
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn address(octets: [u8; 4], port: u16) -> sockaddr_in {
    // SAFETY: all zero is a valid address.
    let mut address: sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(octets);
    address
}

const ADDRESS: socklen_t = size_of::<sockaddr_in>() as socklen_t;

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

impl Loaded {
    fn listening(&self) -> c_int {
        let fd = call!(self, socket, libc::AF_INET, libc::SOCK_STREAM, 0);
        assert!(fd >= 0);
        let ours = address(OURS, PORT);
        assert_eq!(call!(self, bind, fd, (&raw const ours).cast::<sockaddr>(), ADDRESS), 0);
        assert_eq!(call!(self, listen, fd, 1), 0);
        fd
    }

    /// The peer sends a segment.
    fn send(&mut self, flags: u8, options: &[u8], payload: &[u8]) {
        let mut tcp = Vec::new();
        tcp.extend(PEER_PORT.to_be_bytes());
        tcp.extend(PORT.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.extend([(5 + options.len() as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        let pseudo =
            [&PEER[..], &OURS, &[0, 6], &((tcp.len() + payload.len()) as u16).to_be_bytes()].concat();
        let checksum = sum(&[&pseudo, &tcp, payload]);
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        let mut ip = vec![0x45, 0];
        ip.extend((20 + tcp.len() as u16 + payload.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend([PEER, OURS].concat());
        let checksum = sum(&[&ip]);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let packet = [&ip[..], &tcp, payload].concat();
        assert_eq!(call!(self, netdev_send, packet.as_ptr().cast(), packet.len()), 0);
        let counted = u32::from(flags & (SYN | FIN) != 0);
        self.sequence = self.sequence.wrapping_add(payload.len() as u32 + counted);
    }

    /// The next segment of the stack's, however long that takes in virtual time.
    fn receive(&mut self) -> Got {
        let (mut packet, mut time) = (vec![0u8; 65_536], 0);
        let mut length = packet.len();
        let status = call!(self, netdev_receive, packet.as_mut_ptr().cast(), &raw mut length, &raw mut time);
        assert_eq!((status, packet[0]), (0, 0x45));
        let header = 20 + usize::from(packet[32] >> 4) * 4;
        let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        Got {
            flags: packet[33],
            sequence: word(24),
            acknowledgement: word(28),
            payload: packet[header..length].to_vec(),
            time,
        }
    }

    /// A connection, opened by the peer: its descriptor.
    fn connected(&mut self, listener: c_int) -> c_int {
        self.send(SYN, &[2, 4, 5, 180], &[]);
        let answer = self.receive();
        assert_eq!(answer.flags, SYN | ACK);
        assert_eq!(answer.acknowledgement, self.sequence);
        self.acknowledgement = answer.sequence.wrapping_add(1);
        self.send(ACK, &[], &[]);
        let (mut from, mut length) = (address([0; 4], 0), ADDRESS);
        let fd = call!(self, accept, listener, (&raw mut from).cast(), &raw mut length);
        assert!(fd >= 0);
        assert_eq!((from.sin_port, from.sin_addr.s_addr), (PEER_PORT.to_be(), u32::from_ne_bytes(PEER)));
        fd
    }

    fn now(&self) -> i64 {
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        assert_eq!(call!(self, gettimeofday, &raw mut time, null_mut()), 0);
        time.tv_sec * 1_000_000 + time.tv_usec
    }

    fn sleep(&self, us: u32) {
        assert_eq!(call!(self, usleep, us), 0);
    }

    fn end(self) {
        call!(self, free);
    }
}

#[test]
fn a_connection_from_the_handshake_to_the_end() {
    let mut stack = load();
    let listener = stack.listening();
    let fd = stack.connected(listener);

    assert_eq!(call!(stack, write, fd, b"hello".as_ptr().cast(), 5), 5);
    let data = stack.receive();
    assert_eq!((data.flags, &data.payload[..]), (ACK | PSH, &b"hello"[..]));
    stack.acknowledgement = stack.acknowledgement.wrapping_add(5);

    stack.send(ACK | PSH, &[], b"and back");
    let mut bytes = [0u8; 100];
    let flags = libc::MSG_DONTWAIT;
    assert_eq!(call!(stack, recv, fd, bytes.as_mut_ptr().cast(), 100, flags), 8);
    assert_eq!(&bytes[..8], b"and back");
    assert_eq!(call!(stack, recv, fd, bytes.as_mut_ptr().cast(), 100, flags), -1);
    assert_eq!(errno(), libc::EAGAIN);

    stack.send(ACK | FIN, &[], &[]);
    assert_eq!(call!(stack, read, fd, bytes.as_mut_ptr().cast(), 100), 0);
    assert_eq!(call!(stack, close, fd), 0);
    let mut last = stack.receive();
    while last.flags & FIN == 0 {
        assert_eq!(last.flags, ACK);
        last = stack.receive();
    }
    assert_eq!(last.acknowledgement, stack.sequence);
    assert_eq!(call!(stack, close, fd), -1);
    assert_eq!(call!(stack, close, listener), 0);
    stack.end();
}

#[test]
fn time_passes_only_for_those_who_wait() {
    let mut stack = load();
    let listener = stack.listening();
    let fd = stack.connected(listener);
    let before = stack.now();
    stack.sleep(3_600_000_000);
    let after = stack.now();
    assert!((3_600_000_000..3_600_001_000).contains(&(after - before)), "{}", after - before);
    // Nothing acknowledges this: the wait for the next packet steps to the retransmission, which no clock waited for.
    assert_eq!(call!(stack, write, fd, b"x".as_ptr().cast(), 1), 1);
    let (first, again) = (stack.receive(), stack.receive());
    assert_eq!((first.sequence, &first.payload), (again.sequence, &again.payload));
    assert!(again.time > first.time);
    assert!(stack.now() >= again.time);
    stack.end();
}

#[test]
fn a_blocked_read_returns_at_the_instant_of_the_data() {
    let mut stack = load();
    let listener = stack.listening();
    let fd = stack.connected(listener);
    let data = stack.calls.userdata as usize;
    let (read, gettimeofday) = (stack.calls.read, stack.calls.gettimeofday);
    let reader = std::thread::spawn(move || {
        let mut bytes = [0u8; 10];
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: the interface is alive until this thread is joined.
        let count = unsafe {
            let count = read(data as *mut c_void, fd, bytes.as_mut_ptr().cast(), 10);
            gettimeofday(data as *mut c_void, &raw mut time, null_mut());
            count
        };
        (count, time.tv_sec * 1_000_000 + time.tv_usec)
    });
    stack.sleep(100_000);
    stack.send(ACK | PSH, &[], b"0123456789");
    let sent = stack.now();
    stack.sleep(100_000);
    let (count, time) = reader.join().unwrap();
    assert_eq!(count, 10);
    // The reader may have begun only after all that, where the machine is busy: then it returned at once.
    assert!(time == sent || time >= sent + 100_000, "{time} {sent}");
    stack.end();
}

#[test]
fn readiness_options_and_wrong_calls() {
    let mut stack = load();
    let listener = stack.listening();
    let mut polled = [libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 }];
    let before = stack.now();
    assert_eq!(call!(stack, poll, polled.as_mut_ptr(), 1, 250), 0);
    assert!(stack.now() - before >= 250_000);
    let fd = stack.connected(listener);

    let epoll = call!(stack, epoll_create, 1);
    let edge = (libc::EPOLLIN | libc::EPOLLET) as u32;
    let mut event = libc::epoll_event { events: edge, u64: 7 };
    assert_eq!(call!(stack, epoll_ctl, epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event), 0);
    assert_eq!(call!(stack, epoll_wait, epoll, &raw mut event, 1, 0), 0);
    stack.send(ACK | PSH, &[], b"news");
    assert_eq!(call!(stack, epoll_wait, epoll, &raw mut event, 1, 0), 1);
    assert_eq!({ event.u64 }, 7);
    assert_eq!(call!(stack, epoll_wait, epoll, &raw mut event, 1, 0), 0);

    let on: c_int = 1;
    let (value, length) = ((&raw const on).cast::<c_void>(), size_of::<c_int>() as socklen_t);
    assert_eq!(call!(stack, setsockopt, fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, value, length), 0);
    assert_eq!(call!(stack, setsockopt, fd, libc::IPPROTO_TCP, 9999, value, length), -1);
    assert_eq!(errno(), libc::ENOPROTOOPT);
    let (mut info, mut length) = ([0u8; 248], 248);
    let (into, size) = (info.as_mut_ptr().cast(), &raw mut length);
    assert_eq!(call!(stack, getsockopt, fd, libc::IPPROTO_TCP, libc::TCP_INFO, into, size), 0);
    assert_eq!((info[0], length), (1, 248), "established");

    assert_eq!(call!(stack, write, fd, null(), 5), -1);
    assert_eq!(errno(), libc::EFAULT);
    assert_eq!(call!(stack, socket, libc::AF_INET, libc::SOCK_DGRAM, 0), -1);
    assert_eq!(errno(), libc::ESOCKTNOSUPPORT);
    assert_eq!(call!(stack, fcntl, fd, libc::F_SETFL, libc::O_NONBLOCK.into()), 0);
    let mut waiting: c_int = 0;
    assert_eq!(call!(stack, ioctl, fd, libc::FIONREAD, &raw mut waiting), 0);
    assert_eq!(waiting, 4);
    stack.end();
}
