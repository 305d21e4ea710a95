//! Gateways side by side: what a program in a namespace of its own gets through each of them.
//!
//! For each gateway one namespace plays the host, with the kernel's own sockets serving at an address that is no loopback,
//! and another one plays the container. The client is the kernel's TCP inside the container. Memory and CPU time are those
//! of the gateway's process.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bulkhead::compare::{
    Figure, Kernel, Results, Usage, bulk_in, bulk_out, connections, idle, ping_pong, requests, run, share,
};
use bulkhead_namespace::Namespace;

/// Where the host's servers are; addresses for documentation (RFC 5737).
const HOST: &str = "198.51.100.2";
/// The address of the host's interface, which pasta gives to the inside as well.
const COPIED: &str = "198.51.100.1/24";
const LOOPBACK: &str = "127.0.0.1";
/// How long a gateway may take to carry the first byte.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(2);
/// Open connections, and how many of them in bulk, when memory is looked at.
const MANY: usize = 1_000;
const BULK: usize = 10;

/// A gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    Bulkhead,
    BulkheadLong,
    Slirp,
    SlirpLong,
    Pasta,
    PastaSplice,
}

impl Gate {
    const ALL: [Self; 6] =
        [Self::Bulkhead, Self::BulkheadLong, Self::Slirp, Self::SlirpLong, Self::Pasta, Self::PastaSplice];

