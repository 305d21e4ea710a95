//! What a stack has allocated, for the one that is made after it.

use super::{Options, Stack};
use crate::fault::Fault;
use crate::frame::FramePool;
use crate::placement::Instance;
use crate::split::Arrived;
use crate::streams::Blocks;
use bulkhead_wit::{Batch, Outputs, limits};

/// Buffers for frames that are kept: those of two full steps.
const BUFFERS: usize = 2 * limits::SEGMENTS;

/// Memory of a stack that is done with. Nothing in it says anything of that stack.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    pool: FramePool,
    blocks: Blocks,
    batch: Batch,
    arrived: Vec<Arrived>,
    outputs: Outputs,
}

impl Stack {
    /// As [`new`](Self::new), in the memory of another stack: for whoever makes thousands of them, one after the other.
    ///
    /// # Errors
    /// As [`new`](Self::new); the memory is lost then.
    pub(crate) fn new_in(
        spare: Spare,
        mut instance: Box<dyn Instance>,
        options: Options,
    ) -> Result<Box<Self>, Fault> {
        let options = options.within(&*instance);
        instance.start(&options.config)?;
        let mut stack = Box::new(Self::around(instance, options));
        let Spare { pool, blocks, batch, arrived, outputs } = spare;
        (stack.pool, stack.blocks, stack.batch, stack.arrived, stack.outputs) =
            (pool, blocks, batch, arrived, outputs);
        Ok(stack)
    }

    /// The end of this stack, whose memory is left.
    pub(crate) fn into_spare(mut self: Box<Self>) -> Spare {
        let mut blocks = std::mem::take(&mut self.blocks);
        for stream in self.streams.entries.iter_mut().filter_map(|entry| entry.stream.as_mut()) {
            stream.send.clear(&mut blocks);
            stream.receive.clear(&mut blocks);
        }
        debug_assert_eq!(blocks.held(), 0, "blocks are held by streams alone");
        let batch = std::mem::take(&mut self.batch);
        let mut arrived = std::mem::take(&mut self.arrived);
        let outputs = std::mem::take(&mut self.outputs);
        let mut pool = std::mem::take(&mut self.pool);
        arrived.clear();
        // Frames that anything refers to are no spare memory yet.
        drop(self);
        pool.trim(BUFFERS);
        Spare { pool, blocks, batch, arrived, outputs }
    }
}
