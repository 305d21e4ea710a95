//! bulkhead.

pub mod fault;
pub mod placement;
