//! A stack that begins where a predecessor in another process stood.

use super::{Builder, Shared, State};
use crate::device::Device;
use crate::device::queue::QueueDevice;
use crate::handover::wire::{Malformed, Reader};
use crate::handover::{FORMAT, MAGIC, NOTE};
use crate::net::hand_over::Taken;
use crate::net::limits::BESIDE;
use crate::net::listener::TcpListener;
use crate::net::router::Router;
use crate::net::state::Origin;
use crate::net::stream::TcpStream;
use crate::net::udp::UdpSocket;
use crate::net::{Driver, Net};
use crate::placement::Instance;
use crate::stack::{ListenerId, SOCKETS, SocketId, Stack, StreamId};
use crate::supervise::Factory;
use bulkhead_wit::limits;
use bulkhead_wit::registry::protocol;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

impl Builder {
    /// Takes over from what a predecessor has [encoded](crate::net::HandOver::encode), over the same device. Addresses,
    /// seed, settings and sizes are the predecessor's, whatever was said here; the modules, in the same number and order, are
    /// ours. Each accounts for its connections with the predecessor's own numbers and takes a first step; no frame moves before
    /// the driver runs, which must not be before the predecessor has let go.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for bytes of another format, or that make no sense;
    /// [`SwapError`](crate::swap::SwapError) as the source where a module does not take over; as [`build`](Self::build).
    pub fn take_over(mut self, state: &[u8]) -> io::Result<(Net, Driver, Taken)> {
        if self.instance.is_none() {
            self = self.bundled()?;
        }
        let mut from = Reader::new(state);
        front(&mut from)?;
        let origin = Origin::take(&mut from)?;
        let first = self.instance.take().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        let mut instances = vec![(first, self.factory.take())];
        instances.append(&mut self.beside);
        let count = from.count(1 + BESIDE)?;
        if count != instances.len() {
            let text = format!("the predecessor has {count} modules, and this program {}", instances.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut held = QueueDevice::new(self.device.capabilities());
        let mut stacks = Vec::new();
        for (instance, factory) in instances {
            stacks.push(taken(instance?, factory, &mut from, &mut held)?);
        }
        let mut stack = stacks.remove(0);
        let mut router = Router::new(self.device, &stack.options().config.addresses);
        for one in std::iter::once(&stack).chain(&stacks) {
            router.add((0..=u8::MAX).filter(|protocol| one.serves(*protocol)));
        }
        if let Some(to) = self.record_to {
            if self.record_goes_on { stack.record_after(to) } else { stack.record_to(to) }?;
        }
        if let Some(reporter) = self.reporter {
            stack.report_to(reporter);
        }
        let mut state = State::new(stack, stacks, router, self.turns_in_calls.unwrap_or(false))?;
        state.busy_poll(self.busy_poll);
        state.begin_at(&origin, std::iter::from_fn(|| held.take()).collect());
        state.take_listening(&mut from)?;
        state.take_frames(&mut from)?;
        let sockets = Sockets::take(&mut from)?;
        from.close()?;
        let abandoned = sockets.claim(&mut state)?;
        let shared = Arc::new(Shared::new(state));
        let net = Net::new(Arc::clone(&shared));
        let taken = sockets.into_taken(&net, abandoned);
        Ok((net, Driver::new(shared), taken))
    }
}

fn front(from: &mut Reader<'_>) -> io::Result<()> {
    for byte in MAGIC {
        let found: u8 = from.take()?;
        from.check(found == byte, "no hand-over of bulkhead's")?;
    }
    let format: u32 = from.take()?;
    if format != FORMAT {
        let text =
            format!("the predecessor hands over in format {format}, this program reads format {FORMAT}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(())
}

/// One module's stack.
fn taken(
    instance: Box<dyn Instance>,
    factory: Option<Factory>,
    from: &mut Reader<'_>,
    device: &mut dyn Device,
) -> io::Result<Stack> {
    for (number, name) in [(protocol::TCP, "TCP"), (protocol::UDP, "UDP")] {
        if from.take::<bool>()? && !instance.description().serves_protocol(number) {
            let text = format!("{} does not serve {name}", instance.description().name);
            return Err(io::Error::other(crate::swap::SwapError::Serves(text)));
        }
    }
    let mut stack = Stack::take(instance, from, device)?;
    if let Some(factory) = factory {
        stack.supervise(factory);
    }
    Ok(stack)
}

/// Where a datagram socket is: its module's number, its name there, our end, and its only peer.
type Bound = (usize, SocketId, SocketAddr, Option<SocketAddr>);

/// The sockets that go along, by their names.
struct Sockets {
    listeners: Vec<(ListenerId, Vec<u8>)>,
    streams: Vec<(StreamId, u64, Vec<u8>)>,
    sockets: Vec<(Bound, Vec<u8>)>,
}

impl Sockets {
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut all = Self { listeners: Vec::new(), streams: Vec::new(), sockets: Vec::new() };
        for _ in 0..from.count(limits::LISTENERS)? {
            all.listeners.push((from.take()?, from.bytes(NOTE)?.to_vec()));
        }
        for _ in 0..from.count(limits::CONNECTIONS as usize)? {
            all.streams.push((from.take()?, from.take()?, from.bytes(NOTE)?.to_vec()));
        }
        for _ in 0..from.count(SOCKETS)? {
            let module = usize::try_from(from.take::<u64>()?).unwrap_or(usize::MAX);
            let bound = (module, from.take()?, from.take()?, from.take()?);
            all.sockets.push((bound, from.bytes(NOTE)?.to_vec()));
        }
        Ok(all)
    }

    /// Each is one that the stack knows, once; what nobody claims is ended. Says how many streams that were.
    fn claim(&self, state: &mut State) -> io::Result<usize> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a socket that the stack does not know");
        let mut kept = HashSet::new();
        for (id, ..) in &self.streams {
            if !kept.insert(*id) || !state.stack.is_held(*id) {
                return Err(unknown());
            }
            state.slots.add(*id);
        }
        let listening: Vec<ListenerId> = state.slots.listeners().collect();
        if self.listeners.iter().any(|(id, _)| !listening.contains(id)) {
            return Err(unknown());
        }
        for id in listening {
            if !self.listeners.iter().any(|(kept, _)| *kept == id) {
                state.unlisten(id);
            }
        }
        for ((module, id, ..), _) in &self.sockets {
            if *module > state.beside() || state.module(*module).is_bound_still(*id).is_err() {
                return Err(unknown());
            }
            state.slots.add_socket((*module, *id));
        }
        Ok(state.stack.abandon(|id| kept.contains(&id)))
    }

    fn into_taken(self, net: &Net, abandoned: usize) -> Taken {
        let local_of = |id: ListenerId| {
            let state = net.shared().lock();
            state.slots.listening_at().find(|(other, _)| *other == id).map(|(_, local)| local)
        };
        let listeners = self.listeners.into_iter().filter_map(|(id, note)| {
            local_of(id).map(|local| (TcpListener::new(net.clone(), id, local), note))
        });
        let streams = self.streams.into_iter();
        let sockets = self.sockets.into_iter().map(|((module, id, local, peer), note)| {
            (UdpSocket::new(net.clone(), (module, id), local, peer), note)
        });
        Taken {
            listeners: listeners.collect(),
            streams: streams
                .map(|(id, linger, note)| (TcpStream::lingering(net.clone(), id, linger), note))
                .collect(),
            sockets: sockets.collect(),
            abandoned,
        }
    }
}
