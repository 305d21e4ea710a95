//! One cell, from its beginning to its end.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Arguments;
use crate::factor::Cell;
use crate::load;
use crate::place::Place;

/// What came of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What there is to say about it, or why it failed.
    pub(crate) result: Result<String, String>,
    pub(crate) took: Duration,
}

/// Runs it. Everything that it makes is gone afterwards.
pub(crate) fn run(arguments: &Arguments, cell: &Cell) -> Outcome {
    let begun = Instant::now();
    let result = attempt(arguments, cell).map_err(|error| format!("{error:#}"));
    Outcome { result, took: begun.elapsed() }
}

fn attempt(arguments: &Arguments, cell: &Cell) -> anyhow::Result<String> {
    let place = Place::new(arguments, cell).context("set-up")?;
    let said = load::run(cell, &place)?;
    let resent = place.end()?;
    Ok(format!("{said}; {resent}"))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        match &self.result {
            Ok(said) => write!(f, "ok ({said}, {seconds:.1} s)"),
            Err(why) => write!(f, "FAILED ({why}, {seconds:.1} s)"),
        }
    }
}
