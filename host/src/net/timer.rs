//! A timer of nanoseconds. tokio's own counts milliseconds, and a module's deadlines are to be kept to 100 us.

use bulkhead_wit::{NEVER, Time};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

const SECOND: Time = 1_000_000_000;

/// A `timerfd`, which any thread that holds the stack may set and the driver waits on.
#[derive(Debug)]
pub(super) struct Timer {
    fd: Arc<OwnedFd>,
    armed: Time,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { fd: Arc::new(fd), armed: NEVER })
    }

    pub(super) fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Fires at `deadline` or before. It is moved forward only: most deadlines are put off before they are due, and an
    /// early firing costs less than a system call for each acknowledgement.
    pub(super) fn arm(&mut self, now: Time, deadline: Time) {
        if deadline >= self.armed {
            return;
        }
        // Zero would switch it off.
        let wait = deadline.saturating_sub(now).max(1);
        let it_value =
            Timespec { tv_sec: (wait / SECOND).cast_signed(), tv_nsec: (wait % SECOND).cast_signed() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::time::timerfd_settime(
            &*self.fd,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval, it_value },
        ) {
            Ok(_) => self.armed = deadline,
            Err(error) => tracing::error!(%error, "the timer cannot be set"),
        }
    }

    /// It has fired: it stands still now.
    pub(super) fn fired(&mut self) {
        let mut count = [0; 8];
        // Nothing to read means that somebody has set it anew since.
        if rustix::io::read(&*self.fd, &mut count).is_ok() {
            self.armed = NEVER;
        }
    }
}
