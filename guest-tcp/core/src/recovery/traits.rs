//! The parameters of a connection, in little room.

use bulkhead_wit::limits::MICROSECOND;
use bulkhead_wit::types::Time;

use super::api::{Algorithm, Parameters};
use super::limits::RTO_MAX;

/// [`Parameters`] without the MSS, which is the window's; durations in microseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Traits {
    pub(super) max_pacing_rate: u64,
    pub(super) rto_min_us: u32,
    pub(super) tick_us: u32,
    pub(super) initial_window: u16,
    pub(super) algorithm: Algorithm,
    pub(super) sack: bool,
    pub(super) timestamps: bool,
    pub(super) pacing: bool,
    pub(super) linux: bool,
    pub(super) super_segment_min: u8,
}

impl Traits {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let micros = |time: Time| u32::try_from(time / MICROSECOND).unwrap_or(u32::MAX);
        Self {
            max_pacing_rate: parameters.max_pacing_rate,
            rto_min_us: micros(parameters.rto_min.min(RTO_MAX)),
            tick_us: micros(parameters.timestamp_tick).max(1),
            initial_window: parameters.initial_window.clamp(1, 1024) as u16,
            algorithm: parameters.algorithm,
            sack: parameters.sack,
            timestamps: parameters.timestamps,
            pacing: parameters.pacing,
            linux: parameters.linux,
            super_segment_min: parameters.super_segment_min,
        }
    }

    pub(super) fn rto_min(&self) -> Time {
        Time::from(self.rto_min_us) * MICROSECOND
    }
    pub(super) fn tick(&self) -> Time {
        Time::from(self.tick_us) * MICROSECOND
    }
}

impl Traits {
    /// Whether they can be ours.
    fn is_sound(&self) -> bool {
        self.rto_min_us <= (RTO_MAX / MICROSECOND) as u32 && self.tick_us > 0
    }
}

crate::save::codec::numbered! {
    Algorithm { 0 = Cubic, 1 = Reno, 2 = Bbr }
}

crate::save::codec::fixed! {
    Traits {
        max_pacing_rate, rto_min_us, tick_us, initial_window, algorithm, sack, timestamps, pacing, linux, super_segment_min,
    } (Traits::is_sound)
}
