//! What the host knows of each connection in numbers: its endpoints, its two bases, and how far it has come.
//!
//! The module is believed nothing: inspect holds every output against these numbers, and moves them only by what
//! was proven. This is the only place of the host where sequence numbers mean anything.

use super::by_ends::{ByEnds, Ends};
use super::rule::{Broken, Rule, check, violation};
use bulkhead_wit::{Endpoint, Handle, Listening, limits};
use std::collections::HashMap;

/// How far a connection's life has come, as the host knows it. TCP states are the module's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    /// No connection is here.
    #[default]
    Gone,
    /// Asked for by `open`, not yet opened.
    Opening,
    /// Offered by a deferring listener, not yet accepted.
    Offered,
    /// Bytes may flow.
    Open,
}

/// A connection in numbers.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Its handle.
    pub handle: Handle,
    /// Our end; parts that an open left to the module are unspecified until chosen.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// How far its life has come.
    pub stage: Stage,
    /// The listener it came by.
    pub listener: u32,
    /// The receive limit that it began with, in bytes.
    pub receive_first: u32,
    /// The sequence number of the peer's first byte.
    pub receive_base: u32,
    /// The sequence number of our first byte.
    pub send_base: u32,
    /// The receive limit as the module was told, in bytes.
    pub limit: u64,
    /// How many bytes the application wrote, as the module was told.
    pub written: u64,
    /// The application has ended its stream after `written`, as the module was told.
    pub shut: bool,
    /// The application has marked a byte as urgent, as the module was told.
    pub urgent: bool,
    /// Bytes exposed to the application.
    pub exposed: u64,
    /// Bytes that the peer has acknowledged.
    pub acknowledged: u64,
    /// The end of the highest range sent, in bytes.
    pub sent: u64,
    /// The byte at which the peer's stream ends, once its FIN was seen.
    pub finished: Option<u64>,
    /// Bytes placed without a hole from the beginning; all are exposed but those of this step.
    pub placed: u64,
    /// Runs of placed bytes beyond, ordered, apart from each other.
    pub islands: Vec<(u64, u64)>,
    /// The step in which it was last touched, so that its former numbers are kept once a step.
    pub(crate) touched: u64,
    /// It had a mark in that step.
    pub(crate) is_marked: bool,
}

impl Ledger {
    fn new(handle: Handle, local: Endpoint, remote: Endpoint, stage: Stage) -> Self {
        Self { handle, local, remote, stage, ..Self::default() }
    }

    /// Adds a placed run. The caller has made sure that it lies beyond `exposed` and below `limit`.
    pub(super) fn place(&mut self, at: u64, end: u64, islands_max: usize) -> Result<(), Broken> {
        let overlaps = |handle: Handle, run: (u64, u64)| {
            move || format!("{handle:?}: place {at}..{end} overlaps {}..{}, already placed", run.0, run.1)
        };
        check(at >= self.placed, Rule::ReceiveMemory, overlaps(self.handle, (self.exposed, self.placed)))?;
        let next = self.islands.partition_point(|island| island.1 < at);
        let mut run = (at, end);
        let mut last = next;
        while let Some(island) = self.islands.get(last).copied()
            && island.0 <= end
        {
            check(island.1 <= at || island.0 >= end, Rule::ReceiveMemory, overlaps(self.handle, island))?;
            run = (run.0.min(island.0), run.1.max(island.1));
            last += 1;
        }
        if at > self.placed {
            self.islands.splice(next..last, [run]);
        } else {
            // In order, as nearly always: no island, and no memory for one.
            self.placed = run.1;
            drop(self.islands.drain(next..last));
            if self.islands.is_empty() {
                self.islands = Vec::new();
            }
        }
        let beyond = self.islands.len();
        check(beyond <= islands_max, Rule::ReceiveMemory, || {
            format!("{:?}: {beyond} islands, {islands_max} allowed", self.handle)
        })
    }

