//! Inspect, and all of the host behind it, with a module that lies: the TCP core serves the connections of a case, and what it
//! says is spoiled on its way to the host, at the steps, in the lists and in the ways that the input asks for.
//!
//! A fault is what a liar gets, and no finding. A finding is what must not be whatever a module says: a panic of the host's, a
//! byte given to the application that its peer has not sent there, a byte on the wire that the application has not written there.
//! That is the contract's promise (wit/CONTRACT.md), asked of the real rooms.
//!
//! An input is the spoiling, eight bytes for each, then a zero byte, then a case as text.
#![no_main]

use std::cell::{Cell, RefCell};

use bulkhead::fuzz::{Executor, Kind, Trace, World};
use bulkhead::placement::native::Native;
use bulkhead_libfuzzer as shared;
use bulkhead_wit::{
    Config, Description, Endpoint, Event, Handle, Inputs, Mark, Module, Outputs, Place, Send, Source,
    Summary, Target, Time,
};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};

/// Bytes of one spoiling.
const SPOILING: usize = 8;
/// Spoilings of one input.
const MOST: usize = 32;

thread_local! {
    static EXECUTOR: RefCell<(Executor, World)> = RefCell::new((Executor::default(), World::new(1, &[])));
    /// The core may panic over what its own lies have led to; the host may not.
    static IN_MODULE: Cell<bool> = const { Cell::new(false) };
}

/// One change of what the module says.
#[derive(Clone, Copy, Debug)]
struct Spoiling {
    /// In which step, or in each (255).
    step: u8,
    /// Which list, and what is done.
    what: u8,
    /// Which entry, and which of its fields.
    index: u8,
    field: u8,
    /// With which number.
    number: u32,
}

impl Spoiling {
    fn of(bytes: &[u8]) -> Option<Self> {
        let &[step, what, index, field, a, b, c, d] = bytes else { return None };
        Some(Self { step, what, index, field, number: u32::from_be_bytes([a, b, c, d]) })
    }

    /// A number in the stead of another: itself, or a difference to it.
    fn number(self, old: u64) -> u64 {
        match self.field >> 6 {
            0 => old.wrapping_add_signed(i64::from(self.number.cast_signed() >> 16)),
            1 => old.wrapping_add_signed(i64::from(self.number.cast_signed())),
            2 => u64::from(self.number),
            _ => old ^ 1 << (self.number & 63),
        }
    }

    fn list<T: Clone>(self, list: &mut Vec<T>, before: &[T], bend: impl FnMut(&mut T)) {
        let at = usize::from(self.index).checked_rem(list.len()).unwrap_or(0);
        match self.what >> 4 & 7 {
            // What was said in an earlier step once more.
            0 | 1 if !before.is_empty() => {
                list.insert(at, before[usize::from(self.index) % before.len()].clone())
            }
            2 if !list.is_empty() => drop(list.remove(at)),
            3 if !list.is_empty() => list.insert(at, list[at].clone()),
            4 if !list.is_empty() => {
                let with = self.number as usize % list.len();
                list.swap(at, with);
            }
            _ => list.get_mut(at).into_iter().for_each(bend),
        }
    }

