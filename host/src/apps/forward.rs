//! Hands connections on: bytes, half closes, and back pressure by the windows of both sides.

use std::io;

use tokio::io::copy_bidirectional_with_sizes;

use super::connect::{Connector, Target};
use super::{Connection, Service, Stop, limits};

/// Connects each connection with one to a target.
#[derive(Debug)]
pub(crate) struct Forward<C> {
    /// Where to.
    pub(crate) target: Target,
    /// How to get there.
    pub(crate) by: C,
}

impl<C: Connector> Service for Forward<C> {
    /// A connection under way goes on when told to stop: it is its peers' to end, or the drain's.
    async fn serve<S: Connection>(&self, stream: S, _: Stop) -> io::Result<()> {
        join(stream, self.target.connect(&self.by).await?).await
    }
}

/// Both ways, until both have ended.
pub(super) async fn join(mut near: impl Connection, mut far: impl Connection) -> io::Result<()> {
    copy_bidirectional_with_sizes(&mut near, &mut far, limits::BUFFER, limits::BUFFER).await?;
    Ok(())
}
