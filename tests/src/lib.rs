//! What the tests share.

pub use bulkhead_namespace::Namespace;
