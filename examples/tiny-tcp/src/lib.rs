//! The tiny TCP as a component.
#![cfg_attr(target_arch = "wasm32", no_std)]

bulkhead_face::component!(bulkhead_tiny_tcp::Tcp);
