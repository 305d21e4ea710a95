//! The one instance of the core, as the generated bindings call it.
#![expect(
    unsafe_code,
    reason = "one cell for the state; the component model enters an instance from one thread only"
)]

use crate::bindings::exports::bulkhead::protocol::protocol as wit;
use crate::convert::{self, Inward};
use crate::quick::Words;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_tcp::Tcp;
use bulkhead_wit::{Batch, Module, Outputs};
use core::cell::UnsafeCell;

/// The core, and the lists that are used again in every step.
pub(crate) struct State {
    pub(crate) tcp: Tcp,
    pub(crate) batch: Batch,
    pub(crate) outputs: Outputs,
    pub(crate) words: Words,
}

struct Cell(UnsafeCell<Option<State>>);

// SAFETY: a component has one thread.
unsafe impl Sync for Cell {}

static STATE: Cell = Cell(UnsafeCell::new(None));

pub(crate) fn state() -> &'static mut State {
    // SAFETY: no export calls another and an instance is not entered twice, so each reference is gone before the next.
    let state = unsafe { &mut *STATE.0.get() };
    state.get_or_insert_with(|| State {
        tcp: Tcp::new(),
        batch: Batch::default(),
        outputs: Outputs::default(),
        words: Words::default(),
    })
}

pub(crate) struct Face;

impl wit::Guest for Face {
    fn describe() -> wit::Description {
        convert::description(state().tcp.describe())
    }

    fn start(config: wit::Config) -> Result<(), String> {
        state().tcp.start(&config.inward())
    }

    fn save() -> Vec<u8> {
        state().tcp.save()
    }

    fn load(config: wit::Config, now: u64, saved: Vec<u8>) -> Result<Vec<wit::Summary>, String> {
        let summaries = state().tcp.load(&config.inward(), now, &saved)?;
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
        let State { tcp, batch, outputs, .. } = state();
        batch.clear();
        batch.now = now;
        batch.room = room.inward();
        batch.headers = headers;
        batch.segments.extend(segments.into_iter().map(Inward::inward));
        batch.positions.extend(positions.into_iter().map(Inward::inward));
        batch.messages.extend(messages.into_iter().map(Inward::inward));
        batch.calls.extend(calls.into_iter().map(Inward::inward));
        outputs.clear();
        tcp.step(&batch.inputs(), outputs);
        convert::outputs(outputs)
    }
}