    fn spoil(self, outputs: &mut Outputs, before: &Outputs) {
        let choose = usize::from(self.field & 63);
        match self.what & 7 {
            0 | 1 => self.list(&mut outputs.sends, &before.sends, |send: &mut Send| match choose % 9 {
                0 => send.of = self.number(send.of),
                1 | 2 => send.at = self.number(send.at),
                3 => send.header = self.number(send.header.into()) as u32,
                4 => send.length = self.number(send.length.into()) as u32,
                5 => send.header_length = self.number(send.header_length.into()) as u16,
                6 => send.transport = self.number(send.transport.into()) as u16,
                7 => send.mss = self.number(send.mss.into()) as u16,
                _ => {
                    send.source = [Source::Nothing, Source::Queue, Source::Segment, Source::Hold]
                        [self.number as usize & 3]
                }
            }),
            2 => self.list(&mut outputs.places, &before.places, |place: &mut Place| match choose % 7 {
                0 => place.of = self.number(place.of),
                1 | 2 => place.at = self.number(place.at),
                3 => place.segment = self.number(place.segment.into()) as u32,
                4 => place.skip = self.number(place.skip.into()) as u32,
                5 => place.length = self.number(place.length.into()) as u32,
                _ => {
                    place.target = [Target::Stream, Target::Hold, Target::Datagram][self.number as usize % 3]
                }
            }),
            3 => self.list(&mut outputs.marks, &before.marks, |mark: &mut Mark| match choose % 6 {
                0 => mark.connection = Handle(self.number(mark.connection.0)),
                1 => mark.exposed = self.number(mark.exposed),
                2 => mark.acknowledged = self.number(mark.acknowledged),
                3 => mark.by = self.number(mark.by.into()) as u32,
                4 => mark.want_receive = self.number(mark.want_receive.into()) as u32,
                _ => mark.want_send = self.number(mark.want_send.into()) as u32,
            }),
            4 => self.list(&mut outputs.events, &before.events, |event| self.event(event, choose)),
            5 if !outputs.headers.is_empty() => {
                let at = self.number as usize % outputs.headers.len();
                outputs.headers[at] ^= self.index;
            }
            6 => outputs.headers.truncate(self.number as usize % (outputs.headers.len() + 1)),
            _ => match choose % 3 {
                0 => outputs.deadline = self.number(outputs.deadline),
                1 => outputs.deadline_of = Handle(self.number(outputs.deadline_of.0)),
                _ => outputs.unfinished = !outputs.unfinished,
            },
        }
    }

    fn event(self, event: &mut Event, choose: usize) {
        let endpoint = |ends: &mut Endpoint| ends.port ^= self.number as u16;
        match event {
            Event::Offered(opening) | Event::Accepted(opening) | Event::Opened(opening) => match choose % 6 {
                0 => opening.listener = self.number(opening.listener.into()) as u32,
                1 => opening.connection = Handle(self.number(opening.connection.0)),
                2 => opening.segment = self.number(opening.segment.into()) as u32,
                3 => opening.receive_base = self.number(opening.receive_base.into()) as u32,
                4 => opening.send_base = self.number(opening.send_base.into()) as u32,
                _ => opening.mss = self.number(opening.mss.into()) as u16,
            },
            Event::Choosing(choosing) if choose & 1 == 0 => endpoint(&mut choosing.local),
            Event::Choosing(choosing) => choosing.connection = Handle(self.number(choosing.connection.0)),
            Event::Finished(finished) => match choose % 3 {
                0 => finished.connection = Handle(self.number(finished.connection.0)),
                1 => finished.at = self.number(finished.at),
                _ => finished.segment = self.number(finished.segment.into()) as u32,
            },
            Event::Urgent(urgent) if choose & 1 == 0 => urgent.at = self.number(urgent.at),
            Event::Urgent(urgent) => urgent.connection = Handle(self.number(urgent.connection.0)),
            Event::Resubmit(hold) if choose & 1 == 0 => hold.slot = self.number(hold.slot.into()) as u32,
            Event::Resubmit(hold) => hold.length = self.number(hold.length.into()) as u32,
            Event::Release(slot) => *slot = self.number((*slot).into()) as u32,
            Event::Failed(failed) => failed.call = self.number(failed.call.into()) as u32,
            Event::Closed(reason) | Event::Warned(reason) => {
                reason.connection = Handle(self.number(reason.connection.0));
            }
            Event::Info(info) => info.of = Handle(self.number(info.of.0)),
        }
    }
}

/// The core, and what becomes of its words.
struct Liar {
    core: bulkhead_tcp::Tcp,
    spoilings: Vec<Spoiling>,
    step: u8,
    /// What was last said in each list.
    before: Outputs,
}

fn inside<T>(call: impl FnOnce() -> T) -> T {
    IN_MODULE.set(true);
    let result = call();
    IN_MODULE.set(false);
    result
}

