//! The module as a component in wasmtime's sandbox, in this process: a function call away, behind a wall.
//!
//! - `engine`: compiler settings and the limits of a store;
//! - `ticker`: ends a call that uses up its CPU time;
//! - `bindings`, `convert`, `lower`, `lift`: the way in and out of the module's memory;
//! - `payload`: what a module with payload access imports;
//! - `blame`, `lines`: what went wrong, as a fault, and where.

mod bindings;
mod blame;
mod convert;
pub(crate) mod engine;
mod lift;
mod lines;
mod lower;
mod payload;
mod ticker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_wit::{CONTRACT, Config, Description, Inputs, Outputs, Summary, Time, limits};
#[cfg(feature = "fuzz")]
use wasmtime::component::WasmList;
use wasmtime::component::{
    Component, ComponentExportIndex, Func, Instance as Instantiated, Linker, TypedFunc,
};
use wasmtime::{Store, UpdateDeadline};

use super::{Identity, Instance, StepCost, capacity};
use crate::artifact::Facts;
use crate::fault::{Budget, Fault, Refused};
use crate::payload::Desk;
use bindings::{ProtocolModule, ProtocolModulePre, wit};
pub(crate) use blame::PanicText;
use engine::{Host, Shared};
use lift::{Account, StepOutputs};
pub(crate) use lines::Lines;
#[cfg(feature = "fuzz")]
pub(crate) use lines::Tables;
use lower::StepInputs;
use ticker::Pulse;

/// Bytes of lists and text that `describe`, `start` and an instantiation may give back.
const TALK: usize = 64 << 10;
/// Bytes that a `load` may give back: a summary of every connection.
const SUMMARIES: usize = limits::CONNECTIONS as usize * size_of::<wit::Summary>();

/// What `load` answers. Generated code would take longer over a thousand accounts than their checking.
type Loaded = Result<Vec<Account>, String>;

/// A component that is compiled and linked: instances are made from it.
#[derive(Clone)]
pub(crate) struct Prepared {
    shared: &'static Shared,
    pre: ProtocolModulePre<Host>,
    step: ComponentExportIndex,
    load: ComponentExportIndex,
    panic: Option<PanicText>,
    lines: Arc<Lines>,
    has_payload: bool,
    /// Bytes of memory that an instance may have.
    memory: u64,
}

impl Prepared {
    /// Links a component, whose imports were found to be what its world allows. Payload access is linked only where it is
    /// imported.
    ///
    /// # Errors
    /// A sentence that names the export which is missing or of another type.
    pub(crate) fn new(component: &Component, facts: &Facts, lines: Lines) -> Result<Self, String> {
        Self::of(engine::shared()?, component, facts, lines)
    }

    /// As [`new`](Self::new), in the engine that the component was compiled for.
    pub(crate) fn of(
        shared: &'static Shared,
        component: &Component,
        facts: &Facts,
        lines: Lines,
    ) -> Result<Self, String> {
        let (panic, memory) = (facts.panic, facts.memory());
        let lines = Arc::new(lines);
        let link = move || {
            let mut linker = Linker::new(&shared.engine);
            let has_payload = payload::is_imported(component);
            if has_payload {
                payload::link(&mut linker)?;
            }
            let pre = ProtocolModulePre::new(linker.instantiate_pre(component)?)?;
            let protocol = component.get_export_index(None, CONTRACT);
            let export = |name: &str| {
                let found = protocol.and_then(|protocol| component.get_export_index(Some(&protocol), name));
                found.ok_or_else(|| wasmtime::Error::msg(format!("no function `{name}` is exported")))
            };
            Ok(Self {
                shared,
                pre,
                step: export("step")?,
                load: export("load")?,
                panic,
                lines,
                has_payload,
                memory,
            })
        };
        link().map_err(|error: wasmtime::Error| format!("{error:#}"))
    }

    /// What the module says of itself, asked of an instance that is thrown away.
    ///
    /// # Errors
    /// How it failed.
    pub(crate) fn describe(&self) -> Result<Description, Fault> {
        let mut instance = Wasm::new(self, Description::default())?;
        let description = instance.enter(limits::LIFE_CPU, TALK, |live| {
            live.module.bulkhead_protocol_protocol().call_describe(&mut live.store)
        })?;
        Ok(description.into())
    }
}

