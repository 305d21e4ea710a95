//! The model of the path: bandwidth, round trip, aggregation, and what losses bound.

use bulkhead_wit::limits::SECOND;
use bulkhead_wit::types::Time;

use super::super::super::limits::CWND;
use super::super::Window;
use super::Heard;

/// BBR.LossThresh, in percent of what a round sent.
const LOSS_THRESHOLD: u64 = 2;
/// BBR.Beta: what is left of a bound after losses, in percent.
const BETA: u64 = 70;
/// BBR.Headroom: what is left free for others below the bound, in percent.
const HEADROOM: u64 = 15;
/// How long a smallest round trip is believed (BBR.MinRTTFilterLen).
const MIN_RTT_WINDOW: Time = 10 * SECOND;
/// Rounds of one half of the filter of aggregation (BBR.ExtraAckedFilterLen).
const EXTRA_ROUNDS: u64 = 5;
/// The largest rate that is believed, bytes per second: products with gains and round trips stay within 64 bits.
const RATE_MAX: u64 = 1 << 40;

/// No bound.
pub(super) const UNBOUNDED: u64 = u64::MAX;

/// The estimates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Model {
    /// The highest rate of this cycle and of the one before.
    max: [u64; 2],
    /// Bounds that losses brought about: short term on rate and flight, long term on the flight.
    bandwidth_low: u64,
    inflight_low: u64,
    pub(super) inflight_high: u64,
    /// The smallest round trip, 0 before the first, and when it was seen.
    pub(super) min_rtt: Time,
    pub(super) min_rtt_at: Time,
    /// The round ends when what was sent in it is delivered.
    round_end: u64,
    rounds: u64,
    /// Of this round: delivered before it, lost in it, the best sample.
    round_from: u64,
    pub(super) lost: u64,
    latest: u64,
    limited: bool,
    /// Aggregation: since when, how much was delivered, the most beyond what was expected of two windows of rounds.
    epoch_at: Time,
    epoch: u64,
    extra: [u64; 2],
}

impl Default for Model {
    fn default() -> Self {
        Self {
            max: [0; 2],
            bandwidth_low: UNBOUNDED,
            inflight_low: UNBOUNDED,
            inflight_high: UNBOUNDED,
            min_rtt: 0,
            min_rtt_at: 0,
            round_end: 0,
            rounds: 0,
            round_from: 0,
            lost: 0,
            latest: 0,
            limited: false,
            epoch_at: 0,
            epoch: 0,
            extra: [0; 2],
        }
    }
}

impl Model {
    /// Takes in an acknowledgement; whether a round trip is over with it.
    pub(super) fn hear(&mut self, heard: &Heard, window: &Window) -> bool {
        self.lost = self.lost.saturating_add(heard.lost);
        if let Some(rtt) = heard.rtt
            && (self.min_rtt == 0
                || rtt <= self.min_rtt
                || heard.now.saturating_sub(self.min_rtt_at) > MIN_RTT_WINDOW)
        {
            (self.min_rtt, self.min_rtt_at) = (rtt.max(1), heard.now);
        }
        let mut is_round = false;
        if let Some(sample) = heard.rate {
            let rate = sample.bytes_per_second.min(RATE_MAX);
            self.latest = self.latest.max(rate);
            self.limited |= sample.app_limited;
            if !sample.app_limited || rate >= self.max_bandwidth() {
                self.max[0] = self.max[0].max(rate);
            }
            is_round = sample.prior_delivered >= self.round_end;
        }
        self.aggregate(heard, window);
        is_round
    }

    /// BBRUpdateACKAggregation.
    fn aggregate(&mut self, heard: &Heard, window: &Window) {
        let expected = self.bytes_in(self.bandwidth(), heard.now.saturating_sub(self.epoch_at));
        if self.epoch <= expected {
            (self.epoch, self.epoch_at) = (0, heard.now);
        }
        let expected = self.bytes_in(self.bandwidth(), heard.now.saturating_sub(self.epoch_at));
        self.epoch = self.epoch.saturating_add(heard.delivered);
        let extra = self.epoch.saturating_sub(expected).min(window.cwnd);
        self.extra[0] = self.extra[0].max(extra);
    }

