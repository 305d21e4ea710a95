//! What the component exports: the generated functions under the contract's names, and beside the generated `step` the
//! quick one that nearly every step takes.
#![expect(unsafe_code, reason = "exports have fixed names, and get addresses and lengths from the host")]

use crate::bindings::exports::bulkhead::protocol::protocol as wit;
use crate::face::{Face, state};
use crate::quick;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether the answer of the last step lies in the quick way's own buffers, which are not freed.
static WAS_QUICK: AtomicBool = AtomicBool::new(false);

macro_rules! generated {
    ($($name:literal $function:ident($($argument:ident)?) $export:ident $post_return:ident;)*) => {$(
        // SAFETY: nothing else is called so; the host calls it as the contract's types have it.
        #[unsafe(export_name = concat!("bulkhead:protocol/protocol@1.0.0#", $name))]
        unsafe extern "C" fn $function($($argument: *mut u8)?) -> *mut u8 {
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
    let is_quick = calls_length == 0;
    WAS_QUICK.store(is_quick, Ordering::Relaxed);
    if !is_quick {
        // SAFETY: the parameters as they came.
        return unsafe {
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
    }
    let state = state();
    state.batch.clear();
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

const _: () = {
    // SAFETY: as in `generated`.
    #[unsafe(export_name = "cabi_post_bulkhead:protocol/protocol@1.0.0#step")]
    unsafe extern "C" fn post_return(result: *mut u8) {
        if !WAS_QUICK.load(Ordering::Relaxed) {
            // SAFETY: the result of the generated `step`.
            unsafe { wit::__post_return_step::<Face>(result) }
        }
    }
};
