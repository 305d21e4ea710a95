//! A line under the reader's eye.

use super::Wrong;
use bulkhead_wit::Time;
use bulkhead_wit::limits::{MICROSECOND, MILLISECOND, SECOND};

/// The rest of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.trim_start() }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn wrong<T>(&self, what: &str) -> Result<T, Wrong> {
        let near: String = self.rest.chars().take(30).collect();
        Err(Wrong(if near.is_empty() {
            format!("{what} at the end of the line")
        } else {
            format!("{what} at `{near}`")
        }))
    }

    /// Takes `token` and the blanks after it.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    /// Takes `word` if no letter or digit follows.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let mut copy = *self;
        let is_it = copy.word() == word;
        if is_it {
            *self = copy;
        }
        is_it
    }

    pub(super) fn need(&mut self, token: &str) -> Result<(), Wrong> {
        if self.eat(token) { Ok(()) } else { self.wrong(&format!("expected `{token}`")) }
    }

    /// As long as `is_in` says so.
    pub(super) fn take_while(&mut self, is_in: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_in(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        taken
    }

    /// Letters, digits, `_` and `-`; may be empty.
    pub(super) fn word(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    }

    /// A whole number, decimal or hexadecimal.
    pub(super) fn number(&mut self) -> Result<u64, Wrong> {
        let before = *self;
        let hexadecimal = self.rest.starts_with("0x");
        let digits = self.take_while(|c| c.is_ascii_hexdigit() || c == 'x' || c == '_').replace('_', "");
        let parsed = match digits.strip_prefix("0x") {
            Some(digits) if hexadecimal => u64::from_str_radix(digits, 16),
            _ => digits.parse(),
        };
        parsed.or_else(|_| before.wrong("expected a number"))
    }

    /// A whole number that fits.
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Wrong> {
        let before = *self;
        let number = self.number()?;
        T::try_from(number).or_else(|_| before.wrong("a number that is too large"))
    }

    /// A decimal number of seconds with up to nine places, or with a unit: `0.25`, `40ms`.
    pub(super) fn time(&mut self) -> Result<Time, Wrong> {
        let before = *self;
        // `...` is no part of a number.
        let end = self.rest.find("...").unwrap_or(self.rest.len());
        let text = self.rest.get(..end).unwrap_or_default();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let unit = ["ns", "us", "ms", "s"].into_iter().find(|unit| rest.starts_with(unit));
        let scale = match unit {
            Some("ns") => 1,
            Some("us") => MICROSECOND,
            Some("ms") => MILLISECOND,
            _ => SECOND,
        };
        self.rest = rest.get(unit.map_or(0, str::len)..).unwrap_or_default().trim_start();
        decimal(number, scale).map_or_else(|| before.wrong("expected a time"), Ok)
    }
}

/// `text` times `scale`, exactly.
pub(super) fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && part.is_empty() || part.len() > 9 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let power = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    whole.checked_mul(scale)?.checked_add(digits.checked_mul(scale)? / power)
}
