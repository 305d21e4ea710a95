//! Sends back what it is sent (RFC 862).

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Connection, End, Left, Service, Stop, drain, limits};

/// The echo service. What it leaves is what was read and not sent back.
#[derive(Debug)]
pub(crate) struct Echo;

impl Service for Echo {
    async fn serve<S: Connection>(
        &self,
        mut stream: S,
        mut left: Left,
        mut stop: Stop,
    ) -> io::Result<End<S>> {
        let mut buffer = left.text(0);
        let mut waits = 0..buffer.len();
        buffer.resize(buffer.len().max(limits::BUFFER), 0);
        let mut signs = stop.clone();
        loop {
            while let Some(text) = buffer.get(waits.clone()).filter(|text| !text.is_empty()) {
                let count = tokio::select! {
                    biased;
                    () = signs.stands() => {
                        let left = Left { texts: vec![text.to_vec()], ..Left::default() };
                        return Ok(End::Stands(stream, left));
                    }
                    count = stream.write(text) => count?,
                };
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                waits.start += count;
            }
            // What has arrived is echoed before the sign to stop is heard.
            let count = tokio::select! {
                biased;
                () = signs.stands() => return Ok(End::Stands(stream, Left::default())),
                count = stream.read(&mut buffer) => count?,
                () = stop.begun() => break,
            };
            if count == 0 {
                stream.shutdown().await?;
                return Ok(End::Over);
            }
            waits = 0..count;
        }
        stream.shutdown().await?;
        drain(&mut stream).await?;
        Ok(End::Over)
    }
}
