//! The settings of a connection, by the numbers of the contract's registry.

use crate::limits;
use bulkhead_wit::registry::setting as key;
use bulkhead_wit::{Setting, Time};

/// Numbers that are served; `describe` lists them.
pub(crate) const SERVED: &[u16] = &[
    key::NODELAY,
    key::CORK,
    key::QUICKACK,
    key::KEEPALIVE_IDLE,
    key::KEEPALIVE_INTERVAL,
    key::KEEPALIVE_COUNT,
    key::USER_TIMEOUT,
    key::LINGER2,
    key::DEFER_ACCEPT,
    key::MAXSEG,
    key::CONGESTION,
    key::TTL,
    key::TRAFFIC_CLASS,
    key::PMTU_DISCOVER,
    key::WINDOW_CLAMP,
    key::MAX_PACING_RATE,
    key::ECN,
    key::TIMESTAMPS,
    key::SACK,
    key::WINDOW_SCALE,
    key::PROFILE,
    key::URGENT_INLINE,
    key::NOTSENT_LOWAT,
    key::SYN_RETRIES,
    key::RETRIES,
    key::INITIAL_WINDOW,
    key::RTO_MIN,
    key::SUPER_SEGMENT_MIN,
];

/// What is set. Shared between connections until one of them changes something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// The profile `linux`: no pacing, which Linux leaves to the queueing discipline, and its own `HyStart` in place of
    /// RFC 9406's.
    pub linux: bool,
    pub nodelay: bool,
    pub cork: bool,
    pub quickack: bool,
    pub timestamps: bool,
    pub sack: bool,
    pub window_scale: bool,
    pub pmtu_discover: bool,
    pub ecn: u8,
    pub ttl: u8,
    pub traffic_class: u8,
    pub keepalive_count: u8,
    pub syn_retries: u8,
    pub retries: u8,
    pub maxseg: u16,
    /// Segments of a super-segment that is sized by the rate, at least; 0 is two.
    pub super_segment_min: u8,
    pub initial_window: u32,
    pub window_clamp: u32,
    pub notsent_lowat: u32,
    pub keepalive_idle: Time,
    pub keepalive_interval: Time,
    pub user_timeout: Time,
    pub linger2: Time,
    pub defer_accept: Time,
    pub rto_min: Time,
    pub max_pacing_rate: u64,
    pub congestion: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            linux: false,
            nodelay: false,
            cork: false,
            quickack: false,
            timestamps: true,
            sack: true,
            window_scale: true,
            pmtu_discover: true,
            ecn: 2,
            ttl: limits::TTL,
            traffic_class: 0,
            keepalive_count: limits::KEEPALIVE_COUNT,
            syn_retries: limits::SYN_RETRIES,
            retries: limits::RETRIES,
            maxseg: 0,
            super_segment_min: 0,
            initial_window: limits::INITIAL_WINDOW,
            window_clamp: 0,
            notsent_lowat: 0,
            keepalive_idle: 0,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            user_timeout: 0,
            linger2: limits::FIN_WAIT_2,
            defer_accept: 0,
            rto_min: limits::RTO_MIN,
            max_pacing_rate: 0,
            congestion: CUBIC,
        }
    }
}

/// A congestion control's name as the registry writes it: ASCII, little endian.
const fn name(text: &[u8]) -> u64 {
    let mut value = 0;
    let mut at = 0;
    while at < text.len() && at < 8 {
        value |= (text[at] as u64) << (8 * at);
        at += 1;
    }
    value
}

/// `cubic`.
pub(crate) const CUBIC: u64 = name(b"cubic");
/// `reno`.
pub(crate) const RENO: u64 = name(b"reno");
/// `bbr`.
pub(crate) const BBR: u64 = name(b"bbr");

/// Why a setting is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Not one that we know.
    Unknown,
    /// Its value is out of range.
    Value,
}

fn flag(value: u64) -> Result<bool, Refused> {
    if value > 1 { Err(Refused::Value) } else { Ok(value == 1) }
}

fn small<T: TryFrom<u64>>(value: u64) -> Result<T, Refused> {
    T::try_from(value).map_err(|_| Refused::Value)
}

/// `value`, or what stands for it when it is zero.
fn or<T: PartialEq + Default>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

impl Settings {
    /// Changes one.
    pub(crate) fn set(&mut self, setting: Setting) -> Result<(), Refused> {
        let value = setting.value;
        match setting.key {
            key::NODELAY => self.nodelay = flag(value)?,
            key::CORK => self.cork = flag(value)?,
            key::QUICKACK => self.quickack = flag(value)?,
            key::TIMESTAMPS => self.timestamps = flag(value)?,
            key::SACK => self.sack = flag(value)?,
            key::WINDOW_SCALE => self.window_scale = flag(value)?,
            key::PMTU_DISCOVER => self.pmtu_discover = flag(value)?,
            key::ECN if value <= 2 => self.ecn = small(value)?,
            key::TTL => self.ttl = or(small(value)?, limits::TTL),
            // The two ECN bits are ours (RFC 3168 5).
            key::TRAFFIC_CLASS => self.traffic_class = small::<u8>(value)? & !3,
            key::MAXSEG => self.maxseg = small(value)?,
            key::WINDOW_CLAMP => self.window_clamp = small(value)?,
            key::NOTSENT_LOWAT => self.notsent_lowat = small(value)?,
            key::MAX_PACING_RATE => self.max_pacing_rate = value,
            key::CONGESTION if [CUBIC, RENO, BBR].contains(&value) => self.congestion = value,
            key::PROFILE => self.linux = flag(value)?,
            key::URGENT_INLINE if value <= 1 => {}
            key::ECN | key::CONGESTION | key::URGENT_INLINE => return Err(Refused::Value),
            _ => return self.set_limit(setting),
        }
        Ok(())
    }

    /// The times and counts.
    fn set_limit(&mut self, Setting { key, value }: Setting) -> Result<(), Refused> {
        match key {
            key::KEEPALIVE_IDLE => self.keepalive_idle = value,
            key::KEEPALIVE_INTERVAL => self.keepalive_interval = or(value, limits::KEEPALIVE_INTERVAL),
            key::KEEPALIVE_COUNT => self.keepalive_count = or(small(value)?, limits::KEEPALIVE_COUNT),
            key::USER_TIMEOUT => self.user_timeout = value,
            key::LINGER2 => self.linger2 = or(value, limits::FIN_WAIT_2),
            key::DEFER_ACCEPT => self.defer_accept = value,
            key::SYN_RETRIES => self.syn_retries = or(small(value)?, limits::SYN_RETRIES),
            key::RETRIES => self.retries = or(small(value)?, limits::RETRIES),
            key::INITIAL_WINDOW => {
                self.initial_window = or(small::<u32>(value)?.min(1024), limits::INITIAL_WINDOW);
            }
            key::SUPER_SEGMENT_MIN => self.super_segment_min = small(value)?,
            key::RTO_MIN => self.rto_min = or(value.min(limits::RTO_MAX), limits::RTO_MIN),
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }

    /// These with changes; what is not known or out of range is left as it was.
    pub(crate) fn with(&self, changes: &[Setting]) -> Self {
        let mut settings = self.clone();
        for &change in changes {
            // The contract: a setting that a module does not know is ignored.
            let _ = settings.set(change);
        }
        settings
    }
}
