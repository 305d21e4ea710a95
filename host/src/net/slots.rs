//! Who waits for what: readers and writers of streams and datagram sockets, acceptors of listeners.

use super::limits::WAITERS;
use crate::stack::{ListenerId, SocketId, Stack, StreamId};
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

impl Drop for Wake {
    fn drop(&mut self) {
        self.others.drain(..).for_each(Waker::wake);
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

impl Wake {
    /// One wake for one task, even if it waits on both sides.
    pub(super) fn push(&mut self, waker: Waker) {
        if !self.others.last().is_some_and(|last| last.will_wake(&waker)) {
            self.others.push(waker);
        }
    }
}

/// What a task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Read,
    Write,
}

/// Who waits on one stream, socket or listener. Usually one task a side; several are woken together, and ask again.
#[derive(Debug, Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// More than one on a side: rare, so that the usual stream does not pay for it.
    others: Option<Box<Others>>,
}

type Others = std::collections::VecDeque<(Side, Waker)>;

impl Waiting {
    /// Remembers a waker. Beyond the bound the one that has waited longest is woken, so that its task asks again and does
    /// not hang.
    fn wait(&mut self, side: Side, waker: &Waker, wake: &mut Wake) {
        let place = if side == Side::Read { &mut self.reader } else { &mut self.writer };
        match place {
            None => *place = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) => {
                let others = self.others.get_or_insert_default();
                if others.iter().any(|(of, other)| *of == side && other.will_wake(waker)) {
                    return;
                }
                others.push_back((side, waker.clone()));
                if others.len() > WAITERS
                    && let Some((_, oldest)) = others.pop_front()
                {
                    wake.push(oldest);
                }
            }
        }
    }

    fn wake(&mut self, reads: bool, writes: bool, wake: &mut Wake) {
        if let Some(others) = self.others.take() {
            let mut kept = Others::new();
            for (side, waker) in *others {
                if if side == Side::Read { reads } else { writes } {
                    wake.push(waker);
                } else {
                    kept.push_back((side, waker));
                }
            }
            self.others = (!kept.is_empty()).then(|| Box::new(kept));
        }
        let reader = self.reader.take_if(|_| reads);
        let writer = self.writer.take_if(|_| writes);
        reader.into_iter().chain(writer).for_each(|waker| wake.push(waker));
    }
}

/// A stream that an application holds; generation 0 is none.
#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    waiting: Waiting,
}

#[derive(Debug)]
struct Listening {
    local: SocketAddr,
    waiting: Waiting,
}

/// The sockets that applications hold.
#[derive(Debug, Default)]
pub(super) struct Slots {
    streams: Vec<Slot>,
    listeners: HashMap<ListenerId, Listening>,
    /// By the number of the module, and its name there.
    sockets: HashMap<(usize, SocketId), Waiting>,
}

impl Slots {
    pub(super) fn add(&mut self, id: StreamId) {
        let index = id.index();
        if self.streams.len() <= index {
            // Not by doubling: a quarter of a million streams need not cost as much as half a million.
            if self.streams.capacity() <= index {
                self.streams.reserve_exact(index + 1 - self.streams.len() + index / 8);
            }
            self.streams.resize_with(index + 1, Slot::default);
        }
        self.streams[index] = Slot { generation: id.generation(), ..Slot::default() };
    }

    pub(super) fn remove(&mut self, id: StreamId) {
        if let Some(slot) = self.get(id) {
            *slot = Slot::default();
        }
    }

    fn get(&mut self, id: StreamId) -> Option<&mut Slot> {
        self.streams.get_mut(id.index()).filter(|slot| slot.generation == id.generation())
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> {
        let held = self.streams.iter().enumerate().filter(|(_, slot)| slot.generation != 0);
        held.map(|(index, slot)| StreamId::from_parts(index, slot.generation))
    }

    pub(super) fn wait(&mut self, id: StreamId, side: Side, waker: &Waker, wake: &mut Wake) {
        if let Some(slot) = self.get(id) {
            slot.waiting.wait(side, waker, wake);
        }
    }

    /// A stream has news.
    pub(super) fn ready(&mut self, id: StreamId, news: Readiness, wake: &mut Wake) {
        let Some(slot) = self.get(id) else { return };
        let reads = Readiness::READABLE.with(Readiness::ENDED);
        let writes = Readiness::WRITABLE.with(Readiness::OPENED).with(Readiness::ENDED);
        slot.waiting.wake(news.intersects(reads), news.intersects(writes), wake);
    }

    // ---- datagram sockets

    pub(super) fn add_socket(&mut self, of: (usize, SocketId)) {
        self.sockets.insert(of, Waiting::default());
    }

    pub(super) fn remove_socket(&mut self, of: (usize, SocketId)) {
        self.sockets.remove(&of);
    }

    pub(super) fn wait_socket(&mut self, of: (usize, SocketId), side: Side, waker: &Waker, wake: &mut Wake) {
        if let Some(waiting) = self.sockets.get_mut(&of) {
            waiting.wait(side, waker, wake);
        }
    }

    pub(super) fn ready_socket(&mut self, of: (usize, SocketId), wake: &mut Wake) {
        if let Some(waiting) = self.sockets.get_mut(&of) {
            waiting.wake(true, true, wake);
        }
    }

    // ---- listeners

    pub(super) fn add_listener(&mut self, id: ListenerId, local: SocketAddr) {
        self.listeners.insert(id, Listening { local, waiting: Waiting::default() });
    }

    pub(super) fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove(&id).is_some()
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = ListenerId> {
        self.listeners.keys().copied()
    }

    /// Where the listeners are.
    pub(super) fn listening(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.values().map(|listening| listening.local)
    }

    /// The listeners, and where they are.
    pub(super) fn listening_at(&self) -> impl Iterator<Item = (ListenerId, SocketAddr)> {
        self.listeners.iter().map(|(id, listening)| (*id, listening.local))
    }

    /// Whether a listener has this port.
    pub(super) fn is_listened(&self, port: u16) -> bool {
        self.listening().any(|local| local.port() == port)
    }

    pub(super) fn wait_listener(&mut self, id: ListenerId, waker: &Waker, wake: &mut Wake) {
        if let Some(listening) = self.listeners.get_mut(&id) {
            listening.waiting.wait(Side::Read, waker, wake);
        }
    }

    pub(super) fn ready_listener(&mut self, id: ListenerId, wake: &mut Wake) {
        if let Some(listening) = self.listeners.get_mut(&id) {
            listening.waiting.wake(true, true, wake);
        }
    }

    /// Everybody is to ask again.
    pub(super) fn all(&mut self, wake: &mut Wake) {
        for slot in self.streams.iter_mut().filter(|slot| slot.generation != 0) {
            slot.waiting.wake(true, true, wake);
        }
        for waiting in self.sockets.values_mut() {
            waiting.wake(true, true, wake);
        }
        for listening in self.listeners.values_mut() {
            listening.waiting.wake(true, true, wake);
        }
    }
}

/// Who has news of a stack is woken.
pub(super) fn tell(slots: &mut Slots, number: usize, stack: &mut Stack, wake: &mut Wake) {
    if number == 0 {
        while let Some((id, news)) = stack.next_ready() {
            slots.ready(id, news, wake);
        }
        while let Some(id) = stack.next_ready_listener() {
            // Whoever has decided about an offer waits for the stream itself.
            while let Some(opened) = stack.accept_offered(id) {
                slots.ready(opened, Readiness::OPENED, wake);
            }
            slots.ready_listener(id, wake);
        }
    }
    while let Some(id) = stack.next_ready_socket() {
        slots.ready_socket((number, id), wake);
    }
}
