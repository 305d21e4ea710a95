//! Header lines: `--ip_version=ipv6`, `set congestion=reno`.

use super::Wrong;
use super::cursor::Cursor;
use crate::conformance::script::Setup;
use bulkhead_wit::Setting;
use bulkhead_wit::registry::setting;

/// One header line.
pub(super) fn line(text: &str, setup: &mut Setup) -> Result<(), Wrong> {
    let mut cursor = Cursor::new(text);
    if !cursor.eat("--") {
        cursor.need("set")?;
    }
    let key = cursor.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-').replace('-', "_");
    if cursor.is_done() {
        match key.as_str() {
            "merged" => setup.is_merged = true,
            "push_free" => setup.is_push_free = true,
            _ => return Err(Wrong(format!("unknown option `{key}`"))),
        }
        return Ok(());
    }
    cursor.need("=")?;
    match key.as_str() {
        "ip_version" => {
            setup.is_v6 = match cursor.word() {
                "ipv4" => false,
                "ipv6" => true,
                _ => return Err(Wrong("ip_version is ipv4 or ipv6".to_owned())),
            }
        }
        "mtu" => setup.mtu = cursor.small()?,
        "tolerance" => setup.tolerance = cursor.time()?,
        "remote_isn" => setup.remote_base = cursor.small()?,
        "embryos" => setup.embryos = Some(cursor.small()?),
        "connections" => setup.connections = Some(cursor.small()?),
        "receive" => {
            setup.sizes.receive_first = cursor.small()?;
            setup.sizes.receive_max = setup.sizes.receive_max.max(setup.sizes.receive_first);
        }
        "receive_max" => setup.sizes.receive_max = cursor.small()?,
        "send" => {
            setup.sizes.send_first = cursor.small()?;
            setup.sizes.send_max = setup.sizes.send_max.max(setup.sizes.send_first);
        }
        "send_max" => setup.sizes.send_max = cursor.small()?,
        _ => {
            let value = cursor.take_while(|c| c.is_ascii_alphanumeric() || c == '.');
            let added = setting_of(&key, value);
            setup.settings.push(added.ok_or_else(|| Wrong(format!("no such setting or value: {text}")))?);
        }
    }
    if cursor.is_done() { Ok(()) } else { cursor.wrong("nothing more expected") }
}

/// A setting of the registry by its name; `-` and `_` are the same.
pub(in crate::conformance) fn setting_of(name: &str, value: &str) -> Option<Setting> {
    let name = name.replace('_', "-");
    let key = setting::ALL.iter().find(|entry| entry.1 == name)?.0;
    let value = match (key, value) {
        (setting::CONGESTION, text) => congestion(text),
        (setting::PROFILE, "linux") => 1,
        (setting::PROFILE, "bulkhead") => 0,
        (_, text) if text.starts_with(|c: char| c.is_ascii_digit()) => {
            let mut cursor = Cursor::new(text);
            if text.ends_with('s') { cursor.time().ok()? } else { cursor.number().ok()? }
        }
        _ => return None,
    };
    Some(Setting { key, value })
}

/// A congestion control's name as the registry writes it.
pub(in crate::conformance) fn congestion(name: &str) -> u64 {
    name.bytes().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(byte))
}
