//! `write(4, ..., 1000) = 1000`.

use super::Wrong;
use super::cursor::Cursor;
use crate::conformance::script::{Argument, Call, Outcome};

/// Arguments of a call, and nesting of lists, at most.
const ARGUMENTS: usize = 16;
const DEPTH: u32 = 4;

/// A call and its result.
pub(super) fn call(cursor: &mut Cursor<'_>) -> Result<Call, Wrong> {
    let name = cursor.word();
    if name.is_empty() {
        return cursor.wrong("expected `<`, `>`, `%{` or a call");
    }
    cursor.need("(")?;
    let arguments = list(cursor, ")", 0)?;
    cursor.need("=")?;
    let result = outcome(cursor)?;
    Ok(Call { name: name.to_owned(), arguments, result })
}

fn list(cursor: &mut Cursor<'_>, end: &str, depth: u32) -> Result<Vec<Argument>, Wrong> {
    let mut arguments = Vec::new();
    if cursor.eat(end) {
        return Ok(arguments);
    }
    loop {
        arguments.push(argument(cursor, depth)?);
        if cursor.eat(end) {
            return Ok(arguments);
        }
        cursor.need(",")?;
        if arguments.len() >= ARGUMENTS {
            return cursor.wrong("too many arguments");
        }
    }
}

fn argument(cursor: &mut Cursor<'_>, depth: u32) -> Result<Argument, Wrong> {
    if depth > DEPTH {
        return cursor.wrong("too deep");
    }
    if cursor.eat("...") {
        return Ok(Argument::Open);
    }
    for (begin, end) in [("[", "]"), ("{", "}")] {
        if cursor.eat(begin) {
            return Ok(Argument::List(list(cursor, end, depth + 1)?));
        }
    }
    if cursor.eat("\"") {
        let text = cursor.take_while(|c| c != '"').to_owned();
        cursor.need("\"")?;
        return Ok(Argument::Text(text));
    }
    if cursor.rest().starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return Ok(Argument::Number(signed(cursor)?));
    }
    let words = flags(cursor);
    if words.is_empty() { cursor.wrong("expected an argument") } else { Ok(Argument::Word(words)) }
}

/// Names joined by `|`, without blanks. A name may be followed by `=` and a value, as in `{onoff=1}`.
fn flags(cursor: &mut Cursor<'_>) -> String {
    let mut words = String::new();
    loop {
        words.push_str(cursor.take_while(|c| c.is_ascii_alphanumeric() || "_-=.".contains(c)));
        if !cursor.eat("|") {
            return words;
        }
        words.push('|');
    }
}

fn signed(cursor: &mut Cursor<'_>) -> Result<i64, Wrong> {
    let is_negative = cursor.eat("-");
    let number = i64::from(cursor.small::<u32>()?);
    Ok(if is_negative { -number } else { number })
}

fn outcome(cursor: &mut Cursor<'_>) -> Result<Outcome, Wrong> {
    if cursor.rest().starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        let value = signed(cursor)?;
        let name = cursor.word();
        // As strace does, the error's text may follow in parentheses.
        if cursor.eat("(") {
            cursor.take_while(|c| c != ')');
            cursor.need(")")?;
        }
        return Ok(if name.is_empty() { Outcome::Value(value) } else { Outcome::Error(name.to_owned()) });
    }
    let words = flags(cursor);
    if words.is_empty() { cursor.wrong("expected a result") } else { Ok(Outcome::Flags(words)) }
}
