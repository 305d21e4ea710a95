//! The recording in memory: what the instance was last known as, and everything it was given since.

use super::entry::{self, Entry, HEAD, Kind, Saved};
use super::file::Stream;
use super::limits;
use crate::payload::RECORD_MAX;
use bulkhead_wit::encoding::INPUTS_MAX;
use bulkhead_wit::{Config, Time};
use std::sync::Arc;

/// Where a recording begins: what a fresh instance is to be told first.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// To start.
    Start(Config),
    /// To load a state.
    State {
        /// The time of the last step before it.
        now: Time,
        /// The configuration at that time.
        config: Config,
        /// What was saved; reports have it too.
        state: Arc<Vec<u8>>,
    },
}

/// A bounded recording. Its memory is used again from checkpoint to checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    base: Base,
    /// Steps before the base.
    base_steps: u64,
    /// Entries since, without checks.
    entries: Vec<u8>,
    /// Where the last step begins.
    last: usize,
    /// Bytes that a step may read of payload.
    read_max: usize,
    /// More was to be kept than there may be: what is here is of no use until the next checkpoint.
    is_broken: bool,
}

impl Memory {
    pub(super) fn new(base: Base) -> Self {
        Self { base, base_steps: 0, entries: Vec::new(), last: 0, read_max: 0, is_broken: false }
    }

    /// Begins anew from here.
    pub(super) fn rebase(&mut self, base: Base, steps: u64) {
        self.base = base;
        self.base_steps = steps;
        self.entries.clear();
        self.last = 0;
        self.is_broken = false;
    }

    /// Whether its steps read payload, too.
    pub(super) fn with_payload(&mut self, has_payload: bool) {
        self.read_max = if has_payload { RECORD_MAX } else { 0 };
    }

    /// The same, after so many steps.
    pub(super) fn at(mut self, steps: u64) -> Self {
        self.base_steps = steps;
        self
    }

    /// The next checkpoint cannot wait: one more step might not fit.
    pub(super) fn is_full(&self) -> bool {
        !self.is_broken && self.entries.len() + INPUTS_MAX + self.read_max + 64 > limits::MEMORY
    }

    /// Nothing is kept until the next checkpoint, which may be long in coming.
    pub(super) fn give_up(&mut self) {
        self.is_broken = true;
        self.entries = Vec::new();
        if let Base::State { state, .. } = &mut self.base {
            *state = Arc::default();
        }
    }

    /// A step's entry follows.
    #[inline]
    pub(super) fn begin_step(&mut self) {
        self.last = self.entries.len();
    }

    /// Where the next entry goes, if it is to be kept.
    #[inline]
    pub(super) fn tail(&mut self) -> Option<Tail<'_>> {
        if self.entries.len() > limits::MEMORY {
            self.give_up();
        }
        (!self.is_broken).then_some(Tail(&mut self.entries))
    }

    /// The last step failed: nothing of it is kept.
    pub(super) fn forget_last(&mut self) {
        self.entries.truncate(self.last);
    }

    /// Where to begin, and the entries since; `None` where the recording is no use.
    pub(crate) fn contents(&self) -> Option<(&Base, Entries<'_>)> {
        (!self.is_broken).then(|| (&self.base, Entries(&self.entries)))
    }

    /// The same as it stands in a file.
    pub(super) fn begin_file(&self, to: &mut Vec<u8>) {
        match &self.base {
            Base::Start(config) => entry::put_start(config, to),
            Base::State { now, config, state } => {
                let saved = Saved { now: *now, steps: self.base_steps, config: config.clone(), state };
                entry::put_saved(Kind::Load, &saved, to);
            }
        }
    }

    /// Appends all of it to a file, if it is of use.
    pub(super) fn append_to(&self, stream: &mut Stream) {
        let Some((_, mut entries)) = self.contents() else { return };
        let mut bytes = Vec::new();
        self.begin_file(&mut bytes);
        stream.append(&bytes);
        while let Some(entry) = entries.next_bytes() {
            stream.append(entry);
        }
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> usize {
        let state = if let Base::State { state, .. } = &self.base { state.capacity() } else { 0 };
        self.entries.capacity() + state
    }
}

/// The end of the entries, which grows by one.
pub(super) struct Tail<'a>(&'a mut Vec<u8>);

impl<'a> Tail<'a> {
    /// Appends an entry, and gives its bytes.
    #[inline]
    pub(super) fn put(self, put: impl FnOnce(&mut Vec<u8>)) -> &'a [u8] {
        let begin = self.0.len();
        put(self.0);
        self.0.get(begin..).unwrap_or_default()
    }
}

/// The entries of a recording in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// The next one with head and body.
    pub(super) fn next_bytes(&mut self) -> Option<&'a [u8]> {
        let head: &[u8; HEAD] = self.0.first_chunk()?;
        let [_, length @ ..] = *head;
        let (entry, rest) = self.0.split_at_checked(HEAD + u32::from_le_bytes(length) as usize)?;
        self.0 = rest;
        Some(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let bytes = self.next_bytes()?;
        // We have written it ourselves.
        entry::take(Kind::of(*bytes.first()?)?, bytes.get(HEAD..)?).ok()
    }
}
