//! The engine: compiler settings, limits of a store, and the one of each that all instances share.

use std::sync::{Arc, OnceLock};

use bulkhead_wit::limits;
use wasmtime::{Config, Engine, ResourceLimiter, WasmBacktraceDetails};
#[cfg(feature = "fuzz")]
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::ticker::{Meter, Ticker};
use crate::fault::{Budget, Fault};
use crate::payload::Desk;

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
    /// Units of work of one call, in place of CPU time.
    pub(super) fuel: Option<u64>,
    /// Memories of an instance.
    memories: usize,
}

impl Shared {
    fn new(config: &Config, fuel: Option<u64>, memories: usize) -> Result<Self, String> {
        let engine = Engine::new(config).map_err(|error| format!("{error:#}"))?;
        let ticker = Ticker::new(&engine).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { engine, ticker, fuel, memories })
    }
}

/// The engine of this program, made on first use.
///
/// # Errors
/// A sentence, when this machine cannot run compiled code or start a thread.
pub(crate) fn shared() -> Result<&'static Shared, String> {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    let made = SHARED.get_or_init(|| Shared::new(config().epoch_interruption(true), None, 1));
    made.as_ref().map_err(Clone::clone)
}

/// Units of work of one call while fuzzing: a hundred times what the heaviest honest step was seen to take.
#[cfg(feature = "fuzz")]
const FUEL: u64 = 50_000_000;
/// Instances that may be alive at once while fuzzing.
#[cfg(feature = "fuzz")]
const POOL: u32 = 64;
/// Bytes of a pooled memory that are zeroed rather than given back to the system.
#[cfg(feature = "fuzz")]
const RESIDENT: usize = 1 << 20;

/// The engine for fuzzing, made on first use: calls end by fuel, at the same instruction each time; instances come from a
/// pool, since each lives for a few microseconds; and a module has a second memory, for its counters.
///
/// # Errors
/// As [`shared`].
#[cfg(feature = "fuzz")]
pub(crate) fn fuzzing() -> Result<&'static Shared, String> {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    let made = SHARED.get_or_init(|| {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(POOL)
            .total_core_instances(POOL * PARTS as u32)
            .total_memories(POOL * 2)
            .total_tables(POOL * 4)
            .max_memories_per_module(2)
            .max_tables_per_module(4)
            .table_elements(TABLE)
            .max_memory_size(limits::MEMORY)
            .linear_memory_keep_resident(RESIDENT)
            .pagemap_scan(Enabled::Auto);
        let mut config = config();
        config.consume_fuel(true).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Shared::new(&config, Some(FUEL), 2)
    });
    made.as_ref().map_err(Clone::clone)
}

/// Instances are made on demand rather than from a pool: an instance lives for hours, and the pool's 10 µs are of no
/// use to it.
fn config() -> Config {
    let mut config = Config::new();
    config
        .max_wasm_stack(STACK)
        // A report names the guilty line all the same: see `lines`.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(true)
        .coredump_on_trap(true)
        // The same module does the same on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false);
    config
}

/// What a store knows beside its instance.
pub(crate) struct Host {
    pub(super) meter: Meter,
    pub(super) limiter: Limiter,
    pub(super) fuel: Option<u64>,
    /// While a step of a module of the second world is taken.
    pub(super) desk: Option<Desk>,
}

impl Host {
    pub(super) fn new(shared: &Shared) -> Self {
        let limiter = Limiter { memories: shared.memories };
        Self { meter: Meter::default(), limiter, fuel: shared.fuel, desk: None }
    }
}

/// Keeps an instance within its memory. Growth beyond it ends the instance with the fault, rather than telling the
/// module, whose allocator would only panic.
pub(super) struct Limiter {
    memories: usize,
}

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
        self.memories
    }
}
