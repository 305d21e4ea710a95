//! `save` and `load`: the whole state in a canonical form.

pub(crate) mod codec;
mod parts;

pub(crate) use parts::FORMAT;

use crate::Tcp;
use crate::connection::Connection;
use crate::entity::Entity;
use crate::hash::Key;
use crate::instance::Instance;
use crate::limits::WINDOW_SCALE_MAX;
use crate::listener::Listeners;
use crate::slab::Slab;
use crate::tables::Tables;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::{Config, Handle, Summary, Time};
use codec::{Reader, Refill, Save, Writer};

/// The whole state.
pub(crate) fn save(tcp: &Tcp) -> Vec<u8> {
    let tables = &tcp.tables;
    let mut out = Writer::with_room(about(tables));
    FORMAT.save(&mut out);
    tcp.last.save(&mut out);
    tcp.instance.save(&mut out);
    tables.listeners.all().save(&mut out);
    let generations: Vec<u32> = tables.connections.generations().collect();
    generations.save(&mut out);
    put_all(&tables.connections, &mut out, |connection, out| connection.save(out));
    put_all(&tables.embryos, &mut out, codec::put);
    put_all(&tables.time_waits, &mut out, codec::put);
    tables.fragments.slots.save(&mut out);
    let is_ready = |number: &u32| tables.connections.get(*number).is_some_and(|connection| connection.ready);
    let ready: Vec<u32> = tables.ready.iter().copied().filter(is_ready).collect();
    ready.save(&mut out);
    out.finish()
}

/// Bytes of a saved connection, about.
const CONNECTION: usize = 896;
/// Bytes of everything that is not many times there, about.
const REST: usize = 4096;

/// Bytes of a saved state, about: growing on the way means copying all of it.
fn about(tables: &Tables) -> usize {
    let each = [
        (tables.connections.len(), CONNECTION),
        (tables.embryos.len(), size_of::<crate::embryo::Embryo>()),
        (tables.time_waits.len(), size_of::<crate::time_wait::TimeWait>()),
    ];
    let places = tables.connections.generations().len() * size_of::<u32>();
    each.iter().map(|(count, bytes)| *count as usize * bytes).sum::<usize>() + places + REST
}

fn put_all<T>(all: &Slab<T>, out: &mut Writer, put: impl Fn(&T, &mut Writer)) {
    (all.iter().count() as u32).save(out);
    for (number, value) in all.iter() {
        number.save(out);
        put(value, out);
    }
}

fn take_all<T: Save>(from: &mut Reader<'_>) -> Option<Vec<(u32, T)>> {
    let count = u32::load(from)?;
    let mut all = Vec::with_capacity(from.at_most(count, size_of::<T>()));
    for _ in 0..count {
        all.push((u32::load(from)?, T::load(from)?));
    }
    Some(all)
}

/// Takes over a state. Addresses and MTU come from `config`, as after `configure`; keys from the state. What the instance held
/// before is used again, so that a second load touches no new memory; after a damaged state nothing is left of it.
pub(crate) fn load(tcp: &mut Tcp, config: &Config, state: &[u8]) -> Result<Vec<Summary>, String> {
    let mut from = Reader::new(state);
    match u32::load(&mut from) {
        Some(FORMAT) => {}
        Some(other) => return Err(alloc::format!("state format {other}; this module reads {FORMAT}")),
        None => return Err(String::from("the saved state is empty")),
    }
    let mut boxes: Boxes = core::mem::take(tcp).tables.connections.into_values().collect();
    let loaded = take(&mut from, &mut boxes).filter(|_| from.bytes.is_empty());
    let Some((last, mut instance, tables)) = loaded else {
        return Err(String::from("the saved state is damaged"));
    };
    let settings = instance.settings.clone();
    instance.configure(config);
    if config.settings.is_empty() {
        instance.settings = settings;
    }
    let summaries = tables.connections.iter().map(|(_, connection)| connection.summary()).collect();
    *tcp = Tcp { instance, tables, last, ..Tcp::default() };
    Ok(summaries)
}

/// Connections of the state before, whose memory is used again.
type Boxes = Vec<Box<Connection>>;

/// The least that a saved connection takes with its number.
const CONNECTION_LEAST: usize = CONNECTION / 2;

fn take_connections(from: &mut Reader<'_>, tables: &mut Tables, key: Key, boxes: &mut Boxes) -> Option<()> {
    let count = u32::load(from)?;
    tables.reserve(from.at_most(count, CONNECTION_LEAST));
    let blank = Connection::blank();
    for _ in 0..count {
        let number = u32::load(from)?;
        let mut connection = boxes.pop().unwrap_or_else(|| Box::new(blank.clone()));
        connection.refill(from)?;
        connection.is_sound().then_some(())?;
        connection.counted = 0;
        let (handle, deadline) = (connection.handle, connection.deadline());
        tables.connections.occupy(number, connection).then_some(())?;
        tables.index(key, number, handle);
        tables.count(number);
        tables.timers.set(Entity::connection(number), deadline);
    }
    Some(())
}

fn take(from: &mut Reader<'_>, boxes: &mut Boxes) -> Option<(Time, Instance, Tables)> {
    let last = Time::load(from)?;
    let instance = Instance::load(from)?;
    let key = instance.keys.table;
    let mut tables = Tables::default();
    tables.listeners = Listeners::restored(key, Vec::load(from)?);
    tables.connections = Slab::from_generations(Vec::load(from)?);
    take_connections(from, &mut tables, key, boxes)?;
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

impl Connection {
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
