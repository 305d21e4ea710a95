//! Plans: what a run is like, one statement a line. `tests/simulation/README.md` has the language.

use bulkhead_wit::limits::{MICROSECOND, MILLISECOND, SECOND};
use bulkhead_wit::registry::setting;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Ranges (both ends included) of which one is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    pub(super) ranges: Vec<(u64, u64)>,
}

/// `name=choice` pairs of a statement.
pub(super) type Keys = BTreeMap<String, Choice>;

/// One way of the link, or both; one host, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    First,
    Second,
    Both,
}

impl Which {
    /// Whether the first (0) or second (1) is meant.
    pub(super) const fn is(self, number: usize) -> bool {
        matches!((self, number), (Self::Both, _) | (Self::First, 0) | (Self::Second, 1))
    }
}

/// Something that happens at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// The link has another MTU, which a host hears of at once (`told`) or finds out.
    Mtu { bytes: Choice, told: bool },
    /// Other impairments.
    Link(Which, Keys),
    /// Nothing passes for so long.
    Stall(Which, Choice),
    /// A host has another address, and no longer the one before.
    Address(usize),
}

/// A run, as far as a seed does not decide it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The file's name without its extension.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// 4, 6.
    pub(super) family: Choice,
    pub(super) mtu: Choice,
    pub(super) offload: Choice,
    pub(super) links: Vec<(Which, Keys)>,
    pub(super) hosts: Vec<(Which, Keys)>,
    pub(super) settings: Vec<(Which, u16, Choice)>,
    pub(super) flows: Vec<(Choice, Keys)>,
    pub(super) events: Vec<(Choice, What)>,
    /// Virtual time within which everything must be over.
    pub(super) limit: u64,
    /// Connections may end with an error, since the plan gives them reason to.
    pub(super) may_fail: bool,
}

/// Why a plan cannot be read.
#[derive(Debug)]
pub struct PlanError {
    file: String,
    line: usize,
    why: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

impl std::error::Error for PlanError {}

const LINK_KEYS: &[&str] =
    &["loss", "duplicate", "corrupt", "reorder", "reorder_delay", "delay", "jitter", "rate", "queue"];
const HOST_KEYS: &[&str] = &[
    "receive_first",
    "receive_max",
    "send_first",
    "send_max",
    "unsent_max",
    "memory",
    "connections",
    "embryos",
];
const FLOW_KEYS: &[&str] =
    &["from", "there", "back", "end", "start", "write", "think", "read", "pause", "settings"];

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// The line that is not understood.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |line, why| PlanError { file: path.display().to_string(), line, why };
        let text = std::fs::read_to_string(path).map_err(|error| failed(0, error.to_string()))?;
        Self::parse(name, &text).map_err(|(line, why)| failed(line, why))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The number of the line that is not understood, and why.
    pub fn parse(name: String, text: &str) -> Result<Self, (usize, String)> {
        let only = |value| Choice { ranges: vec![(value, value)] };
        let mut plan = Self {
            name,
            about: String::new(),
            family: only(4),
            mtu: only(1500),
            offload: only(0),
            links: Vec::new(),
            hosts: Vec::new(),
            settings: Vec::new(),
            flows: Vec::new(),
            events: Vec::new(),
            limit: 1800 * SECOND,
            may_fail: false,
        };
        for (line, text) in text.lines().enumerate() {
            let words: Vec<&str> = text.split('#').next().unwrap_or_default().split_whitespace().collect();
            if let Some((&verb, rest)) = words.split_first() {
                plan.statement(verb, rest).map_err(|why| (line + 1, why))?;
            }
        }
        if plan.flows.is_empty() {
            return Err((0, "no flows".into()));
        }
        Ok(plan)
    }

    fn statement(&mut self, verb: &str, rest: &[&str]) -> Result<(), String> {
        match (verb, rest) {
            ("about", words) => self.about = words.join(" "),
            ("family", [value]) => self.family = choice(value)?,
            ("mtu", [value]) => self.mtu = choice(value)?,
            ("offload", [value]) => self.offload = choice(value)?,
            ("limit", [value]) => self.limit = number(value)?,
            ("may", ["fail"]) => self.may_fail = true,
            ("link", [way, pairs @ ..]) => self.links.push((which(way)?, keys(pairs, LINK_KEYS)?)),
            ("host", [host, pairs @ ..]) => self.hosts.push((which(host)?, keys(pairs, HOST_KEYS)?)),
            ("set", [host, pairs @ ..]) => {
                for pair in pairs {
                    let (name, value) = pair.split_once('=').ok_or("a name and a value")?;
                    let known = setting::ALL.iter().find(|(_, known)| known.replace('-', "_") == name);
                    let (key, _) = known.ok_or_else(|| format!("no setting {name}"))?;
                    self.settings.push((which(host)?, *key, choice(value)?));
                }
            }
            ("flows", [count, pairs @ ..]) => self.flows.push((choice(count)?, keys(pairs, FLOW_KEYS)?)),
            ("at", [time, what @ ..]) => self.events.push((choice(time)?, event(what)?)),
            _ => return Err(format!("{verb}: not understood")),
        }
        Ok(())
    }
}

