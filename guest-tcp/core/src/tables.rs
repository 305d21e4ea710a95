//! All connections, embryos and remains, and the three ways to them: by endpoints, by handle, by deadline.

use crate::connection::{Connection, Ending};
use crate::demux::Table;
use crate::embryo::Embryo;
use crate::emit;
use crate::entity::{Entity, EntityKind};
use crate::fragment::Fragments;
use crate::hash::Key;
use crate::limits::{PIECES, SOURCES, TIME_WAITS};
use crate::listener::Listeners;
use crate::out::Context;
use crate::slab::Slab;
use crate::time_wait::TimeWait;
use crate::timer::Timers;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Address, Endpoint, Event, Handle, NEVER, Reason};

/// Everything that the stack keeps of its peers.
#[derive(Default)]
pub(crate) struct Tables {
    pub connections: Slab<Box<Connection>>,
    pub embryos: Slab<Embryo>,
    pub time_waits: Slab<TimeWait>,
    pub listeners: Listeners,
    pub timers: Timers,
    pub fragments: Fragments,
    /// Connections with something to send, in the order of their turns.
    pub ready: VecDeque<u32>,
    /// Pieces that each connection's scoreboard and reassembly are in, and all of them together.
    pieces: Vec<u16>,
    pieces_in_all: u32,
    /// Connections by their state's number.
    pub states: [u32; STATES],
    by_ends: Table,
    by_handle: Table,
    /// Connections with something to mark in this step.
    marked: Vec<u32>,
    /// Ends of connections that were closed in this step: the host frees them only after it.
    closed: Vec<(Endpoint, Endpoint)>,
    /// Embryos by source, under a keyed hash; empty before the first.
    sources: Vec<u32>,
    /// Embryos that were offered, by the place that is reserved for their connection.
    pub offers: BTreeMap<u32, u32>,
}

/// As many as RFC 9293 has, CLOSED included.
const STATES: usize = 11;

/// The hash of a handle that the host numbered.
fn handle_hash(key: Key, handle: Handle) -> u64 {
    key.secret(&[handle.0])
}

impl Tables {
    /// Both ends of an entity.
    fn ends(&self, entity: Entity) -> Option<(Endpoint, Endpoint)> {
        match entity.what() {
            EntityKind::Connection => self.connections.get(entity.number()).map(|c| (c.local, c.remote)),
            EntityKind::Embryo => self.embryos.get(entity.number()).map(|e| (e.local, e.remote)),
            EntityKind::TimeWait => self.time_waits.get(entity.number()).map(|t| (t.local, t.remote)),
            EntityKind::Hold => None,
        }
    }

    /// Whose segment this is.
    pub(crate) fn find(&self, key: Key, local: Endpoint, remote: Endpoint) -> Option<Entity> {
        let is = |number| self.ends(Entity::from_table(number)) == Some((local, remote));
        self.by_ends.find(key.tuple(local, remote), is).map(Entity::from_table)
    }

    /// The connection that a handle names.
    pub(crate) fn by_handle(&self, key: Key, handle: Handle) -> Option<u32> {
        let is = |number| self.connections.get(number).is_some_and(|connection| connection.handle == handle);
        if handle.is_by_module() {
            return Some(handle.slot()).filter(|&number| is(number));
        }
        self.by_handle.find(handle_hash(key, handle), is)
    }

    /// Makes an entity found by its ends.
    pub(crate) fn bind(&mut self, key: Key, entity: Entity) {
        if let Some((local, remote)) = self.ends(entity) {
            self.by_ends.insert(key.tuple(local, remote), entity.to_table());
        }
    }

    fn unbind(&mut self, key: Key, entity: Entity) {
        if let Some((local, remote)) = self.ends(entity) {
            self.by_ends.remove(key.tuple(local, remote), entity.to_table());
        }
        self.timers.set(entity, NEVER);
    }

    /// Adds a connection at a place that was reserved for it.
    pub(crate) fn add(&mut self, key: Key, number: u32, connection: Box<Connection>) {
        let handle = connection.handle;
        self.connections.fill(number, connection);
        self.index(key, number, handle);
    }

    /// Room for so many connections, before they come.
    pub(crate) fn reserve(&mut self, connections: usize) {
        self.by_ends.reserve(connections);
        self.timers.reserve(connections);
    }

