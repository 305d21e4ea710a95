//! What goes to the module with the next step: calls, and positions of streams that moved.

use super::Stack;
use crate::inspect::{Grants, Listener, Stage};
use bulkhead_wit::{Call, Close, Config, Handle, MarkAt, NEVER, Position, Prefix, Time, limits};

impl Stack {
    /// When the next turn is due if nothing else happens: [`NEVER`] if it need not be, the past if at once.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        if self.fault.is_some() {
            NEVER
        } else if self.unfinished || self.has_news() || !self.resubmitted.is_empty() {
            self.now
        } else {
            self.deadline
        }
    }

    /// Whether the module has not been told everything yet.
    pub(crate) fn has_news(&self) -> bool {
        !self.calls.is_empty() || !self.dirty.is_empty() || self.datagrams.has_news()
    }

    /// Whether a connection's `open` still waits to be told.
    pub(crate) fn is_untold(&self, connection: Handle) -> bool {
        self.calls.iter().any(|call| matches!(call, Call::Open(open) if open.connection == connection))
    }

    /// What a `load` is given: options that were set at run time are in the state, not in what the stack was set up with.
    pub(crate) fn config_of_load(&self) -> Config {
        Config { settings: Vec::new(), ..self.options.config.clone() }
    }

    /// The link's MTU may change at run time: the module is told, and held to it, from the same step on.
    pub(crate) fn follow_mtu(&mut self, mtu: u32) {
        if mtu != self.options.config.mtu {
            tracing::info!(before = self.options.config.mtu, now = mtu, "the link's MTU changes");
            self.options.config.mtu = mtu;
            self.grants.mtu = mtu;
            self.calls.push_front(Call::Configure(self.options.config.clone()));
        }
    }

    /// The host has other addresses from now on. Connections from those that are gone end with
    /// [`NOT_AVAILABLE`](bulkhead_wit::registry::reason::NOT_AVAILABLE), and so do listeners on them fall silent.
    pub fn set_addresses(&mut self, addresses: Vec<Prefix>) {
        self.options.config.addresses = addresses;
        self.grants = Grants::new(&self.options.config, self.instance.description());
        self.calls.push_front(Call::Configure(self.options.config.clone()));
    }

    /// The secrets of new connections are others from the next step on: initial sequence numbers, ports and cookies no longer
    /// follow from a recording that was made before. A module that starts afresh begins with this seed too.
    pub fn reseed(&mut self, seed: [u64; 4]) {
        let [one, two, three, four] = seed;
        self.options.config.seed = (one, two, three, four);
        self.calls.push_front(Call::Reseed(self.options.config.seed));
    }

    pub(super) fn call(&mut self, call: Call) {
        self.calls.push_back(call);
    }

    /// The stream's position goes to the module with the next step.
    pub(super) fn mark_dirty(&mut self, index: u32) {
        if let Some(stream) = self.streams.get_mut(index)
            && !stream.is_dirty
        {
            stream.is_dirty = true;
            self.dirty.push_back(index);
        }
    }

    /// The connection's position is told once more with the next step.
    pub(crate) fn tell_again(&mut self, connection: bulkhead_wit::Handle) {
        if let Some(index) = self.ledgers.find(connection) {
            self.mark_dirty(index);
        }
    }

    /// Moves calls into the batch, and into the ledgers what they entitle the module to.
    pub(crate) fn take_calls(&mut self) {
        while self.batch.calls.len() < limits::CALLS
            && let Some(call) = self.calls.pop_front()
        {
            match &call {
                Call::Listen(listen) => {
                    let listener = Listener {
                        local: listen.local,
                        how: listen.how,
                        allow: listen.allow,
                        accepted: 0,
                        receive_first: listen.receive_first,
                    };
                    self.ledgers.listeners.insert(listen.listener, listener);
                }
                Call::Allow(allow) => {
                    if let Some(listener) = self.ledgers.listeners.get_mut(&allow.listener) {
                        listener.allow = listener.allow.max(allow.up_to);
                    }
                }
                Call::Shutdown(connection) | Call::Close(Close { connection, .. }) => {
                    if let Some(ledger) =
                        self.ledgers.find(*connection).and_then(|index| self.ledgers.get_mut(index))
                    {
                        ledger.shut = true;
                    }
                }
                Call::Unlisten(listener) => drop(self.ledgers.listeners.remove(listener)),
                call => self.note_socket_call(call),
            }
            self.batch.calls.push(call);
        }
    }

    /// Moves positions into the batch, and into the ledgers what the module is told by them.
    pub(crate) fn take_positions(&mut self) {
        // A shutdown covers what this step's positions say, so positions wait while calls are left over.
        while self.calls.is_empty()
            && self.batch.positions.len() < limits::POSITIONS
            && let Some(index) = self.dirty.pop_front()
        {
            let granted = self.grant(index);
            let Some(stream) = self.streams.get_mut(index) else { continue };
            stream.is_dirty = false;
            let Some(ledger) = self.ledgers.get_mut(index) else { continue };
            if ledger.stage == Stage::Gone {
                continue;
            }
            stream.limit_told = granted;
            ledger.limit = stream.limit_told;
            ledger.written = stream.send.written();
            ledger.urgent |= stream.marks.contains(MarkAt::URGENT);
            self.batch.positions.push(Position {
                connection: ledger.handle,
                written: ledger.written,
                consumed: stream.receive.consumed(),
                limit: ledger.limit,
                marks: std::mem::take(&mut stream.marks),
            });
        }
    }
}
