//! The sign to come to an end.

use tokio::sync::watch;

/// Gives the sign; dropping it gives it too.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<bool>);

/// Waits for the sign. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stopper {
    /// A sign not given yet, and one who waits for it.
    pub(crate) fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    /// Gives the sign.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits until the sign is given, or was.
    pub(crate) async fn begun(&mut self) {
        // An error means that nobody is left to give it.
        let _ = self.0.wait_for(|is_given| *is_given).await;
    }
}
