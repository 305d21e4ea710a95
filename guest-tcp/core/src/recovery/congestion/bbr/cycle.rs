//! The states, and what each asks for.

use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::types::Time;

use super::super::super::limits::CWND;
use super::super::Window;
use super::Heard;
use super::model::{Model, UNBOUNDED};

/// Rounds without growth by [`FULL_GROWTH`] after which the pipe counts as full (BBR.MaxFullBwCount).
const FULL_ROUNDS: u64 = 3;
/// In percent of the rate before.
const FULL_GROWTH: u64 = 125;
/// How often the round trip is probed, and for how long.
const PROBE_RTT_EVERY: Time = 5 * SECOND;
const PROBE_RTT: Time = 200 * MILLISECOND;
/// The shortest wait between probes of bandwidth, and how much longer it may be.
const WAIT: Time = 2 * SECOND;
const WAIT_SPREAD: Time = SECOND;
/// Rounds after which Reno would have found what a probe finds, at most: so long is waited for it at most.
const RENO_ROUNDS: u64 = 63;
/// Growth of the bound doubles each round of a probe, up to this shift.
const UP_SHIFT_MAX: u64 = 30;

/// Where BBR is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum State {
    #[default]
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

/// The state machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Cycle {
    state: State,
    /// The pipe was full once; the best rate so far and rounds without more.
    full: bool,
    full_rate: u64,
    full_rounds: u64,
    /// When the state, and when the cycle of probes began; how long the latter waits.
    since: Time,
    cycle_at: Time,
    wait: Time,
    round_at: u64,
    up_rounds: u64,
    up_acked: u64,
    /// The last probe of the round trip, and when the present one is over.
    rtt_at: Time,
    rtt_until: Time,
    rtt_min: Time,
}

impl Cycle {
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// BBR.full_bw_reached.
    pub(super) fn was_full(&self) -> bool {
        self.full
    }

    pub(super) fn is_probing_bandwidth(&self) -> bool {
        matches!(self.state, State::Down | State::Cruise | State::Refill | State::Up)
    }

    /// In percent.
    pub(super) fn pacing_gain(&self) -> u64 {
        match self.state {
            State::Startup => 277,
            State::Drain => 50,
            State::Down => 90,
            State::Cruise | State::Refill | State::ProbeRtt => 100,
            State::Up => 125,
        }
    }

    /// In percent.
    pub(super) fn window_gain(&self) -> u64 {
        match self.state {
            State::Up => 225,
            State::ProbeRtt => 50,
            _ => 200,
        }
    }

    /// BBRBoundCwndForModel.
    pub(super) fn cap(&self, model: &Model, mss: u64) -> u64 {
        let long_term = match self.state {
            State::Startup | State::Drain => UNBOUNDED,
            State::Cruise | State::ProbeRtt => model.with_headroom(mss),
            State::Down | State::Refill | State::Up => model.inflight_high,
        };
        long_term.min(model.inflight_low())
    }

    /// BBRUpdateModelAndState, but for the estimates.
    pub(super) fn advance(&mut self, model: &mut Model, window: &Window, heard: &Heard, is_round: bool) {
        if is_round {
            self.end_round(model, window, heard);
        }
        match self.state {
            State::Startup if self.full => self.enter(State::Drain, heard.now),
            State::Drain if heard.in_flight <= model.inflight(100, window.mss) => self.down(model, heard),
            State::Down | State::Cruise | State::Refill | State::Up => {
                self.probe(model, window, heard, is_round);
            }
            _ => {}
        }
        self.probe_rtt(model, heard);
    }

    /// What is looked at once a round trip: whether the pipe is full, and what was lost.
    fn end_round(&mut self, model: &mut Model, window: &Window, heard: &Heard) {
        let losing = model.is_losing(heard.total);
        match self.state {
            State::Startup => {
                self.look_for_the_top(model);
                // BBRCheckStartupHighLoss, once recovery has lasted a round.
                if losing && heard.recovering {
                    self.full = true;
                    model.too_high(heard.in_flight.max(model.inflight(100, window.mss)), window.mss);
                }
            }
            State::Refill | State::Up if losing => {
                model.too_high(heard.in_flight + model.lost, window.mss);
                self.down(model, heard);
            }
            State::Refill | State::Up => {}
            State::Drain | State::Down | State::Cruise | State::ProbeRtt => model.lower(window, heard.total),
        }
    }

    /// BBRCheckFullBWReached.
    fn look_for_the_top(&mut self, model: &Model) {
        if model.is_limited() {
            return;
        }
        let rate = model.max_bandwidth();
        if rate >= self.full_rate * FULL_GROWTH / 100 {
            (self.full_rate, self.full_rounds) = (rate, 0);
            return;
        }
        self.full_rounds += 1;
        self.full |= self.full_rounds >= FULL_ROUNDS;
    }

    fn enter(&mut self, state: State, now: Time) {
        (self.state, self.since) = (state, now);
    }

