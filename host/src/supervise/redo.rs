//! A step that failed, taken apart: its inputs one by one, in the contract's order.

use crate::split::Arrived;
use bulkhead_wit::{Batch, Call, Close, Handle, Message, Position, Room, Segment, Time};
use std::collections::VecDeque;
use std::fmt;

/// One input.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The time alone, with the timers that are due.
    Time,
    /// A call; an end of a stream goes with the position that it covers.
    Call(Call, Option<Position>),
    /// A stream's position.
    Position(Position),
    /// A datagram of the application's, by its number in the step.
    Message(usize, Message),
    /// A segment with its header, and what split found in it.
    Segment(Box<(Segment, Vec<u8>, Arrived)>),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("a timer"),
            Self::Call(call, _) => write!(f, "the call {call:?}"),
            Self::Position(position) => write!(f, "the position of {:?}", position.connection),
            Self::Message(_, message) => write!(f, "a datagram to {}", message.to),
            Self::Segment(segment) => {
                let (_, _, Arrived { ends, facts, payload }) = &**segment;
                write!(f, "a segment from {} to {}", ends.source, ends.destination)?;
                if let Some(tcp) = facts.tcp() {
                    write!(f, ", sequence number {}", tcp.seq)?;
                }
                write!(f, ", {} bytes", payload.len())
            }
        }
    }
}

/// What is still to be done of a step that failed.
#[derive(Debug, Default)]
pub(super) struct Redo {
    room: Room,
    parts: VecDeque<(Time, Part)>,
}

impl Redo {
    /// Takes the inputs of a step out of where they are. The time comes first: timers that are due would fire beside
    /// any other input.
    pub(super) fn take(batch: &mut Batch, arrived: &mut Vec<Arrived>, now: Time) -> Self {
        let mut redo = Self { room: batch.room, parts: VecDeque::new() };
        redo.parts.push_back((now, Part::Time));
        let mut positions: Vec<Option<Position>> = batch.positions.drain(..).map(Some).collect();
        let mut add = |part| redo.parts.push_back((now, part));
        for call in batch.calls.drain(..) {
            let covered = match &call {
                Call::Shutdown(connection) | Call::Close(Close { connection, .. }) => positions
                    .iter_mut()
                    .find(|position| position.is_some_and(|position| position.connection == *connection))
                    .and_then(Option::take),
                _ => None,
            };
            add(Part::Call(call, covered));
        }
        positions.into_iter().flatten().for_each(|position| add(Part::Position(position)));
        for (number, message) in batch.messages.drain(..).enumerate() {
            add(Part::Message(number, message));
        }
        for (segment, arrived) in batch.segments.drain(..).zip(arrived.drain(..)) {
            let from = segment.header as usize;
            let header = batch.headers.get(from..from + usize::from(segment.header_length));
            add(Part::Segment(Box::new((segment, header.unwrap_or_default().to_vec(), arrived))));
        }
        redo
    }

    /// The next input, which is taken out.
    pub(super) fn next(&mut self) -> Option<(Time, Part)> {
        self.parts.pop_front()
    }

    /// Something that is to be done before everything else.
    pub(super) fn first(&mut self, at: Time, part: Part) {
        self.parts.push_front((at, part));
    }

    /// Forgets what else there was about a connection.
    pub(super) fn forget(&mut self, connection: Handle) {
        self.parts.retain(|(_, part)| part.connection() != Some(connection));
    }

    /// Whether a single segment is all that is left.
    pub(super) fn is_one_segment(&self) -> bool {
        self.parts.len() == 1 && matches!(self.parts.front(), Some((_, Part::Segment(_))))
    }

    /// Fills a batch with one input.
    pub(super) fn fill(&self, at: Time, part: &Part, batch: &mut Batch, arrived: &mut Vec<Arrived>) {
        batch.clear();
        arrived.clear();
        (batch.now, batch.room) = (at, self.room);
        match part {
            Part::Time => {}
            Part::Call(call, position) => {
                batch.calls.push(call.clone());
                batch.positions.extend(*position);
            }
            Part::Position(position) => batch.positions.push(*position),
            Part::Message(_, message) => batch.messages.push(*message),
            Part::Segment(whole) => {
                let (segment, header, one) = &**whole;
                batch.headers.extend_from_slice(header);
                batch.segments.push(Segment { header: 0, ..*segment });
                arrived.push(one.clone());
            }
        }
    }
}

impl Part {
    /// The connection that it names, if it names one.
    pub(super) fn connection(&self) -> Option<Handle> {
        match self {
            Self::Call(call, _) => match call {
                Call::Open(open) => Some(open.connection),
                Call::Decide(decide) => Some(decide.connection),
                Call::Shutdown(connection) | Call::Abort(connection) => Some(*connection),
                Call::Close(close) => Some(close.connection),
                Call::Set(change) => Some(change.of),
                Call::Query(of) => Some(*of),
                Call::Report(report) => Some(report.connection),
                _ => None,
            },
            Self::Position(position) => Some(position.connection),
            Self::Time | Self::Message(..) | Self::Segment(_) => None,
        }
    }
}
