//! What the tests share.

pub mod attack;
pub mod faults;
pub mod frames;
pub mod meddling;
pub mod scripted;
pub mod simulation;
pub mod tape;
pub mod wat;
pub mod world;

pub use bulkhead_namespace::Namespace;
pub use tape::Tape;
