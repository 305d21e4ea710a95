//! Scripts that hold a module against the RFCs, segment by segment, in virtual time; and [`contract`], which holds it
//! against what any module has to be able to do.
//!
//! A script lists what the application does, what arrives and what must leave, each at its time. It runs against any
//! instance, wherever it is placed: the host around it is the real one, the clock and the wire are the script's. The
//! dialect is described in `tests/conformance/README.md`.
//!
//! ```text
//! +0  < S 0:0(0) win 32792 <mss 1460,nop,nop,sackOK,nop,wscale 7>
//! +0  > S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale *>
//! +.1 < . 1:1(0) ack 1 win 257
//! +0  accept(3, ..., ...) = 4
//! ```
//!
//! Numbers are the script's: sequence numbers of both ends count from 0, and our timestamps from what the first
//! expected segment says. Every byte of both streams has a known value, so what is lost, doubled or misplaced shows
//! even where no line says so.

mod calls;
mod compare;
pub mod contract;
mod flow;
mod options;
mod parse;
mod report;
mod run;
pub mod script;
mod show;
mod suite;
mod wire;

pub(crate) use show::segment_text;

pub use parse::{ParseError, parse};
pub use report::{Failure, Trace};
pub use run::run;
pub use script::Script;
pub use suite::{Factory, Ran, Suite, Verdict, run_basic, run_suite};