/// A module that runs in the sandbox.
pub struct Wasm {
    description: Description,
    /// `None` once it has failed: nothing of it is entered again.
    live: Option<Live>,
    cost: StepCost,
    /// CPU time that a step may take.
    step_cpu: Time,
    /// Of the module's file.
    hash: Option<[u8; 32]>,
    has_payload: bool,
    memory: u64,
}

struct Live {
    store: Store<Host>,
    module: ProtocolModule,
    step: Func,
    load: Func,
    #[cfg(feature = "fuzz")]
    instance: Instantiated,
    #[cfg(feature = "fuzz")]
    view: Option<TypedFunc<(), (WasmList<u8>,)>>,
    pulse: Pulse,
    panic: Option<PanicText>,
    lines: Arc<Lines>,
}

impl Wasm {
    /// A new instance, not started yet.
    pub(crate) fn new(prepared: &Prepared, description: Description) -> Result<Self, Fault> {
        let mut store = Store::new(&prepared.shared.engine, Host::new(prepared.shared));
        store.limiter(|host| &mut host.limiter);
        store.epoch_deadline_callback(|mut store| match store.data_mut().meter.exceeded() {
            None => Ok(UpdateDeadline::Continue(1)),
            Some((used, limit)) => Err(wasmtime::Error::new(Fault::over(Budget::Cpu { used, limit }))),
        });
        let mut pulse = prepared.shared.ticker.pulse();
        begin(&mut store, &mut pulse, limits::LIFE_CPU, TALK);
        let made = prepared.instantiate(&mut store);
        pulse.end();
        match made {
            Ok((module, [step, load], _instance)) => {
                let live = Live {
                    store,
                    module,
                    step,
                    load,
                    #[cfg(feature = "fuzz")]
                    instance: _instance,
                    #[cfg(feature = "fuzz")]
                    view: None,
                    pulse,
                    panic: prepared.panic,
                    lines: Arc::clone(&prepared.lines),
                };
                Ok(Self {
                    description,
                    live: Some(live),
                    cost: StepCost::default(),
                    step_cpu: limits::STEP_CPU,
                    hash: None,
                    has_payload: prepared.has_payload,
                    memory: prepared.memory,
                })
            }
            Err(error) => Err(blame::fault(&error, &mut store, (prepared.panic, &prepared.lines), TALK)),
        }
    }

    /// Shows the list of bytes that an export gives which takes nothing, where it lies in the module's memory; nothing is
    /// shown where there is no such export.
    ///
    /// # Errors
    /// How the module failed.
    #[cfg(feature = "fuzz")]
    pub(crate) fn view<T>(&mut self, export: &str, see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Fault> {
        let live = self.live.as_mut().ok_or(Fault::Ended)?;
        if live.view.is_none() {
            live.view = live.instance.get_typed_func(&mut live.store, export).ok();
        }
        let Some(view) = live.view else { return Ok(None) };
        self.enter(limits::LIFE_CPU, limits::SAVE, |live| {
            let (list,) = view.call(&mut live.store, ())?;
            Ok(Some(see(list.as_le_slice(&live.store))))
        })
    }

    /// The hash of the file that it comes from.
    pub(crate) fn named(mut self, hash: [u8; 32]) -> Self {
        self.hash = Some(hash);
        self
    }

    /// A step, which `call` takes.
    fn step_by(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        call: impl FnOnce(&mut Live, StepInputs<'_>) -> wasmtime::Result<()>,
    ) -> Result<(), Fault> {
        outputs.clear();
        let from = Instant::now();
        let inputs = StepInputs::new(inputs);
        lift::exchange(outputs);
        // Outputs are lifted by hand; what is staged is counted by the desk, too.
        let lifted = if self.has_payload { limits::STAGED_BYTES } else { 0 };
        let result = self.enter(self.step_cpu, lifted, |live| call(live, inputs));
        lift::exchange(outputs);
        self.cost.add(from);
        result
    }

    /// A call into the module with its budgets: CPU time in nanoseconds, and bytes that it may give back. After an
    /// error it is not entered again.
    fn enter<T>(
        &mut self,
        cpu: Time,
        lifted: usize,
        call: impl FnOnce(&mut Live) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let live = self.live.as_mut().ok_or(Fault::Ended)?;
        begin(&mut live.store, &mut live.pulse, cpu, lifted);
        let result = call(live);
        live.pulse.end();
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                let fault = blame::fault(&error, &mut live.store, (live.panic, &live.lines), lifted);
                self.live = None;
                Err(fault)
            }
        }
    }
}

