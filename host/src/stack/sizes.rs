//! How large a connection's buffers are.

/// Sizes of a connection's two buffers, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// The receive window that a connection begins with.
    pub receive_first: u32,
    /// The most bytes that autotuning may come to.
    pub receive_max: u32,
    /// The send queue that a connection begins with.
    pub send_first: u32,
    /// The most bytes that autotuning may come to.
    pub send_max: u32,
    /// The most bytes of a queue that were not sent yet: what an application writes far ahead has left the caches when
    /// it is sent, and waits behind everything before it. A connection's `TCP_NOTSENT_LOWAT`.
    pub unsent_max: u32,
}

impl Default for Sizes {
    /// Linux's defaults for what autotuning may come to (`tcp_rmem`, `tcp_wmem`); Linux does not bound what was not sent.
    fn default() -> Self {
        Self {
            receive_first: 128 << 10,
            receive_max: 6 << 20,
            send_first: 256 << 10,
            send_max: 4 << 20,
            unsent_max: 512 << 10,
        }
    }
}
