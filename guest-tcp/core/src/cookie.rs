//! SYN cookies (RFC 4987 3.6): when there are too many half-open connections, the SYN-ACK's own numbers remember for us.
//!
//! The sequence number carries 5 bits of time, 3 bits of MSS and 24 bits of keyed hash; where the peer uses
//! timestamps, the lowest 6 bits of ours carry the window shift and whether SACK was permitted (as in Linux).

use crate::arrive::Arrived;
use crate::embryo::Embryo;
use crate::hash::tuple_words;
use crate::instance::{Instance, ticks};
use crate::seq::Seq;
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::{Endpoint, Time};

/// A cookie's clock ticks this often; one is good for the rest of its tick and the next one.
const TICK: Time = 64 * SECOND;
/// What three bits can say of an MSS: the largest of these that the peer's is not below.
const MSS: [u16; 8] = [216, 536, 966, 1220, 1300, 1440, 1460, 8960];
const OPTION_BITS: u32 = 0x3f;
const SACK: u32 = 0x10;
const NO_SCALE: u32 = 0x0f;

/// The keyed hash over both ends, the peer's number and the visible bits.
fn seal(instance: &Instance, local: Endpoint, remote: Endpoint, irs: Seq, visible: u32) -> u32 {
    let [a, b, c, d, ports] = tuple_words(local, remote);
    let last = u64::from(irs.0) << 32 | u64::from(visible);
    (instance.keys.cookies.secret(&[a, b, c, d, ports, last]) & 0x00ff_ffff) as u32
}

fn tick(now: Time) -> u32 {
    ((now / TICK) & 0x1f) as u32
}

/// The initial sequence number that stands for an embryo.
pub(crate) fn bake(instance: &Instance, embryo: &Embryo, now: Time) -> Seq {
    let index = MSS.iter().rposition(|&mss| mss <= embryo.peer_mss).unwrap_or(0) as u32;
    let visible = tick(now) << 3 | index;
    Seq(visible << 24 | seal(instance, embryo.local, embryo.remote, embryo.irs, visible))
}

/// The timestamp that stands for an embryo's options: at most `value`, so that our clock never runs ahead.
pub(crate) fn bake_timestamp(value: u32, embryo: &Embryo) -> u32 {
    let bits = embryo.peer_scale.map_or(NO_SCALE, u32::from) | if embryo.sack { SACK } else { 0 };
    let baked = value & !OPTION_BITS | bits;
    if Seq(baked).after(Seq(value)) > 0 { baked.wrapping_sub(OPTION_BITS + 1) } else { baked }
}

/// The embryo that a segment's acknowledgement stands for, if it is one of our cookies.
pub(crate) fn read(instance: &Instance, segment: &Arrived, now: Time) -> Option<Embryo> {
    let cookie = segment.tcp.ack.minus(1).0;
    let irs = segment.tcp.seq.minus(1);
    let visible = cookie >> 24;
    let age = tick(now).wrapping_sub(visible >> 3) & 0x1f;
    let sealed = seal(instance, segment.local, segment.remote, irs, visible);
    if age > 1 || sealed != cookie & 0x00ff_ffff {
        return None;
    }
    let mut embryo = Embryo {
        local: segment.local,
        remote: segment.remote,
        irs,
        iss: Seq(cookie),
        peer_mss: MSS.get((visible & 7) as usize).copied()?,
        timestamp_at: now,
        sent_at: now,
        cookie: true,
        ..Embryo::default()
    };
    if let Some((value, echo)) = segment.options.timestamps {
        let bits = echo.wrapping_sub(instance.timestamp_offset(segment.local, segment.remote)) & OPTION_BITS;
        embryo.timestamp = Some(value);
        embryo.sack = bits & SACK != 0;
        let scale = bits & NO_SCALE;
        embryo.peer_scale = (scale != NO_SCALE).then_some(scale as u8);
    }
    Some(embryo)
}

/// TSval of a cookie's SYN-ACK.
pub(crate) fn timestamp(instance: &Instance, embryo: &Embryo, now: Time) -> u32 {
    let offset = instance.timestamp_offset(embryo.local, embryo.remote);
    bake_timestamp(ticks(now), embryo).wrapping_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_never_runs_ahead_and_keeps_the_options() {
        let embryo = Embryo { peer_scale: Some(7), sack: true, ..Embryo::default() };
        for value in [0_u32, 5, 22, 23, 24, 63, 64, 1_000_000] {
            let baked = bake_timestamp(value, &embryo);
            assert!(Seq(baked).after(Seq(value)) <= 0);
            assert!(Seq(value).after(Seq(baked)) <= 64);
            assert_eq!(baked & OPTION_BITS, 0x17);
        }
    }
}
