//! Standing still for a successor, and beginning where a predecessor stood.

use super::{State, tell};
use crate::device::{Device as _, Offload};
use crate::error::StreamError;
use crate::handover::frames::{put_frames, take_frames};
use crate::handover::wire::{Carried as _, Malformed, Reader, put, put_count};
use crate::net::NetError;
use crate::net::limits::SETTLING;
use crate::net::slots::Wake;
use crate::stack::{ListenerId, Stack};
use bulkhead_wit::registry::{protocol, reason};
use bulkhead_wit::{NEVER, Time, limits};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A frame that is sent when turns are taken again.
pub(in crate::net) type Withheld = (Vec<u8>, Offload);

/// What a state is made of beside its stacks.
#[derive(Debug)]
pub(in crate::net) struct Origin {
    /// The stack's time 0, in nanoseconds of the system's monotonic clock; modules may be younger than the system, or
    /// older than this process.
    monotonic: i128,
    turns: u64,
    longest_gap: Time,
}

fn monotonic() -> i128 {
    let time = clock_gettime(ClockId::Monotonic);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

impl State {
    /// Turns are taken no more, until [`go_on`](Self::go_on). The modules have been told everything before.
    ///
    /// # Errors
    /// The stack is ending, a module has ended, or there is always something more to tell.
    pub(in crate::net) fn stand(&mut self, wake: &mut Wake) -> io::Result<()> {
        self.alive()?;
        if self.is_closing() {
            return Err(NetError::Shutdown.into());
        }
        for _ in 0..SETTLING {
            for number in 0..=self.beside.len() {
                let mut port = self.router.port(number, false);
                let stack = match number.checked_sub(1).and_then(|number| self.beside.get_mut(number)) {
                    Some(stack) => stack,
                    None => &mut self.stack,
                };
                if let Some(fault) = stack.fault() {
                    return Err(NetError::Fault(std::sync::Arc::clone(fault)).into());
                }
                stack.settle(&mut port);
                tell(&mut self.slots, number, stack, wake);
            }
            if !self.has_news() {
                self.stands = true;
                self.origin = monotonic() - i128::from(self.now());
                return Ok(());
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the modules have always something more to do"))
    }

    /// Turns are taken again, as if nothing had happened.
    pub(in crate::net) fn go_on(&mut self, wake: &mut Wake) {
        self.stands = false;
        wake.driver = wake.driver.take().or(self.driver.take());
    }

    /// A successor has everything: here every stream has ended, so that nothing is written into the void.
    pub(in crate::net) fn let_go(&mut self) {
        for stack in std::iter::once(&mut self.stack).chain(&mut self.beside) {
            stack.end_instance(&StreamError::Ended(reason::ABORTED));
        }
    }

    /// Writes down everything but the device.
    ///
    /// # Errors
    /// How a module failed to save its state.
    pub(in crate::net) fn put(&mut self, to: &mut Vec<u8>) -> io::Result<()> {
        let origin = self.origin;
        put!(to, (origin >> 64) as u64, origin as u64, self.turns, self.longest_gap);
        put_count(1 + self.beside.len(), to);
        for stack in std::iter::once(&mut self.stack).chain(&mut self.beside) {
            put!(to, stack.serves(protocol::TCP), stack.serves(protocol::UDP));
            stack.put(to).map_err(io::Error::other)?;
        }
        let listening: Vec<(ListenerId, SocketAddr)> = self.slots.listening_at().collect();
        put_count(listening.len(), to);
        listening.iter().for_each(|listening| listening.put(to));
        self.router.held().for_each(|queue| put_frames(queue.iter(), to));
        Ok(())
    }

    /// Goes on from where the predecessor stood: its time never goes back.
    pub(in crate::net) fn begin_at(&mut self, origin: &Origin, withheld: Vec<Withheld>) {
        let Origin { monotonic: begun, turns, longest_gap } = *origin;
        let latest = self.modules().map(Stack::now).max().unwrap_or(0);
        let elapsed = u64::try_from(monotonic() - begun).unwrap_or(0).max(latest);
        // Where the clock of this process cannot be as old as that, the stack's time begins anew, and stands still for it.
        self.clock = Instant::now().checked_sub(Duration::from_nanos(elapsed)).unwrap_or(self.clock);
        (self.turns, self.longest_gap, self.withheld) = (turns, longest_gap, withheld);
        (self.turned, self.deadline) = (elapsed, NEVER);
    }

    /// Sends what the first steps of instances that took over have said.
    pub(super) fn send_withheld(&mut self) {
        if self.withheld.is_empty() {
            return;
        }
        let now = self.now();
        let mut port = self.router.port(0, false);
        port.set_now(now);
        for (frame, offload) in self.withheld.drain(..) {
            // One that the device does not take is lost, as ever.
            let _ = port.transmit(&[IoSlice::new(&frame)], offload);
        }
    }

    /// What a predecessor's listeners are, and where.
    pub(in crate::net) fn take_listening(&mut self, from: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..from.count(limits::LISTENERS)? {
            let (id, local) = from.take()?;
            self.slots.add_listener(id, local);
        }
        Ok(())
    }

    /// Frames that have arrived at the predecessor's, and that no module has seen.
    pub(in crate::net) fn take_frames(&mut self, from: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..=self.beside.len() {
            self.router.bring(take_frames(from)?);
        }
        Ok(())
    }
}

impl Origin {
    pub(in crate::net) fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (high, low): (u64, u64) = (from.take()?, from.take()?);
        let monotonic = i128::from(high.cast_signed()) << 64 | i128::from(low);
        Ok(Self { monotonic, turns: from.take()?, longest_gap: from.take()? })
    }
}
