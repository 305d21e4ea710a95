//! `save` and `load`: the whole state in a canonical form.

mod codec;
mod parts;

pub(crate) use parts::FORMAT;

use crate::Tcp;
use crate::entity::Entity;
use crate::instance::Instance;
use crate::limits::WINDOW_SCALE_MAX;
use crate::listener::Listeners;
use crate::slab::Slab;
use crate::tables::Tables;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::{Config, Handle, Summary, Time};
use codec::{Reader, Save};

/// The whole state.
pub(crate) fn save(tcp: &Tcp) -> Vec<u8> {
    let mut out = Vec::new();
    FORMAT.save(&mut out);
    tcp.last.save(&mut out);
    tcp.instance.save(&mut out);
    let tables = &tcp.tables;
    tables.listeners.all().save(&mut out);
    let generations: Vec<u32> = tables.connections.generations().collect();
    generations.save(&mut out);
    put_all(&tables.connections, &mut out);
    put_all(&tables.embryos, &mut out);
    put_all(&tables.time_waits, &mut out);
    tables.fragments.slots.save(&mut out);
    let is_ready = |number: &u32| tables.connections.get(*number).is_some_and(|connection| connection.ready);
    let ready: Vec<u32> = tables.ready.iter().copied().filter(is_ready).collect();
    ready.save(&mut out);
    out
}

fn put_all<T: Save>(all: &Slab<T>, out: &mut Vec<u8>) {
    (all.iter().count() as u32).save(out);
    for (number, value) in all.iter() {
        number.save(out);
        value.save(out);
    }
}

fn take_all<T: Save>(from: &mut Reader<'_>) -> Option<Vec<(u32, T)>> {
    let count = u32::load(from)?;
    (0..count).map(|_| Some((u32::load(from)?, T::load(from)?))).collect()
}

/// Takes over a state. Addresses and MTU come from `config`, as after `configure`; keys from the state.
pub(crate) fn load(tcp: &mut Tcp, config: &Config, state: &[u8]) -> Result<Vec<Summary>, String> {
    let mut from = Reader(state);
    match u32::load(&mut from) {
        Some(FORMAT) => {}
        Some(other) => return Err(alloc::format!("state format {other}; this module reads {FORMAT}")),
        None => return Err(String::from("the saved state is empty")),
    }
    let loaded = take(&mut from).filter(|_| from.0.is_empty());
    let Some((last, mut instance, tables)) = loaded else {
        return Err(String::from("the saved state is damaged"));
    };
    let settings = instance.settings.clone();
    instance.configure(config);
    if config.settings.is_empty() {
        instance.settings = settings;
    }
    let summaries = tables.connections.iter().map(|(_, connection)| connection.summary()).collect();
    *tcp = Tcp { instance, tables, last };
    Ok(summaries)
}

fn take(from: &mut Reader<'_>) -> Option<(Time, Instance, Tables)> {
    let last = Time::load(from)?;
    let instance = Instance::load(from)?;
    let key = instance.keys.table;
    let mut tables = Tables::default();
    tables.listeners = Listeners::restored(key, Vec::load(from)?);
    tables.connections = Slab::from_generations(Vec::load(from)?);
    for (number, connection) in take_all::<Box<crate::connection::Connection>>(from)? {
        connection.is_sound().then_some(())?;
        let (handle, deadline) = (connection.handle, connection.deadline());
        tables.connections.occupy(number, connection).then_some(())?;
        tables.index(key, number, handle);
        if let Some(connection) = tables.connections.get_mut(number) {
            connection.counted = 0;
        }
        tables.count(number);
        tables.timers.set(Entity::connection(number), deadline);
    }
    let mut reserved = Vec::new();
    for (number, embryo) in take_all::<crate::embryo::Embryo>(from)? {
        tables.restore_embryo(key, number, embryo).then_some(())?;
        if embryo.offered != Handle::INSTANCE {
            reserved.push(embryo.offered.slot());
        }
    }
    for (number, remains) in take_all::<crate::time_wait::TimeWait>(from)? {
        tables.restore_time_wait(key, number, remains).then_some(())?;
    }
    tables.fragments.slots = Vec::load(from)?;
    for (number, slot) in (0_u32..).zip(&tables.fragments.slots) {
        let deadline = slot.as_ref().map_or(bulkhead_wit::NEVER, |slot| slot.deadline);
        tables.timers.set(Entity::hold(number), deadline);
    }
    tables.connections.free_the_rest(&reserved);
    tables.embryos.free_the_rest(&[]);
    tables.time_waits.free_the_rest(&[]);
    tables.ready = Vec::<u32>::load(from)?.into();
    Some((last, instance, tables))
}

/// Positions in a stream stay below this: at 100 Gbit/s it lasts for ten years.
const POSITION_MAX: u64 = 1 << 62;

impl crate::connection::Connection {
    /// Whether a loaded connection can be one of ours: what arithmetic relies on holds.
    fn is_sound(&self) -> bool {
        let receive = &self.receive;
        let send = &self.send;
        let mut from = receive.next;
        let islands = receive.reassembly.islands().iter().all(|island| {
            let fits = from < island.start && island.start < island.end;
            from = island.end;
            fits
        });
        let positions = [receive.limit, receive.edge, receive.acked, receive.fin.get().unwrap_or(0), from];
        let sent = self.recovery.sent_end();
        islands
            && positions.iter().all(|&at| at < POSITION_MAX)
            && receive.next <= receive.limit
            && receive.consumed <= receive.next
            && receive.scale <= WINDOW_SCALE_MAX
            && send.scale <= WINDOW_SCALE_MAX
            && send.written < POSITION_MAX
            && send.window <= u32::from(u16::MAX) << WINDOW_SCALE_MAX
            && self.recovery.acknowledged() <= sent
            && sent <= send.supply()
    }

    /// What the host compares with its own books.
    fn summary(&self) -> Summary {
        Summary {
            connection: self.handle,
            local: self.local,
            remote: self.remote,
            receive_base: self.receive.base.0,
            send_base: self.send.iss.plus(1).0,
            exposed: self.receive.next,
            acknowledged: self.acknowledged(),
            sent: self.sent(),
            limit: self.receive.limit,
        }
    }
}
