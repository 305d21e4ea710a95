//! The only `generate!`: the types and exports of the world `protocol-module`.
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated; which of these it needs is its own affair"
)]

wit_bindgen::generate!({
    path: "../../wit/bulkhead.wit",
    world: "protocol-module",
});
