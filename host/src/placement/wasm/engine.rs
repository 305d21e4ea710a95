//! The engine: compiler settings, limits of a store, and the one of each that all instances share.

use std::sync::{Arc, OnceLock};

use bulkhead_wit::limits;
use wasmtime::{Config, Engine, ResourceLimiter, WasmBacktraceDetails};

use super::ticker::{Meter, Ticker};
use crate::fault::{Budget, Fault};

/// Native stack of a module, in bytes. A module built by LLVM has a stack of its own in its memory beside it.
const STACK: usize = 512 << 10;
/// Elements of a table: functions that are called indirectly.
const TABLE: usize = 1 << 16;
/// Core instances, memories and tables that one component may have.
const PARTS: usize = 16;

/// What all instances share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(super) ticker: Arc<Ticker>,
}

/// The engine of this program, made on first use.
///
/// # Errors
/// A sentence, when this machine cannot run compiled code or start a thread.
pub(crate) fn shared() -> Result<&'static Shared, String> {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    let made = SHARED.get_or_init(|| {
        let engine = Engine::new(&config()).map_err(|error| format!("{error:#}"))?;
        let ticker = Ticker::new(&engine).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Shared { engine, ticker })
    });
    made.as_ref().map_err(Clone::clone)
}

/// Instances are made on demand rather than from a pool: an instance lives for hours, and the pool's 10 µs are of no
/// use to it.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        // A report names the guilty line.
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .coredump_on_trap(true)
        // The same module does the same on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false);
    config
}

/// What a store knows beside its instance.
#[derive(Default)]
pub(crate) struct Host {
    pub(super) meter: Meter,
    pub(super) limiter: Limiter,
}

/// Keeps an instance within its memory. Growth beyond it ends the instance with the fault, rather than telling the
/// module, whose allocator would only panic.
#[derive(Default)]
pub(super) struct Limiter;

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > limits::MEMORY {
            let (asked, limit) = (desired as u64, limits::MEMORY as u64);
            return Err(wasmtime::Error::new(Fault::over(Budget::Memory { asked, limit })));
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        1
    }
}
