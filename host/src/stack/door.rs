//! Who is let in: the policy under memory pressure, budgets of sources, and throttling of whoever kills the module.
//!
//! Streams have a budget, [`Options::memory`](super::Options::memory), for what was written and not acknowledged, and for
//! what arrived and was not read. What happens as it is used up, in this order:
//!
//! | held | level | what follows |
//! |---|---|---|
//! | below half | [`Level::Calm`] | buffers grow as the module asks |
//! | from half on | [`Level::Pressed`] | **shrinks first:** buffers grow no more, and windows that have grown fall back to what connections begin with |
//! | from all on | [`Level::Short`] | **refused:** no window opens, writers get a little while their queue is empty and else wait, connections are not opened and SYNs not heard; a connection that has held memory without progress for [`PINNED`] is reset, the largest first |
//! | a quarter beyond | [`Level::Full`] | **dropped:** arriving text, as by a card without buffers, but for the next bytes of a stream that has nothing else to read |
//!
//! What was promised (a window) is kept as long as that is possible at all, and acknowledgements always pass: they are what
//! frees memory. So the bound is [`Stack::memory_bound`], whatever peers and applications do.

use super::{Stack, StreamId};
use crate::frame::Frame;
use crate::inspect::Stage;
use crate::split::{Arrived, TcpFacts};
use bulkhead_wit::{Address, Call, Time, limits};
use std::collections::HashMap;

/// How long a connection may hold memory without progress once memory is short, in nanoseconds.
pub const PINNED: Time = 30 * limits::SECOND;
/// What a writer with an empty queue is given while memory is short, in bytes.
pub const SHORT_WRITE: u64 = 2048;
/// Sources that are remembered for having been there when the module failed.
pub const SUSPECTS: usize = 256;
/// Failed steps that a source has had a part in, after which it is throttled.
pub const STRIKES: u32 = 2;
/// How long a source is throttled, and for how long a strike counts.
pub const THROTTLED: Time = 60 * limits::SECOND;
/// How often it is looked for connections that pin memory.
const LOOK: Time = limits::SECOND;
/// What a connection may hold beyond the budget: the next segment of a stream that has nothing else to read, in a block
/// of the largest size, and a short write in one of the smallest.
const EACH: usize = 64 * 1024 + 2 * 1024;
/// What one step may bring in before the level is looked at again.
const STEP: usize = limits::SEGMENTS * limits::DATAGRAM;

/// How much of the memory for streams is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub enum Level {
    /// Less than half.
    #[default]
    Calm,
    /// At least half.
    Pressed,
    /// All of it.
    Short,
    /// A quarter more than there is.
    Full,
}

/// What was refused, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DoorCounters {
    /// Segments with text that were dropped for want of memory.
    pub text_dropped: u64,
    /// SYNs that were not heard, and opens that failed, for want of memory.
    pub connections_refused: u64,
    /// SYNs that were not heard since their source has enough connections.
    pub source_refused: u64,
    /// Connections that were reset since they pinned memory.
    pub evicted: u64,
    /// Segments of sources that are throttled.
    pub throttled: u64,
}

impl DoorCounters {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            text_dropped: self.text_dropped + other.text_dropped,
            connections_refused: self.connections_refused + other.connections_refused,
            source_refused: self.source_refused + other.source_refused,
            evicted: self.evicted + other.evicted,
            throttled: self.throttled + other.throttled,
        }
    }
}

/// A source that was there when the module failed.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    strikes: u32,
    at: Time,
}

/// The door's own state.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// Living connections that came from each source; kept where there is a budget.
    sources: HashMap<Address, u32>,
    suspects: HashMap<Address, Suspect>,
    /// Streams whose window was not opened since memory was short.
    denied: Vec<StreamId>,
    /// As it was when it was looked at last.
    level: Level,
    next_look: Time,
    pub(super) counters: DoorCounters,
}

/// Why a segment is not let in.
enum Refusal {
    Text,
    Connection,
    Source,
    Throttled,
}

impl Stack {
    /// How much of the memory for streams is used.
    #[must_use]
    pub fn level(&self) -> Level {
        let (held, budget) = (self.blocks.held(), self.options.memory);
        if held < budget / 2 {
            Level::Calm
        } else if held < budget {
            Level::Pressed
        } else if held < budget + budget / 4 {
            Level::Short
        } else {
            Level::Full
        }
    }

    /// Bytes that streams hold in blocks: written and not acknowledged, arrived and not read. Frames that are kept by
    /// reference are bounded apart from it, by the pool.
    #[must_use]
    pub fn stream_memory(&self) -> usize {
        self.blocks.held()
    }

    /// What [`stream_memory`](Self::stream_memory) never exceeds with as many connections as there are now.
    #[must_use]
    pub fn memory_bound(&self) -> usize {
        let budget = self.options.memory;
        budget + budget / 4 + STEP + self.ledgers.living().count() * EACH
    }

    /// What was refused, and why.
    #[must_use]
    pub fn door_counters(&self) -> &DoorCounters {
        &self.door.counters
    }

    /// Split, and the door: a frame that has arrived comes into the batch, or is dropped and counted.
    pub(crate) fn admit(&mut self, frame: Frame) {
        let headers = self.batch.headers.len();
        if self.split.split(frame, &mut self.batch, &mut self.arrived).is_err() {
            return;
        }
        let level = self.level();
        if level < Level::Short && self.door.suspects.is_empty() && self.options.per_source == 0 {
            return;
        }
        let Some(refusal) = self.arrived.last().and_then(|arrived| self.refuses(level, arrived)) else {
            return;
        };
        let counters = &mut self.door.counters;
        *match refusal {
            Refusal::Text => &mut counters.text_dropped,
            Refusal::Connection => &mut counters.connections_refused,
            Refusal::Source => &mut counters.source_refused,
            Refusal::Throttled => &mut counters.throttled,
        } += 1;
        self.arrived.pop();
        self.batch.segments.pop();
        self.batch.headers.truncate(headers);
    }

