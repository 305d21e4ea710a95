//! Clients of our own: connections one after the other, and an echo.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bulkhead_namespace::Namespace;

use super::{STALL, port};
use crate::factor::Cell;
use crate::place::Ends;

/// Connections that are under way at once.
const PARALLEL: usize = 32;
/// What ends in half of the time: smoltcp's echo has small buffers.
const ECHO_SHARE: usize = 8;

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let patience = Duration::from_secs(STALL);
    let stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// A request of its own connection; the body of the answer.
fn ask(to: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = connect(to)?;
    stream.write_all(b"GET /small HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    Ok(answer.split_off(body))
}

/// So many connections, each with a request and its answer, which has to be this one.
pub(super) fn many(space: &Namespace, to: SocketAddr, count: usize, body: &[u8]) -> anyhow::Result<String> {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let work = || -> anyhow::Result<()> {
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let got =
                ask(to).inspect_err(|_| next.store(count, Ordering::Relaxed)).context("a connection")?;
            ensure!(got == body, "an answer of {} bytes is another", got.len());
        }
        Ok(())
    };
    space.inside(|| {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("a client failed"),
            })
        })
    })??;
    Ok(format!("{count} connections, {:.0} a second", count as f64 / begun.elapsed().as_secs_f64()))
}

pub(super) fn echo_bytes(cell: &Cell) -> usize {
    cell.bytes() / ECHO_SHARE
}

/// Sends bytes and compares what comes back.
pub(super) fn echo(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    let to = SocketAddr::new(ends.target, port(cell.load));
    let length = echo_bytes(cell);
    let bytes = std::fs::read(super::noise(ends.client.folder(), "sent", length)?)?;
    ends.client.inside(|| -> anyhow::Result<()> {
        let mut stream = connect(to)?;
        let mut writer = stream.try_clone()?;
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                writer.write_all(&bytes)?;
                writer.shutdown(Shutdown::Write)
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).with_context(|| format!("after {} bytes", back.len()))?;
            match writing.join() {
                Ok(result) => result.context("write")?,
                Err(_) => bail!("the writer failed"),
            }
            ensure!(back == bytes, "{} of {length} bytes came back as they were sent", back.len());
            Ok(())
        })
    })??;
    Ok(format!("{length} bytes there and back"))
}
