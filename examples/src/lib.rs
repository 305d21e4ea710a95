//! What the examples share: the module that their stacks run.
//!
//! An application needs none of this: [`Builder`] runs the bundled module in the sandbox by itself. The examples also
//! run without the feature `wasm`, natively, so that they can be tried where wasmtime is not built.

use bulkhead::device::Device;
use bulkhead::net::Builder;

/// A stack on this device. With the feature `wasm` this is `Builder::new(device)`.
#[must_use]
pub fn builder(device: impl Device + 'static) -> Builder {
    let builder = Builder::new(device);
    if cfg!(feature = "wasm") {
        builder
    } else {
        let tcp = Box::new(bulkhead_tcp::Tcp::new());
        builder.instance(Box::new(bulkhead::placement::native::Native::new(tcp)))
    }
}
