//! A stack in bytes, for a successor in another process.

use super::datagrams::{Datagram, Entry};
use super::door::DoorCounters;
use super::sockets::Listening;
use super::{Accepted, BindOptions, ListenerId, Options, SOCKETS, SocketId, Stack, StreamId, Totals};
use crate::device::Device;
use crate::error::StreamError;
use crate::handover::bytes::{end_of, put_stream, take_stream};
use crate::handover::numbers::{put_holds, put_ledgers, take_holds, take_ledgers};
use crate::handover::wire::{Carried, Malformed, Reader, carried, put, put_bytes, put_count, put_list};
use crate::placement::{Instance, StepCost};
use crate::supervise::FaultFigures;
use crate::swap::SwapError;
use bulkhead_wit::encoding::{decode_config, encode_config};
use bulkhead_wit::{Bind, Listen, limits};
use std::collections::VecDeque;
use std::io;

carried! {
    StreamId { index, generation }
    Accepted { stream, local, remote }
    Bind { socket, local, remote, how }
    Totals { connections, ended, bytes_in, bytes_written, bytes_out, device_errors }
    DoorCounters { text_dropped, connections_refused, source_refused, evicted, throttled }
    StepCost { steps, wall_ns }
    FaultFigures { faults, recovered, streams, recovery_ns_max }
}

/// Connections that wait to be accepted, of one listener.
const BACKLOG: usize = limits::CONNECTIONS as usize;
/// Datagrams that wait to be read, of one socket.
const DATAGRAMS: usize = 1 << 20;
/// Bytes of a configuration.
const CONFIG: usize = 64 << 10;
/// Turns in which a stack may tell its module everything that it has not been told: each has eight steps of 256 calls.
const LAST_TURNS: usize = 1 + limits::CONNECTIONS as usize / (8 * limits::CALLS);

impl Carried for ListenerId {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.take().map(Self)
    }
}

impl Carried for SocketId {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.take().map(Self)
    }
}

impl Carried for StreamError {
    fn put(&self, to: &mut Vec<u8>) {
        end_of(self).put(to);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.take().map(Self::Ended)
    }
}

fn put_options(options: &Options, to: &mut Vec<u8>) {
    let mut config = Vec::new();
    encode_config(&options.config, &mut config);
    put_bytes(&config, to);
    put!(to, options.sizes, options.memory as u64, options.per_source, options.recording);
}

fn take_options(from: &mut Reader<'_>) -> Result<Options, Malformed> {
    let config = decode_config(from.bytes(CONFIG)?).map_err(|_| from.malformed("no configuration"))?;
    let sizes = from.take()?;
    let memory = usize::try_from(from.take::<u64>()?).unwrap_or(usize::MAX);
    Ok(Options { config, sizes, memory, per_source: from.take()?, recording: from.take()? })
}

fn put_listening(listening: &Listening, to: &mut Vec<u8>) {
    let listen = &listening.listen;
    put!(to, listening.sizes, listening.end.clone(), listening.backlog_max, listening.taken);
    put!(
        to,
        listen.listener,
        listen.local,
        listen.how,
        listen.allow,
        listen.receive_first,
        listen.receive_max
    );
    put_list(&listen.settings, to);
    put_count(listening.backlog.len(), to);
    listening.backlog.iter().for_each(|accepted| accepted.put(to));
}

fn take_listening(from: &mut Reader<'_>) -> Result<Listening, Malformed> {
    let (sizes, end, backlog_max, taken) = (from.take()?, from.take()?, from.take()?, from.take()?);
    let listen = Listen {
        listener: from.take()?,
        local: from.take()?,
        how: from.take()?,
        allow: from.take()?,
        receive_first: from.take()?,
        receive_max: from.take()?,
        settings: from.list(limits::SETTINGS)?,
    };
    let backlog = VecDeque::from(from.list(BACKLOG)?);
    Ok(Listening { sizes, backlog, end, backlog_max, taken, listen })
}

