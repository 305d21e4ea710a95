//! A client of our own: connections one after the other.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::factor::Cell;
use crate::place::Ends;

/// Connections that are under way at once.
const PARALLEL: usize = 32;

/// A request of its own connection; the body of the answer.
fn ask(to: SocketAddr, patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(b"GET /small HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    Ok(answer.split_off(body))
}

/// So many connections, each with a request and its answer, which has to be this one.
pub(super) fn many(cell: &Cell, ends: &Ends<'_>, body: &[u8]) -> anyhow::Result<String> {
    let (to, count, patience) = (ends.target, cell.count(), cell.stall());
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let work = || -> anyhow::Result<()> {
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let got = ask(to, patience)
                .inspect_err(|_| next.store(count, Ordering::Relaxed))
                .context("a connection")?;
            ensure!(got == body, "an answer of {} bytes is another", got.len());
        }
        Ok(())
    };
    ends.client.inside(|| {
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
