//! What the tests share.

pub mod wat;

pub use bulkhead_namespace::Namespace;
