//! The dialect, line by line. `tests/conformance/README.md` describes it.

mod assert;
mod call;
mod cursor;
mod packet;
mod setup;
#[cfg(test)]
mod tests;

pub(super) use setup::{congestion, setting_of};

use super::script::{Event, Moment, Script, Setup, What, When};
use cursor::Cursor;
use std::fmt;

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong(String);

/// A script that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The script's name.
    pub script: String,
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.script, self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

/// Reads a script.
///
/// # Errors
/// The first line that cannot be read.
pub fn parse(name: &str, text: &str) -> Result<Script, ParseError> {
    let mut setup = Setup::default();
    let mut events = Vec::new();
    for (number, line) in (1_u32..).zip(without_comments(text).lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let done = if line.starts_with("--") || line.starts_with("set ") {
            if events.is_empty() {
                setup::line(line, &mut setup)
            } else {
                Err(Wrong("settings stand before the first event".to_owned()))
            }
        } else {
            event(number, line).map(|event| events.push(event))
        };
        done.map_err(|Wrong(what)| ParseError { script: name.to_owned(), line: number, what })?;
    }
    Ok(Script { name: name.to_owned(), setup, events })
}

/// Comments become blanks; lines stay where they are.
fn without_comments(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") || next == '#' {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else {
            0
        };
        let (comment, after) = rest.split_at(skipped);
        clean.extend(comment.chars().filter(|c| *c == '\n'));
        rest = after;
        if skipped == 0 {
            clean.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
    }
    clean
}

fn event(line: u32, text: &str) -> Result<Event, Wrong> {
    let mut cursor = Cursor::new(text);
    let when = when(&mut cursor)?;
    let what = if cursor.eat("<") {
        What::Inject(packet::packet(&mut cursor)?)
    } else if cursor.eat(">") {
        What::Expect(packet::packet(&mut cursor)?)
    } else if cursor.eat("%{") {
        What::Assert(assert::assertion(&mut cursor)?)
    } else {
        What::Call(call::call(&mut cursor)?)
    };
    if !cursor.is_done() {
        return cursor.wrong("nothing more expected");
    }
    match (&when, &what) {
        (When::Between(..) | When::Anytime, What::Expect(_))
        | (When::During(..), What::Call(_))
        | (When::At(_), _) => {}
        _ => return Err(Wrong("this kind of time does not go with this kind of event".to_owned())),
    }
    Ok(Event { line, text: text.to_owned(), when, what })
}

fn when(cursor: &mut Cursor<'_>) -> Result<When, Wrong> {
    if cursor.eat("*") {
        return Ok(When::Anytime);
    }
    let from = moment(cursor, false)?;
    if cursor.eat("~") {
        return Ok(When::Between(from, moment(cursor, from.is_relative)?));
    }
    if cursor.eat("...") {
        return Ok(When::During(from, moment(cursor, from.is_relative)?));
    }
    Ok(When::At(from))
}

/// The second of two times is relative where the first one is.
fn moment(cursor: &mut Cursor<'_>, is_second: bool) -> Result<Moment, Wrong> {
    let is_relative = cursor.eat("+") || is_second;
    Ok(Moment { is_relative, time: cursor.time()? })
}
