//! CUBIC (RFC 9438), in integers: bytes, and time in 1/1024 s.

use alloc::boxed::Box;

use bulkhead_wit::limits::SECOND;
use bulkhead_wit::types::Time;

use super::super::limits::CWND;
use super::super::maybe::Maybe;
use super::hystart::{Advice, HyStart};
use super::hystart_linux::HyStartLinux;
use super::{Growth, Window};
use crate::save::codec::{Writer, put, take};

/// The curve is followed this far from its origin, in 1/1024 s (128 s); beyond it the window is at its bound.
const SPAN_MAX: u64 = 1 << 17;

/// The state of the curve. Sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct Cubic {
    /// `W_max`: the window before the last reduction, after fast convergence (4.7).
    w_max: u32,
    /// `cwnd_prior`: the same before fast convergence.
    prior: u32,
    /// `W_est`: what Reno would have (4.3).
    w_est: u32,
    /// When the current epoch of congestion avoidance began.
    epoch: Maybe,
    /// K, in 1/1024 s.
    k: u32,
    /// What integer division left over of the growth of the window and of `w_est`.
    carry: u32,
    carry_est: u64,
    /// None once the first slow start is over.
    hystart: Slow,
}

/// The first slow start, watched, or any later one (RFC 9406 4.3: only the first).
#[derive(Clone, PartialEq, Eq, Debug)]
enum Slow {
    First(HyStart),
    Later,
    /// As Linux does it: any slow start that follows a timeout too.
    Linux(Box<HyStartLinux>),
}

impl Default for Slow {
    fn default() -> Self {
        Self::First(HyStart::default())
    }
}

impl Cubic {
    /// The beginning, with Linux's `HyStart` or RFC 9406's.
    pub(super) fn new(linux: bool) -> Self {
        let hystart = if linux { Slow::Linux(Box::default()) } else { Slow::default() };
        Self { hystart, ..Self::default() }
    }

    pub(super) fn grow(&mut self, window: &mut Window, growth: &Growth) {
        let mut delivered = growth.delivered;
        if window.in_slow_start() {
            let share = self.watch_slow_start(window, growth);
            if !growth.limited {
                return;
            }
            if window.in_slow_start() {
                delivered = window.slow_start(delivered / share);
            }
            if window.in_slow_start() || delivered == 0 {
                return;
            }
        }
        if growth.limited {
            self.avoid(window, growth, delivered);
        }
    }

    /// Whether slow start has gone on long enough; what the growth is to be divided by.
    fn watch_slow_start(&mut self, window: &mut Window, growth: &Growth) -> u64 {
        match &mut self.hystart {
            Slow::Later => {}
            Slow::First(hystart) => match hystart.on_ack(growth.rtt, growth.una, growth.end) {
                Advice::Divide(divisor) => return divisor,
                Advice::Leave => {
                    window.ssthresh = window.cwnd;
                    self.hystart = Slow::Later;
                }
            },
            Slow::Linux(hystart) => {
                if hystart.on_ack(window, growth) {
                    window.ssthresh = window.cwnd;
                }
            }
        }
        1
    }

    /// Congestion avoidance: 4.2 to 4.5.
    fn avoid(&mut self, window: &mut Window, growth: &Growth, delivered: u64) {
        let (mss, cwnd) = (window.mss, window.cwnd.max(1));
        let since = match self.epoch.get() {
            Some(epoch) => growth.now.saturating_sub(epoch),
            None => {
                self.begin(growth.now, cwnd, mss);
                0
            }
        };
        // 4.3: alpha is 3 (1 - beta) / (1 + beta) = 9/17 until W_est is where the reduction began, then 1.
        let (over, under) = if self.w_est >= self.prior { (1, 1) } else { (9, 17) };
        let step = delivered * mss * over + self.carry_est;
        let w_est = (u64::from(self.w_est) + step / (under * cwnd)).min(CWND);
        self.w_est = w_est as u32;
        self.carry_est = step % (under * cwnd);

        let reno_friendly = self.curve(since, mss) < w_est;
        let target = if reno_friendly {
            w_est
        } else {
            // 4.4 and 4.5: what the curve says a round trip from now, at most half as much again.
            self.curve(since.saturating_add(growth.srtt), mss).min(cwnd + cwnd / 2)
        };
        if target <= cwnd {
            return;
        }
        if reno_friendly {
            window.add(target - cwnd); // 4.3: cwnd SHOULD be set to W_est
            return;
        }
        let growth = (target - cwnd) * delivered + u64::from(self.carry);
        window.add(growth / cwnd);
        self.carry = (growth % cwnd) as u32;
    }

