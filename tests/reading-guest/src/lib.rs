//! The UDP that reads and alters what it carries, as a component.
#![cfg_attr(target_arch = "wasm32", no_std)]

bulkhead_face::component!(reading_core::Reading);
