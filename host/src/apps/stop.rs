//! The signs to stand still and to come to an end.

use tokio::sync::watch;

/// What applications are to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    Go,
    /// Whoever serves a connection gives it up as soon as it can, so that somebody else may go on with it.
    Stand,
    /// Come to an end in order.
    End,
}

/// Gives the signs; dropping it is the sign to end.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<Sign>);

/// Waits for the signs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Sign>);

impl Stopper {
    /// No sign given yet, and one who waits for it.
    pub(crate) fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(Sign::Go);
        (Self(sender), Stop(receiver))
    }

    /// Applications are to end.
    pub(crate) fn stop(&self) {
        self.0.send_replace(Sign::End);
    }

    /// Applications are to stand still.
    pub(crate) fn stand(&self) {
        self.0.send_replace(Sign::Stand);
    }

    /// Applications that stand still are to go on.
    pub(crate) fn go(&self) {
        self.0.send_replace(Sign::Go);
    }
}

impl Stop {
    /// Waits until the sign to end is given, or was.
    pub(crate) async fn begun(&mut self) {
        // An error means that nobody is left to give it.
        let _ = self.0.wait_for(|sign| *sign == Sign::End).await;
    }

    /// Waits until the sign to stand still is given. It may be taken back: whoever has seen it may stand still all the same.
    pub(crate) async fn stands(&mut self) {
        if self.0.wait_for(|sign| *sign == Sign::Stand).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until there is no sign to stand still.
    pub(crate) async fn goes(&mut self) {
        let _ = self.0.wait_for(|sign| *sign != Sign::Stand).await;
    }
}
