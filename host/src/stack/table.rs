//! Streams by index, each with a generation, so that an application's stale name of a stream finds nothing.

use super::StreamId;
use crate::inspect::make_room;
use crate::streams::Stream;

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) generation: u32,
    pub(super) stream: Option<Box<Stream>>,
}

/// The streams, at the same indices as the ledgers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(super) entries: Vec<Entry>,
}

impl Table {
    pub(crate) fn insert(&mut self, index: u32, stream: Stream) -> StreamId {
        let at = index as usize;
        while self.entries.len() <= at {
            make_room(&mut self.entries);
            self.entries.push(Entry::default());
        }
        let entry = &mut self.entries[at];
        entry.generation = entry.generation.wrapping_add(1).max(1);
        entry.stream = Some(Box::new(stream));
        StreamId { index, generation: entry.generation }
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Stream> {
        self.entries.get_mut(index as usize)?.stream.take().map(|stream| *stream)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Stream> {
        self.entries.get(index as usize)?.stream.as_deref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Stream> {
        self.entries.get_mut(index as usize)?.stream.as_deref_mut()
    }

    /// The name by which an application knows the stream at `index`.
    pub(crate) fn id(&self, index: u32) -> Option<StreamId> {
        let entry = self.entries.get(index as usize)?;
        entry.stream.as_ref().map(|_| StreamId { index, generation: entry.generation })
    }

    /// The stream of this name that an application still holds.
    pub(crate) fn held(&mut self, id: StreamId) -> Option<&mut Stream> {
        let entry = self.entries.get_mut(id.index as usize)?;
        let stream = entry.stream.as_deref_mut()?;
        (entry.generation == id.generation && !stream.is_detached).then_some(stream)
    }
}
