//! smoltcp as a component, which reads payload.
#![cfg_attr(target_arch = "wasm32", no_std)]

bulkhead_face::component!(bulkhead_smoltcp::Smoltcp);
