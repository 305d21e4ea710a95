//! Who waits for what: one reader and one writer a stream, one acceptor a listener.

use crate::stack::{ListenerId, StreamId};
use crate::streams::Readiness;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::task::Waker;

/// Wakers to be woken once the lock is released. Dropping it wakes them, so it is declared before the lock is taken.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// The driver's.
    pub(super) driver: Option<Waker>,
    others: Vec<Waker>,
}

impl Wake {
    pub(super) fn push(&mut self, waker: Option<Waker>) {
        self.others.extend(waker);
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.others.drain(..).for_each(Waker::wake);
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

/// What a task waits for on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Read,
    Write,
}

#[derive(Debug)]
struct Slot {
    id: StreamId,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Listening {
    local: SocketAddr,
    acceptor: Option<Waker>,
}

/// The sockets that applications hold.
#[derive(Debug, Default)]
pub(super) struct Slots {
    streams: Vec<Option<Slot>>,
    listeners: HashMap<ListenerId, Listening>,
}

/// Puts a waker into its place. One that is pushed out is woken, so that its task asks again and does not hang.
fn put(place: &mut Option<Waker>, waker: &Waker, wake: &mut Wake) {
    if place.as_ref().is_some_and(|old| old.will_wake(waker)) {
        return;
    }
    wake.push(place.replace(waker.clone()));
}

impl Slots {
    pub(super) fn add(&mut self, id: StreamId) {
        if self.streams.len() <= id.index() {
            self.streams.resize_with(id.index() + 1, || None);
        }
        self.streams[id.index()] = Some(Slot { id, reader: None, writer: None });
    }

    pub(super) fn remove(&mut self, id: StreamId) {
        if self.get(id).is_some() {
            self.streams[id.index()] = None;
        }
    }

    fn get(&mut self, id: StreamId) -> Option<&mut Slot> {
        self.streams.get_mut(id.index())?.as_mut().filter(|slot| slot.id == id)
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.iter().flatten().map(|slot| slot.id)
    }

    pub(super) fn wait(&mut self, id: StreamId, side: Side, waker: &Waker, wake: &mut Wake) {
        if let Some(slot) = self.get(id) {
            put(if side == Side::Read { &mut slot.reader } else { &mut slot.writer }, waker, wake);
        }
    }

    /// A stream has news: one wake for one task, even if it waits on both sides.
    pub(super) fn ready(&mut self, id: StreamId, news: Readiness, wake: &mut Wake) {
        let Some(slot) = self.get(id) else { return };
        let reads = Readiness::READABLE.with(Readiness::ENDED);
        let writes = Readiness::WRITABLE.with(Readiness::OPENED).with(Readiness::ENDED);
        let reader = slot.reader.take_if(|_| news.intersects(reads));
        let writer = slot.writer.take_if(|_| news.intersects(writes));
        let is_same = matches!((&reader, &writer), (Some(reader), Some(writer)) if reader.will_wake(writer));
        wake.push(reader);
        wake.push(writer.filter(|_| !is_same));
    }

    pub(super) fn add_listener(&mut self, id: ListenerId, local: SocketAddr) {
        self.listeners.insert(id, Listening { local, acceptor: None });
    }

    pub(super) fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove(&id).is_some()
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = ListenerId> {
        self.listeners.keys().copied()
    }

    /// Whether a listener has this port.
    pub(super) fn is_listened(&self, port: u16) -> bool {
        self.listeners.values().any(|listening| listening.local.port() == port)
    }

    pub(super) fn wait_listener(&mut self, id: ListenerId, waker: &Waker, wake: &mut Wake) {
        if let Some(listening) = self.listeners.get_mut(&id) {
            put(&mut listening.acceptor, waker, wake);
        }
    }

    pub(super) fn ready_listener(&mut self, id: ListenerId, wake: &mut Wake) {
        if let Some(listening) = self.listeners.get_mut(&id) {
            wake.push(listening.acceptor.take());
        }
    }

    /// Everybody is to ask again.
    pub(super) fn all(&mut self, wake: &mut Wake) {
        for slot in self.streams.iter_mut().flatten() {
            wake.push(slot.reader.take());
            wake.push(slot.writer.take());
        }
        for listening in self.listeners.values_mut() {
            wake.push(listening.acceptor.take());
        }
    }
}