impl Module for Liar {
    fn describe(&self) -> Description {
        self.core.describe()
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        inside(|| self.core.start(config))
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        inside(|| self.core.step(inputs, outputs));
        for spoiling in &self.spoilings {
            if spoiling.step == self.step || spoiling.step == 255 {
                spoiling.spoil(outputs, &self.before);
            }
        }
        self.step = self.step.wrapping_add(1);
        keep(&mut self.before.sends, &outputs.sends);
        keep(&mut self.before.places, &outputs.places);
        keep(&mut self.before.marks, &outputs.marks);
        keep(&mut self.before.events, &outputs.events);
    }

    fn save(&self) -> Vec<u8> {
        self.core.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        inside(|| self.core.load(config, now, state))
    }
}

fn keep<T: Clone>(into: &mut Vec<T>, from: &[T]) {
    if !from.is_empty() {
        into.clear();
        into.extend(from.iter().take(8).cloned());
    }
}

/// Both parts of an input.
fn parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let spoilings = usize::from(*bytes.first()?);
    bytes.get(1..)?.split_at_checked(spoilings * SPOILING)
}

fuzz_target!(
    init: {
        // libFuzzer's macros end the process at any panic; one of the module's is a fault, which the host has to catch.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IN_MODULE.replace(false) {
                hook(panic);
            }
        }));
    },
    |bytes: &[u8]| -> Corpus {
        let Some((spoilings, text)) = parts(bytes) else { return Corpus::Reject };
        let Some(case) = shared::case(text) else { return Corpus::Reject };
        let spoilings: Vec<_> = spoilings.chunks(SPOILING).filter_map(Spoiling::of).collect();
        EXECUTOR.with_borrow_mut(|(executor, world)| {
            let liar = || {
                let (core, spoilings) = (bulkhead_tcp::Tcp::new(), spoilings.clone());
                Box::new(Native::new(Box::new(Liar { core, spoilings, step: 0, before: Outputs::default() })))
            };
            let outcome = executor.run(liar(), world, &case, None);
            let what = match outcome.finding.map(|finding| finding.kind) {
                Some(Kind::Stream { at }) => format!("given wrong bytes to the application, {at} into a stream"),
                Some(Kind::Wire { rule: "other-bytes", detail }) => format!("sent {detail}"),
                _ => return,
            };
            let mut trace = Trace::default();
            executor.run(liar(), world, &case, Some(&mut trace));
            panic!("the host has {what}\n{}\nspoiled by {spoilings:?}", trace.text());
        });
        Corpus::Keep
    }
);

fuzz_mutator!(|bytes: &mut [u8], size: usize, max: usize, seed: u32| {
    let Some((spoilings, text)) = bytes.get(..size).and_then(parts) else {
        // The first one of all: nothing is spoiled, and there is no case yet.
        bytes[0] = 0;
        return 1 + shared::change(&mut bytes[1..max], 0, seed);
    };
    let (mut spoilings, mut text) = (spoilings.to_vec(), text.to_vec());
    if seed & 3 == 0 {
        let length = text.len();
        text.resize(max, 0);
        let length = shared::change(&mut text, length, seed >> 2);
        text.truncate(length);
    } else {
        let length = spoilings.len();
        match seed >> 2 & 3 {
            0 if length < MOST * SPOILING => {
                spoilings.extend((0..SPOILING).map(|at| (seed >> (4 + 2 * at)) as u8))
            }
            1 if length > SPOILING => spoilings.truncate(length - SPOILING),
            _ => {}
        }
        // In place, so that the bytes of one keep their meaning.
        let length = spoilings.len();
        if length > 0 {
            fuzzer_mutate(&mut spoilings, length, length);
        }
    }
    let whole = 1 + spoilings.len() + text.len();
    let Some(into) = bytes.get_mut(..whole.min(max)).filter(|into| into.len() == whole) else { return size };
    into[0] = (spoilings.len() / SPOILING) as u8;
    into[1..=spoilings.len()].copy_from_slice(&spoilings);
    into[1 + spoilings.len()..].copy_from_slice(&text);
    whole
});
