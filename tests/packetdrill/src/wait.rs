//! Whose turn it is to wait, and for what.
//!
//! The script's driver has two threads: one runs the script and moves the time; the other makes the calls that block.
//! The first may be inside `usleep` or wait for a packet while the second sleeps, so whoever moves the time lets all
//! sleepers look, at each instant at which something happened, whether what they wait for is there. They return at
//! exactly that instant.

use crate::errno::{Errno, Outcome};
use crate::world::World;
use bulkhead_wit::{NEVER, Time};
use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

thread_local! {
    /// When this thread's last blocking call returned: that is the time it asks for next.
    static RETURNED: Cell<Option<i64>> = const { Cell::new(None) };
}

/// The world and those who share it.
pub(crate) struct Shared {
    world: Mutex<World>,
    /// Something happened: those who wait look again.
    happened: Condvar,
    /// All who wait have looked.
    looked: Condvar,
    /// The thread that runs the script, and that nobody else moves the time for.
    script: ThreadId,
}

impl Shared {
    /// To be made by the thread that runs the script.
    pub(crate) fn new(world: World) -> Self {
        Self {
            world: Mutex::new(world),
            happened: Condvar::new(),
            looked: Condvar::new(),
            script: thread::current().id(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that never waits.
    pub(crate) fn enter<T>(&self, call: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        let result = call(&mut world);
        world.settle();
        drop(self.let_look(world));
        result
    }

    /// A look that changes nothing that the stack would have to know.
    pub(crate) fn look<T>(&self, call: impl FnOnce(&mut World) -> T) -> T {
        call(&mut self.lock())
    }

    /// A call that is tried until it gives something else than `EAGAIN`, for `limit` nanoseconds ([`NEVER`]: as long
    /// as it takes; 0: once). Gives `EAGAIN` when the time is over.
    pub(crate) fn block<T>(&self, limit: Time, mut call: impl FnMut(&mut World) -> Outcome<T>) -> Outcome<T> {
        let mut world = self.lock();
        let until = world.now.saturating_add(limit);
        let mut result = call(&mut world);
        world.settle();
        world = self.let_look(world);
        if is_again(&result) && limit > 0 {
            (world, result) = if thread::current().id() == self.script {
                self.drive(world, until, call)
            } else {
                self.sleep(world, until, call)
            };
        }
        let now = world.now;
        if thread::current().id() != self.script {
            RETURNED.set(Some(world.calendar(now)));
        }
        drop(world);
        result
    }

    /// The script's own thread waits: it moves the time itself.
    fn drive<'a, T>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        until: Time,
        mut call: impl FnMut(&mut World) -> Outcome<T>,
    ) -> (MutexGuard<'a, World>, Outcome<T>) {
        loop {
            let next = world.next_event().min(until);
            if next == NEVER {
                return (world, Err(Errno::AGAIN));
            }
            world.pass(next);
            let result = call(&mut world);
            world.settle();
            world = self.let_look(world);
            if !is_again(&result) || world.now >= until {
                return (world, result);
            }
        }
    }

    /// Another thread waits, asleep: whoever moves the time lets it look.
    fn sleep<'a, T>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        until: Time,
        mut call: impl FnMut(&mut World) -> Outcome<T>,
    ) -> (MutexGuard<'a, World>, Outcome<T>) {
        world.waiting += 1;
        world.waits.push(until);
        loop {
            let seen = world.round;
            world = self
                .happened
                .wait_while(world, |world| world.round == seen)
                .unwrap_or_else(PoisonError::into_inner);
            let result = call(&mut world);
            let is_done = !is_again(&result) || world.now >= until;
            if is_done {
                world.settle();
                world.waiting -= 1;
                if let Some(at) = world.waits.iter().position(|wait| *wait == until) {
                    world.waits.swap_remove(at);
                }
            }
            world.unchecked -= 1;
            self.looked.notify_all();
            if is_done {
                return (world, result);
            }
        }
    }

    /// Lets all who wait look at what happened, and goes on when they have.
    fn let_look<'a>(&'a self, mut world: MutexGuard<'a, World>) -> MutexGuard<'a, World> {
        if world.waiting == 0 || world.unchecked > 0 {
            return world;
        }
        world.round += 1;
        world.unchecked = world.waiting;
        self.happened.notify_all();
        self.looked.wait_while(world, |world| world.unchecked > 0).unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes up to `to`, instant by instant, or until `is_enough`.
    fn advance<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        to: Time,
        is_enough: impl Fn(&World) -> bool,
    ) -> MutexGuard<'a, World> {
        while !is_enough(&world) {
            let next = world.next_event();
            if next == NEVER && to == NEVER {
                break;
            }
            if next > to {
                world.now = world.now.max(to);
                break;
            }
            world.pass(next);
            world = self.let_look(world);
        }
        world
    }

    /// Sleeps, in nanoseconds.
    pub(crate) fn nap(&self, duration: Time) {
        let mut world = self.lock();
        world.settle();
        let to = world.now.saturating_add(duration);
        drop(self.advance(world, to, |_| false));
    }

    /// The next packet that the stack sends, with its time; nothing if it will never send one.
    pub(crate) fn next_packet(&self) -> Option<(Vec<u8>, i64)> {
        let mut world = self.lock();
        world.settle();
        let to = world.patience();
        self.advance(world, to, World::has_sent).take_sent()
    }

    /// The time in microseconds.
    pub(crate) fn time(&self) -> i64 {
        RETURNED.take().unwrap_or_else(|| self.lock().ask_time())
    }
}

fn is_again<T>(result: &Outcome<T>) -> bool {
    matches!(result, Err(error) if *error == Errno::AGAIN)
}
