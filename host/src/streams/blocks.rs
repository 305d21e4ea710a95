//! Blocks of memory for stream bytes, taken and given back so that a busy stream allocates nothing.

/// A first, small write or segment: most requests fit.
const SMALL: usize = 2 * 1024;
/// What follows.
pub(super) const MEDIUM: usize = 16 * 1024;
/// Bulk.
pub(super) const LARGE: usize = 64 * 1024;

const CLASSES: [usize; 3] = [SMALL, MEDIUM, LARGE];
/// Bytes of unused blocks that are kept, a class: of the largest what a peer's largest windows make go and come, since an allocator that
/// gives memory back to the system has every page of it faulted in again.
const KEPT_BYTES: [usize; 3] = [2 << 20, 4 << 20, 16 << 20];

/// Unused blocks by size, and the count of bytes in use.
#[derive(Debug, Default)]
pub struct Blocks {
    free: [Vec<Vec<u8>>; 3],
    held: usize,
}

impl Blocks {
    /// An empty block for about `length` bytes more: its capacity is the smallest class that takes them, or the
    /// largest class.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        let class = CLASSES.iter().position(|size| length <= *size).unwrap_or(CLASSES.len() - 1);
        self.held += CLASSES[class];
        self.free[class].pop().unwrap_or_else(|| Vec::with_capacity(CLASSES[class]))
    }

    /// Gives a block back.
    pub fn give(&mut self, mut block: Vec<u8>) {
        let capacity = block.capacity();
        self.held = self.held.saturating_sub(capacity);
        if let Some(class) = CLASSES.iter().position(|size| capacity == *size)
            && self.free[class].len() * capacity < KEPT_BYTES[class]
        {
            block.clear();
            self.free[class].push(block);
        }
    }

    /// Memory that is not ours is in use, and counts.
    pub(super) fn borrow(&mut self, length: usize) {
        self.held += length;
    }

    /// Memory that is not ours is in use no longer.
    pub(super) fn restore(&mut self, length: usize) {
        self.held = self.held.saturating_sub(length);
    }

    /// Bytes of the blocks that are in use.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }
}
