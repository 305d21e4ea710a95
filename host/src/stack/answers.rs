//! What comes from the module with a step, once it has passed inspect: openings, progress, endings, answers.

use super::{Accepted, Level, Stack};
use crate::error::StreamError;
use crate::inspect::Stage;
use crate::streams::{Readiness, Stream};
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Call, Event, Failed, Handle, Info, MarkAt, Note, Opening, Outputs, Source};

impl Stack {
    /// The openings among the events.
    pub(crate) fn begin(&mut self, event: &Event) {
        match event {
            Event::Accepted(opening) => self.accepted(opening),
            Event::Opened(opening) => {
                if let Some(index) = self.ledgers.last_of(opening.connection)
                    && let Some(stream) = self.streams.get_mut(index)
                {
                    stream.is_open = true;
                    stream.progress_at = self.now;
                    self.totals.connections += 1;
                    self.announce(index, Readiness::OPENED.with(Readiness::WRITABLE));
                }
            }
            Event::Offered(opening) => {
                if let Some(index) = self.ledgers.last_of(opening.connection) {
                    let id = self.streams.insert(index, self.stream_for(opening.listener));
                    self.offers.push_back(id);
                    self.ready_listeners.push_back(opening.listener);
                }
            }
            _ => {}
        }
    }

    fn stream_for(&self, listener: u32) -> Stream {
        let sizes = self.listeners.get(&listener).map_or(self.options.sizes, |listening| listening.sizes);
        Stream::new(&sizes)
    }

    fn accepted(&mut self, opening: &Opening) {
        let Some(index) = self.ledgers.last_of(opening.connection) else { return };
        if self.streams.get(index).is_none() {
            self.streams.insert(index, self.stream_for(opening.listener));
        }
        let now = self.now;
        if let Some(stream) = self.streams.get_mut(index) {
            stream.is_open = true;
            stream.progress_at = now;
        }
        self.totals.connections += 1;
        if let Some(source) = self.ledgers.get(index).map(|ledger| ledger.remote.address) {
            self.count_source(source, true);
        }
        let (Some(id), Some(ledger)) = (self.streams.id(index), self.ledgers.get(index)) else { return };
        let accepted = Accepted { stream: id, local: ledger.local, remote: ledger.remote };
        if let Some(listening) = self.listeners.get_mut(&opening.listener) {
            listening.backlog.push_back(accepted);
            self.ready_listeners.push_back(opening.listener);
        }
    }

    /// Applications may read what is exposed.
    pub(crate) fn expose(&mut self, outputs: &Outputs) {
        for mark in &outputs.marks {
            let Some(index) = self.ledgers.last_of(mark.connection) else { continue };
            let Some(stream) = self.streams.get_mut(index) else { continue };
            if stream.receive.exposed() < mark.exposed {
                self.totals.bytes_in += mark.exposed - stream.receive.exposed();
                stream.receive.expose(mark.exposed);
                self.announce(index, Readiness::READABLE);
            }
        }
    }

    /// Send queues let go of what peers have.
    pub(crate) fn acknowledge(&mut self, outputs: &Outputs) {
        let is_calm = self.level() == Level::Calm;
        for send in outputs.sends.iter().filter(|send| send.source == Source::Queue) {
            let Some(index) = self.ledgers.last_of(Handle(send.of)) else { continue };
            let Some(stream) = self.streams.get_mut(index) else { continue };
            if stream.take_writable(self.ledgers.sent(index)) {
                self.announce(index, Readiness::WRITABLE);
            }
        }
        for mark in &outputs.marks {
            let Some(index) = self.ledgers.last_of(mark.connection) else { continue };
            let Some(stream) = self.streams.get_mut(index) else { continue };
            let held = stream.send.held();
            stream.send.acknowledge(mark.acknowledged, &mut self.blocks);
            let freed = held - stream.send.held();
            self.totals.bytes_out += freed;
            if freed > 0 {
                stream.progress_at = self.now;
            }
            if is_calm {
                stream.tune(mark.want_receive, mark.want_send);
            }
            if stream.take_writable(self.ledgers.sent(index)) {
                self.announce(index, Readiness::WRITABLE);
            }
            if self.streams.get(index).is_some_and(Stream::has_grant) {
                self.mark_dirty(index);
            }
        }
    }

