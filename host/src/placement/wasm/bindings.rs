//! The only generated bindings, and the one thing that they cannot do: a `step` without copies in between.
//!
//! Generated code turns each record of a list into wasm memory field by field, at about 40 ns each, and wants vectors
//! of its own types first. So `step` goes through [`StepInputs`](super::lower::StepInputs) and
//! [`StepOutputs`](super::lift::StepOutputs), which read and write the contract's Rust types straight from and to
//! the module's memory; everything else is called through what is generated here.

wasmtime::component::bindgen!({
    path: "../wit/bulkhead.wit",
    world: "protocol-module",
});

pub(super) use exports::bulkhead::protocol::protocol as wit;