fn put_entry(entry: &Entry, to: &mut Vec<u8>) {
    let BindOptions { remote, dual_stack, any_port, receive_max, send_max } = entry.options;
    put!(to, entry.bind, remote, dual_stack, any_port, receive_max as u64, send_max as u64);
    put!(to, entry.dropped, entry.warned, entry.end.clone(), entry.is_closing);
    put_count(entry.arrived.len(), to);
    for Datagram { from, to: end, bytes } in &entry.arrived {
        put!(to, *from, *end);
        put_bytes(bytes, to);
    }
}

fn take_entry(from: &mut Reader<'_>) -> Result<Entry, Malformed> {
    let bind = from.take()?;
    let (remote, dual_stack, any_port) = (from.take()?, from.take()?, from.take()?);
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (receive_max, send_max) = (size(from.take()?), size(from.take()?));
    let options = BindOptions { remote, dual_stack, any_port, receive_max, send_max };
    let (dropped, warned, end, is_closing) = (from.take()?, from.take()?, from.take()?, from.take()?);
    let mut arrived = VecDeque::new();
    let mut held = 0;
    for _ in 0..from.count(DATAGRAMS)? {
        let (source, destination) = (from.take()?, from.take()?);
        let bytes: Box<[u8]> = from.bytes(limits::DATAGRAM)?.into();
        held += bytes.len() + super::DATAGRAM_COST;
        arrived.push_back(Datagram { from: source, to: destination, bytes });
    }
    Ok(Entry {
        bind,
        options,
        arrived,
        held,
        sending: 0,
        dropped,
        warned,
        end,
        is_closing,
        is_ready_listed: false,
        waits_for_space: false,
    })
}

impl Stack {
    /// Tells the module everything that it has not been told, with frames of others left where they are. Says whether that
    /// was done; what the device does not take is lost, as ever.
    pub(crate) fn settle(&mut self, device: &mut dyn Device) -> bool {
        let now = self.now;
        for _ in 0..LAST_TURNS {
            if !self.has_news() && self.resubmitted.is_empty() {
                return self.fault.is_none();
            }
            if self.turn(now, device).is_err() {
                return false;
            }
        }
        false
    }

    /// Writes everything down, once it is [settled](Self::settle). The stack is as before, and may go on.
    ///
    /// # Errors
    /// How the module failed to save its state.
    pub(crate) fn put(&mut self, to: &mut Vec<u8>) -> Result<(), SwapError> {
        let state = self.saved()?;
        put_options(&self.options, to);
        put!(to, self.now, self.drops, self.totals, self.door.counters, self.cost());
        put!(to, self.fault_figures(), self.recorder_steps());
        let streams = &self.streams;
        put_ledgers(&self.ledgers, |index| streams.get(index).is_some(), to);
        put_holds(&self.holds, &self.hold_bytes, to);
        put_count(self.streams.entries.len(), to);
        for entry in &self.streams.entries {
            put!(to, entry.generation, entry.stream.is_some());
            if let Some(stream) = &entry.stream {
                put_stream(stream, to);
            }
        }
        self.next_listener.put(to);
        put_count(self.listeners.len(), to);
        self.listeners.values().for_each(|listening| put_listening(listening, to));
        put_count(self.offers.len(), to);
        self.offers.iter().for_each(|id| id.put(to));
        self.datagrams.next.put(to);
        put_count(self.datagrams.entries.len(), to);
        self.datagrams.entries.values().for_each(|entry| put_entry(entry, to));
        put_bytes(&state, to);
        Ok(())
    }

    /// The stack that a predecessor has [written down](Self::put), around an instance that has not been started. What its
    /// first step sends goes to `device`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where it makes no sense; why the module does not take over, as the source.
    pub(crate) fn take(
        instance: Box<dyn Instance>,
        from: &mut Reader<'_>,
        device: &mut dyn Device,
    ) -> io::Result<Self> {
        let options = take_options(from)?;
        let mut stack = Self::around(instance, options);
        (stack.now, stack.drops, stack.totals) = (from.take()?, from.take()?, from.take()?);
        (stack.door.counters, stack.former_cost) = (from.take()?, from.take()?);
        let (figures, steps) = (from.take()?, from.take()?);
        stack.continue_figures(figures, steps);
        stack.ledgers = take_ledgers(from)?;
        (stack.holds, stack.hold_bytes) = take_holds(from)?;
        stack.take_streams(from)?;
        stack.take_sockets(from)?;
        let state = from.bytes(limits::SAVE)?;
        stack.load(state).map_err(io::Error::other)?;
        stack.begin_batch();
        stack.attempt(device).map_err(|fault| io::Error::other(SwapError::FirstStep(fault)))?;
        Ok(stack)
    }

