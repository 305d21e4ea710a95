//! What comparisons of stacks are made of: the benchmark against the kernel (`cargo xtask bench`), the comparison of
//! placements (`bulkhead compare`), and the cost of a step share the same applications, clients and figures.
//!
//! - `applications`: servers, the same code over any stream;
//! - `client`: what a client does, over any stack, and what it sees;
//! - `step`: an instance by itself, with one connection that receives;
//! - `cost`: the same with many connections;
//! - `frames`: the segments of their peers;
//! - `usage`: CPU time, memory and context switches of a process, and which processor it runs on;
//! - `figures`: medians with their spread, ratios, the table, JSON.

mod applications;
mod client;
mod cost;
mod figures;
mod frames;
mod step;
mod usage;

pub use applications::{
    ANSWER, CHUNK, DISCARD, ECHO, LONG, PORTS, REQUEST, SHORT, SOURCE, listen, listen_at,
};
pub use client::{
    Kernel, Peer, Through, bulk_in, bulk_out, connections, idle, many, ping_pong, requests, round, run, share,
};
pub use cost::costs;
pub use figures::{Figure, Results, Spread, machine, ratio, short, spread};
pub use step::{Bulk, steps};
pub use usage::{Usage, may_open, pin};
