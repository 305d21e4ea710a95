//! The component's face: WIT types to core types and back, and nothing else.
//!
//! - `bindings`: what wit-bindgen makes of the contract;
//! - `convert`: between its types and [`bulkhead_wit`]'s, item by item;
//! - `face`: the one instance of the core, as the generated bindings call it;
//! - `exports`: what the host calls, by the contract's names;
//! - `quick`: the lists of a step without generated code, which nearly every step takes;
//! - `memory`: the allocator and the panic handler, which a component without `std` brings along.
//!
//! Natively this crate is empty: there the core is used directly.
#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(target_arch = "wasm32")]
extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod convert;
#[cfg(target_arch = "wasm32")]
mod exports;
#[cfg(target_arch = "wasm32")]
mod face;
#[cfg(target_arch = "wasm32")]
mod memory;
#[cfg(target_arch = "wasm32")]
mod quick;
