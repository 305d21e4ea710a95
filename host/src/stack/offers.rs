//! Connections that a deferring listener offers before their handshake, and what is decided about them (contract, D8).

#[cfg(feature = "net")]
use super::ListenerId;
use super::{Accepted, Stack, StreamId};
use crate::inspect::Stage;
use bulkhead_wit::{Call, Decide, Verdict};

impl Stack {
    /// The next connection that a deferring listener offers.
    pub fn next_offer(&mut self) -> Option<Accepted> {
        while let Some(id) = self.offers.pop_front() {
            if let Some((local, remote)) = self.ends(id) {
                return Some(Accepted { stream: id, local, remote });
            }
        }
        None
    }

    /// The next connection of a deferring listener that is open, after it was decided so; none of another listener.
    #[cfg(feature = "net")]
    pub(crate) fn accept_offered(&mut self, listener: ListenerId) -> Option<StreamId> {
        self.listeners.get(&listener.0).filter(|listening| listening.is_deferring())?;
        self.accept(listener).ok().map(|accepted| accepted.stream)
    }

    /// Decides about an offered connection; accepted ones come from [`accept`](Self::accept) then, and others are gone.
    pub fn decide(&mut self, id: StreamId, verdict: Verdict, code: u16) {
        if self.streams.held(id).is_some()
            && self.ledgers.get(id.index).is_some_and(|ledger| ledger.stage == Stage::Offered)
        {
            let connection = self.handle(id.index);
            self.call(Call::Decide(Decide { connection, verdict, code }));
        }
        if verdict != Verdict::Accept
            && let Some(stream) = self.streams.held(id)
        {
            stream.is_detached = true;
            if stream.end.is_some() {
                self.free(id.index);
            }
        }
    }
}
