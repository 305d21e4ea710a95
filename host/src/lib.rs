//! bulkhead.

pub mod checksum;
pub mod device;
pub mod fault;
pub mod frame;
pub mod join;
pub mod placement;
pub mod split;
