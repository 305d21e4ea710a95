//! What the component exports: the generated functions under the contract's names, and beside the generated `step` the
//! quick one that nearly every step takes.
#![expect(unsafe_code, reason = "exports have fixed names, and get addresses and lengths from the host")]

use crate::bindings::exports::bulkhead::protocol::protocol as wit;
use crate::face::{Face, state};
use crate::quick;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The answer of the last step, if it was given the generated way and has still to be freed. That is done when the next call
/// begins: a `post-return` of `step` would be one more call for each of them, and the quick way's buffers stay.
static ANSWER: AtomicPtr<u8> = AtomicPtr::new(null_mut());

/// Frees what the host has read by now. Every export does so first, since the record of an answer stands at one place for
/// all of them.
#[inline(always)]
fn free_answer() {
    let answer = ANSWER.load(Ordering::Relaxed);
    if !answer.is_null() {
        ANSWER.store(null_mut(), Ordering::Relaxed);
        // SAFETY: the result of the generated `step`, untouched since, and forgotten here.
        unsafe { wit::__post_return_step::<Face>(answer) }
    }
}

macro_rules! generated {
    ($($name:literal $function:ident($($argument:ident)?) $export:ident $post_return:ident;)*) => {$(
        // SAFETY: nothing else is called so; the host calls it as the contract's types have it.
        #[unsafe(export_name = concat!("bulkhead:protocol/protocol@1.0.0#", $name))]
        unsafe extern "C" fn $function($($argument: *mut u8)?) -> *mut u8 {
            free_answer();
            // SAFETY: as above.
            unsafe { wit::$export::<Face>($($argument)?) }
        }

        const _: () = {
            // SAFETY: as above; called once after each call, with what that has given.
            #[unsafe(export_name = concat!("cabi_post_bulkhead:protocol/protocol@1.0.0#", $name))]
            unsafe extern "C" fn post_return(result: *mut u8) {
                // SAFETY: as above.
                unsafe { wit::$post_return::<Face>(result) }
            }
        };
    )*};
}

generated! {
    "describe" describe() _export_describe_cabi __post_return_describe;
    "start" start(config) _export_start_cabi __post_return_start;
    "save" save() _export_save_cabi __post_return_save;
    "load" load(arguments) _export_load_cabi __post_return_load;
}

/// The thirteen parameters of `step`, of which each list is an address and a length. Calls are rare and nested: a step
/// that has some goes the generated way.
// SAFETY: nothing else is called so; the host calls it as the contract's types have it.
#[unsafe(export_name = "bulkhead:protocol/protocol@1.0.0#step")]
#[expect(clippy::too_many_arguments, reason = "the parameters of the contract's `step`, flat")]
unsafe extern "C" fn step(
    now: i64,
    sends: i32,
    bytes: i32,
    headers: *mut u8,
    headers_length: usize,
    segments: *mut u8,
    segments_length: usize,
    positions: *mut u8,
    positions_length: usize,
    messages: *mut u8,
    messages_length: usize,
    calls: *mut u8,
    calls_length: usize,
) -> *mut u8 {
    free_answer();
    if calls_length > 0 {
        // SAFETY: the parameters as they came.
        let answer = unsafe {
            wit::_export_step_cabi::<Face>(
                now,
                sends,
                bytes,
                headers,
                headers_length,
                segments,
                segments_length,
                positions,
                positions_length,
                messages,
                messages_length,
                calls,
                calls_length,
            )
        };
        ANSWER.store(answer, Ordering::Relaxed);
        return answer;
    }
    let state = state();
    state.batch.calls.clear();
    state.batch.now = now.cast_unsigned();
    state.batch.room.sends = sends.cast_unsigned();
    state.batch.room.bytes = bytes.cast_unsigned();
    // SAFETY: each list is the host's, allocated by `cabi_realloc` with the alignment of its records, and ours now. The
    // records are laid out as the contract has them, in which enums have no values but their own.
    unsafe {
        state.batch.headers = quick::list(headers, headers_length);
        state.batch.segments = quick::list(segments.cast(), segments_length);
        state.batch.positions = quick::list(positions.cast(), positions_length);
        state.batch.messages = quick::list(messages.cast(), messages_length);
    }
    quick::step(state)
}
