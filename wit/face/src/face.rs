//! The one instance of the module, as the generated bindings call it.
#![expect(
    unsafe_code,
    reason = "one cell for the state; the component model enters an instance from one thread only"
)]

use crate::bindings::exports::bulkhead::protocol::protocol as wit;
use crate::convert::{self, Inward};
use crate::quick::Words;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::{Batch, Module, Outputs};
use core::cell::UnsafeCell;
use core::ptr::null_mut;

/// The module, and the lists that are used again in every step.
pub(crate) struct State<M> {
    pub(crate) module: M,
    pub(crate) batch: Batch,
    pub(crate) outputs: Outputs,
    pub(crate) words: Words,
}

impl<M: Module> State<M> {
    /// One step with the inputs in `batch`.
    pub(crate) fn step(&mut self) {
        let Self { module, batch, outputs, .. } = self;
        outputs.clear();
        #[cfg(feature = "payload")]
        module.step_with(&batch.inputs(), outputs, &mut payload::Host);
        #[cfg(not(feature = "payload"))]
        module.step(&batch.inputs(), outputs);
    }
}

/// What a component keeps between two calls.
pub struct Face<M> {
    state: UnsafeCell<Option<State<M>>>,
    /// The answer of the last step, if it was given the generated way and has still to be freed; else null.
    answer: UnsafeCell<*mut u8>,
}

// SAFETY: a component has one thread.
unsafe impl<M> Sync for Face<M> {}

impl<M: Module + Default> Face<M> {
    /// Before the first call.
    #[expect(clippy::new_without_default, reason = "it is made in a static, where there are no traits")]
    #[must_use]
    pub const fn new() -> Self {
        Self { state: UnsafeCell::new(None), answer: UnsafeCell::new(null_mut()) }
    }

    #[expect(clippy::mut_from_ref, reason = "one reference at a time, as said below")]
    pub(crate) fn state(&self) -> &mut State<M> {
        // SAFETY: no export calls another and an instance is not entered twice, so each reference is gone before the next.
        let state = unsafe { &mut *self.state.get() };
        state.get_or_insert_with(|| State {
            module: M::default(),
            batch: Batch::default(),
            outputs: Outputs::default(),
            words: Words::default(),
        })
    }

    /// Puts another answer in the place of the last one, which it gives.
    #[inline(always)]
    pub(crate) fn answer(&self, answer: *mut u8) -> *mut u8 {
        // SAFETY: as above; the pointer is copied.
        unsafe { self.answer.get().replace(answer) }
    }
}

/// A component, as the generated bindings know it: a type that stands for a static.
pub trait Component {
    /// What it is made of.
    type Module: Module + Default + 'static;

    /// Where that is kept.
    fn face() -> &'static Face<Self::Module>;
}

impl<C: Component> wit::Guest for C {
    fn describe() -> wit::Description {
        convert::description(C::face().state().module.describe())
    }

    fn start(config: wit::Config) -> Result<(), String> {
        C::face().state().module.start(&config.inward())
    }

    fn save() -> Vec<u8> {
        C::face().state().module.save()
    }

    fn load(config: wit::Config, now: u64, saved: Vec<u8>) -> Result<Vec<wit::Summary>, String> {
        let summaries = C::face().state().module.load(&config.inward(), now, &saved)?;
        Ok(summaries.into_iter().map(convert::summary).collect())
    }

    fn step(
        now: u64,
        room: wit::Room,
        headers: Vec<u8>,
        segments: Vec<wit::Segment>,
        positions: Vec<wit::Position>,
        messages: Vec<wit::Message>,
        calls: Vec<wit::Call>,
    ) -> wit::Outputs {
        let state = C::face().state();
        let batch = &mut state.batch;
        batch.clear();
        batch.now = now;
        batch.room = room.inward();
        batch.headers = headers;
        batch.segments.extend(segments.into_iter().map(Inward::inward));
        batch.positions.extend(positions.into_iter().map(Inward::inward));
        batch.messages.extend(messages.into_iter().map(Inward::inward));
        batch.calls.extend(calls.into_iter().map(Inward::inward));
        state.step();
        convert::outputs(&mut state.outputs)
    }
}

/// What a component of the second world imports.
#[cfg(feature = "payload")]
mod payload {
    use crate::bindings::bulkhead::protocol::payload;
    use alloc::vec::Vec;
    use bulkhead_wit::{Payload, Source};

    /// The host's functions.
    pub(super) struct Host;

    impl Payload for Host {
        fn read(&mut self, source: Source, of: u64, at: u64, length: u32) -> Vec<u8> {
            payload::read(source as u8, of, at, length)
        }

        fn stage(&mut self, bytes: &[u8]) -> u32 {
            payload::stage(bytes)
        }
    }
}
