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
}

impl Default for Sizes {
    /// Linux's defaults for what autotuning may come to (`tcp_rmem`, `tcp_wmem`).
    fn default() -> Self {
        Self { receive_first: 128 << 10, receive_max: 6 << 20, send_first: 256 << 10, send_max: 4 << 20 }
    }
}