    /// Makes a connection found by ends and handle.
    pub(crate) fn index(&mut self, key: Key, number: u32, handle: Handle) {
        self.bind(key, Entity::connection(number));
        if !handle.is_by_module() {
            self.by_handle.insert(handle_hash(key, handle), number);
        }
    }

    /// Where embryos from this source are counted.
    fn source(key: Key, source: Address) -> usize {
        let network = if source.is_v4() { source.low } else { source.high };
        key.secret(&[network]) as usize % SOURCES
    }

    /// Embryos that this source has, or more.
    pub(crate) fn embryos_of(&self, key: Key, source: Address) -> u32 {
        self.sources.get(Self::source(key, source)).copied().unwrap_or(0)
    }

    fn count_embryo(&mut self, key: Key, source: Address, step: u32) {
        self.sources.resize(SOURCES, 0);
        if let Some(count) = self.sources.get_mut(Self::source(key, source)) {
            *count = count.wrapping_add(step);
        }
    }

    /// Adds an embryo; `None` if there are too many.
    pub(crate) fn add_embryo(&mut self, key: Key, most: u32, embryo: Embryo) -> Option<u32> {
        let number = self.embryos.insert(most, embryo)?;
        self.count_embryo(key, embryo.remote.address, 1);
        self.bind(key, Entity::embryo(number));
        self.timers.set(Entity::embryo(number), embryo.deadline);
        Some(number)
    }

    /// Puts a saved embryo back at its place.
    pub(crate) fn restore_embryo(&mut self, key: Key, number: u32, embryo: Embryo) -> bool {
        self.embryos.grow_to(number);
        if embryo.offered != Handle::INSTANCE {
            self.offers.insert(embryo.offered.slot(), number);
        }
        self.timers.set(Entity::embryo(number), embryo.deadline);
        let restored = self.embryos.occupy(number, embryo);
        self.count_embryo(key, embryo.remote.address, 1);
        self.bind(key, Entity::embryo(number));
        restored
    }

    /// Puts saved remains back at their place.
    pub(crate) fn restore_time_wait(&mut self, key: Key, number: u32, remains: TimeWait) -> bool {
        self.time_waits.grow_to(number);
        self.timers.set(Entity::time_wait(number), remains.deadline);
        let restored = self.time_waits.occupy(number, remains);
        self.bind(key, Entity::time_wait(number));
        restored
    }

    /// Ends an embryo; one that was offered is gone for the host too.
    pub(crate) fn end_embryo(&mut self, number: u32, why: u16, cx: &mut Context<'_>) {
        let Some(embryo) = self.remove_embryo(cx.instance.keys.table, number) else { return };
        if embryo.offered != Handle::INSTANCE {
            self.connections.release_later(embryo.offered.slot());
            self.closed.push((embryo.local, embryo.remote));
            cx.out.event(Event::Closed(Reason { connection: embryo.offered, reason: why, value: 0 }));
        }
    }

    /// Takes an embryo away; the place of its connection stays reserved.
    pub(crate) fn remove_embryo(&mut self, key: Key, number: u32) -> Option<Embryo> {
        self.unbind(key, Entity::embryo(number));
        let embryo = self.embryos.release(number)?;
        self.count_embryo(key, embryo.remote.address, u32::MAX);
        if embryo.offered != Handle::INSTANCE {
            self.offers.remove(&embryo.offered.slot());
        }
        Some(embryo)
    }

    /// Takes the remains of a connection away.
    pub(crate) fn remove_time_wait(&mut self, key: Key, number: u32) {
        self.unbind(key, Entity::time_wait(number));
        self.time_waits.release(number);
    }

    /// Whether a connection with these ends was closed in this step.
    pub(crate) fn was_closed(&self, local: Endpoint, remote: Endpoint) -> bool {
        self.closed.contains(&(local, remote))
    }