    /// An epoch begins at `cwnd` (4.2, figure 2).
    fn begin(&mut self, now: Time, cwnd: u64, mss: u64) {
        self.epoch = Maybe::some(now);
        self.w_est = cwnd as u32;
        (self.carry, self.carry_est) = (0, 0);
        let w_max = u64::from(self.w_max);
        if w_max > cwnd {
            // K = cbrt((W_max - cwnd) / C), C = 0.4: in 1/1024 s, the cube is 2^30 as large.
            self.k = cube_root((w_max - cwnd).min(CWND) * 5 / 2 * (1 << 30) / mss) as u32;
        } else {
            (self.k, self.w_max) = (0, cwnd as u32);
        }
    }

    /// `W_cubic(t)` of 4.2 figure 1: C (t - K)^3 + `W_max`.
    fn curve(&self, since: Time, mss: u64) -> u64 {
        let t = (since.min(1000 * SECOND) << 10) / SECOND;
        let (k, w_max) = (u64::from(self.k), u64::from(self.w_max));
        let distance = t.abs_diff(k).min(SPAN_MAX);
        let bytes = (distance.pow(3) >> 10) * (2 * mss) / (5 << 20);
        if t < k { w_max.saturating_sub(bytes) } else { w_max.saturating_add(bytes).min(CWND) }
    }

    /// 4.6 multiplicative decrease by beta = 0.7, and 4.7 fast convergence: the new threshold.
    pub(super) fn reduce(&mut self, window: &Window) -> u64 {
        let cwnd = window.cwnd;
        let converging = cwnd < u64::from(self.w_max);
        self.w_max = if converging { cwnd * 85 / 100 } else { cwnd } as u32;
        self.prior = cwnd as u32;
        self.epoch = Maybe::NONE;
        if let Slow::First(_) = self.hystart {
            self.hystart = Slow::Later;
        }
        (cwnd * 7 / 10).max(2 * window.mss)
    }

    /// 4.8: after a timeout the curve begins anew at the window of the next congestion avoidance, with K = 0.
    pub(super) fn timed_out(&mut self) {
        self.w_max = 0;
        if let Slow::Linux(hystart) = &mut self.hystart {
            **hystart = HyStartLinux::default();
        }
    }

    /// 5.8: time without sending does not count.
    pub(super) fn restart(&mut self, idle: Time) {
        self.epoch = self.epoch.get().map(|epoch| epoch.saturating_add(idle)).into();
    }

    pub(super) fn save(&self, out: &mut Writer) {
        let Self { w_max, prior, w_est, epoch, k, carry, carry_est, hystart } = self;
        put(&([*w_max, *prior, *w_est, *k, *carry], (*carry_est, *epoch)), out);
        match hystart {
            Slow::First(hystart) => {
                put(&0_u8, out);
                put(hystart, out);
            }
            Slow::Later => put(&1_u8, out),
            Slow::Linux(hystart) => {
                put(&2_u8, out);
                put(&**hystart, out);
            }
        }
    }
    pub(super) fn load(from: &mut &[u8]) -> Option<Self> {
        let (sizes, (carry_est, epoch)) = take::<([u32; 5], (u64, Maybe))>(from)?;
        let is_sound = sizes.iter().all(|&size| u64::from(size) <= CWND) && carry_est <= CWND << 5;
        let [w_max, prior, w_est, k, carry] = sizes;
        let hystart = match take::<u8>(from)? {
            0 => Slow::First(take(from)?),
            1 => Slow::Later,
            2 => Slow::Linux(Box::new(take(from)?)),
            _ => return None,
        };
        is_sound.then_some(Self { w_max, prior, w_est, epoch, k, carry, carry_est, hystart })
    }
}

