//! The lock, and what happens around every call of a socket.

use super::slots::Wake;
use super::state::State;
use super::summary::Summary;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

/// What the driver and the sockets share.
#[derive(Debug)]
pub(super) struct Shared {
    // Not std's: the driver gives the lock up fairly between turns, or sockets of other threads would starve.
    state: Mutex<State>,
    /// Set once, when the driver has ended.
    pub(super) summary: watch::Sender<Option<Summary>>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), summary: watch::Sender::new(None) }
    }

    /// Whoever takes the lock directly has a [`Wake`] that outlives the guard.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A socket's call: with the lock, and with the module told of what came of it.
    pub(super) fn call<T>(&self, call: impl FnOnce(&mut State, &mut Wake) -> T) -> T {
        let mut wake = Wake::default();
        let mut state = self.lock();
        let result = call(&mut state, &mut wake);
        state.tell_driver(&mut wake);
        drop(state);
        result
    }
}