    /// The next round begins.
    pub(super) fn begin_round(&mut self, total: u64) {
        self.rounds += 1;
        (self.round_end, self.round_from) = (total, total);
        (self.lost, self.latest, self.limited) = (0, 0, false);
        if self.rounds.is_multiple_of(EXTRA_ROUNDS) {
            self.extra = [0, self.extra[0]];
        }
    }

    pub(super) fn lose(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_add(bytes);
    }

    /// Whether more of this round is lost than a path that is not overfull loses.
    pub(super) fn is_losing(&self, total: u64) -> bool {
        let sent = total.saturating_sub(self.round_from).saturating_add(self.lost);
        self.lost > 0 && self.lost.saturating_mul(100) > sent.saturating_mul(LOSS_THRESHOLD)
    }

    /// Whether the application had nothing more to send in this round.
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// BBR.max_bw.
    pub(super) fn max_bandwidth(&self) -> u64 {
        self.max[0].max(self.max[1])
    }

    /// BBR.bw.
    pub(super) fn bandwidth(&self) -> u64 {
        self.max_bandwidth().min(self.bandwidth_low)
    }

    /// A cycle is over: what is older than the last one counts no more. A cycle without a sample is none.
    pub(super) fn forget_oldest(&mut self) {
        if self.max[0] > 0 {
            self.max = [0, self.max[0]];
        }
    }

    /// BBRAdaptLowerBounds: losses while not probing.
    pub(super) fn lower(&mut self, window: &Window, total: u64) {
        if self.lost == 0 {
            return;
        }
        if self.bandwidth_low == UNBOUNDED {
            self.bandwidth_low = self.max_bandwidth();
        }
        if self.inflight_low == UNBOUNDED {
            self.inflight_low = window.cwnd;
        }
        let arrived = total.saturating_sub(self.round_from);
        self.bandwidth_low = (self.bandwidth_low / 100 * BETA).max(self.latest).max(1);
        self.inflight_low = (self.inflight_low.min(CWND) * BETA / 100).max(arrived);
    }

    /// A probe begins: the short-term bounds are void.
    pub(super) fn unbound(&mut self) {
        (self.bandwidth_low, self.inflight_low) = (UNBOUNDED, UNBOUNDED);
    }

    /// BBRHandleInflightTooHigh: what was in flight is more than the path takes.
    pub(super) fn too_high(&mut self, in_flight: u64, mss: u64) {
        if !self.limited {
            self.inflight_high = in_flight.max(self.inflight(100, mss) * BETA / 100);
        }
    }

    /// BBRInflightWithHeadroom.
    pub(super) fn with_headroom(&self, mss: u64) -> u64 {
        if self.inflight_high == UNBOUNDED {
            return UNBOUNDED;
        }
        let headroom = (self.inflight_high * HEADROOM / 100).max(mss);
        self.inflight_high.saturating_sub(headroom).max(super::PIPE_MIN * mss)
    }

    pub(super) fn inflight_low(&self) -> u64 {
        self.inflight_low
    }

    /// What fits the path, times a gain in percent; unbounded before there is an estimate.
    pub(super) fn inflight(&self, gain: u64, mss: u64) -> u64 {
        if self.min_rtt == 0 || self.bandwidth() == 0 {
            return CWND;
        }
        let fits = self.bytes_in(self.bandwidth(), self.min_rtt);
        // Two segments more, for acknowledgements that come for two (BBRQuantizationBudget).
        (fits.saturating_mul(gain) / 100 + 2 * mss).min(CWND)
    }

    /// Bytes in so much time.
    #[expect(clippy::unused_self, reason = "an estimate like the others")]
    fn bytes_in(&self, rate: u64, time: Time) -> u64 {
        let time = time.min(300 * SECOND);
        u64::try_from(u128::from(rate) * u128::from(time) / u128::from(SECOND)).unwrap_or(CWND).min(4 * CWND)
    }

    pub(super) fn extra_acked(&self) -> u64 {
        self.extra[0].max(self.extra[1])
    }
}

impl Model {
    /// Whether it can be one of ours.
    fn is_sound(&self) -> bool {
        self.max.iter().all(|rate| *rate <= RATE_MAX) && self.rounds < u64::MAX / 2
    }
}

crate::save::codec::fixed! {
    Model {
        max, bandwidth_low, inflight_low, inflight_high, min_rtt, min_rtt_at, round_end, rounds, round_from, lost, latest,
        epoch_at, epoch, extra, limited,
    } (Model::is_sound)
}
