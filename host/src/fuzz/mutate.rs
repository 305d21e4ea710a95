//! New cases from old ones: by events, by their fields, by splicing, and by bytes.

use super::case::{Call, Case, Event, FLOWS, Segment, TcpOption};
use super::generate::Generator;
use super::limits;

/// What a mutator knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Structure {
    /// Events, fields, and bytes where there are any.
    #[default]
    Protocol,
    /// Packets are bytes: what a fuzzer does that knows nothing of protocols. For comparison.
    Bytes,
}

/// Makes cases.
#[derive(Debug)]
pub struct Mutator {
    pub(super) generator: Generator,
    structure: Structure,
}

/// Changes of one mutation at most.
const CHANGES: usize = 5;

impl Mutator {
    /// One that knows the protocol and nothing of the module. The same seed makes the same cases.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::new(Generator::new(seed, Vec::new(), Vec::new()), Structure::Protocol)
    }

    pub(super) fn new(generator: Generator, structure: Structure) -> Self {
        Self { generator, structure }
    }

    /// A case out of nothing.
    pub fn fresh(&mut self) -> Case {
        let mut events = Vec::new();
        if self.structure == Structure::Bytes {
            events.extend((0..1 + self.generator.below(4)).map(|_| Event::Raw(self.generator.raw())));
            return Case { events };
        }
        let flow = self.generator.flow();
        for _ in 0..1 + self.generator.below(3) {
            events.extend(self.generator.scene(flow));
        }
        Case { events }
    }

    /// A case like `case`; `other` may lend a part of itself.
    pub fn mutate(&mut self, case: &Case, other: &Case) -> Case {
        let mut events = case.events.clone();
        for _ in 0..1 + self.generator.below(CHANGES) {
            match self.structure {
                Structure::Protocol => self.change(&mut events, other),
                Structure::Bytes => self.change_bytes(&mut events, other),
            }
        }
        events.truncate(limits::MUTATED);
        Case { events }
    }

    fn change(&mut self, events: &mut Vec<Event>, other: &Case) {
        let length = events.len();
        let at = self.generator.below(length + 1);
        match self.generator.below(20) {
            0..=2 => {
                let flow = self.flow_of(events);
                let event = self.generator.event(flow);
                events.insert(at, event);
            }
            3 => {
                let flow = self.flow_of(events);
                let scene = self.generator.scene(flow);
                events.splice(at..at, scene);
            }
            4 | 5 => {
                // At the end: what happens in the state that this case leads to.
                let flow = self.flow_of(events);
                let event = self.generator.event(flow);
                events.push(event);
            }
            6 if length > 1 => drop(events.drain(at.min(length - 1)..=at.min(length - 1))),
            7 if length > 2 => {
                let count = 1 + self.generator.below((length - at).clamp(1, 8));
                drop(events.drain(at..(at + count).min(length)));
            }
            8 if length > 1 => {
                let with = self.generator.below(length);
                events.swap(at.min(length - 1), with);
            }
            9 if at < length => {
                let copy = events.get(at).cloned();
                events.splice(at..at, copy);
            }
            10 if !other.events.is_empty() => {
                let from = self.generator.below(other.events.len());
                events.truncate(at);
                events.extend(other.events.get(from..).unwrap_or_default().iter().cloned());
            }
            11 if !other.events.is_empty() => {
                let from = self.generator.below(other.events.len());
                let count = 1 + self.generator.below(6);
                let part = other.events.iter().skip(from).take(count).cloned().collect::<Vec<_>>();
                events.splice(at..at, part);
            }
            12 => {
                let flow = self.generator.flow();
                events.iter_mut().skip(at).take(3).for_each(|event| set_flow(event, flow));
            }
            _ => {
                if let Some(event) = events.get_mut(at.min(length.saturating_sub(1))) {
                    self.bend(event);
                }
            }
        }
    }

    /// A flow that the case speaks of already, mostly.
    fn flow_of(&mut self, events: &[Event]) -> u8 {
        if self.generator.one_in(8) {
            return self.generator.flow();
        }
        let at = self.generator.below(events.len());
        events.get(at).and_then(Event::flow).unwrap_or(0)
    }

    /// Changes something of an event.
    fn bend(&mut self, event: &mut Event) {
        let generator = &mut self.generator;
        match event {
            Event::Segment(segment) if !segment.options.is_empty() && generator.one_in(3) => {
                self.bend_options(segment);
            }
            Event::Segment(segment) => generator.bend(segment),
            Event::Fragment(fragment) => match generator.below(4) {
                0 => fragment.offset = generator.number() as u16,
                1 => fragment.length = generator.length(),
                2 => fragment.more = !fragment.more,
                _ => fragment.id ^= 1,
            },
            Event::Icmp(icmp) => match generator.below(4) {
                0 => icmp.value = generator.number() as u32,
                1 => icmp.code = generator.number() as u8,
                2 => icmp.seq = generator.delta(),
                _ => icmp.quoted = generator.below(24) as u8,
            },
            Event::Echo { length, .. } => *length = generator.length(),
            Event::Datagram { length, port, .. } => {
                *length = generator.length();
                *port = generator.pick(&[80, 53, 0], 80);
            }
            Event::Raw(bytes) => self.havoc(bytes, limits::RAW),
            Event::Call(Call::Write(_, count) | Call::Mark(_, count, _) | Call::Read(_, count)) => {
                *count = generator.number() as u32;
            }
            Event::Call(Call::Set(_, _, value) | Call::Default(_, value)) => *value = generator.number(),
            Event::Call(call) => {
                let flow = Event::Call(*call).flow().unwrap_or(0);
                *event = generator.call(flow);
            }
            Event::Wait { us } | Event::Stall { us } => *us = generator.number() << generator.below(20),
            Event::Fair { rounds } => *rounds = generator.below(60) as u8,
        }
    }

    fn bend_options(&mut self, segment: &mut Segment) {
        let is_syn = segment.flags & super::case::SYN != 0;
        let count = segment.options.len();
        let at = self.generator.below(count);
        match self.generator.below(4) {
            0 => drop(segment.options.remove(at)),
            1 if count < limits::OPTIONS => {
                let option = self.generator.option(is_syn);
                segment.options.insert(at, option);
            }
            _ => match segment.options.get_mut(at) {
                Some(TcpOption::Raw(bytes)) => self.havoc(bytes, limits::OPTION_BYTES),
                Some(TcpOption::Mss(size)) => *size = self.generator.number() as u16,
                Some(TcpOption::WindowScale(shift)) => *shift = self.generator.number() as u8,
                Some(option) => *option = self.generator.option(is_syn),
                None => {}
            },
        }
    }

    fn change_bytes(&mut self, events: &mut Vec<Event>, other: &Case) {
        let at = self.generator.below(events.len() + 1);
        match self.generator.below(8) {
            0 => events.insert(at, Event::Raw(self.generator.raw())),
            1 if events.len() > 1 => drop(events.remove(at.min(events.len() - 1))),
            2 => {
                let from = self.generator.below(other.events.len());
                events.truncate(at);
                events.extend(other.events.get(from..).unwrap_or_default().iter().cloned());
            }
            _ => {
                let last = events.len().saturating_sub(1);
                if let Some(Event::Raw(bytes)) = events.get_mut(at.min(last)) {
                    self.havoc(bytes, limits::RAW);
                }
            }
        }
    }

    /// Byte by byte, as every fuzzer does, to at most so many.
    fn havoc(&mut self, bytes: &mut Vec<u8>, most: usize) {
        let generator = &mut self.generator;
        for _ in 0..1 + generator.below(4) {
            let at = generator.below(bytes.len().max(1));
            let number = generator.number();
            match generator.below(7) {
                0 => change(bytes, at, |byte| byte ^ 1 << (number & 7)),
                1 => change(bytes, at, |_| number as u8),
                2 => change(bytes, at, |byte| byte.wrapping_add(number as u8 & 15).wrapping_sub(7)),
                3 if bytes.len() < most => bytes.insert(at, number as u8),
                4 if bytes.len() > 1 => drop(bytes.remove(at)),
                5 => overwrite(bytes, at, &(number as u16).to_be_bytes()),
                _ => overwrite(bytes, at, &(number as u32).to_be_bytes()),
            }
        }
    }
}

