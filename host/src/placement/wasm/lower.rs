//! The inputs of a step, written straight into the module's memory.
//!
//! Each list is one allocation by the module's own `realloc` and one pass over its records. An empty list needs no
//! allocation: a module cannot tell the address of nothing.
#![expect(unsafe_code, reason = "wasmtime's Lower is an unsafe trait: the impl below vouches for its layout")]

use std::mem::MaybeUninit;

use bulkhead_wit::{Endpoint, Inputs, Message, Position, Segment};
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext, bad_type_info,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Lower};
use wasmtime::{Error, Result, ValRaw};

use super::bindings::wit;

/// The parameters of `step`, as the generated bindings would have them: what they look like to wasmtime.
type Typed =
    (u64, wit::Room, Vec<u8>, Vec<wit::Segment>, Vec<wit::Position>, Vec<wit::Message>, Vec<wit::Call>);

/// `now`, the two numbers of `room`, and address and length of five lists.
const FLAT: usize = 13;
/// Where `calls` stands among the parameters.
const CALLS: usize = 6;

const SEGMENT: usize = 20;
const POSITION: usize = 40;
const MESSAGE: usize = 64;
const _: () = {
    assert!(<wit::Segment as ComponentType>::SIZE32 == SEGMENT);
    assert!(<wit::Position as ComponentType>::SIZE32 == POSITION);
    assert!(<wit::Message as ComponentType>::SIZE32 == MESSAGE);
};

/// The parameters of `step`, borrowed from the host's batch.
pub(super) struct StepInputs<'a> {
    inputs: &'a Inputs<'a>,
    /// Calls are rare and nested, so they go the generated way.
    calls: Vec<wit::Call>,
}

impl<'a> StepInputs<'a> {
    pub(super) fn new(inputs: &'a Inputs<'a>) -> Self {
        Self { inputs, calls: inputs.calls.iter().map(Into::into).collect() }
    }
}

// SAFETY: `Lower` is an array of `ValRaw`, and layout and type check are those of the parameters' tuple.
unsafe impl ComponentType for StepInputs<'_> {
    type Lower = [ValRaw; FLAT];
    const ABI: CanonicalAbiInfo = <Typed as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <Typed as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: it stands for a tuple of parameters.
unsafe impl ComponentNamedList for StepInputs<'_> {}

// SAFETY: all thirteen values are written before `Ok`, in the order of the parameters.
unsafe impl Lower for StepInputs<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        let InterfaceType::Tuple(tuple) = ty else { bad_type_info() };
        let inputs = self.inputs;
        let headers = bytes(cx, inputs.headers)?;
        let segments = records::<_, _, SEGMENT>(cx, 4, inputs.segments, segment)?;
        let positions = records::<_, _, POSITION>(cx, 8, inputs.positions, position)?;
        let messages = records::<_, _, MESSAGE>(cx, 8, inputs.messages, message)?;
        let calls = if self.calls.is_empty() {
            [ValRaw::i64(8), ValRaw::i64(0)]
        } else {
            let ty = cx.types[tuple].types[CALLS];
            let mut pair = MaybeUninit::new([ValRaw::i64(0); 2]);
            self.calls.linear_lower_to_flat(cx, ty, &mut pair)?;
            // SAFETY: initialised above, and written by the generated code.
            unsafe { pair.assume_init() }
        };
        dst.write([
            ValRaw::u64(inputs.now),
            ValRaw::u32(inputs.room.sends),
            ValRaw::u32(inputs.room.bytes),
            headers[0],
            headers[1],
            segments[0],
            segments[1],
            positions[0],
            positions[1],
            messages[0],
            messages[1],
            calls[0],
            calls[1],
        ]);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> Result<()> {
        Err(Error::msg("the parameters of a step are flat"))
    }
}

/// Address and length of a list, as wasmtime passes them: 64 bits wide whatever the memory.
fn pair(address: usize, length: usize) -> [ValRaw; 2] {
    [ValRaw::i64(address as i64), ValRaw::i64(length as i64)]
}

/// Memory of the module for `size` bytes; `realloc` has checked that it lies inside.
fn room<'c, T>(cx: &'c mut LowerContext<'_, T>, align: u32, size: usize) -> Result<(usize, &'c mut [u8])> {
    let address = cx.realloc(0, 0, align, size)?;
    let room = cx.as_slice_mut().get_mut(address..).and_then(|rest| rest.get_mut(..size));
    Ok((address, room.ok_or_else(|| Error::msg("realloc return: beyond end of memory"))?))
}

fn bytes<T>(cx: &mut LowerContext<'_, T>, bytes: &[u8]) -> Result<[ValRaw; 2]> {
    if bytes.is_empty() {
        return Ok(pair(1, 0));
    }
    let (address, room) = room(cx, 1, bytes.len())?;
    room.copy_from_slice(bytes);
    Ok(pair(address, bytes.len()))
}

fn records<T, R, const SIZE: usize>(
    cx: &mut LowerContext<'_, T>,
    align: u32,
    records: &[R],
    write: impl Fn(&R, &mut [u8; SIZE]),
) -> Result<[ValRaw; 2]> {
    if records.is_empty() {
        return Ok(pair(align as usize, 0));
    }
    let (address, room) = room(cx, align, records.len() * SIZE)?;
    for (record, place) in records.iter().zip(room.as_chunks_mut::<SIZE>().0) {
        write(record, place);
    }
    Ok(pair(address, records.len()))
}

/// Writes `value` at a fixed offset of a record. Offsets are constants, so the bounds check is the compiler's.
#[inline(always)]
fn put<const SIZE: usize, const N: usize>(record: &mut [u8; SIZE], at: usize, value: [u8; N]) {
    record[at..at + N].copy_from_slice(&value);
}

#[inline(always)]
fn segment(segment: &Segment, out: &mut [u8; SEGMENT]) {
    put(out, 0, segment.header.to_le_bytes());
    put(out, 4, segment.payload.to_le_bytes());
    put(out, 8, segment.header_length.to_le_bytes());
    put(out, 10, segment.transport.to_le_bytes());
    put(out, 12, segment.mss.to_le_bytes());
    put(out, 14, segment.count.to_le_bytes());
    put(out, 16, [segment.protocol, segment.kind as u8, segment.evidence as u8, segment.device]);
}

#[inline(always)]
fn position(position: &Position, out: &mut [u8; POSITION]) {
    put(out, 0, position.connection.0.to_le_bytes());
    put(out, 8, position.written.to_le_bytes());
    put(out, 16, position.consumed.to_le_bytes());
    put(out, 24, position.limit.to_le_bytes());
    put(out, 32, u64::from(position.marks.0 & wit::MarkAt::all().as_array()[0] as u8).to_le_bytes());
}

#[inline(always)]
fn message(message: &Message, out: &mut [u8; MESSAGE]) {
    put(out, 0, message.socket.0.to_le_bytes());
    put(out, 8, message.length.to_le_bytes());
    put(out, 12, [message.hop_limit, message.traffic_class, 0, 0]);
    endpoint(message.source, out, 16);
    endpoint(message.to, out, 40);
}

#[inline(always)]
fn endpoint(endpoint: Endpoint, out: &mut [u8; MESSAGE], at: usize) {
    put(out, at, endpoint.address.high.to_le_bytes());
    put(out, at + 8, endpoint.address.low.to_le_bytes());
    put(out, at + 16, u64::from(endpoint.port).to_le_bytes());
}
