//! The stack under test, its sockets, and the time, which is virtual.
//!
//! Time passes only when somebody waits: `usleep` and the wait for the next packet step through the stack's deadlines
//! one by one. A script of minutes runs in milliseconds, and every run of it is the same.

use crate::epoll::Epoll;
use crate::errno::{Errno, Outcome};
use crate::setup::Setup;
use crate::socket::{Kind, Socket};
use crate::sysctl;
use crate::watch::Watch;
use bulkhead::device::queue::QueueDevice;
use bulkhead::device::{Capabilities, Offload};
use bulkhead::{ListenerId, Options, Readiness, Sizes, Stack, StreamId};
use bulkhead_wit::limits::{MICROSECOND, SECOND};
use bulkhead_wit::{Address, NEVER, Prefix, Time};
use libc::c_int;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// Turns at one instant, at most: more would be a stack that never comes to rest.
const TURNS: u32 = 10_000;
/// How long a wait for a packet may go on, in virtual time: longer than any timer of TCP.
const PATIENCE: Time = 4 * 3600 * SECOND;
/// Seeds the module's randomness: always the same, so that every run of a script is.
const SEED: [u64; 4] = [0x0bad_cafe, 2, 3, 4];

/// Everything that calls work on.
pub(crate) struct World {
    pub(crate) setup: Setup,
    /// Started when the first socket needs it: scripts configure the namespace before, and bind to our addresses.
    pub(crate) stack: Option<Stack>,
    device: QueueDevice,
    /// Virtual nanoseconds since the start.
    pub(crate) now: Time,
    /// Microseconds of the calendar at the start.
    origin_us: u64,
    /// The last call asked for the time, too: somebody spins.
    is_spinning: bool,
    /// What the stack sent and nobody has taken, with the time.
    sent: VecDeque<(Vec<u8>, Time)>,
    pub(crate) sockets: HashMap<c_int, Socket>,
    pub(crate) epolls: HashMap<c_int, Epoll>,
    pub(crate) watch: Watch,
    /// The ends of waits that are going on in other threads.
    pub(crate) waits: Vec<Time>,
    /// Threads that wait, the round of looks at what they wait for, and how many have not looked in it yet.
    pub(crate) waiting: usize,
    pub(crate) round: u64,
    pub(crate) unchecked: usize,
    has_told_fault: bool,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let calendar = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let device = QueueDevice::new(Capabilities::plain(setup.mtu));
        Self {
            setup,
            stack: None,
            device,
            now: 0,
            origin_us: u64::try_from(calendar.as_micros()).unwrap_or_default(),
            is_spinning: false,
            sent: VecDeque::new(),
            sockets: HashMap::new(),
            epolls: HashMap::new(),
            watch: Watch::default(),
            waits: Vec::new(),
            waiting: 0,
            round: 0,
            unchecked: 0,
            has_told_fault: false,
        }
    }

    /// A descriptor that the kernel knows: the script's driver closes it by itself.
    pub(crate) fn descriptor() -> Outcome<OwnedFd> {
        let file =
            File::open("/dev/null").map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
        Ok(file.into())
    }

    pub(crate) fn insert(&mut self, socket: Socket) -> c_int {
        let fd = socket.fd.as_raw_fd();
        self.sockets.insert(fd, socket);
        fd
    }

    pub(crate) fn socket_mut(&mut self, fd: c_int) -> Outcome<&mut Socket> {
        self.sockets.get_mut(&fd).ok_or(Errno::BADF)
    }

    /// The stack, started by the first who needs it. `local` becomes one of our addresses then.
    pub(crate) fn started(&mut self, local: Option<IpAddr>) -> Outcome<&mut Stack> {
        if self.stack.is_none() {
            if let Some(local) = local
                && !self.setup.homes.iter().any(|(home, _)| *home == local)
            {
                self.setup.homes.push((local, if local.is_ipv4() { 16 } else { 64 }));
            }
            let stack = start(&self.setup).map_err(|error| {
                eprintln!("bulkhead: {error}");
                Errno(libc::ENETDOWN)
            })?;
            self.stack = Some(stack);
        }
        self.stack.as_mut().ok_or(Errno(libc::ENETDOWN))
    }

    /// The stack, if there is one already.
    pub(crate) fn stack(&mut self) -> Outcome<&mut Stack> {
        self.stack.as_mut().ok_or(Errno::NOT_CONNECTED)
    }

    /// Sizes of new connections' buffers.
    pub(crate) fn sizes(&self) -> Option<Sizes> {
        if self.setup.sysctl { sysctl::sizes() } else { None }
    }

    /// A packet arrives.
    pub(crate) fn inject(&mut self, packet: &[u8]) -> Outcome<()> {
        self.started(None)?;
        if self.device.inject(packet, Offload::default()) { Ok(()) } else { Err(Errno(libc::ENOBUFS)) }
    }

    /// Tells the stack what happened and carries out what it says, until it has nothing more to say at this instant.
    pub(crate) fn settle(&mut self) {
        self.is_spinning = false;
        let Some(stack) = self.stack.as_mut() else { return };
        for _ in 0..TURNS {
            match stack.turn(self.now, &mut self.device) {
                Ok(turn) => {
                    while let Some((packet, _)) = self.device.take() {
                        self.watch.sent(&packet);
                        self.sent.push_back((packet, self.now));
                    }
                    if !turn.again {
                        break;
                    }
                }
                Err(fault) => {
                    if !self.has_told_fault {
                        eprintln!("bulkhead: the module failed: {fault}");
                    }
                    self.has_told_fault = true;
                    break;
                }
            }
        }
        self.notice();
    }

    /// What the stack has to tell its applications becomes readiness of sockets.
    fn notice(&mut self) {
        let Some(stack) = self.stack.as_mut() else { return };
        let mut listeners: HashMap<ListenerId, u32> = HashMap::new();
        while let Some(listener) = stack.next_ready_listener() {
            *listeners.entry(listener).or_default() += 1;
        }
        let mut streams: HashMap<StreamId, Readiness> = HashMap::new();
        while let Some((stream, news)) = stack.next_ready() {
            let known = streams.entry(stream).or_default();
            *known = known.with(news);
        }
        for socket in self.sockets.values_mut() {
            match socket.kind {
                Kind::Listener(listener) => {
                    let count = listeners.get(&listener).copied().unwrap_or(0);
                    socket.acceptable += count;
                    socket.in_edges += u64::from(count);
                }
                Kind::Stream(stream) => {
                    socket.told(streams.get(&stream).copied().unwrap_or_default());
                    socket.look_for_space(stack, &self.watch);
                }
                Kind::New => {}
            }
        }
    }

    /// When something happens by itself next: the stack's deadline, or the end of somebody's wait.
    pub(crate) fn next_event(&self) -> Time {
        let deadline = self.stack.as_ref().map_or(NEVER, Stack::next_deadline);
        self.waits.iter().copied().fold(deadline, Time::min)
    }

    /// Time passes up to `to`, which is not beyond the next event.
    pub(crate) fn pass(&mut self, to: Time) {
        // An instant that comes again and again would stand still: it moves by the smallest step.
        self.now = if to <= self.now { self.now + MICROSECOND } else { to };
        self.settle();
    }

    /// The next packet that the stack sent, with its time in microseconds of the calendar.
    pub(crate) fn take_sent(&mut self) -> Option<(Vec<u8>, i64)> {
        let (packet, time) = self.sent.pop_front()?;
        Some((packet, self.calendar(time)))
    }

    pub(crate) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// How long a wait for a packet that began now may go on.
    pub(crate) fn patience(&self) -> Time {
        self.now.saturating_add(PATIENCE)
    }

    /// A virtual time as microseconds of the calendar.
    pub(crate) fn calendar(&self, time: Time) -> i64 {
        i64::try_from(self.origin_us + time / MICROSECOND).unwrap_or(i64::MAX)
    }

    /// The time, for somebody who may be spinning until it is late enough: asked twice in a row, it has passed.
    pub(crate) fn ask_time(&mut self) -> i64 {
        if self.is_spinning {
            self.now += MICROSECOND;
        }
        self.is_spinning = true;
        self.calendar(self.now)
    }
}

fn start(setup: &Setup) -> Result<Stack, String> {
    let (first, length) = *setup.homes.first().ok_or("no address")?;
    let mut options = Options::new(first, length, setup.mtu, SEED);
    options.config.addresses.extend(setup.homes.iter().skip(1).map(|(address, length)| Prefix {
        address: Address::from(*address),
        length: if address.is_ipv4() { length.saturating_add(96) } else { *length },
    }));
    options.config.settings = setup.settings.clone();
    Stack::new(setup.instance()?, options).map_err(|fault| fault.to_string())
}
