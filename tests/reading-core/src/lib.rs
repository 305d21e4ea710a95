//! UDP in the second world, for tests: it reads whatever messages and hold slots have. What an application sends leaves it
//! backwards; of what waits in a hold slot, each step says a hash in a note. So whoever looks at its outputs knows what
//! it has read.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_udp::Udp;
use bulkhead_wit::encoding::hash_bytes;
use bulkhead_wit::limits::{DATAGRAM, HOLDS, NOTES};
use bulkhead_wit::{
    Config, Description, Event, Handle, Inputs, Module, Note, Outputs, Payload, Source, Summary, Target, Time,
};

/// UDP that reads.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    udp: Udp,
    /// A bit for each hold slot that has bytes.
    held: u64,
}

/// What it says of bytes that it has read in a hold slot.
#[must_use]
pub fn said_of(slot: u64, bytes: &[u8]) -> String {
    alloc::format!("slot {slot}: {} bytes, {:016x}", bytes.len(), hash_bytes(bytes))
}

impl Reading {
    /// Bytes of hold slots, as they were before this step.
    fn read_holds(&self, outputs: &mut Outputs, payload: &mut dyn Payload) {
        let held = (0..HOLDS as u64).filter(|slot| self.held >> slot & 1 == 1);
        for slot in held.take(NOTES) {
            let bytes = payload.read(Source::Hold, slot, 0, DATAGRAM as u32);
            let text = said_of(slot, &bytes);
            outputs.notes.push(Note { level: 5, connection: Handle::INSTANCE, text });
        }
    }

    /// Which slots have bytes after this step.
    fn count_holds(&mut self, outputs: &Outputs) {
        let holds = outputs.places.iter().filter(|place| place.target == Target::Hold);
        holds.for_each(|place| self.held |= 1 << place.of);
        for event in &outputs.events {
            match event {
                Event::Resubmit(hold) => self.held &= !(1 << hold.slot),
                Event::Release(slot) => self.held &= !(1 << slot),
                _ => {}
            }
        }
    }

    /// Messages leave backwards.
    fn turn_messages(outputs: &mut Outputs, payload: &mut dyn Payload) {
        for send in outputs.sends.iter_mut().filter(|send| send.source == Source::Message) {
            let mut bytes = payload.read(Source::Message, send.of, send.at, send.length);
            bytes.reverse();
            (send.source, send.of, send.at) = (Source::Staged, payload.stage(&bytes).into(), 0);
        }
    }
}

impl Module for Reading {
    fn describe(&self) -> Description {
        Description { name: String::from("reading-udp"), ..self.udp.describe() }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        *self = Self::default();
        self.udp.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        self.udp.step(inputs, outputs);
    }

    fn has_payload(&self) -> bool {
        true
    }

    fn step_with(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs, payload: &mut dyn Payload) {
        self.read_holds(outputs, payload);
        self.udp.step(inputs, outputs);
        self.count_holds(outputs);
        Self::turn_messages(outputs, payload);
    }

    fn save(&self) -> Vec<u8> {
        [&self.held.to_le_bytes()[..], &self.udp.save()].concat()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        let (held, rest) =
            state.split_first_chunk().ok_or_else(|| String::from("no state of this module"))?;
        self.held = u64::from_le_bytes(*held);
        self.udp.load(config, now, rest)
    }
}
