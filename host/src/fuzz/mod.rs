//! Fuzzing a protocol module as a file, without its source and without a network.
//!
//! A module is a pure function, so an input is a list of what happens to it, a finding replays exactly, and there is
//! nothing to isolate: a trap is an error value, a hang is exhausted fuel.
//!
//! - [`rewrite`]: counters are put into the component, so that coverage can be seen (`survey` measures first);
//! - [`target`]: the module in two builds, with counters for the search and plain for the proof;
//! - [`case`], [`text`]: what an input is, and its form on disk;
//! - [`execute`], with `flow`, `wire` and `applications`: one run, and all the eyes on it;
//! - [`finding`]: what was found, and by which name it is known;
//! - `generate`, `mutate`: new cases; `coverage`, `corpus`: which of them are worth keeping;
//! - [`seeds`]: cases of traffic that was seen;
//! - [`campaign`], with `worker` and `bench`: the search; [`check`]: the proof, in fresh instances of the module as it was built;
//! - [`many`]: the search on many cores and machines, by LibAFL;
//! - [`cover`]: what a corpus reaches, by function and by source line;
//! - [`mod@minimise`]: small cases of large ones; [`store`]: the directory of a campaign; [`trace`]: a run for people.
//!
//! With the feature `fuzz-cases` alone there are cases, their mutator and the executor, and nothing of the sandbox: a native
//! fuzzer needs no more (`tests/libfuzzer`).

mod applications;
#[cfg(feature = "fuzz")]
mod bench;
#[cfg(feature = "fuzz")]
pub mod campaign;
pub mod case;
#[cfg(feature = "fuzz")]
pub mod check;
#[cfg(feature = "fuzz")]
mod corpus;
#[cfg(feature = "fuzz")]
pub mod cover;
#[cfg(feature = "fuzz")]
mod coverage;
pub mod execute;
pub mod finding;
mod flow;
mod generate;
pub mod limits;
#[cfg(feature = "fuzz-many")]
pub mod many;
#[cfg(feature = "fuzz")]
pub mod minimise;
mod mutate;
#[cfg(feature = "fuzz")]
pub mod rewrite;
#[cfg(feature = "fuzz")]
pub mod seeds;
#[cfg(feature = "fuzz")]
pub mod store;
#[cfg(feature = "fuzz")]
mod survey;
#[cfg(feature = "fuzz")]
pub mod target;
pub mod text;
pub mod trace;
mod wire;
#[cfg(feature = "fuzz")]
mod worker;

pub use applications::Shown;
#[cfg(feature = "fuzz")]
pub use campaign::{Campaign, Found, Options, Progress};
pub use case::{Case, Event};
#[cfg(feature = "fuzz")]
pub use check::{Checker, Kept, Other};
pub use execute::{Executor, Outcome, Watcher, World};
pub use finding::{Finding, Kind};
#[cfg(feature = "fuzz-many")]
pub use many::{ManyError, Meeting, Reach};
#[cfg(feature = "fuzz")]
pub use minimise::minimise;
pub use mutate::{Mutator, Structure};
#[cfg(feature = "fuzz")]
pub use rewrite::{Instrumented, Probe, RewriteError, instrument};
#[cfg(feature = "fuzz")]
pub use store::Store;
#[cfg(feature = "fuzz")]
pub use target::{Counted, Target, TargetError};
pub use trace::Trace;
