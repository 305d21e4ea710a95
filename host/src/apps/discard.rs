//! Reads and says nothing (RFC 863).

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Connection, End, Left, Service, Stop, drain, limits};

/// The discard service.
#[derive(Debug)]
pub(crate) struct Discard;

impl Service for Discard {
    async fn serve<S: Connection>(&self, mut stream: S, _: Left, mut stop: Stop) -> io::Result<End<S>> {
        let mut buffer = vec![0; limits::BUFFER];
        let mut signs = stop.clone();
        loop {
            let count = tokio::select! {
                count = stream.read(&mut buffer) => count?,
                () = signs.stands() => return Ok(End::Stands(stream, Left::default())),
                () = stop.begun() => break,
            };
            if count == 0 {
                stream.shutdown().await?;
                return Ok(End::Over);
            }
        }
        // The peer learns that nobody will answer any more, and may finish its sentence.
        stream.shutdown().await?;
        drain(&mut stream).await?;
        Ok(End::Over)
    }
}
