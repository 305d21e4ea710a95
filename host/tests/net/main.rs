//! The sockets and their driver, in real time: two stacks joined by a pair of devices in memory.
//!
//! What speaks through the sockets alone runs once in every placement of the module; each file says of itself nothing
//! about it, and gets its stacks from `common`.
#![cfg(feature = "net")]
#![expect(clippy::duplicate_mod, reason = "the same tests in every placement, by inclusion")]

use bulkhead::net::Builder;
use bulkhead::placement::native::Native;
use bulkhead_tcp::Tcp;

macro_rules! suites_in {
    ($placement:ident, $builder:ident => $with_module:expr, $($more:ident),*) => {
        #[path = "."]
        mod $placement {
            use super::*;

            /// Gives the stack its module.
            fn with_module($builder: Builder) -> Builder {
                $with_module
            }

            mod blocking;
            mod cancel;
            mod common;
            mod ends;
            mod hand_over;
            mod load;
            mod streams;
            mod udp;
            $(mod $more;)*
        }
    };
}

suites_in!(native, builder => builder.instance(Box::new(Native::new(Box::new(Tcp::new())))), faults, swap);

#[cfg(feature = "wasm")]
suites_in!(wasm, builder => builder,);

// The server is this package's own program.
#[cfg(feature = "cli")]
suites_in!(process, builder => {
    let program = env!("CARGO_BIN_EXE_bulkhead");
    builder.process(bulkhead::placement::process::Launch::new(program, ["serve-module"]))
}, servers);