    /// The endings and answers among the events.
    pub(crate) fn end(&mut self, event: Event) {
        match event {
            Event::Finished(end) => {
                if let Some(index) = self.ledgers.last_of(end.connection)
                    && let Some(stream) = self.streams.get_mut(index)
                {
                    stream.finished = Some(end.at);
                    self.announce(index, Readiness::READABLE);
                }
            }
            Event::Urgent(urgent) => {
                let index = self.ledgers.last_of(urgent.connection);
                if let Some(stream) = index.and_then(|index| self.streams.get_mut(index)) {
                    stream.urgent = urgent.at;
                }
            }
            Event::Warned(warning) if self.datagrams.warn(warning.connection, warning.reason) => {}
            Event::Warned(warning) => {
                let what = reason::name(warning.reason).unwrap_or("unknown");
                tracing::debug!(connection = ?warning.connection, what, value = warning.value, "warned");
            }
            Event::Closed(closed) => self.closed(closed.connection, closed.reason),
            Event::Resubmit(hold) => {
                self.resubmitted.extend(self.hold_bytes.resubmit(hold.slot, hold.length, &mut self.pool));
            }
            Event::Release(slot) => self.hold_bytes.release(slot),
            Event::Info(info) => self.answered(info),
            Event::Failed(failed) => self.failed(failed),
            Event::Offered(_) | Event::Accepted(_) | Event::Opened(_) | Event::Choosing(_) => {}
        }
    }

    /// The ledger does not know the handle any more, so the stream is found by what it was.
    fn closed(&mut self, connection: Handle, reason: u16) {
        if let Some(index) = self.ledgers.last_of(connection) {
            self.answers.remove(&connection);
            if let Some(ledger) = self.ledgers.get(index).filter(|ledger| ledger.listener != 0) {
                self.count_source(ledger.remote.address, false);
            }
            self.end_stream(index, StreamError::Ended(reason));
        }
    }

    fn answered(&mut self, info: Info) {
        self.answers.insert(info.of, info.fields);
    }

    /// A call could not be done. What it was stands in the batch.
    fn failed(&mut self, failed: Failed) {
        if let Some(call) = self.batch.calls.get(failed.call as usize).cloned() {
            self.refuse(&call, StreamError::Ended(failed.reason));
        }
    }

    /// A call cannot be done: whoever made it is told.
    pub(crate) fn refuse(&mut self, call: &Call, error: StreamError) {
        match call {
            Call::Open(open) => {
                let index = self.ledgers.last_of(open.connection);
                if let Some(index) = index.filter(|_| self.is_opening(open.connection)) {
                    self.ledgers.forget(index);
                    self.end_stream(index, error);
                }
            }
            Call::Listen(listen) => {
                let listener = listen.listener;
                self.ledgers.listeners.remove(&listener);
                if let Some(listening) = self.listeners.get_mut(&listener) {
                    listening.end = Some(error);
                    self.ready_listeners.push_back(listener);
                }
            }
            Call::Bind(bind) => {
                let socket = bind.socket;
                self.ledgers.sockets.remove(&socket);
                self.datagrams.fail(socket, error);
            }
            call => tracing::debug!(?call, %error, "a call failed"),
        }
    }

    fn is_opening(&self, connection: Handle) -> bool {
        self.ledgers
            .find(connection)
            .and_then(|index| self.ledgers.get(index))
            .is_some_and(|ledger| ledger.stage == Stage::Opening)
    }

    /// Puts a stream on the list of those with news for their applications.
    pub(super) fn announce(&mut self, index: u32, news: Readiness) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.is_detached {
            return;
        }
        stream.ready = stream.ready.with(news);
        if !stream.is_ready_listed {
            stream.is_ready_listed = true;
            self.ready.push_back(index);
        }
    }

    /// The module's own sentences, with control characters taken out.
    pub(crate) fn tell(&self, note: &Note) {
        let text: String = note.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let connection = note.connection;
        match note.level {
            1 => tracing::error!(target: "module", ?connection, "{text}"),
            2 => tracing::warn!(target: "module", ?connection, "{text}"),
            3 => tracing::info!(target: "module", ?connection, "{text}"),
            4 => tracing::debug!(target: "module", ?connection, "{text}"),
            _ => tracing::trace!(target: "module", ?connection, "{text}"),
        }
    }

    /// Sets marks that go with a stream's next position.
    pub(super) fn mark(&mut self, index: u32, marks: MarkAt) {
        if let Some(stream) = self.streams.get_mut(index) {
            stream.marks = stream.marks.with(marks);
        }
        self.mark_dirty(index);
    }
}
