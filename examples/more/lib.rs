//! What these examples share: the module that their stacks run.

use bulkhead::device::Device;
use bulkhead::net::Builder;
use bulkhead::placement::native::Native;

/// A stack on this device, with the TCP module natively.
#[must_use]
pub fn builder(device: impl Device + 'static) -> Builder {
    Builder::new(device).instance(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))))
}
