//! Proportional rate reduction (RFC 9937, which follows RFC 6937): during a reduction the window falls evenly to the
//! threshold, and what was lost in between is sent back in step with what arrives.

use super::limits::CWND;

/// The variables of RFC 9937 section 6.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Prr {
    /// `RecoverFS`: the flight when the reduction began; 0 outside of one.
    flight: u32,
    delivered: u32,
    sent: u32,
}

/// An acknowledgement during a reduction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// `DeliveredData`.
    pub(super) delivered: u64,
    /// `SafeACK`: SND.UNA advanced and nothing more was lost.
    pub(super) safe: bool,
    /// RFC 6675's `pipe`, after it.
    pub(super) pipe: u64,
    pub(super) ssthresh: u64,
    pub(super) mss: u64,
}

impl Prr {
    /// A reduction begins with `flight` outstanding.
    pub(super) fn begin(flight: u64) -> Self {
        Self { flight: narrow(flight.max(1)), delivered: 0, sent: 0 }
    }

    /// Data was sent during the reduction.
    pub(super) fn on_sent(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(narrow(bytes));
    }

    /// The congestion window after an acknowledgement.
    pub(super) fn on_ack(&mut self, ack: &Delivery) -> u64 {
        self.delivered = self.delivered.saturating_add(narrow(ack.delivered));
        let [flight, delivered, sent] = [self.flight, self.delivered, self.sent].map(u64::from);
        let mut quota = if ack.pipe > ack.ssthresh {
            // Proportional part: CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out.
            let share = delivered * ack.ssthresh.min(CWND);
            share.div_ceil(flight.max(1)).saturating_sub(sent)
        } else {
            // Conservative reduction bound, and with a safe acknowledgement slow start's.
            let bound = delivered.saturating_sub(sent).max(ack.delivered);
            let bound = if ack.safe { bound + ack.mss } else { bound };
            bound.min(ack.ssthresh - ack.pipe)
        };
        if sent == 0 && quota < ack.mss {
            quota = ack.mss; // the first retransmission leaves at once
        }
        ack.pipe.saturating_add(quota).max(ack.mss)
    }
}

/// 4 GB are more than any recovery delivers; beyond them it goes on as if they were all.
fn narrow(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

crate::save::codec::fixed! {
    Prr { flight, delivered, sent }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1000;

    /// RFC 6937 section 4's first example: 20 segments in flight, the first lost, the window halved.
    #[test]
    fn rfc9937_every_second_acknowledgement_lets_a_segment_out() {
        let mut prr = Prr::begin(20 * MSS);
        let (mut pipe, mut sent) = (19 * MSS, 0);
        for _ in 0..19 {
            pipe -= MSS;
            let ack = Delivery { delivered: MSS, safe: false, pipe, ssthresh: 10 * MSS, mss: MSS };
            let cwnd = prr.on_ack(&ack);
            while pipe + MSS <= cwnd {
                pipe += MSS;
                sent += MSS;
                prr.on_sent(MSS);
            }
        }
        assert_eq!(sent, 10 * MSS);
        assert_eq!(pipe, 10 * MSS);
    }

    /// Heavy loss: below the threshold, as much is sent as arrives, and one more for a safe acknowledgement.
    #[test]
    fn rfc9937_bounds_below_the_threshold() {
        let ack = Delivery { delivered: MSS, safe: false, pipe: 2 * MSS, ssthresh: 10 * MSS, mss: MSS };
        let mut prr = Prr { flight: 20_000, delivered: 5000, sent: 5000 };
        assert_eq!(prr.on_ack(&ack), 3 * MSS);
        prr.on_sent(MSS);
        assert_eq!(prr.on_ack(&Delivery { safe: true, ..ack }), 4 * MSS);
        let near = Delivery { pipe: 9 * MSS + 500, safe: true, ..ack };
        assert_eq!(prr.on_ack(&near), 10 * MSS); // never beyond the threshold
    }

    #[test]
    fn rfc9937_the_first_retransmission_is_forced() {
        let mut prr = Prr::begin(20 * MSS);
        let ack = Delivery { delivered: 0, safe: false, pipe: 15 * MSS, ssthresh: 10 * MSS, mss: MSS };
        assert_eq!(prr.on_ack(&ack), 16 * MSS);
    }
}