/// The integer cube root, bit by bit (Hacker's Delight 11-2).
fn cube_root(mut of: u64) -> u64 {
    let mut root = 0_u64;
    for shift in (0..=63).rev().step_by(3) {
        root *= 2;
        let step = 3 * root * (root + 1) + 1;
        if of >> shift >= step {
            of -= step << shift;
            root += 1;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::limits::MILLISECOND;

    const MSS: u64 = 1000;

    fn growth(now: Time) -> Growth {
        Growth { now, delivered: MSS, una: 0, end: 0, srtt: 100 * MILLISECOND, rtt: None, limited: true }
    }

    #[test]
    fn cube_roots() {
        for root in [0, 1, 2, 10, 1000, 2_642_245] {
            assert_eq!(cube_root(root * root * root), root);
            assert_eq!(cube_root(root * root * root + 1), root.max(u64::from(root == 0)));
        }
        assert_eq!(cube_root(u64::MAX), 2_642_245);
    }

    #[test]
    fn rfc9438_4_6_and_4_7_reduction_and_fast_convergence() {
        let mut cubic = Cubic::default();
        let window = Window { cwnd: 100 * MSS, ssthresh: u64::MAX, mss: MSS };
        assert_eq!(cubic.reduce(&window), 70 * MSS);
        assert_eq!(u64::from(cubic.w_max), 100 * MSS);
        cubic.reduce(&Window { cwnd: 80 * MSS, ..window });
        assert_eq!(u64::from(cubic.w_max), 68 * MSS);
        assert_eq!(cubic.reduce(&Window { cwnd: MSS, ..window }), 2 * MSS);
    }

    /// 4.2: back at `W_max` after K seconds; K = cbrt(W_max (1 - beta) / C), here cbrt(1000 * 0.3 / 0.4) = 9.086 s.
    #[test]
    fn rfc9438_4_2_reaches_the_old_window_after_k() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 1000 * MSS, ssthresh: u64::MAX, mss: MSS };
        window.ssthresh = cubic.reduce(&window);
        window.cwnd = window.ssthresh;
        let mut now = SECOND;
        cubic.avoid(&mut window, &growth(now), MSS);
        assert!(cubic.k.abs_diff(9_304) <= 1, "K = {}", cubic.k); // 9.086 s * 1024
        let mut reached = None;
        while now < 12 * SECOND {
            now += 100 * MILLISECOND;
            for _ in 0..window.cwnd / MSS {
                cubic.avoid(&mut window, &growth(now), MSS);
            }
            if reached.is_none() && window.cwnd >= 999 * MSS {
                reached = Some(now);
            }
        }
        let reached = reached.expect("grows back");
        assert!((8 * SECOND..11 * SECOND).contains(&reached), "{reached}");
        assert!(window.cwnd < 1100 * MSS, "{}", window.cwnd); // the plateau is flat
    }

    /// 4.3: on a short path with a small window, no slower than Reno with alpha = 9/17.
    #[test]
    fn rfc9438_4_3_the_friendly_region_grows_like_reno() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 20 * MSS, ssthresh: u64::MAX, mss: MSS };
        window.ssthresh = cubic.reduce(&window);
        window.cwnd = window.ssthresh;
        let start = window.cwnd;
        let mut now = SECOND;
        for _ in 0..10 {
            now += MILLISECOND;
            for _ in 0..window.cwnd / MSS {
                cubic.avoid(&mut window, &Growth { srtt: MILLISECOND, ..growth(now) }, MSS);
            }
        }
        let grown = window.cwnd - start;
        assert!((9 * MSS / 2..=6 * MSS).contains(&grown), "{grown}");
    }

    #[test]
    fn rfc9438_4_8_after_a_timeout_the_curve_begins_anew() {
        let mut cubic = Cubic::default();
        let window = Window { cwnd: 100 * MSS, ssthresh: u64::MAX, mss: MSS };
        cubic.reduce(&window);
        cubic.timed_out();
        cubic.avoid(&mut Window { cwnd: 70 * MSS, ssthresh: 70 * MSS, mss: MSS }, &growth(SECOND), MSS);
        assert_eq!((cubic.k, u64::from(cubic.w_max)), (0, 70 * MSS));
    }

    #[test]
    fn rfc9438_5_8_idle_time_does_not_count() {
        let mut cubic = Cubic { epoch: Maybe::some(SECOND), ..Cubic::default() };
        cubic.restart(5 * SECOND);
        assert_eq!(cubic.epoch.get(), Some(6 * SECOND));
    }
}
