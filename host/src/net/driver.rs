//! The driver: turns whenever there is something to do, and sleep in between.

use super::end::NetError;
use super::limits::TURNS;
use super::shared::Shared;
use super::slots::Wake;
use super::summary::Summary;
use parking_lot::MutexGuard;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Keeps a stack going until it is shut down, fails, or nobody holds a handle or socket of it any more.
///
/// Dropping it ends every socket with an error at once, and says nothing to the peers.
#[derive(Debug)]
#[must_use = "nothing moves without its driver"]
pub struct Driver {
    shared: Arc<Shared>,
}

/// What the driver waits on besides sockets.
struct Waits {
    /// A second name of the device's descriptor; devices in memory may have none.
    device: Option<AsyncFd<OwnedFd>>,
    timer: AsyncFd<Arc<OwnedFd>>,
}

#[expect(
    deprecated,
    reason = "sound for what owns its descriptor, as ours do; the new name would need unsafe code here"
)]
fn watch<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until the end, and says what was done in all. A fault of the module is one of the ways to end: see
    /// [`Summary::fault`].
    ///
    /// # Errors
    /// What the runtime says when the device or the timer cannot be waited on.
    ///
    /// # Panics
    /// Outside a tokio runtime, and on one whose I/O is not enabled.
    ///
    /// # Cancellation
    /// Dropped, it takes no more turns: whoever waits for a socket is told that the driver is gone.
    pub async fn run(self) -> io::Result<Summary> {
        let waits = self.waits()?;
        poll_fn(|context| self.poll(context, &waits)).await
    }

    fn waits(&self) -> io::Result<Waits> {
        let mut state = self.shared.lock();
        let device = state.device().as_fd().map(|fd| fd.try_clone_to_owned()).transpose()?;
        let timer = state.timer().fd();
        Ok(Waits { device: device.map(watch).transpose()?, timer: watch(timer)? })
    }

    fn poll(&self, context: &mut Context<'_>, waits: &Waits) -> Poll<io::Result<Summary>> {
        let mut is_idle = false;
        for _ in 0..TURNS {
            // Readiness is looked at before the turn that uses it up, so that what arrives in between is not missed.
            let device = match waits.device.as_ref().map(|fd| fd.poll_read_ready(context)) {
                Some(Poll::Ready(ready)) => Some(ready?),
                Some(Poll::Pending) | None => None,
            };
            let timer = match waits.timer.poll_read_ready(context) {
                Poll::Ready(ready) => Some(ready?),
                Poll::Pending => None,
            };
            // The last turn left nothing, and since then nothing has come: sockets with news would have woken us.
            if is_idle && device.is_none() && timer.is_none() {
                return Poll::Pending;
            }
            let mut wake = Wake::default();
            let mut state = self.shared.lock();
            if timer.is_some() {
                state.timer().fired();
            }
            let again = state.drive(context.waker(), &mut wake);
            let is_over = state.end.is_some();
            MutexGuard::unlock_fair(state);
            drop(wake);
            if is_over {
                return Poll::Ready(Ok(self.tell_summary()));
            }
            if let Some(mut timer) = timer {
                timer.clear_ready();
            } else if !again && device.is_none() {
                return Poll::Pending;
            }
            // Only a turn after which there is no more has emptied the device.
            if let Some(mut device) = device.filter(|_| !again) {
                device.clear_ready();
            }
            is_idle = !again;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn tell_summary(&self) -> Summary {
        let summary = self.shared.lock().summary();
        self.shared.summary.send_if_modified(|told| {
            let is_first = told.is_none();
            told.get_or_insert_with(|| summary.clone());
            is_first
        });
        summary
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut wake = Wake::default();
        let mut state = self.shared.lock();
        state.finish(NetError::DriverGone, &mut wake);
        drop(state);
        drop(wake);
        self.tell_summary();
    }
}
