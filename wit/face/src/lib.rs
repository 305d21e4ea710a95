//! The face of a component: between what the host calls and a [`Module`] that is written in Rust, and nothing else.
//!
//! All that a guest's own crate has to say is [`component!`]`(its::Module)`. The rest is here:
//!
//! - `bindings`: what wit-bindgen makes of the contract;
//! - `convert`: between its types and [`bulkhead_wit`]'s, item by item;
//! - `face`: the one instance of the module, as the generated bindings call it;
//! - `exports`: what the host calls, which [`component!`] gives the contract's names;
//! - `quick`: the lists of a step without generated code, which nearly every step takes;
//! - `memory`: the allocator and the panic handler, which a component without `std` brings along.
//!
//! Natively there is nothing but the macro, which then looks at the module's type: there a module is used directly.
#![no_std]

#[cfg(target_arch = "wasm32")]
extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod convert;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod exports;
#[cfg(target_arch = "wasm32")]
mod face;
#[cfg(target_arch = "wasm32")]
mod memory;
#[cfg(target_arch = "wasm32")]
mod quick;

use bulkhead_wit::Module;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use face::{Component, Face};

/// Makes a component of the crate that says it, around a type that is [`Module`] and [`Default`]: once, at its root, in a
/// `cdylib` that is `no_std` for WebAssembly. For other targets it checks the type and gives nothing.
///
/// ```
/// # use bulkhead_wit::{Config, Description, Inputs, Module, Outputs, Summary, Time};
/// #[derive(Default)]
/// struct Silent;
///
/// impl Module for Silent {
///     # fn describe(&self) -> Description {
///     #     Description::default()
///     # }
///     # fn start(&mut self, _: &Config) -> Result<(), String> {
///     #     Ok(())
///     # }
///     # fn save(&self) -> Vec<u8> {
///     #     Vec::new()
///     # }
///     # fn load(&mut self, _: &Config, _: Time, _: &[u8]) -> Result<Vec<Summary>, String> {
///     #     Ok(Vec::new())
///     # }
///     fn step(&mut self, _: &Inputs<'_>, _: &mut Outputs) {}
///     // and the others
/// }
///
/// bulkhead_face::component!(Silent);
/// ```
#[macro_export]
macro_rules! component {
    ($module:ty) => {
        const _: () = $crate::is_module::<$module>();

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            static FACE: $crate::Face<$module> = $crate::Face::new();

            impl $crate::Component for Component {
                type Module = $module;

                fn face() -> &'static $crate::Face<$module> {
                    &FACE
                }
            }

            $crate::exports! { Component }
        };
    };
}

/// Says at compile time whether a type can be made a component of.
#[doc(hidden)]
pub const fn is_module<M: Module + Default>() {}