    const fn name(self) -> &'static str {
        match self {
            Self::Bulkhead => "bulkhead, MTU 1500",
            Self::BulkheadLong => "bulkhead, MTU 65520",
            Self::Slirp => "slirp4netns, MTU 1500",
            Self::SlirpLong => "slirp4netns, MTU 65520",
            Self::Pasta => "pasta, tap",
            Self::PastaSplice => "pasta, splice",
        }
    }

    /// Where the host's servers are for those inside.
    const fn address(self) -> &'static str {
        // Splicing is for what the inside takes for its own loopback.
        if matches!(self, Self::PastaSplice) { LOOPBACK } else { HOST }
    }

    fn command(self, program: &Path, host: &Namespace, inside: &Namespace) -> Command {
        let path = format!("/run/netns/{}", inside.name());
        let mtu = if matches!(self, Self::SlirpLong | Self::BulkheadLong) { "65520" } else { "1500" };
        let mut command;
        match self {
            Self::Bulkhead | Self::BulkheadLong => {
                command = host.command(program);
                command.args(["gateway", "--mtu", mtu, "--no-dns", "--netns", &path]);
            }
            Self::Slirp | Self::SlirpLong => {
                command = host.command("slirp4netns");
                command.args(["-c", "--mtu", mtu, "--netns-type=path", &path, "tap0"]);
            }
            Self::Pasta | Self::PastaSplice => {
                command = host.command("pasta");
                command.args(["--foreground", "--quiet", "--runas", "0", "--config-net", "--no-dhcp"]);
                if self == Self::PastaSplice {
                    command.args(["-T", "auto"]);
                }
                command.args(["--netns", &path]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// A gateway at work.
struct Through {
    gate: Gate,
    inside: Namespace,
    gateway: Child,
    server: Child,
    _host: Namespace,
    first_byte_ms: f64,
}

impl Through {
    fn start(gate: Gate, program: &Path) -> anyhow::Result<Self> {
        let (host, inside) = (Namespace::new()?, Namespace::new()?);
        // A host has an interface with an address and a route, which some gateways copy.
        host.run(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0"])?;
        host.run(&["ip", "address", "add", COPIED, "dev", "up0"])?;
        host.run(&["ip", "address", "add", HOST, "dev", "lo"])?;
        host.run(&["ip", "link", "set", "far0", "up"])?;
        host.run(&["ip", "link", "set", "up0", "up"])?;
        host.run(&["ip", "route", "add", "default", "via", "198.51.100.254"])?;
        let mut server = host.command(std::env::current_exe()?);
        let mut server = server.args(["serve", "kernel"]).stdout(Stdio::piped()).spawn()?;
        crate::subject::wait_ready(&mut server)?;
        let begin = Instant::now();
        let gateway = gate.command(program, &host, &inside).spawn().with_context(|| gate.name())?;
        let mut own = Self { gate, inside, gateway, server, _host: host, first_byte_ms: 0.0 };
        while own.inside(async |peer| ping_pong(peer, 1).await).is_err() {
            if let Some(status) = own.gateway.try_wait()? {
                let said = own.gateway.stderr.take().map(io::read_to_string).transpose()?.unwrap_or_default();
                bail!("{}: {status}: {}", gate.name(), said.trim());
            }
            if begin.elapsed() > PATIENCE {
                bail!("{}: no byte in {} s", gate.name(), PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        own.first_byte_ms = begin.elapsed().as_secs_f64() * 1e3;
        Ok(own)
    }

    /// Runs it in the container.
    fn inside<T: Send>(&self, work: impl AsyncFnOnce(&Kernel) -> io::Result<T> + Send) -> io::Result<T> {
        let peer = Kernel(self.gate.address().parse().map_err(io::Error::other)?);
        self.inside.inside(|| run(async { work(&peer).await }))?
    }

    fn usage(&self) -> Usage {
        Usage(self.gateway.id())
    }
}

impl Drop for Through {
    fn drop(&mut self) {
        for child in [&mut self.gateway, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Measures all gateways that are here, in turns.
pub(crate) fn measure(program: &Path, repetitions: usize, is_quick: bool) -> anyhow::Result<Results> {
    let mut all = Vec::new();
    for gate in Gate::ALL {
        match Through::start(gate, program) {
            Ok(through) => all.push(through),
            Err(error) => eprintln!("left out: {error:#}"),
        }
    }
    let mut results = Results::new(all.iter().map(|one| one.gate.name().to_owned()).collect(), repetitions);
    for repetition in 0..repetitions {
        for (column, through) in all.iter().enumerate() {
            eprint!("\r\x1b[K{}/{repetitions}: {}", repetition + 1, through.gate.name());
            let mut measuring = Measuring { through, column, is_quick, results: &mut results };
            if repetition == 0 {
                measuring.begin();
            }
            measuring.repeat();
        }
    }
    eprint!("\r\x1b[K");
    Ok(results)
}

struct Measuring<'a> {
    through: &'a Through,
    column: usize,
    is_quick: bool,
    results: &'a mut Results,
}

impl Measuring<'_> {
    fn add(&mut self, figure: &Figure, value: io::Result<f64>) {
        let told = |error: &io::Error| eprintln!("\r\x1b[K{}: {error}", self.through.gate.name());
        let value = value.inspect_err(told).ok();
        self.results.add(figure, self.column, value);
    }

    /// What is looked at once: a start, and memory while little was used before.
    fn begin(&mut self) {
        self.add(&Figure::less("start to first byte", "ms"), Ok(self.through.first_byte_ms));
        let through = self.through;
        self.add(&Figure::less("memory at rest", "MiB"), Ok(through.usage().memory(true) / 1048576.0));
        let bytes = if self.is_quick { 256 << 20 } else { 1 << 30 };
        let many = through.inside(async |peer| {
            let bulk = bulk_out(peer, BULK, bytes);
            let (bulk, memory) = tokio::join!(bulk, idle(peer, MANY - BULK, || through.usage().memory(true)));
            bulk.and(memory)
        });
        self.add(
            &Figure::less("memory, 1,000 connections, 10 in bulk", "MiB"),
            many.map(|bytes| bytes / 1048576.0),
        );
    }

    fn repeat(&mut self) {
        let through = self.through;
        let bytes: u64 = if self.is_quick { 128 << 20 } else { 512 << 20 };
        for (is_out, way) in [(true, "out"), (false, "in")] {
            let cpu = through.usage().cpu();
            let rate = through.inside(async |peer| match is_out {
                // Out of the container is into the server.
                true => bulk_in(peer, 1, bytes).await,
                false => bulk_out(peer, 1, bytes).await,
            });
            let cpu = (through.usage().cpu() - cpu) / (bytes as f64 / f64::from(1 << 30));
            let figure = Figure::less(&format!("CPU of the gateway a GiB {way}"), "s");
            let cpu = if rate.is_ok() { Some(cpu) } else { None };
            self.add(
                &Figure::new(&format!("bulk {way}, 1 flow"), "Gbit/s"),
                rate.map(|rate| rate * 8.0 / 1e9),
            );
            self.results.add(&figure, self.column, cpu);
        }
        let time = Duration::from_millis(if self.is_quick { 300 } else { 1_000 });
        let rate = through.inside(async |peer| requests(peer, false, 100, time).await);
        self.add(&Figure::new("requests, 64 bytes back, 100 connections", "1/s"), rate);
        let rate = through.inside(async |peer| connections(peer, 16, time).await);
        self.add(&Figure::new("connect, request, close, 16 at a time", "1/s"), rate);
        let times = through.inside(async |peer| ping_pong(peer, 1_000).await);
        let p50 = times.map(|times| share(&times, 0.5).unwrap_or_default() / 1e3);
        self.add(&Figure::less("1-byte round trip, p50", "us"), p50);
    }
}
