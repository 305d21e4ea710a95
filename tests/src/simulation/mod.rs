//! A seeded simulator: two stacks, a link that does its worst, applications that do theirs, and checkers that know
//! nothing of how a stack works.
//!
//! - `plan`: what a run is like, read from a file (`tests/simulation/plans`); `draw`: what a seed makes of it;
//! - `run`: the run itself, in virtual time; `flow`: the applications at both ends of a connection;
//! - `watch`: a device between stack and link that reads what passes and holds it against the rules.
//!
//! What is checked, in every run:
//!
//! | rule | how |
//! |---|---|
//! | delivered bytes equal written bytes | every byte of a stream has a known value; lengths at the end |
//! | nothing is readable beyond a hole | the readable end is held against the ranges that came in over the link |
//! | a window's right edge never goes back (but for a scale's rounding, RFC 7323 2.4) | read from every segment that leaves |
//! | memory stays within the budget | after every turn |
//! | progress at the end | everything ends within the plan's limit, and nothing is left behind |

mod draw;
mod flow;
mod plan;
mod run;
mod watch;

pub use draw::Random;
pub use plan::{Plan, PlanError};
pub use run::{Failure, Outcome, Placement, simulate};

use std::path::{Path, PathBuf};

/// Where the plans are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("simulation/plans")
}

/// All plans, by name.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn plans() -> Vec<Plan> {
    let mut all: Vec<Plan> = std::fs::read_dir(folder())
        .expect("the folder of plans")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "plan"))
        .map(|path| Plan::read(&path).unwrap_or_else(|error| panic!("{error}")))
        .collect();
    all.sort_by(|first, second| first.name.cmp(&second.name));
    all
}
