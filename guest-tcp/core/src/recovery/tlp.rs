//! Tail loss probes (RFC 8985 section 7): after two round trips of silence, something is sent that makes the receiver
//! say what it has, long before the retransmission timeout.

use bulkhead_wit::limits::SECOND;
use bulkhead_wit::types::Time;

use super::api::Span;
use super::limits::{ACK_DELAY_MAX, PROBE_SLACK};
use super::maybe::Maybe;

/// The state of the probe.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tlp {
    /// When the probe is due (PTO).
    pub(super) deadline: Maybe,
    /// It is due, and was not sent yet.
    pub(super) pending: bool,
    /// `TLP.end_seq`: SND.NXT when the probe was sent, while its outcome is open.
    probed: Maybe,
    /// `TLP.is_retrans`.
    resent: bool,
}

/// What an acknowledgement says about a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    pub(super) to: u64,
    pub(super) dsack: Option<Span>,
    /// It acknowledges nothing new, carries no data and no SACK blocks, and announces the same window.
    pub(super) plain_duplicate: bool,
}

impl Tlp {
    /// 7.2: the timeout from now. A lone segment may have its acknowledgement delayed.
    pub(super) fn timeout(srtt: Option<Time>, lone: bool) -> Time {
        match srtt {
            Some(srtt) => 2 * srtt + if lone { ACK_DELAY_MAX } else { PROBE_SLACK },
            None => SECOND,
        }
    }

    /// Whether a probe's outcome is open: until then no other is scheduled (7.2).
    pub(super) fn is_open(&self) -> bool {
        self.probed.is_some()
    }

    /// 7.3: the probe was sent, SND.NXT is now `end`.
    pub(super) fn sent(&mut self, end: u64, resent: bool) {
        *self = Self { deadline: Maybe::NONE, pending: false, probed: Maybe::some(end), resent };
    }

    /// 7.4.2: true if the probe repaired a loss, which calls for a congestion response.
    pub(super) fn on_ack(&mut self, evidence: &Evidence) -> bool {
        let Some(end) = self.probed.get().filter(|&end| evidence.to >= end) else { return false };
        if !self.resent || evidence.dsack.is_some_and(|span| span.end == end) {
            self.probed = Maybe::NONE; // the probe was new data, or both copies arrived
            return false;
        }
        if evidence.to > end {
            self.probed = Maybe::NONE;
            return true;
        }
        if evidence.plain_duplicate {
            self.probed = Maybe::NONE; // both copies were acknowledged by a peer without D-SACK
        }
        false
    }

    /// Recovery or a timeout takes over.
    pub(super) fn cancel(&mut self) {
        *self = Self::default();
    }
}

crate::save::codec::fixed! {
    Tlp { deadline, pending, probed, resent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::limits::MILLISECOND;

    fn evidence(to: u64) -> Evidence {
        Evidence { to, dsack: None, plain_duplicate: false }
    }

    #[test]
    fn rfc8985_7_2_two_round_trips_and_the_delay_of_a_lone_segment() {
        assert_eq!(Tlp::timeout(Some(10 * MILLISECOND), false), 22 * MILLISECOND);
        assert_eq!(Tlp::timeout(Some(10 * MILLISECOND), true), 220 * MILLISECOND);
        assert_eq!(Tlp::timeout(None, true), SECOND);
    }

    #[test]
    fn rfc8985_7_4_2_what_an_acknowledgement_says() {
        let after = |resent, evidence: &Evidence| {
            let mut tlp = Tlp::default();
            tlp.sent(5000, resent);
            (tlp.on_ack(evidence), tlp.is_open())
        };
        assert_eq!(after(false, &evidence(5000)), (false, false));
        assert_eq!(after(true, &evidence(4000)), (false, true));
        assert_eq!(after(true, &evidence(5000)), (false, true));
        assert_eq!(after(true, &evidence(6000)), (true, false));
        let both = Evidence { dsack: Some(Span::new(4000, 5000)), ..evidence(5000) };
        assert_eq!(after(true, &both), (false, false));
        let duplicate = Evidence { plain_duplicate: true, ..evidence(5000) };
        assert_eq!(after(true, &duplicate), (false, false));
    }
}
