//! The only `generate!`: the types and exports of the world `protocol-module`, or, with payload, of the second world, which
//! has the same and an import.
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated; which of these it needs is its own affair"
)]

#[cfg(not(feature = "payload"))]
wit_bindgen::generate!({
    path: "../bulkhead.wit",
    world: "protocol-module",
});
#[cfg(feature = "payload")]
wit_bindgen::generate!({
    path: "../bulkhead.wit",
    world: "protocol-module-with-payload",
});