fn event(words: &[&str]) -> Result<What, String> {
    Ok(match words {
        ["mtu", bytes] => What::Mtu { bytes: choice(bytes)?, told: true },
        ["narrow", bytes] => What::Mtu { bytes: choice(bytes)?, told: false },
        ["link", way, pairs @ ..] => What::Link(which(way)?, keys(pairs, LINK_KEYS)?),
        ["stall", way, time] => What::Stall(which(way)?, choice(time)?),
        ["address", "a"] => What::Address(0),
        ["address", "b"] => What::Address(1),
        _ => return Err(format!("{}: not understood", words.join(" "))),
    })
}

fn which(word: &str) -> Result<Which, String> {
    match word {
        "a" | "there" => Ok(Which::First),
        "b" | "back" => Ok(Which::Second),
        "both" => Ok(Which::Both),
        _ => Err(format!("{word}: neither a, b, there, back nor both")),
    }
}

fn keys(pairs: &[&str], known: &[&str]) -> Result<Keys, String> {
    let pair = |pair: &&str| {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair}: no value"))?;
        if !known.contains(&name) {
            return Err(format!("{name}: there are {}", known.join(", ")));
        }
        Ok((name.to_owned(), choice(value)?))
    };
    pairs.iter().map(pair).collect()
}

/// `1..5|10`: a number of one to five, or ten.
fn choice(text: &str) -> Result<Choice, String> {
    let range = |text: &str| match text.split_once("..") {
        Some((low, high)) => Ok((number(low)?, number(high)?)),
        None => number(text).map(|value| (value, value)),
    };
    let ranges = text.split('|').map(range).collect::<Result<Vec<_>, String>>()?;
    match ranges.iter().find(|(low, high)| low > high) {
        Some(_) => Err(format!("{text}: the end comes before the beginning")),
        None => Ok(Choice { ranges }),
    }
}

/// Names that stand for numbers.
const NAMES: &[(&str, u64)] = &[
    ("no", 0),
    ("yes", 1),
    ("v4", 4),
    ("v6", 6),
    ("a", 0),
    ("b", 1),
    ("close", 0),
    ("abort", 1),
    ("leave", 2),
    ("reno", u64::from_le_bytes(*b"reno\0\0\0\0")),
    ("cubic", u64::from_le_bytes(*b"cubic\0\0\0")),
    ("bbr", u64::from_le_bytes(*b"bbr\0\0\0\0\0")),
];

/// What numbers are counted in: nanoseconds, bytes, millionths, bits a second.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", MICROSECOND),
    ("ms", MILLISECOND),
    ("s", SECOND),
    ("min", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("%", 10_000),
    ("k", 1 << 10),
    ("M", 1 << 20),
    ("kbit", 1000),
    ("Mbit", 1_000_000),
];

fn number(text: &str) -> Result<u64, String> {
    if let Some((_, value)) = NAMES.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits);
    let scale = match unit {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| format!("{text}: no number"))?.1,
    };
    let wrong = || format!("{text}: no number");
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let mut value = whole.checked_mul(scale).ok_or_else(wrong)?;
    let mut place = scale;
    for digit in part.bytes() {
        place /= 10;
        value += u64::from(digit.saturating_sub(b'0')) * place;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(number("5ms"), Ok(5_000_000));
        assert_eq!(number("0.1%"), Ok(1000));
        assert_eq!(number("64k"), Ok(65_536));
        assert_eq!(number("1.5s"), Ok(1_500_000_000));
        assert!(number("5miles").is_err());
        assert!(choice("5..1").is_err());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let wrong = Plan::parse("x".into(), "flows 1\nlink both loss=1% speed=3").unwrap_err();
        assert_eq!(wrong.0, 2);
        assert!(wrong.1.starts_with("speed"), "{}", wrong.1);
        assert!(Plan::parse("x".into(), "about nothing").is_err());
    }
}
