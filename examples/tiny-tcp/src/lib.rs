//! The tiny TCP as a component: the face of the TCP component around another core. Everything but the core is the same.
#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(target_arch = "wasm32")]
extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
#[path = "../../../guest-tcp/src/convert.rs"]
mod convert;
#[cfg(target_arch = "wasm32")]
#[path = "../../../guest-tcp/src/exports.rs"]
mod exports;
#[cfg(target_arch = "wasm32")]
#[path = "../../../guest-tcp/src/face.rs"]
mod face;
#[cfg(target_arch = "wasm32")]
#[path = "../../../guest-tcp/src/memory.rs"]
mod memory;
#[cfg(target_arch = "wasm32")]
#[path = "../../../guest-tcp/src/quick.rs"]
mod quick;
