//! What a stack has allocated, for the one that is made after it.

use super::{Options, Stack};
use crate::fault::Fault;
use crate::frame::FramePool;
use crate::placement::Instance;
use crate::split::Arrived;
use crate::streams::Blocks;
use bulkhead_wit::{Batch, Outputs};

/// Buffers for frames that are kept: more than a few dozen are needed only now and then.
const BUFFERS: usize = 64;

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
    ) -> Result<Self, Fault> {
        instance.start(&options.config)?;
        let Spare { pool, blocks, batch, arrived, outputs } = spare;
        Ok(Self { pool, blocks, batch, arrived, outputs, ..Self::around(instance, options) })
    }

    /// The end of this stack, whose memory is left.
    pub(crate) fn into_spare(self) -> Spare {
        let Self { mut pool, mut blocks, batch, mut arrived, outputs, mut streams, resubmitted, .. } = self;
        for stream in streams.entries.iter_mut().filter_map(|entry| entry.stream.as_mut()) {
            stream.send.clear(&mut blocks);
            stream.receive.clear(&mut blocks);
        }
        debug_assert_eq!(blocks.held(), 0, "blocks are held by streams alone");
        arrived.clear();
        // Frames that anything refers to are no spare memory yet.
        drop((streams, resubmitted));
        pool.trim(BUFFERS);
        Spare { pool, blocks, batch, arrived, outputs }
    }
}
