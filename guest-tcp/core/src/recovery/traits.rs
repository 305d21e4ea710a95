//! The parameters of a connection, in little room.

use alloc::vec::Vec;

use bulkhead_wit::limits::MICROSECOND;
use bulkhead_wit::types::Time;

use super::api::{Algorithm, Parameters};
use super::codec::{put, take, take_bool, take_u8, take_u32};
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

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        put(out, self.max_pacing_rate);
        put(out, u64::from(self.rto_min_us));
        put(out, u64::from(self.tick_us));
        put(out, u64::from(self.initial_window));
        put(out, self.algorithm as u64);
        let flags = [self.sack, self.timestamps, self.pacing, self.linux];
        flags.into_iter().for_each(|flag| put(out, u64::from(flag)));
        put(out, u64::from(self.super_segment_min));
    }
    pub(super) fn load(from: &mut &[u8]) -> Option<Self> {
        let most = (RTO_MAX / MICROSECOND) as u32;
        Some(Self {
            max_pacing_rate: take(from)?,
            rto_min_us: take_u32(from).filter(|&micros| micros <= most)?,
            tick_us: take_u32(from).filter(|&micros| micros > 0)?,
            initial_window: u16::try_from(take(from)?).ok()?,
            algorithm: match take(from)? {
                0 => Algorithm::Cubic,
                1 => Algorithm::Reno,
                2 => Algorithm::Bbr,
                _ => return None,
            },
            sack: take_bool(from)?,
            timestamps: take_bool(from)?,
            pacing: take_bool(from)?,
            linux: take_bool(from)?,
            super_segment_min: take_u8(from)?,
        })
    }
}
