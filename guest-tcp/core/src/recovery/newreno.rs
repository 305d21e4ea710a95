//! Without SACK: duplicate acknowledgements are counted as segments that arrived (RFC 5681 3.2, RFC 6582).

use super::limits::DUP_THRESH;

/// What duplicate acknowledgements tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct NewReno {
    duplicates: u16,
    /// Bytes that duplicates stand for, a segment each: no longer in the network. That an unchanged window then
    /// lets a new segment out for each is limited transmit (RFC 3042).
    arrived: u32,
    /// RFC 6582 `recover`: duplicates for data up to here may be of needless retransmissions.
    recover: u64,
    /// A partial acknowledgement came in this recovery.
    partial: bool,
}

impl NewReno {
    /// Bytes that left the network, as duplicates tell.
    pub(super) fn arrived(&self) -> u64 {
        u64::from(self.arrived)
    }
    pub(super) fn duplicates(&self) -> u16 {
        self.duplicates
    }

    /// A duplicate acknowledgement with `outstanding` bytes unacknowledged; what it stands for.
    pub(super) fn on_duplicate(&mut self, mss: u64, outstanding: u64) -> u64 {
        self.duplicates = self.duplicates.saturating_add(1);
        // The first segment is what is missing, so at least that did not arrive.
        let most = outstanding.saturating_sub(mss).saturating_sub(self.arrived());
        let credit = mss.min(most).min(u64::from(u32::MAX - self.arrived));
        self.arrived += credit as u32;
        credit
    }

    /// SND.UNA advanced by `bytes`; how many of them are news. All but the first segment had been counted.
    pub(super) fn on_advance(&mut self, bytes: u64, mss: u64) -> u64 {
        let counted = self.arrived().min(bytes.saturating_sub(mss));
        self.arrived -= counted as u32;
        bytes - counted
    }

    /// RFC 6582 3.2 step 2: whether the duplicates are of a new loss.
    pub(super) fn is_loss(&self, una: u64) -> bool {
        u64::from(self.duplicates) >= DUP_THRESH && (una > self.recover || self.recover == 0)
    }

    /// A partial acknowledgement. RFC 6582 3.2 step 3: only the first restarts the retransmission timer, so that a
    /// long row of losses, found one a round trip, gives way to slow start.
    pub(super) fn on_partial(&mut self) -> bool {
        !core::mem::replace(&mut self.partial, true)
    }

    /// The duplicates so far are dealt with.
    pub(super) fn reset_count(&mut self) {
        self.duplicates = 0;
    }

    /// Recovery ended, or a timeout began (RFC 6582 section 4): forget, and trust no duplicates up to `recover`.
    pub(super) fn reset(&mut self, recover: u64) {
        *self = Self { duplicates: 0, arrived: 0, recover, partial: false };
    }
}

crate::save::codec::fixed! {
    NewReno { duplicates, arrived, recover, partial }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5681_3_2_the_third_duplicate_is_a_loss() {
        let mut newreno = NewReno::default();
        for expected in [false, false, true] {
            assert_eq!(newreno.on_duplicate(1000, 10_000), 1000);
            assert_eq!(newreno.is_loss(5000), expected);
        }
        assert_eq!(newreno.arrived(), 3000);
        // The hole is filled: the acknowledgement covers it and what had been counted.
        assert_eq!(newreno.on_advance(4000, 1000), 1000);
        assert_eq!(newreno.arrived(), 0);
    }

    #[test]
    fn rfc6582_3_2_duplicates_of_an_old_recovery_mean_nothing() {
        let mut newreno = NewReno::default();
        newreno.reset(8000);
        for _ in 0..5 {
            newreno.on_duplicate(1000, 10_000);
        }
        assert!(!newreno.is_loss(8000));
        assert!(newreno.is_loss(9000));
    }

    #[test]
    fn duplicates_never_stand_for_more_than_is_out() {
        let mut newreno = NewReno::default();
        for _ in 0..100 {
            newreno.on_duplicate(1000, 3500);
        }
        assert_eq!(newreno.arrived(), 2500);
    }
}
