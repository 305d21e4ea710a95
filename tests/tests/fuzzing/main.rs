//! The fuzzer: what instrumentation does to a module, and what a campaign finds.

mod campaign;
mod coverage;
mod many;
mod planted;
mod seeds;
