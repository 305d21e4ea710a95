//! The contract between a protocol module and its host, as Rust types.
//!
//! A module is a pure function: `(state, now, inputs) -> (state, outputs)`. It has no clock, no randomness, no
//! I/O and no imports, and it never sees a payload byte: what arrives is a header and a length, what leaves is a
//! header and a byte range of a queue that the host holds.
//!
//! This crate is the twin of `bulkhead.wit`. It has no dependencies and no `std`, so that a module, the host, a
//! recording and a fuzz corpus can all use the same types:
//!
//! - [`types`]: inputs, outputs and what they are made of, item by item as in the WIT file;
//! - [`limits`]: every bound that both sides must keep, in one place;
//! - [`registry`]: the numbered registries (options, information fields, reasons), which grow without a new contract;
//! - [`encoding`]: the one byte encoding of inputs and outputs, used by recordings, the process placement and fuzzing;
//! - [`ip`] and [`kept`](mod@kept): what most modules need and none has to use, network headers and a state as bytes.
//!
//! Times are nanoseconds, sizes are bytes, offsets are absolute positions in a stream counted from its first byte.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod encoding;
pub mod ip;
pub mod kept;
pub mod limits;
pub mod registry;
pub mod types;

pub use types::*;

/// The contract's version: the package version in `bulkhead.wit`. A module is linked only if it exports exactly this.
pub const CONTRACT: &str = "bulkhead:protocol/protocol@1.0.0";

/// The [state format](Description::state_format) of a module that cannot save its state: it is never asked to, another one takes
/// over from it by a cold swap alone, and after a fault everything that it was given is done again, or it starts afresh.
pub const STATELESS: u32 = 0;

/// The payload of a step, for a module of the second world: all that passes through here is recorded too. Bounds stand in
/// [`limits`]; a module that exceeds one, or names what is not there, has broken the contract, and its step has no effect.
pub trait Payload {
    /// Bytes of a queue, segment, message or hold slot that is this step's, named as in a [`Send`]: from `at` on, fewer
    /// than `length` where it ends before. Of a queue there is what was written and not acknowledged.
    fn read(&mut self, source: Source, of: u64, at: u64, length: u32) -> alloc::vec::Vec<u8>;

    /// Keeps bytes for this step and gives the number by which a send or place with source [`Source::Staged`] names them.
    fn stage(&mut self, bytes: &[u8]) -> u32;
}

/// A protocol module as Rust code sees it, with or without a wall around it.
///
/// Implementations are deterministic: the same `start` or `load` followed by the same steps gives the same outputs
/// and the same `save`, on every machine and in every placement.
pub trait Module {
    /// What this module is, which protocols it serves and which it may send.
    fn describe(&self) -> Description;

    /// Begins anew with this configuration. All of the module's randomness comes from `config.seed`.
    ///
    /// # Errors
    /// A sentence for people when the configuration cannot be served.
    fn start(&mut self, config: &Config) -> Result<(), alloc::string::String>;

    /// One step: deals with the inputs in the order calls, positions, messages, segments, time, and fills `outputs`,
    /// which the caller hands over [cleared](Outputs::clear).
    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs);

    /// Whether it is of the second world, and its steps are to be taken by [`step_with`](Module::step_with).
    fn has_payload(&self) -> bool {
        false
    }

    /// One [`step`](Module::step) with payload at hand.
    fn step_with(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs, payload: &mut dyn Payload) {
        let _ = payload;
        self.step(inputs, outputs);
    }

    /// The whole state in a canonical form: equal states give equal bytes, and saving changes nothing. A module with
    /// state format 0 has none, and is not asked.
    fn save(&self) -> alloc::vec::Vec<u8>;

    /// Takes over from a state that [`save`](Module::save) wrote and accounts for every connection in it.
    ///
    /// # Errors
    /// A sentence for people when the state is of a format or version that this module does not read.
    fn load(
        &mut self,
        config: &Config,
        now: Time,
        state: &[u8],
    ) -> Result<alloc::vec::Vec<Summary>, alloc::string::String>;
}
