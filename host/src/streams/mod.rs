//! Applications' bytes: send queues, receive streams and hold slots.
//!
//! Everything here counts in offsets from a stream's first byte. Whatever comes in from the module has passed
//! [`inspect`](crate::inspect) and is carried out without a second look.

mod blocks;
mod holds;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use blocks::Blocks;
pub use holds::HoldBytes;
pub use receive::{KEEP_MIN, ReceiveStream};
pub use send::{BULK, SendQueue};

use crate::error::StreamError;
pub use crate::stack::{Readiness, Sizes};
use bulkhead_wit::{MarkAt, Time};

/// Memory that a stream may hold beyond twice its window: blocks and frames are larger than what is in them, and a
/// small window must not close for that.
const SLACK: u64 = 128 * 1024;

/// A connection as its application sees it.
#[derive(Debug)]
pub struct Stream {
    /// What was written and not acknowledged.
    pub send: SendQueue,
    /// What arrived and was not read.
    pub receive: ReceiveStream,
    pub(crate) receive_size: u32,
    pub(crate) receive_first: u32,
    pub(crate) receive_max: u32,
    pub(crate) send_size: u32,
    pub(crate) send_max: u32,
    pub(crate) unsent_max: u32,
    /// The limit that the module was told last.
    pub(crate) limit_told: u64,
    /// Where the peer's stream ends.
    pub(crate) finished: Option<u64>,
    /// Where urgent data ends; `NEVER` without.
    pub(crate) urgent: u64,
    /// Marks for the next position.
    pub(crate) marks: MarkAt,
    /// Why it ended, once it has.
    pub(crate) end: Option<StreamError>,
    /// What the application has not been told of yet.
    pub(crate) ready: Readiness,
    /// It stands in the list of streams with news for the application.
    pub(crate) is_ready_listed: bool,
    /// It stands in the list of streams with news for the module.
    pub(crate) is_dirty: bool,
    /// Bytes may flow.
    pub(crate) is_open: bool,
    /// The application will write no more.
    pub(crate) is_shut: bool,
    /// The application is gone.
    pub(crate) is_detached: bool,
    /// A write was refused, and the writer is to be told when there is space.
    pub(crate) waits_for_space: bool,
    /// Its window was not opened as far as it might be, for want of memory.
    pub(crate) is_denied: bool,
    /// When the application read, or the peer acknowledged, last.
    pub(crate) progress_at: Time,
}

impl Stream {
    /// A stream with these sizes.
    #[must_use]
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            send: SendQueue::default(),
            receive: ReceiveStream::default(),
            receive_size: sizes.receive_first,
            receive_first: sizes.receive_first,
            receive_max: sizes.receive_max.max(sizes.receive_first),
            send_size: sizes.send_first,
            send_max: sizes.send_max.max(sizes.send_first),
            unsent_max: sizes.unsent_max,
            limit_told: u64::from(sizes.receive_first),
            finished: None,
            urgent: bulkhead_wit::NEVER,
            marks: MarkAt::default(),
            end: None,
            ready: Readiness::default(),
            is_ready_listed: false,
            is_dirty: false,
            is_open: false,
            is_shut: false,
            is_detached: false,
            waits_for_space: false,
            is_denied: false,
            progress_at: 0,
        }
    }

    /// The receive limit that may be granted now, for a window of `most` bytes at most: never smaller than before, and
    /// held back while much more memory is held than bytes (small payloads kept in large frames).
    #[must_use]
    pub fn limit(&self, most: u64) -> u64 {
        let crowded = self.receive.held() as u64 > 2 * u64::from(self.receive_size) + SLACK;
        let wanted =
            if crowded { 0 } else { self.receive.consumed() + u64::from(self.receive_size).min(most) };
        self.limit_told.max(wanted)
    }

    /// The window that it began with.
    pub(crate) fn receive_first(&self) -> u64 {
        u64::from(self.receive_first)
    }

    /// Whether reading has made room for so much more that the module should know.
    #[must_use]
    pub fn has_grant(&self) -> bool {
        self.limit(u64::MAX) - self.limit_told >= u64::from(self.receive_size / 8).max(1)
    }

    /// The module asks for sizes in bytes; 0 asks for nothing. Buffers only grow.
    pub fn tune(&mut self, want_receive: u32, want_send: u32) {
        self.receive_size = self.receive_size.max(want_receive.min(self.receive_max));
        self.send_size = self.send_size.max(want_send.min(self.send_max));
    }

    /// Bytes that may be written now, where everything before `sent` has been sent.
    #[must_use]
    pub fn space(&self, sent: u64) -> u64 {
        let unsent = self.send.written().saturating_sub(sent.max(self.send.acknowledged));
        let queue = u64::from(self.send_size).saturating_sub(self.send.held());
        queue.min(u64::from(self.unsent_max).saturating_sub(unsent))
    }

    /// Whether everything up to the end of the stream has been read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.finished.is_some_and(|at| self.receive.consumed() >= at)
    }

    /// A write found no space. Says whether that is news.
    pub(crate) fn wait_for_space(&mut self) -> bool {
        !std::mem::replace(&mut self.waits_for_space, true)
    }

    /// Whether a writer waits and is to be told: when a third is free, so that it is not woken for every segment.
    pub(crate) fn take_writable(&mut self, sent: u64) -> bool {
        let third = u64::from(self.send_size.min(self.unsent_max) / 3);
        let is_writable = self.waits_for_space && self.space(sent) >= third.max(1);
        self.waits_for_space &= !is_writable;
        is_writable
    }
}
