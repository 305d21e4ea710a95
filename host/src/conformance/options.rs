//! `setsockopt`: names of options and what they mean as settings.

use super::parse::{congestion, setting_of};
use super::script::Argument;
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::setting;
use bulkhead_wit::{Setting, Time};

/// What an option does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Nothing here (`SO_REUSEADDR`: ports are free once nobody is bound to them).
    Nothing,
    /// Settings of the connection.
    Set(Vec<Setting>),
    /// `SO_LINGER`: its time, if it is on.
    Linger(Option<Time>),
    /// `SO_SNDBUF`, in bytes.
    SendBuffer(u32),
    /// `SO_RCVBUF`, in bytes.
    ReceiveBuffer(u32),
}

/// Keepalive is on by one option and timed by another, where the contract has one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keepalive {
    is_on: bool,
    idle: Time,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { is_on: false, idle: 7200 * SECOND }
    }
}

/// Options that are one setting: name, setting, and how much of it one unit is.
const PLAIN: [(&str, u16, u64); 16] = [
    ("TCP_NODELAY", setting::NODELAY, 1),
    ("TCP_CORK", setting::CORK, 1),
    ("TCP_QUICKACK", setting::QUICKACK, 1),
    ("TCP_KEEPINTVL", setting::KEEPALIVE_INTERVAL, SECOND),
    ("TCP_KEEPCNT", setting::KEEPALIVE_COUNT, 1),
    ("TCP_USER_TIMEOUT", setting::USER_TIMEOUT, MILLISECOND),
    ("TCP_LINGER2", setting::LINGER2, SECOND),
    ("TCP_DEFER_ACCEPT", setting::DEFER_ACCEPT, SECOND),
    ("TCP_MAXSEG", setting::MAXSEG, 1),
    ("TCP_WINDOW_CLAMP", setting::WINDOW_CLAMP, 1),
    ("TCP_SYNCNT", setting::SYN_RETRIES, 1),
    ("TCP_NOTSENT_LOWAT", setting::NOTSENT_LOWAT, 1),
    ("IP_TTL", setting::TTL, 1),
    ("IP_TOS", setting::TRAFFIC_CLASS, 1),
    ("IPV6_TCLASS", setting::TRAFFIC_CLASS, 1),
    ("SO_MAX_PACING_RATE", setting::MAX_PACING_RATE, 1),
];

/// What `setsockopt(4, level, name, value, ...)` does; `rest` begins with the level. Beside the usual names, those of
/// the registry are taken.
pub(super) fn effect(rest: &[Argument], keepalive: &mut Keepalive) -> Result<Effect, String> {
    let (Some(Argument::Word(name)), Some(value)) = (rest.get(1), rest.get(2)) else {
        return Err("expected a level, an option and a value".to_owned());
    };
    let first = match value {
        Argument::List(list) => list.first(),
        other => Some(other),
    };
    let number = match first {
        Some(Argument::Number(number)) => u64::try_from(*number).ok(),
        // `{onoff=1, linger=0}`
        Some(Argument::Word(word)) => word.rsplit('=').next().and_then(|digits| digits.parse().ok()),
        _ => None,
    };
    if let (setting::CONGESTION, Some(Argument::Text(text))) = (key_of(name), first) {
        return Ok(Effect::Set(vec![Setting { key: setting::CONGESTION, value: congestion(text) }]));
    }
    let number = number.ok_or_else(|| format!("no value for {name}"))?;
    if let Some((_, key, unit)) = PLAIN.iter().find(|entry| entry.0 == name) {
        let value = number.checked_mul(*unit).ok_or("too large")?;
        return Ok(Effect::Set(vec![Setting { key: *key, value }]));
    }
    let bytes = u32::try_from(number).unwrap_or(u32::MAX);
    match name.as_str() {
        "SO_REUSEADDR" | "SO_REUSEPORT" | "SO_OOBINLINE" | "IP_RECVERR" => Ok(Effect::Nothing),
        "SO_SNDBUF" => Ok(Effect::SendBuffer(bytes)),
        "SO_RCVBUF" => Ok(Effect::ReceiveBuffer(bytes)),
        "SO_LINGER" => Ok(Effect::Linger((number != 0).then(|| linger(value)))),
        "SO_KEEPALIVE" => {
            keepalive.is_on = number != 0;
            Ok(Effect::Set(vec![keepalive.setting()]))
        }
        "TCP_KEEPIDLE" => {
            keepalive.idle = number.saturating_mul(SECOND);
            Ok(Effect::Set(vec![keepalive.setting()]))
        }
        "IP_MTU_DISCOVER" => {
            // 0 is IP_PMTUDISC_DONT; the others all set DF.
            Ok(Effect::Set(vec![Setting { key: setting::PMTU_DISCOVER, value: u64::from(number != 0) }]))
        }
        other => match setting_of(other, &number.to_string()) {
            Some(setting) => Ok(Effect::Set(vec![setting])),
            None => Err(format!("no such option: {other}")),
        },
    }
}

impl Keepalive {
    fn setting(self) -> Setting {
        Setting { key: setting::KEEPALIVE_IDLE, value: if self.is_on { self.idle } else { 0 } }
    }
}

fn key_of(name: &str) -> u16 {
    if name == "TCP_CONGESTION" { setting::CONGESTION } else { 0 }
}

/// The second number of `{1, 0}`, in seconds.
fn linger(value: &Argument) -> Time {
    let Argument::List(list) = value else { return 0 };
    match list.get(1) {
        Some(Argument::Number(seconds)) => u64::try_from(*seconds).unwrap_or(0).saturating_mul(SECOND),
        Some(Argument::Word(word)) => word
            .rsplit('=')
            .next()
            .and_then(|digits| digits.parse::<u64>().ok())
            .unwrap_or(0)
            .saturating_mul(SECOND),
        _ => 0,
    }
}
