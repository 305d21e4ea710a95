//! Sends back what it is sent (RFC 862).

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Connection, Service, Stop, drain, limits};

/// The echo service.
#[derive(Debug)]
pub(crate) struct Echo;

impl Service for Echo {
    async fn serve<S: Connection>(&self, mut stream: S, mut stop: Stop) -> io::Result<()> {
        let mut buffer = vec![0; limits::BUFFER];
        loop {
            // What has arrived is echoed before the sign to stop is heard.
            let count = tokio::select! {
                biased;
                count = stream.read(&mut buffer) => count?,
                () = stop.begun() => break,
            };
            if count == 0 {
                return stream.shutdown().await;
            }
            stream.write_all(buffer.get(..count).unwrap_or_default()).await?;
        }
        stream.shutdown().await?;
        drain(&mut stream).await
    }
}
