//! Requests and answers: who writes which control word, and how one side waits for the other.
//!
//! Each side counts what was exchanged. The host writes a request's length and kind, then its number; the server
//! answers in the same way with the same number. The word with the number is the one to sleep on (a futex). A side
//! that sleeps says so first and looks again after that, so that the other one makes a system call only to wake it.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::futex::{self, Flags, Timespec};

use super::region::Region;
use super::spin::Spin;

/// Control words between those of the two sides: a cache line each, and one that the processor fetches along.
const LINE: usize = 32;
/// Words of a side's line.
const NUMBER: usize = 0;
const KIND: usize = 1;
const LENGTH: usize = 2;
const ASLEEP: usize = 3;
/// In the host's line: how long to spin, in microseconds.
const SPIN: usize = 4;

/// What the host asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Request {
    Describe = 1,
    Start = 2,
    Step = 3,
    Save = 4,
    Load = 5,
}

impl Request {
    const ALL: [Self; 5] = [Self::Describe, Self::Start, Self::Step, Self::Save, Self::Load];

    pub(super) fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|request| *request as u32 == number)
    }

    /// The module's function.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Start => "start",
            Self::Step => "step",
            Self::Save => "save",
            Self::Load => "load",
        }
    }
}

/// What the server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Answer {
    /// Here it is.
    Done = 1,
    /// The module said no; its sentence.
    Refused = 2,
    /// The module panicked; what it said and where. The server ends now.
    Panicked = 3,
    /// There is more of it than fits. The server ends now.
    TooLong = 4,
}

impl Answer {
    pub(super) fn of(number: u32) -> Option<Self> {
        [Self::Done, Self::Refused, Self::Panicked, Self::TooLong]
            .into_iter()
            .find(|answer| *answer as u32 == number)
    }
}

/// A side of the channel.
pub(super) trait Side {
    /// Where its line begins.
    const OWN: usize;
    /// Where the other's line begins.
    const OTHER: usize;
}

/// The host's side.
#[derive(Debug)]
pub(super) struct Host;

/// The server's side.
#[derive(Debug)]
pub(super) struct Server;

impl Side for Host {
    const OWN: usize = 0;
    const OTHER: usize = LINE;
}

impl Side for Server {
    const OWN: usize = LINE;
    const OTHER: usize = 0;
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel<S> {
    region: Region,
    spin: Spin,
    /// Of what is waited for.
    number: u32,
    side: PhantomData<S>,
}

impl Channel<Host> {
    /// The host's end.
    pub(super) fn of_host(region: Region, spin: Duration) -> Self {
        let microseconds = u32::try_from(spin.as_micros()).unwrap_or(u32::MAX);
        region.control(SPIN).store(microseconds, Ordering::Relaxed);
        Self { region, spin: Spin::new(spin), number: 0, side: PhantomData }
    }

    /// Hands a request over, whose bytes are in their place.
    pub(super) fn post(&mut self, kind: u32, length: usize) {
        self.number = self.number.wrapping_add(1);
        self.tell(kind, length);
    }
}

impl Channel<Server> {
    /// The server's end, which waits for the first request.
    pub(super) fn of_server(region: Region) -> Self {
        let microseconds = region.control(SPIN).load(Ordering::Relaxed);
        let spin = Spin::new(Duration::from_micros(microseconds.into()));
        Self { region, spin, number: 1, side: PhantomData }
    }

    /// Hands the answer over, whose bytes are in their place; the next request is waited for then.
    pub(super) fn post(&mut self, kind: u32, length: usize) {
        self.tell(kind, length);
        self.number = self.number.wrapping_add(1);
    }
}

impl<S: Side> Channel<S> {
    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    fn own(&self, word: usize) -> &AtomicU32 {
        self.region.control(S::OWN + word)
    }

    fn other(&self, word: usize) -> &AtomicU32 {
        self.region.control(S::OTHER + word)
    }

    fn tell(&self, kind: u32, length: usize) {
        self.own(KIND).store(kind, Ordering::Relaxed);
        self.own(LENGTH).store(u32::try_from(length).unwrap_or(u32::MAX), Ordering::Relaxed);
        // Sequentially consistent, like the sleeper's: either it sees the number, or we see that it sleeps.
        self.own(NUMBER).store(self.number, Ordering::SeqCst);
        if self.other(ASLEEP).load(Ordering::SeqCst) != 0 {
            // Nobody to wake is no error, and there is no other.
            let _ = futex::wake(self.own(NUMBER), Flags::empty(), 1);
        }
    }

    /// Waits for the other's word: its kind and length. Nothing if it does not come within `patience`.
    pub(super) fn wait(&mut self, patience: Option<Duration>) -> Option<(u32, usize)> {
        let (number, word) = (self.number, self.region.control(S::OTHER + NUMBER));
        let is_there = || word.load(Ordering::Acquire) == number;
        if !self.spin.look(is_there) && !self.sleep(patience) {
            return None;
        }
        let length = self.other(LENGTH).load(Ordering::Relaxed);
        Some((self.other(KIND).load(Ordering::Relaxed), usize::try_from(length).unwrap_or(usize::MAX)))
    }

    /// Sleeps until the number is there. A number that keeps changing without being the right one keeps nobody awake
    /// beyond `patience`.
    fn sleep(&self, patience: Option<Duration>) -> bool {
        let word = self.other(NUMBER);
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        self.own(ASLEEP).store(1, Ordering::SeqCst);
        let is_there = loop {
            let seen = word.load(Ordering::SeqCst);
            if seen == self.number {
                break true;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break false;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            // Woken, interrupted, too late, or changed meanwhile: looked at above.
            let _ = futex::wait(word, Flags::empty(), seen, timeout.as_ref());
        };
        self.own(ASLEEP).store(0, Ordering::Relaxed);
        is_there
    }
}
