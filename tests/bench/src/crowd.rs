//! A hundred thousand connections of the kernel's, in as many processes as it takes: each may have only so many files open.
//!
//! Everything runs on one processor, and one process at a time has something to do: the time that passes is the CPU time of both
//! ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, bail};
use bulkhead::compare::{Kernel, Peer as _, SHORT, many, may_open, pin, round};

use crate::subject::{STACK4, Subject};

/// Files that a process has open beside connections, and some more.
const OTHERS: u64 = 1_000;
/// Between the ports of servers beside each other.
const APART: u16 = 100;
/// Active connections of a few.
const ACTIVE: usize = 10;
/// Requests of a repetition with few active connections.
const REQUESTS: usize = 50_000;
/// The processor that everything runs on.
const PROCESSOR: usize = 0;

/// Where clients are, in the peer's namespace: each has ports of its own.
const fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 100 + number)
}

/// A process with connections.
struct Client {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Client {
    fn start(subject: &Subject, number: u8, port: u16) -> anyhow::Result<Self> {
        let own = client(number).to_string();
        subject.peer.run(&["ip", "address", "add", &format!("{own}/24"), "dev", subject.device()])?;
        let mut command = subject.peer.command(std::env::current_exe()?);
        command.args(["clients", &own, &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (to, from) = child.stdin.take().zip(child.stdout.take()).context("its pipes")?;
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    /// Opens connections up to this number, sends requests over the first of them, and says nanoseconds for each request.
    fn ask(&mut self, count: usize, requests: usize) -> anyhow::Result<f64> {
        writeln!(self.to, "{count} {requests}")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("a client: {}", line.trim()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nanoseconds of both ends for each request: of 10 connections alone, of 10 among many, of all of many; as often as it says.
pub(crate) fn measure(subject: &Subject, count: usize, repetitions: usize) -> anyhow::Result<[Vec<f64>; 3]> {
    let each = may_open().context("the limit of open files")?.saturating_sub(OTHERS).max(1);
    let processes = (count as u64).div_ceil(each).min(100) as u8;
    let share = count / usize::from(processes);
    subject.pin(Some(PROCESSOR));
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for number in 0..processes {
        let offset = if subject.is_kernel() { APART * u16::from(number) } else { 0 };
        if offset > 0 {
            servers.push(subject.another(offset, PROCESSOR)?);
        }
        clients.push(Client::start(subject, number, SHORT + offset)?);
    }
    let mut values = [Vec::new(), Vec::new(), Vec::new()];
    let [alone, few, all] = &mut values;
    let first = |clients: &mut [Client]| clients.first_mut().context("a client")?.ask(ACTIVE, REQUESTS);
    for _ in 0..repetitions {
        alone.push(first(&mut clients)?);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        eprint!("\r\x1b[K{}: {} connections", subject.kind.name(), number * share);
        client.ask(share, 1)?;
    }
    for repetition in 0..repetitions {
        eprint!("\r\x1b[K{}: {count} connections, {}/{repetitions}", subject.kind.name(), repetition + 1);
        few.push(first(&mut clients)?);
        let times = clients.iter_mut().map(|client| client.ask(share, share));
        let times = times.collect::<anyhow::Result<Vec<f64>>>()?;
        all.push(times.iter().sum::<f64>() / f64::from(processes));
    }
    subject.pin(None);
    Ok(values)
}

/// What a client's process does, until nobody asks any more.
pub(crate) fn clients(own: Ipv4Addr, port: u16) -> anyhow::Result<()> {
    may_open()?;
    pin(None, Some(PROCESSOR));
    let peer = Kernel(STACK4.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut open = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line?;
        let numbers: Vec<usize> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [count, requests] = *numbers else { bail!("asked for {line:?}") };
        let took = runtime.block_on(async {
            many(&peer, own, port, &mut open, count).await?;
            round(open.get_mut(..count).unwrap_or_default(), requests).await
        })?;
        println!("{took}");
    }
    open.into_iter().try_for_each(Kernel::abort)?;
    Ok(())
}