    fn refuses(&self, level: Level, arrived: &Arrived) -> Option<Refusal> {
        let source = arrived.ends.source.address;
        let is_throttled =
            |suspect: &Suspect| suspect.strikes >= STRIKES && self.now.saturating_sub(suspect.at) < THROTTLED;
        // Connections that are open are judged one by one, by what they kill: others of that address may be honest.
        if self.door.suspects.get(&source).is_some_and(is_throttled)
            && self.ledgers.index_of(arrived.ends.destination, arrived.ends.source).is_none()
        {
            return Some(Refusal::Throttled);
        }
        let tcp = arrived.facts.tcp()?;
        if tcp.syn && !tcp.ack_flag {
            let count = self.door.sources.get(&source).copied().unwrap_or(0);
            if self.options.per_source > 0 && count >= self.options.per_source {
                return Some(Refusal::Source);
            }
            return (level >= Level::Short).then_some(Refusal::Connection);
        }
        let is_text = level == Level::Full && !arrived.payload.is_empty();
        (is_text && !self.is_needed(arrived, tcp)).then_some(Refusal::Text)
    }

    /// Whether these are the next bytes of a stream whose application has nothing else to read.
    fn is_needed(&self, arrived: &Arrived, tcp: TcpFacts) -> bool {
        let Some(index) = self.ledgers.index_of(arrived.ends.destination, arrived.ends.source) else {
            return false;
        };
        let (Some(ledger), Some(stream)) = (self.ledgers.get(index), self.streams.get(index)) else {
            return false;
        };
        let at = tcp.first_byte().wrapping_sub(ledger.receive_base);
        at == ledger.exposed as u32 && stream.receive.readable() == 0
    }

    /// The limit that a stream is granted at this level; a smaller one than it might have is made good later.
    pub(super) fn grant(&mut self, index: u32) -> u64 {
        let level = self.level();
        let id = self.streams.id(index);
        let Some(stream) = self.streams.get_mut(index) else { return 0 };
        let limit = match level {
            Level::Calm => stream.limit(u64::MAX),
            Level::Pressed => stream.limit(stream.receive_first()),
            Level::Short | Level::Full => stream.limit_told,
        };
        if limit < stream.limit(u64::MAX) && !std::mem::replace(&mut stream.is_denied, true) {
            self.door.denied.extend(id);
        }
        limit
    }

    /// Memory may have become free, or be held by those who do nothing with it. To be called before every gathering.
    pub(crate) fn relieve(&mut self) {
        let level = self.level();
        if level < std::mem::replace(&mut self.door.level, level) {
            // Whom this level denies more, too, stands in the list again when its position is taken.
            for id in std::mem::take(&mut self.door.denied) {
                if self.streams.id(id.index) == Some(id)
                    && let Some(stream) = self.streams.get_mut(id.index)
                {
                    stream.is_denied = false;
                    self.mark_dirty(id.index);
                }
            }
        }
        if level >= Level::Short && self.now >= self.door.next_look {
            self.door.next_look = self.now.saturating_add(LOOK);
            self.evict();
        }
    }

    /// Resets the connection that holds the most memory of all that have made no progress for too long.
    fn evict(&mut self) {
        let pinned = self.ledgers.living().filter_map(|(index, ledger)| {
            let stream = self.streams.get(index)?;
            let held = stream.send.held() + stream.receive.held() as u64;
            let is_pinned = self.now.saturating_sub(stream.progress_at) >= PINNED && held > 0;
            (is_pinned && ledger.stage == Stage::Open).then_some((held, index, ledger.handle))
        });
        if let Some((held, index, handle)) = pinned.max_by_key(|(held, index, _)| (*held, *index)) {
            tracing::warn!(connection = ?handle, held, "reset: memory is short, and this one pins it");
            self.door.counters.evicted += 1;
            if let Some(stream) = self.streams.get_mut(index) {
                // One reset each: the module's answer ends it.
                stream.progress_at = self.now;
            }
            self.call(Call::Abort(handle));
        }
    }

    /// A connection came from this source, or one of its has ended.
    pub(super) fn count_source(&mut self, source: Address, has_begun: bool) {
        if self.options.per_source == 0 {
            return;
        }
        let count = self.door.sources.entry(source).or_default();
        *count = if has_begun { count.saturating_add(1) } else { count.saturating_sub(1) };
        if *count == 0 {
            self.door.sources.remove(&source);
        }
    }

    /// The module has failed over segments of these sources, which is remembered. Who was there twice within a minute is
    /// not heard for one, but on connections that are there.
    pub(crate) fn suspect(&mut self, sources: impl IntoIterator<Item = Address>) {
        let now = self.now;
        let suspects = &mut self.door.suspects;
        suspects.retain(|_, suspect| now.saturating_sub(suspect.at) < THROTTLED);
        let mut sources: Vec<Address> = sources.into_iter().collect();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            if suspects.len() < SUSPECTS || suspects.contains_key(&source) {
                let suspect = suspects.entry(source).or_insert(Suspect { strikes: 0, at: now });
                (suspect.strikes, suspect.at) = (suspect.strikes + 1, now);
            }
        }
    }

    /// All connections are gone.
    pub(super) fn forget_sources(&mut self) {
        self.door.sources.clear();
    }
}
