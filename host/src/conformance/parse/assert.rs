//! `%{ fd 4: cwnd == 10, rto >= 200ms }%`.

use super::Wrong;
use super::cursor::Cursor;
use crate::conformance::script::{Assertion, Comparison, Condition, Subject};
use bulkhead_wit::registry::{census, info};

const SIGNS: [Comparison; 6] = [
    Comparison::Equal,
    Comparison::Unequal,
    Comparison::LessOrEqual,
    Comparison::GreaterOrEqual,
    Comparison::Less,
    Comparison::Greater,
];

const STATES: [&str; 11] = [
    "CLOSED",
    "LISTEN",
    "SYN-SENT",
    "SYN-RECEIVED",
    "ESTABLISHED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "CLOSE-WAIT",
    "CLOSING",
    "LAST-ACK",
    "TIME-WAIT",
];

const RECOVERY_STATES: [&str; 5] = ["OPEN", "DISORDER", "CWR", "RECOVERY", "LOSS"];

/// After `%{`.
pub(super) fn assertion(cursor: &mut Cursor<'_>) -> Result<Assertion, Wrong> {
    let of = if cursor.eat_word("census") {
        cursor.need(":")?;
        Subject::Census
    } else if cursor.eat_word("fd") {
        let socket = cursor.small::<u32>()?;
        cursor.need(":")?;
        Subject::Socket(i64::from(socket))
    } else {
        Subject::Latest
    };
    let mut conditions = Vec::new();
    loop {
        conditions.push(condition(cursor, of)?);
        if cursor.eat("}%") {
            return Ok(Assertion { of, conditions });
        }
        if !cursor.eat("&&") {
            cursor.need(",")?;
        }
    }
}

fn condition(cursor: &mut Cursor<'_>, of: Subject) -> Result<Condition, Wrong> {
    let registry = if of == Subject::Census { census::ALL } else { info::ALL };
    let field = cursor.word().replace('_', "-");
    let Some(index) = registry.iter().find(|entry| entry.1 == field).map(|entry| usize::from(entry.0)) else {
        return cursor.wrong(&format!("no field `{field}`"));
    };
    let how = SIGNS.into_iter().find(|how| cursor.eat(how.sign()));
    let Some(how) = how else { return cursor.wrong("expected a comparison") };
    let value = value(cursor, &field)?;
    Ok(Condition { field, index, how, value })
}

fn value(cursor: &mut Cursor<'_>, field: &str) -> Result<u64, Wrong> {
    if cursor.eat_word("none") {
        return Ok(u64::MAX);
    }
    let mut copy = *cursor;
    let word = copy.word();
    let names: &[&str] = match field {
        "state" => &STATES,
        "ca-state" => &RECOVERY_STATES,
        _ => &[],
    };
    if let Some(number) = (0_u64..).zip(names).find(|(_, name)| **name == word) {
        *cursor = copy;
        return Ok(number.0);
    }
    let is_time = word.ends_with('s') || word.is_empty() || copy.rest().starts_with('.');
    if is_time { cursor.time() } else { cursor.number() }
}
