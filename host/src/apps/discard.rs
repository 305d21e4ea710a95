//! Reads and says nothing (RFC 863).

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Connection, Service, Stop, drain, limits};

/// The discard service.
#[derive(Debug)]
pub(crate) struct Discard;

impl Service for Discard {
    async fn serve<S: Connection>(&self, mut stream: S, mut stop: Stop) -> io::Result<()> {
        let mut buffer = vec![0; limits::BUFFER];
        loop {
            let count = tokio::select! {
                count = stream.read(&mut buffer) => count?,
                () = stop.begun() => break,
            };
            if count == 0 {
                return stream.shutdown().await;
            }
        }
        // The peer learns that nobody will answer any more, and may finish its sentence.
        stream.shutdown().await?;
        drain(&mut stream).await
    }
}