    /// Exposes up to `to`, which must have been placed.
    pub(super) fn expose(&mut self, to: u64) -> Result<(), Broken> {
        if to == self.exposed {
            return Ok(());
        }
        check(to > self.exposed && to <= self.placed, Rule::ReceiveMemory, || {
            let (from, placed) = (self.exposed, self.placed);
            format!("{:?}: exposes up to {to}, but only {from}..{placed} is placed", self.handle)
        })?;
        self.exposed = to;
        Ok(())
    }
}

/// A listener as the host knows it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it listens.
    pub local: Endpoint,
    /// Its flags.
    pub how: Listening,
    /// Connections allowed in all, as the module was told.
    pub allow: u64,
    /// Connections accepted in all.
    pub accepted: u64,
    /// The receive limit that its connections begin with.
    pub receive_first: u32,
}

/// A datagram socket as the host knows it.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// Our end.
    pub local: Endpoint,
    /// The only peer, or unspecified.
    pub remote: Endpoint,
}

impl Socket {
    /// Whether a datagram with these endpoints is for it.
    #[must_use]
    pub fn takes(&self, source: Endpoint, destination: Endpoint) -> bool {
        let fits = |bound: Endpoint, end: Endpoint| {
            (bound.address.is_unspecified() || bound.address == end.address)
                && (bound.port == 0 || bound.port == end.port)
        };
        fits(self.local, destination) && fits(self.remote, source)
    }
}

/// How to take back what inspect has written into the ledgers, if a later output of the step is at fault.
#[derive(Debug)]
enum Undo {
    Added(u32),
    /// The former numbers are the last in `former`.
    Changed(u32),
    Bound(Ends, u32),
    Unbound(Ends, u32),
    Accepted(u32),
    Slot(u32, Option<ModuleSlot>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ModuleSlot {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Room for one more, and not for twice as many: a million connections cost what they cost, and an eighth.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 16);
    }
}

/// All connections, found by handle or by endpoints in constant time.
#[derive(Debug, Default)]
pub struct Ledgers {
    pub(crate) entries: Vec<Ledger>,
    pub(crate) generations: Vec<u32>,
    pub(crate) free: Vec<u32>,
    pub(crate) by_module: Vec<Option<ModuleSlot>>,
    by_ends: ByEnds,
    /// Listeners by number.
    pub listeners: HashMap<u32, Listener>,
    /// Datagram sockets by handle.
    pub sockets: HashMap<Handle, Socket>,
    undo: Vec<Undo>,
    former: Vec<Ledger>,
    pub(super) step: u64,
    pub(crate) offered: u32,
}