    /// BBRStartProbeBW_DOWN: a cycle begins.
    fn down(&mut self, model: &mut Model, heard: &Heard) {
        model.forget_oldest();
        self.enter(State::Down, heard.now);
        self.cycle_at = heard.now;
        self.round_at = model.rounds();
        // BBRPickProbeWait: unlike others', and the same in every replay.
        let mixed = (heard.total ^ heard.now).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.wait = WAIT + mixed * WAIT_SPREAD / (1 << 32);
    }

    /// BBRUpdateProbeBWCyclePhase.
    fn probe(&mut self, model: &mut Model, window: &Window, heard: &Heard, is_round: bool) {
        let fits = model.inflight(100, window.mss);
        match self.state {
            State::Down | State::Cruise if self.is_time(model, window, heard) => {
                model.unbound();
                (self.up_rounds, self.up_acked) = (0, 0);
                self.round_at = model.rounds();
                self.enter(State::Refill, heard.now);
            }
            State::Down if heard.in_flight <= fits.min(model.with_headroom(window.mss)) => {
                self.enter(State::Cruise, heard.now);
            }
            State::Refill if is_round && model.rounds() > self.round_at => {
                (self.full_rate, self.full_rounds) = (model.max_bandwidth(), 0);
                self.enter(State::Up, heard.now);
            }
            State::Up => {
                self.grow(model, window, heard, is_round);
                let long_enough = heard.now.saturating_sub(self.since) >= model.min_rtt;
                let is_full = heard.in_flight >= model.inflight(125, window.mss);
                if long_enough && is_full {
                    self.down(model, heard);
                }
            }
            _ => {}
        }
    }

    /// BBRIsTimeToProbeBW: after a while, or when Reno would have.
    fn is_time(&self, model: &Model, window: &Window, heard: &Heard) -> bool {
        let rounds = (model.inflight(100, window.mss) / window.mss).min(RENO_ROUNDS);
        heard.now.saturating_sub(self.cycle_at) >= self.wait
            || model.rounds() - self.round_at.min(model.rounds()) >= rounds.max(1)
    }

    /// BBRProbeInflightHiUpward: the bound grows while it is what holds the flight back, twice as fast each round.
    fn grow(&mut self, model: &mut Model, window: &Window, heard: &Heard, is_round: bool) {
        let is_held = heard.in_flight + heard.delivered + window.mss >= window.cwnd;
        if model.inflight_high == UNBOUNDED || !is_held || window.cwnd < model.inflight_high {
            return;
        }
        if is_round {
            self.up_rounds = (self.up_rounds + 1).min(UP_SHIFT_MAX);
        }
        self.up_acked = self.up_acked.saturating_add(heard.delivered).min(CWND);
        let growth = window.mss << self.up_rounds;
        let more = u128::from(self.up_acked) * u128::from(growth) / u128::from(window.cwnd.max(1));
        let more = u64::try_from(more).unwrap_or(CWND);
        if more >= window.mss {
            self.up_acked = 0;
            model.inflight_high = model.inflight_high.saturating_add(more).min(CWND);
        }
    }

    /// BBRUpdateMinRTT and BBRCheckProbeRTT: every few seconds the queue is let drain, so that the true round trip shows.
    fn probe_rtt(&mut self, model: &mut Model, heard: &Heard) {
        if let Some(rtt) = heard.rtt
            && (self.rtt_min == 0 || rtt <= self.rtt_min)
        {
            (self.rtt_min, self.rtt_at) = (rtt, heard.now);
        }
        let is_stale = heard.now.saturating_sub(self.rtt_at) > PROBE_RTT_EVERY;
        if self.state != State::ProbeRtt {
            if is_stale && self.full {
                self.enter(State::ProbeRtt, heard.now);
                self.rtt_until = 0;
            }
            return;
        }
        let least = heard.in_flight <= model.inflight(50, 0).max(4 * 1500);
        if self.rtt_until == 0 && least {
            self.rtt_until = heard.now + PROBE_RTT.max(model.min_rtt);
            self.rtt_min = heard.rtt.unwrap_or(self.rtt_min);
        } else if self.rtt_until > 0 && heard.now >= self.rtt_until {
            model.min_rtt = self.rtt_min.max(1);
            (self.rtt_at, model.min_rtt_at) = (heard.now, heard.now);
            model.unbound();
            self.down(model, heard);
            self.enter(State::Cruise, heard.now);
        }
    }
}

impl Cycle {
    /// Whether it can be one of ours.
    fn is_sound(&self) -> bool {
        self.up_rounds <= UP_SHIFT_MAX && self.full_rate <= 1 << 40
    }
}

crate::save::codec::numbered! {
    State { 0 = Startup, 1 = Drain, 2 = Down, 3 = Cruise, 4 = Refill, 5 = Up, 6 = ProbeRtt }
}

crate::save::codec::fixed! {
    Cycle {
        state, full, full_rate, full_rounds, since, cycle_at, wait, round_at, up_rounds, up_acked, rtt_at, rtt_until, rtt_min,
    } (Cycle::is_sound)
}
