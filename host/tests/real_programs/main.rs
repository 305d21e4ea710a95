//! The program among real ones: nginx, curl, redis, wrk, iperf3, in a network namespace of the test's own.
//!
//! `cargo xtask test` installs what they need; where a program is missing, a test skips, and says so.

mod measured;
mod passed_on;
mod programs;
#[expect(dead_code, reason = "shared with other tests, which use all of it")]
#[path = "../kernel_peer/server.rs"]
mod server;

pub(crate) use programs::{have, nginx, start};
