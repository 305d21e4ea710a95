//! What programs do over a cell's connection, and what has to come of it.

mod connects;
mod http;
mod iperf;
mod redis;
mod ssh;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bulkhead_namespace::{Namespace, Running, patiently};

use crate::factor::{Cell, Load};
use crate::place::{Ends, Place};
use crate::witness;

/// Seconds that a program may take in all.
const LIMIT: &str = "150";
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a load's server listens.
pub(crate) const fn port(load: Load) -> u16 {
    match load {
        Load::Download | Load::KeepAlive | Load::Close | Load::Connects => 8000,
        Load::Reverse | Load::Flows | Load::Both => 5201,
        Load::Redis => 6379,
        Load::Ssh => 2222,
    }
}

/// Runs the cell's load to its end; what there is to say about it.
pub(crate) fn run(cell: &Cell, place: &Place<'_>) -> anyhow::Result<String> {
    let ends = place.ends();
    if !cell.load.is_witnessed() {
        return perform(cell, &ends);
    }
    let (said, seen) = witness::around(&ends, cell.stall(), |ends| perform(cell, ends))?;
    Ok(format!("{said}; {seen}"))
}

fn perform(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    match cell.load {
        Load::Download => http::download(cell, ends),
        Load::KeepAlive => http::wrk(cell, ends, false),
        Load::Close => http::wrk(cell, ends, true),
        Load::Connects => http::connects(cell, ends),
        Load::Reverse => iperf::measure(ends, &["-R"]),
        Load::Flows => iperf::measure(ends, &["-P", "8"]),
        Load::Both => iperf::measure(ends, &["--bidir"]),
        Load::Redis => redis::measure(cell, ends),
        Load::Ssh => ssh::copy(cell, ends),
    }
}

/// Starts a server inside, quietly, and waits until it listens.
fn server(ends: &Ends<'_>, words: &[&str]) -> anyhow::Result<()> {
    let (program, rest) = words.split_first().context("a program")?;
    let mut command = ends.server.command(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running::start(&mut command).with_context(|| format!("{program} does not start"))?;
    listens(ends.server, ends.listen.port()).with_context(|| (*program).to_owned())?;
    ends.servers.lock().unwrap_or_else(PoisonError::into_inner).push(running);
    Ok(())
}

/// Waits until somebody listens at a port of a namespace's kernel.
pub(crate) fn listens(space: &Namespace, port: u16) -> anyhow::Result<()> {
    patiently(PATIENCE, || {
        let listening = space.run(&["ss", "-Hltn", "sport", "=", &format!(":{port}")])?;
        ensure!(!listening.stdout.is_empty(), "nobody listens at port {port}");
        Ok(())
    })
}

/// Runs a client to its end, or to [`LIMIT`].
fn client(space: &Namespace, words: &[&str]) -> anyhow::Result<Output> {
    let mut command = space.command("timeout");
    let output = command.args(["-k", "1", LIMIT]).args(words).stdin(Stdio::null()).output()?;
    let name = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    if output.status.code() == Some(124) {
        bail!("{name} was not done after {LIMIT} s");
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let line = error.lines().next_back().unwrap_or_default();
    ensure!(output.status.success(), "{name}: {}: {line}", output.status);
    Ok(output)
}

/// A file of so many bytes of which no piece is like another.
fn noise(folder: &Path, name: &str, length: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    let mut state = length as u64 | 1;
    for _ in 0..length.div_ceil(8) {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.into_inner().map_err(|error| error.into_error())?.set_len(length as u64)?;
    Ok(path)
}

/// The SHA-256 of a file, by the program of that name.
fn sha256(space: &Namespace, path: &Path) -> anyhow::Result<String> {
    let output = space.run(&["sha256sum", &path.to_string_lossy()])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// Fails where two files differ; removes the copy.
fn same(space: &Namespace, original: &Path, copy: &Path) -> anyhow::Result<()> {
    let (there, here) = (sha256(space, original)?, sha256(space, copy)?);
    std::fs::remove_file(copy)?;
    ensure!(there == here, "the copy differs: sha256 {here}, not {there}");
    Ok(())
}