    /// After anything was done to a connection: its deadline, its marks, its turn to send, or its end.
    pub(crate) fn settle(&mut self, number: u32, cx: &mut Context<'_>) {
        self.count(number);
        let Some(connection) = self.connections.get_mut(number) else { return };
        if let Some(ending) = connection.ending {
            return self.finish(number, ending, cx);
        }
        if !connection.ready && connection.wants_turn() {
            connection.ready = true;
            self.ready.push_back(number);
        }
        if connection.marked && self.marked.last() != Some(&number) {
            self.marked.push(number);
        }
        let deadline = connection.deadline();
        self.timers.set(Entity::connection(number), deadline);
    }

    /// Counts a connection under its state, and no longer under the one before.
    pub(crate) fn count(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        let now = connection.state.number();
        let before = core::mem::replace(&mut connection.counted, now);
        let pieces = connection.pieces();
        self.recount(before, now);
        self.count_pieces(number, pieces);
    }

    fn count_pieces(&mut self, number: u32, now: usize) {
        let number = number as usize;
        if self.pieces.len() <= number {
            self.pieces.resize(number + 1, 0);
        }
        let Some(place) = self.pieces.get_mut(number) else { return };
        let now = u16::try_from(now).unwrap_or(u16::MAX);
        self.pieces_in_all = self.pieces_in_all - u32::from(*place) + u32::from(now);
        *place = now;
    }

    /// Whether memory for pieces of what is outstanding, and of what lies beyond holes, is used up.
    pub(crate) fn is_tight(&self) -> bool {
        self.pieces_in_all > PIECES
    }

    fn recount(&mut self, before: u8, now: u8) {
        if before == now {
            return;
        }
        // Under 0, CLOSED, nobody is counted.
        for (state, step) in [(before, u32::MAX), (now, 1)] {
            if let Some(count) = self.states.get_mut(usize::from(state)).filter(|_| state > 0) {
                *count = count.wrapping_add(step);
            }
        }
    }

    /// The same after its turn to send, when it waits for nothing but time.
    pub(crate) fn rest(&mut self, number: u32) {
        if let Some(connection) = self.connections.get_mut(number) {
            let (deadline, pieces) = (connection.deadline(), connection.pieces());
            self.timers.set(Entity::connection(number), deadline);
            self.count_pieces(number, pieces);
        }
    }

    /// Carries out an ending: the last mark, `closed`, and what remains.
    fn finish(&mut self, number: u32, ending: Ending, cx: &mut Context<'_>) {
        let key = cx.instance.keys.table;
        let Some(connection) = self.connections.get_mut(number) else { return };
        if connection.marked {
            cx.out.outputs.marks.push(connection.mark());
        }
        let (why, value) = match ending {
            Ending::Gone(why, value) => (why, value),
            Ending::TimeWait | Ending::FinWait2 => (reason::NORMAL, 0),
        };
        let remains = match ending {
            Ending::Gone(..) => None,
            Ending::TimeWait => Some(TimeWait::new(connection, false, cx.now)),
            Ending::FinWait2 => Some(TimeWait::new(connection, true, cx.now)),
        };
        if connection.ack_now && remains.is_some() {
            emit::ack(connection, cx);
        }
        let (handle, counted) = (connection.handle, connection.counted);
        self.closed.push((connection.local, connection.remote));
        cx.out.event(Event::Closed(Reason { connection: handle, reason: why, value }));
        self.unbind(key, Entity::connection(number));
        if !handle.is_by_module() {
            self.by_handle.remove(handle_hash(key, handle), number);
        }
        self.connections.release_later(number);
        self.recount(counted, 0);
        self.count_pieces(number, 0);
        if let Some(remains) = remains {
            self.add_time_wait(key, remains);
        }
    }

    fn add_time_wait(&mut self, key: Key, remains: TimeWait) {
        // Beyond the bound a connection ends without its quiet time, as in Linux (`tcp_max_tw_buckets`).
        if let Some(number) = self.time_waits.insert(TIME_WAITS as u32, remains) {
            self.bind(key, Entity::time_wait(number));
            self.timers.set(Entity::time_wait(number), remains.deadline);
        }
    }

    /// At the end of a step: says how far connections have come.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) {
        for number in self.marked.drain(..) {
            let Some(connection) = self.connections.get_mut(number) else { continue };
            if connection.marked {
                cx.out.outputs.marks.push(connection.mark());
                connection.marked = false;
                connection.by = 0;
            }
        }
        self.closed.clear();
        self.connections.end_step();
        self.fragments.end_step();
    }
}