    fn take_streams(&mut self, from: &mut Reader<'_>) -> Result<(), Malformed> {
        let mut all_dirty = Vec::new();
        for index in 0..from.count(self.ledgers.entries.len())? as u32 {
            self.streams.entries.push(super::table::Entry { generation: from.take()?, stream: None });
            if !from.take::<bool>()? {
                continue;
            }
            let (stream, is_dirty) = take_stream(from, &mut self.blocks)?;
            if let Some(ledger) = self.ledgers.get(index) {
                let (written, consumed) = (stream.send.written(), stream.receive.consumed());
                let is_gone = ledger.stage == crate::inspect::Stage::Gone;
                let agrees = stream.receive.exposed() == ledger.exposed && consumed <= ledger.exposed;
                let holds =
                    is_gone || (agrees && ledger.sent <= written && stream.limit_told == ledger.limit);
                from.check(holds, "a stream and its numbers contradict each other")?;
            }
            if let Some(entry) = self.streams.entries.last_mut() {
                entry.stream = Some(Box::new(stream));
            }
            if is_dirty {
                all_dirty.push(index);
            }
        }
        all_dirty.into_iter().for_each(|index| self.mark_dirty(index));
        let sources: Vec<_> = self
            .ledgers
            .living()
            .filter(|(_, ledger)| ledger.listener != 0 && ledger.stage == crate::inspect::Stage::Open)
            .map(|(_, ledger)| ledger.remote.address)
            .collect();
        sources.into_iter().for_each(|source| self.count_source(source, true));
        Ok(())
    }

    fn take_sockets(&mut self, from: &mut Reader<'_>) -> Result<(), Malformed> {
        self.next_listener = from.take()?;
        for _ in 0..from.count(limits::LISTENERS)? {
            let listening = take_listening(from)?;
            self.listeners.insert(listening.listen.listener, listening);
        }
        self.offers = VecDeque::from(from.list(limits::OFFERS_MAX as usize)?);
        self.datagrams.next = from.take()?;
        for _ in 0..from.count(SOCKETS)? {
            let entry = take_entry(from)?;
            self.datagrams.entries.insert(entry.bind.socket, entry);
        }
        Ok(())
    }

    /// The instance takes over from this state, accounts for every connection, and is recorded from here on.
    fn load(&mut self, state: &[u8]) -> Result<(), SwapError> {
        let config = self.config_of_load();
        let accounts = self.instance.load(&config, self.now, state).map_err(SwapError::Refused)?;
        self.holds_against(&accounts).map_err(SwapError::Accounts)?;
        self.begin_from(state.to_vec());
        Ok(())
    }

    /// Streams that an application held, and that were not handed on with anybody: nobody will close them.
    pub(crate) fn abandon(&mut self, is_kept: impl Fn(StreamId) -> bool) -> usize {
        let backlog = self.listeners.values().flat_map(|listening| &listening.backlog);
        let waiting: Vec<StreamId> =
            backlog.map(|accepted| accepted.stream).chain(self.offers.iter().copied()).collect();
        let held = self.streams.entries.iter().zip(0..).filter_map(|(entry, index)| {
            let stream = entry.stream.as_ref().filter(|stream| !stream.is_detached);
            stream.map(|_| StreamId { index, generation: entry.generation })
        });
        let lost: Vec<StreamId> = held.filter(|id| !is_kept(*id) && !waiting.contains(id)).collect();
        lost.iter().for_each(|id| self.abort(*id));
        lost.len()
    }

    /// Whether a stream of this name is held by an application.
    pub(crate) fn is_held(&mut self, id: StreamId) -> bool {
        self.streams.held(id).is_some()
    }

    fn recorder_steps(&self) -> u64 {
        self.recording_figures().steps
    }

    fn continue_figures(&mut self, figures: FaultFigures, steps: u64) {
        self.supervisor.continue_from(figures);
        self.recorder.continue_after(steps);
    }
}
