//! The TCP with a planted bug as a component.
#![cfg_attr(target_arch = "wasm32", no_std)]

bulkhead_face::component!(planted_core::Tcp);
