//! What scripts set in their network namespace, as settings of the module.
//!
//! Scripts configure the stack under test through `/proc/sys/net`. What has a counterpart among our settings is
//! followed whenever a socket listens or connects; the rest has none, and scripts that need it are not for us.

use crate::setup::text_as_number;
use bulkhead::Sizes;
use bulkhead_wit::Setting;
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::registry::setting;

/// Numbers that map one to one, with the factor between the system's unit and ours.
const NUMBERS: &[(&str, u16, u64)] = &[
    ("tcp_timestamps", setting::TIMESTAMPS, 1),
    ("tcp_sack", setting::SACK, 1),
    ("tcp_window_scaling", setting::WINDOW_SCALE, 1),
    ("tcp_ecn", setting::ECN, 1),
    ("tcp_syn_retries", setting::SYN_RETRIES, 1),
    ("tcp_retries2", setting::RETRIES, 1),
    ("tcp_fin_timeout", setting::LINGER2, SECOND),
    ("tcp_min_tso_segs", setting::SUPER_SEGMENT_MIN, 1),
];

fn text(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()
}

fn numbers(name: &str) -> Option<Vec<u64>> {
    text(name)?.split_whitespace().map(|word| word.parse().ok()).collect()
}

/// The settings that the namespace has now.
pub(crate) fn settings() -> Vec<Setting> {
    let mut all: Vec<Setting> = NUMBERS
        .iter()
        .filter_map(|(name, key, factor)| {
            let value = numbers(name)?.first()?.saturating_mul(*factor);
            Some(Setting { key: *key, value })
        })
        .collect();
    let congestion = text("tcp_congestion_control").and_then(|name| text_as_number(name.trim()).ok());
    all.extend(congestion.map(|value| Setting { key: setting::CONGESTION, value }));
    all
}

/// Sizes of buffers. The system counts its own bookkeeping in: half of a receive buffer is for bytes.
pub(crate) fn sizes() -> Option<Sizes> {
    let (receive, send) = (numbers("tcp_rmem")?, numbers("tcp_wmem")?);
    let size = |numbers: &[u64], at: usize| numbers.get(at).and_then(|size| u32::try_from(*size).ok());
    Some(Sizes {
        receive_first: size(&receive, 1)? / 2,
        receive_max: size(&receive, 2)?,
        send_first: size(&send, 1)?,
        send_max: size(&send, 2)?,
        unsent_max: notsent_lowat(),
    })
}

/// Unsent bytes below which a socket is writable.
pub(crate) fn notsent_lowat() -> u32 {
    let value = numbers("tcp_notsent_lowat").and_then(|numbers| numbers.first().copied());
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(u32::MAX)
}