fn change(bytes: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = to(*byte);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes.iter_mut().skip(at).zip(with).for_each(|(to, from)| *to = *from);
}

fn set_flow(event: &mut Event, to: u8) {
    let to = to % FLOWS;
    match event {
        Event::Segment(segment) => segment.flow = to,
        Event::Fragment(fragment) => fragment.flow = to,
        Event::Icmp(icmp) => icmp.flow = to,
        Event::Echo { flow, .. } | Event::Datagram { flow, .. } => *flow = to,
        Event::Call(
            Call::Open(flow)
            | Call::Write(flow, _)
            | Call::Mark(flow, ..)
            | Call::Read(flow, _)
            | Call::Shutdown(flow)
            | Call::Close(flow, _)
            | Call::Abort(flow)
            | Call::Set(flow, ..)
            | Call::Query(flow)
            | Call::Decide(flow, _)
            | Call::Send(flow, _),
        ) => *flow = to,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is made can be written down and read again: what was found must not be lost on its way to the disk.
    #[test]
    fn cases_survive_their_text() {
        for structure in [Structure::Protocol, Structure::Bytes] {
            let mut mutator = Mutator::new(Generator::new(7, vec![1234], vec![vec![5, 6]]), structure);
            let mut case = mutator.fresh();
            for _ in 0..3000 {
                let other = mutator.fresh();
                case = mutator.mutate(&case, &other);
                let text = case.to_string();
                assert_eq!(text.parse::<Case>().as_ref(), Ok(&case), "{text}");
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said_with_its_line() {
        for (text, says) in [
            ("seg 9 S", "line 1: flows are 0 to 7"),
            ("# fine\nseg 0 X", "line 2: flags are - or some of FSRPAUEC"),
            ("seg 0 A win=70000", "line 1: win: `70000` is no such number"),
            ("jump 3", "line 1: `jump` is no event"),
            ("write 0", "line 1: bytes is missing"),
            ("raw 4", "line 1: bytes are pairs of hexadecimal digits"),
        ] {
            assert_eq!(text.parse::<Case>().map_err(|error| error.to_string()), Err(says.into()));
        }
    }
}