impl Ledgers {
    /// The connection at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Ledger> {
        self.entries.get(index as usize)
    }

    /// The connection at `index`, to tell it what the module is told.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Ledger> {
        self.entries.get_mut(index as usize)
    }

    /// Where the living connection with this handle is.
    #[must_use]
    pub fn find(&self, handle: Handle) -> Option<u32> {
        self.last_of(handle)
            .filter(|index| self.get(*index).is_some_and(|ledger| ledger.stage != Stage::Gone))
    }

    /// Where the connection with this handle is, or was until the step that ended it.
    #[must_use]
    pub fn last_of(&self, handle: Handle) -> Option<u32> {
        let index = if handle.is_by_module() {
            self.by_module.get(handle.slot() as usize).copied().flatten()?.index
        } else {
            handle.slot()
        };
        let ledger = self.entries.get(index as usize)?;
        (ledger.handle == handle).then_some(index)
    }

    /// How far the connection at this index has sent; everything, where there is none.
    pub(crate) fn sent(&self, index: u32) -> u64 {
        self.get(index).map_or(u64::MAX, |ledger| ledger.sent)
    }

    /// The living connection with these ends.
    pub(super) fn between(&self, local: Endpoint, remote: Endpoint) -> Option<&Ledger> {
        self.index_of(local, remote).and_then(|index| self.get(index))
    }

    /// Where the living connection with these ends is.
    pub(crate) fn index_of(&self, local: Endpoint, remote: Endpoint) -> Option<u32> {
        self.by_ends.get(&self.entries, (local, remote))
    }

    pub(super) fn socket(&self, handle: Handle) -> Result<&Socket, Broken> {
        let gone = || violation(Rule::Handle, format!("there is no socket {handle:?}"));
        self.sockets.get(&handle).ok_or_else(gone)
    }

    /// Every living connection.
    pub fn living(&self) -> impl Iterator<Item = (u32, &Ledger)> {
        (0..).zip(&self.entries).filter(|(_, ledger)| ledger.stage != Stage::Gone)
    }

    /// A place for a connection that the host opens, or nothing if all are taken.
    pub fn add_opening(&mut self, local: Endpoint, remote: Endpoint, receive_first: u32) -> Option<u32> {
        let index = self.free_index()?;
        let generation = self.generations[index as usize];
        let handle = Handle::by_host(index, generation);
        let mut ledger = Ledger::new(handle, local, remote, Stage::Opening);
        ledger.receive_first = receive_first;
        ledger.limit = u64::from(receive_first);
        self.entries[index as usize] = ledger;
        Some(index)
    }

    /// Gives an index free for another connection, once nothing needs it any more.
    pub fn release(&mut self, index: u32) {
        if let Some(ledger) = self.entries.get_mut(index as usize) {
            *ledger = Ledger::default();
            self.free.push(index);
        }
    }

    /// Forgets a connection without the module's word: an open that failed, or the end of the instance.
    pub fn forget(&mut self, index: u32) {
        if let Some(ledger) = self.entries.get_mut(index as usize)
            && ledger.stage != Stage::Gone
        {
            self.offered -= u32::from(ledger.stage == Stage::Offered);
            ledger.stage = Stage::Gone;
            self.by_ends.remove((ledger.local, ledger.remote), index);
        }
    }

    /// The instance has ended, and everything that it numbered with it.
    pub(crate) fn forget_instance(&mut self) {
        self.by_module.clear();
        self.by_ends.clear();
        self.listeners.clear();
        self.sockets.clear();
        self.offered = 0;
    }

    fn free_index(&mut self) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < limits::CONNECTIONS as usize => {
                make_room(&mut self.entries);
                make_room(&mut self.generations);
                self.entries.push(Ledger::default());
                self.generations.push(0);
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        let generation = &mut self.generations[index as usize];
        *generation = generation.wrapping_add(1).max(1);
        Some(index)
    }

    // ---- what inspect does while it goes through a step

    pub(super) fn begin(&mut self) {
        self.step += 1;
        self.undo.clear();
        self.former.clear();
    }

    /// A living connection that this step's outputs speak of; its numbers are kept for taking back.
    pub(super) fn touch(&mut self, handle: Handle) -> Result<(u32, &mut Ledger), Broken> {
        let index = self.find(handle).ok_or_else(|| {
            violation(Rule::Handle, format!("{handle:?} is not open, or is closed already"))
        })?;
        let step = self.step;
        let ledger = &mut self.entries[index as usize];
        if ledger.touched != step {
            self.undo.push(Undo::Changed(index));
            self.former.push(ledger.clone());
            ledger.touched = step;
            ledger.is_marked = false;
        }
        Ok((index, ledger))
    }

    /// The same, where bytes may flow.
    pub(super) fn touch_open(&mut self, handle: Handle) -> Result<(u32, &mut Ledger), Broken> {
        let (index, ledger) = self.touch(handle)?;
        check(ledger.stage == Stage::Open, Rule::Handle, || format!("{handle:?} is not open yet"))?;
        Ok((index, ledger))
    }

    /// A connection that the module numbers begins.
    pub(super) fn add_by_module(
        &mut self,
        handle: Handle,
        local: Endpoint,
        remote: Endpoint,
        stage: Stage,
    ) -> Result<&mut Ledger, Broken> {
        let fault = |what: &str| violation(Rule::Opening, format!("{handle:?}: {what}"));
        let slot = handle.slot();
        if !handle.is_by_module() || !handle.is_well_formed() || slot >= limits::CONNECTIONS {
            return Err(fault("is no handle that a module may number"));
        }
        while self.by_module.len() <= slot as usize {
            make_room(&mut self.by_module);
            self.by_module.push(None);
        }
        let before = self.by_module[slot as usize];
        if before.is_some_and(|before| handle.generation().wrapping_sub(before.generation).cast_signed() <= 0)
        {
            return Err(fault("this generation of the slot has been before"));
        }
        if before.is_some_and(|before| {
            let ledger = &self.entries[before.index as usize];
            ledger.stage != Stage::Gone && ledger.handle.slot() == slot && ledger.handle.is_by_module()
        }) {
            return Err(fault("the slot is taken"));
        }
        let index = self.free_index().ok_or_else(|| fault("all connections are taken"))?;
        self.undo.push(Undo::Added(index));
        self.undo.push(Undo::Slot(slot, before));
        self.by_module[slot as usize] = Some(ModuleSlot { index, generation: handle.generation() });
        self.offered += u32::from(stage == Stage::Offered);
        self.bind(index, local, remote)?;
        let step = self.step;
        let ledger = &mut self.entries[index as usize];
        *ledger = Ledger::new(handle, local, remote, stage);
        ledger.touched = step;
        Ok(ledger)
    }

    /// Takes both endpoints for the connection at `index`.
    pub(crate) fn bind(&mut self, index: u32, local: Endpoint, remote: Endpoint) -> Result<(), Broken> {
        if self.index_of(local, remote).is_some() {
            return Err(violation(Rule::Opening, format!("endpoints {local} and {remote} are in use")));
        }
        self.by_ends.insert(&self.entries, (local, remote), index);
        self.undo.push(Undo::Bound((local, remote), index));
        Ok(())
    }

    /// An offered connection is offered no more.
    pub(super) fn settle_offer(&mut self) {
        self.offered = self.offered.saturating_sub(1);
    }

    pub(super) fn count_accepted(&mut self, listener: u32) {
        if let Some(entry) = self.listeners.get_mut(&listener) {
            entry.accepted += 1;
            self.undo.push(Undo::Accepted(listener));
        }
    }

    /// The module says that a connection is gone.
    pub(super) fn close(&mut self, handle: Handle) -> Result<u32, Broken> {
        let (index, ledger) = self.touch(handle)?;
        let was_offered = ledger.stage == Stage::Offered;
        ledger.stage = Stage::Gone;
        let ends = (ledger.local, ledger.remote);
        if was_offered {
            self.offered = self.offered.saturating_sub(1);
        }
        if self.by_ends.remove(ends, index) {
            self.undo.push(Undo::Unbound(ends, index));
        }
        Ok(index)
    }

    /// Takes back everything since [`begin`](Self::begin): a step that fails has had no effect.
    pub(super) fn take_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Added(index) => self.release(index),
                Undo::Changed(index) => {
                    if let Some(former) = self.former.pop() {
                        self.entries[index as usize] = former;
                    }
                }
                Undo::Bound(ends, index) => drop(self.by_ends.remove(ends, index)),
                Undo::Unbound(ends, index) => self.by_ends.insert(&self.entries, ends, index),
                Undo::Accepted(listener) => {
                    if let Some(entry) = self.listeners.get_mut(&listener) {
                        entry.accepted -= 1;
                    }
                }
                Undo::Slot(slot, before) => self.by_module[slot as usize] = before,
            }
        }
        self.offered = self.entries.iter().filter(|ledger| ledger.stage == Stage::Offered).count() as u32;
    }
}
