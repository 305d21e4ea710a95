//! Applications' bytes: both queues of a stream, and what stands beside them.

use super::wire::{Carried as _, Malformed, Reader, carried, put, put_bytes, put_count};
use crate::error::StreamError;
use crate::frame::FrameSlice;
use crate::stack::Sizes;
use crate::streams::{Blocks, Stream};
use bulkhead_wit::registry::reason;
use bulkhead_wit::{MarkAt, Time, limits};

carried! {
    Sizes { receive_first, receive_max, send_first, send_max, unsent_max }
}

/// Pieces of one receive stream: one a frame that was kept, and as many as there can be islands.
const PIECES: usize = 1 << 20;
/// Bytes of one queue.
const QUEUE: usize = limits::WINDOW as usize;

/// Why a stream ended, in a number: a fault of a module that is gone is told as an abort.
pub(crate) fn end_of(end: &StreamError) -> u16 {
    match end {
        StreamError::Ended(number) => *number,
        StreamError::Exhausted => reason::EXHAUSTED,
        _ => reason::ABORTED,
    }
}

/// Writes a stream. What waits in its queues is copied.
pub(crate) fn put_stream(stream: &Stream, to: &mut Vec<u8>) {
    put!(
        to,
        stream.receive_size,
        stream.receive_first,
        stream.receive_max,
        stream.send_size,
        stream.send_max,
        stream.unsent_max
    );
    put!(to, stream.limit_told, stream.finished, stream.urgent, stream.marks);
    put!(to, stream.end.as_ref().map(end_of), stream.is_open, stream.is_shut, stream.is_detached);
    put!(to, stream.waits_for_space, stream.is_dirty, stream.progress_at);
    put!(to, stream.send.acknowledged);
    let held = stream.send.held();
    held.put(to);
    let mut rest = held;
    while rest > 0 {
        let length = u32::try_from(rest).unwrap_or(u32::MAX);
        let at = stream.send.written() - rest;
        stream.send.slices(at, length).for_each(|slice| to.extend_from_slice(slice));
        rest -= u64::from(length);
    }
    put!(to, stream.receive.consumed, stream.receive.exposed);
    put_count(stream.receive.chunks.len(), to);
    for chunk in &stream.receive.chunks {
        chunk.at.put(to);
        put_bytes(chunk.bytes(), to);
    }
}

/// The stream, and whether the module has not been told of its position.
pub(crate) fn take_stream(from: &mut Reader<'_>, blocks: &mut Blocks) -> Result<(Stream, bool), Malformed> {
    let mut stream = Stream::new(&Sizes::default());
    stream.receive_size = from.take()?;
    stream.receive_first = from.take()?;
    stream.receive_max = from.take()?;
    stream.send_size = from.take()?;
    stream.send_max = from.take()?;
    stream.unsent_max = from.take()?;
    stream.limit_told = from.take()?;
    stream.finished = from.take()?;
    stream.urgent = from.take()?;
    stream.marks = from.take::<MarkAt>()?;
    stream.end = from.take::<Option<u16>>()?.map(StreamError::Ended);
    (stream.is_open, stream.is_shut, stream.is_detached) = (from.take()?, from.take()?, from.take()?);
    stream.waits_for_space = from.take()?;
    let is_dirty = from.take()?;
    stream.progress_at = from.take::<Time>()?;
    let acknowledged = from.take()?;
    (stream.send.acknowledged, stream.send.written) = (acknowledged, acknowledged);
    let waiting = from.bytes(QUEUE)?;
    from.check(acknowledged.checked_add(waiting.len() as u64).is_some(), "an offset beyond all numbers")?;
    stream.send.write(waiting, u64::MAX, blocks);
    (stream.receive.consumed, stream.receive.exposed) = (from.take()?, from.take()?);
    take_pieces(from, &mut stream, blocks)?;
    Ok((stream, is_dirty))
}

/// What has arrived: everything that may be read is there, and nothing twice.
fn take_pieces(from: &mut Reader<'_>, stream: &mut Stream, blocks: &mut Blocks) -> Result<(), Malformed> {
    let (consumed, exposed) = (stream.receive.consumed, stream.receive.exposed);
    let mut end = 0;
    let mut readable = consumed;
    for _ in 0..from.count(PIECES)? {
        let at: u64 = from.take()?;
        let bytes = from.bytes(QUEUE)?;
        from.check(at >= end && !bytes.is_empty(), "arrived bytes that are out of order")?;
        end = at.checked_add(bytes.len() as u64).ok_or(from.malformed("an offset beyond all numbers"))?;
        if at <= readable {
            readable = readable.max(end);
        }
        for (number, piece) in bytes.chunks(limits::DATAGRAM).enumerate() {
            let at = at + (number * limits::DATAGRAM) as u64;
            stream.receive.place(at, FrameSlice::from(piece), false, blocks);
        }
    }
    // A stream whose application is gone has dropped what it had.
    let is_whole = consumed <= exposed && (readable >= exposed || stream.is_detached);
    from.check(is_whole, "a stream that lacks bytes that may be read")
}
