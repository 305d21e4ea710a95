//! What the component exports: the generated functions under the contract's names, and beside the generated `step` the
//! quick one that nearly every step takes.
#![expect(unsafe_code, reason = "exports have fixed names, and get addresses and lengths from the host")]

use crate::bindings::exports::bulkhead::protocol::protocol as wit;
use crate::face::Component;
use crate::quick;
use core::ptr::null_mut;

/// Frees what the host has read by now. Every export does so first, since the record of an answer stands at one place for
/// all of them; a `post-return` of `step` would be one more call for each step, and the quick way's buffers stay.
#[inline(always)]
fn free_answer<C: Component>() {
    let answer = C::face().answer(null_mut());
    if !answer.is_null() {
        // SAFETY: the result of the generated `step`, untouched since, and forgotten here.
        unsafe { wit::__post_return_step::<C>(answer) }
    }
}

macro_rules! generated {
    ($($function:ident($($argument:ident)?) $export:ident $after:ident $post_return:ident;)*) => {$(
        /// The generated function.
        ///
        /// # Safety
        /// The host calls it, as the contract's types have it.
        pub unsafe fn $function<C: Component>($($argument: *mut u8)?) -> *mut u8 {
            free_answer::<C>();
            // SAFETY: as the caller has promised.
            unsafe { wit::$export::<C>($($argument)?) }
        }

        /// Frees what that has given.
        ///
        /// # Safety
        /// The host calls it once after each call.
        pub unsafe fn $after<C: Component>(result: *mut u8) {
            // SAFETY: as the caller has promised.
            unsafe { wit::$post_return::<C>(result) }
        }
    )*};
}

generated! {
    describe() _export_describe_cabi after_describe __post_return_describe;
    start(config) _export_start_cabi after_start __post_return_start;
    save() _export_save_cabi after_save __post_return_save;
    load(arguments) _export_load_cabi after_load __post_return_load;
}

/// The thirteen parameters of `step`, of which each list is an address and a length. Calls are rare and nested: a step
/// that has some goes the generated way.
///
/// # Safety
/// The host calls it, as the contract's types have it.
#[expect(clippy::too_many_arguments, reason = "the parameters of the contract's `step`, flat")]
#[inline(always)]
pub unsafe fn step<C: Component>(
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
    free_answer::<C>();
    if calls_length > 0 {
        // SAFETY: the parameters as they came.
        let answer = unsafe {
            wit::_export_step_cabi::<C>(
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
        C::face().answer(answer);
        return answer;
    }
    let state = C::face().state();
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

/// Gives the functions above the contract's names, for one component.
#[doc(hidden)]
#[macro_export]
macro_rules! exports {
    ($component:ident) => {
        $crate::exports! { $component
            "bulkhead:protocol/protocol@1.0.0#describe" describe() -> *mut u8;
            "cabi_post_bulkhead:protocol/protocol@1.0.0#describe" after_describe(result: *mut u8) -> ();
            "bulkhead:protocol/protocol@1.0.0#start" start(config: *mut u8) -> *mut u8;
            "cabi_post_bulkhead:protocol/protocol@1.0.0#start" after_start(result: *mut u8) -> ();
            "bulkhead:protocol/protocol@1.0.0#save" save() -> *mut u8;
            "cabi_post_bulkhead:protocol/protocol@1.0.0#save" after_save(result: *mut u8) -> ();
            "bulkhead:protocol/protocol@1.0.0#load" load(arguments: *mut u8) -> *mut u8;
            "cabi_post_bulkhead:protocol/protocol@1.0.0#load" after_load(result: *mut u8) -> ();
            "bulkhead:protocol/protocol@1.0.0#step" step(
                now: i64, sends: i32, bytes: i32, headers: *mut u8, headers_length: usize, segments: *mut u8,
                segments_length: usize, positions: *mut u8, positions_length: usize, messages: *mut u8,
                messages_length: usize, calls: *mut u8, calls_length: usize
            ) -> *mut u8;
        }
    };
    ($component:ident $($name:literal $function:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {$(
        // SAFETY: nothing else is called so; the host calls it as the contract's types have it.
        #[allow(unsafe_code, reason = "exports have fixed names, and get addresses and lengths from the host")]
        #[allow(clippy::too_many_arguments, reason = "the parameters of the contract's `step`, flat")]
        #[unsafe(export_name = $name)]
        unsafe extern "C" fn $function($($argument: $kind),*) -> $result {
            // SAFETY: as above.
            unsafe { $crate::exports::$function::<$component>($($argument),*) }
        }
    )*};
}
