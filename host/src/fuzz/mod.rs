//! Fuzzing a protocol module as a file, without its source and without a network.
//!
//! A module is a pure function, so an input is a list of what happens to it, a finding replays exactly, and there is
//! nothing to isolate: a trap is an error value, a hang is exhausted fuel.
//!
//! - [`rewrite`]: counters are put into the component, so that coverage can be seen ([`survey`] measures first);
//! - [`target`]: the module in two builds, with counters for the search and plain for the proof.

mod limits;
pub mod rewrite;
mod survey;
pub mod target;

pub use rewrite::{Instrumented, Probe, RewriteError, instrument};
pub use target::{Counted, Target, TargetError};
