//! The send sequence space as far as it is not recovery's: the peer's window, and where the application's stream ends.

use crate::limits::RECORD_ENDS;
use crate::seq::{Seq, number_of, position_of};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bulkhead_wit::MarkAt;

/// Nobody writes this much; a position that says so is a lie.
const POSITION_MAX: u64 = 1 << 62;

/// Offsets here are recovery's: 0 is the SYN, 1 the first byte of data. Offsets of the stream are one less.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Send {
    /// ISS.
    pub iss: Seq,
    /// SND.WND in bytes.
    pub window: u32,
    /// The largest window that the peer ever offered.
    pub window_max: u32,
    /// SND.WL1.
    pub window_seq: Seq,
    /// SND.WL2, as an offset.
    pub window_ack: u64,
    /// The peer's window shift.
    pub scale: u8,
    /// The MSS that the peer named.
    pub peer_mss: u16,
    /// Bytes written by the application.
    pub written: u64,
    /// The application has ended the stream with what is written.
    pub ended: bool,
    /// More was to come at once when this much was written: its end is not pushed.
    pub more: bool,
    /// And until an acknowledgement arrives, the short tail is held back for it (as Linux's `MSG_MORE`).
    pub held: bool,
    /// Data up to here is to be pushed (stream offset).
    pub push_at: u64,
    /// Urgent data ends here (stream offset), 0 if there is none.
    pub urgent_at: u64,
    /// The offset at which the last short segment ended (Minshall's variant of Nagle's rule, as in Linux).
    pub small_end: u64,
    /// Ends of records (stream offsets), ascending; few connections have any.
    #[expect(clippy::box_collection, reason = "eight bytes where there are none")]
    pub record_ends: Option<Box<Vec<u64>>>,
    /// A tail up to here (stream offset) is sent although it is corked: it has waited long enough.
    pub uncorked: u64,
    /// The congestion window was reduced, and the next new data says so (RFC 3168 6.1.2).
    pub cwr: bool,
    /// Window probes unanswered.
    pub probes: u8,
    /// Doublings of the probes' interval.
    pub probe_backoff: u8,
    /// Keepalive probes unanswered.
    pub keepalive_probes: u8,
}

impl Send {
    pub(crate) fn new(iss: Seq, peer_mss: u16) -> Self {
        Self {
            iss,
            window: 0,
            window_max: 0,
            window_seq: Seq(0),
            window_ack: 0,
            scale: 0,
            peer_mss,
            written: 0,
            ended: false,
            more: false,
            held: false,
            push_at: 0,
            urgent_at: 0,
            small_end: 0,
            record_ends: None,
            uncorked: 0,
            cwr: false,
            probes: 0,
            probe_backoff: 0,
            keepalive_probes: 0,
        }
    }

    /// The sequence number of an offset.
    pub(crate) fn number(&self, offset: u64) -> Seq {
        number_of(offset, self.iss)
    }

    /// The offset of an acknowledgement number, given SND.UNA.
    pub(crate) fn offset(&self, ack: Seq, una: u64) -> i64 {
        position_of(ack, self.iss, una)
    }

    /// Where the stream ends, once the application has said so: the FIN's place in the stream.
    pub(crate) fn end(&self) -> Option<u64> {
        self.ended.then_some(self.written)
    }

    /// One past the last offset that there is to send, the FIN included.
    pub(crate) fn supply(&self) -> u64 {
        1 + self.written + u64::from(self.ended)
    }

    /// The application has come to `written`.
    pub(crate) fn write(&mut self, written: u64, marks: MarkAt) {
        // Positions are absolute and never go back; after the end nothing more is written.
        if !self.ended && written > self.written && written < POSITION_MAX {
            self.written = written;
        }
        self.more = marks.contains(MarkAt::MORE);
        self.held = self.more;
        if marks.contains(MarkAt::PUSH) {
            self.push_at = self.written;
        }
        if marks.contains(MarkAt::URGENT) {
            self.urgent_at = self.urgent_at.max(self.written);
        }
        if marks.contains(MarkAt::END_OF_RECORD)
            && self.record_ends().last().is_none_or(|&last| last < self.written)
            && self.record_ends().len() < RECORD_ENDS
        {
            self.record_ends.get_or_insert_default().push(self.written);
        }
    }

    fn record_ends(&self) -> &[u64] {
        self.record_ends.as_ref().map_or(&[], |ends| ends.as_slice())
    }

    /// What is held back for more to come has waited long enough.
    pub(crate) fn uncork(&mut self) {
        self.uncorked = self.written;
    }

    /// The first end of a record after a stream offset.
    pub(crate) fn record_end_after(&self, at: u64) -> Option<u64> {
        self.record_ends().iter().copied().find(|&end| end > at)
    }

    /// Forgets what is acknowledged.
    pub(crate) fn forget(&mut self, acknowledged: u64) {
        if let Some(ends) = &mut self.record_ends {
            ends.retain(|&end| end > acknowledged);
        }
        self.record_ends.take_if(|ends| ends.is_empty());
        if self.urgent_at <= acknowledged {
            self.urgent_at = 0;
        }
    }
}
