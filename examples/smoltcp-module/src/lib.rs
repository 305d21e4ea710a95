//! smoltcp as a component: the face of the TCP component around another core, which reads payload.
#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(target_arch = "wasm32")]
extern crate alloc;
// The face finds its core under the name that it has beside the TCP component.
#[cfg(target_arch = "wasm32")]
extern crate self as bulkhead_tcp;

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
mod imports;
#[cfg(target_arch = "wasm32")]
#[path = "../../../guest-tcp/src/memory.rs"]
mod memory;
#[cfg(target_arch = "wasm32")]
#[path = "../../../guest-tcp/src/quick.rs"]
mod quick;

#[cfg(target_arch = "wasm32")]
pub use imports::Tcp;