fn begin(store: &mut Store<Host>, pulse: &mut Pulse, cpu: Time, lifted: usize) {
    store.data_mut().meter.begin(Duration::from_nanos(cpu));
    store.set_epoch_deadline(1);
    store.set_hostcall_fuel(lifted);
    if let Some(fuel) = store.data().fuel {
        // Fails only where the engine counts no fuel.
        let _ = store.set_fuel(fuel);
    }
    pulse.begin();
}

impl Prepared {
    fn instantiate(
        &self,
        store: &mut Store<Host>,
    ) -> wasmtime::Result<(ProtocolModule, [Func; 2], Instantiated)> {
        let instance = self.pre.instance_pre().instantiate(&mut *store)?;
        let module = ProtocolModule::new(&mut *store, &instance)?;
        let mut function = |index| {
            let found = instance.get_func(&mut *store, index);
            found.ok_or_else(|| wasmtime::Error::msg("a function of the contract is not exported"))
        };
        let (step, load) = (function(self.step)?, function(self.load)?);
        // Checked here once, for all calls: see `call_step`.
        step.typed::<StepInputs<'static>, (StepOutputs,)>(&mut *store)?;
        Ok((module, [step, load], instance))
    }
}

#[expect(unsafe_code, reason = "the type of `step` is checked when the instance is made, not in every step")]
fn call_step(live: &mut Live, inputs: StepInputs<'_>) -> wasmtime::Result<()> {
    // SAFETY: `instantiate` has checked this function against this very type; the lifetime is no part of the check.
    let step = unsafe { TypedFunc::<StepInputs<'_>, (StepOutputs,)>::new_unchecked(live.step) };
    step.call(&mut live.store, inputs).map(|_| ())
}

impl Instance for Wasm {
    fn description(&self) -> &Description {
        &self.description
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        let config = wit::Config::from(config);
        let started = self.enter(limits::LIFE_CPU, TALK, |live| {
            live.module.bulkhead_protocol_protocol().call_start(&mut live.store, &config)
        })?;
        started.map_err(|text| Fault::Refused(Refused { call: "start", text }))
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        self.step_by(inputs, outputs, call_step)
    }

    fn has_payload(&self) -> bool {
        self.has_payload
    }

    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        self.step_by(inputs, outputs, |live, inputs| {
            live.store.data_mut().desk = Some(std::mem::take(desk));
            let result = call_step(live, inputs);
            // Before a store that has failed is dropped.
            *desk = live.store.data_mut().desk.take().unwrap_or_default();
            result
        })
    }

    fn limit_steps(&mut self, cpu: Time) {
        self.step_cpu = cpu;
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.enter(limits::LIFE_CPU, limits::SAVE, |live| {
            live.module.bulkhead_protocol_protocol().call_save(&mut live.store)
        })
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        let config = wit::Config::from(config);
        let loaded = self.enter(limits::LIFE_CPU, SUMMARIES, |live| {
            let load = live.load.typed::<(&wit::Config, Time, &[u8]), (Loaded,)>(&live.store)?;
            load.call(&mut live.store, (&config, now, state))
        })?;
        let accounts = loaded.0.map_err(|text| Fault::Refused(Refused { call: "load", text }))?;
        Ok(accounts.into_iter().map(|Account(summary)| summary).collect())
    }

    fn capacity(&self) -> u32 {
        capacity(self.memory, self.description.bytes_per_connection)
    }

    fn cost(&self) -> StepCost {
        self.cost
    }

    fn identity(&self) -> Identity {
        Identity { hash: self.hash, placement: "wasm".into() }
    }
}
