//! `bulkhead run`: applications on the sandboxed stack.

use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead::ListenOptions;
use bulkhead_wit::registry::setting;
use bulkhead_wit::{Setting, limits};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::address::{Cidr, peers};
use super::arguments::Run;
use super::capture::Capture;
use super::control::{Control, path_for};
use super::device;
use super::failure::usage;
use super::module::Module;
use super::plan::{Application, Kind, applications};
use super::ready::{Ready, Start};
use super::report::{Report, bytes, print};
use super::signals::Signals;
use super::stacks::Stacks;
use super::{metrics, stat, swap};
use crate::apps::Stopper;
use crate::apps::counted::Counters;

/// What a shell calls a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Serves until asked to end.
///
/// # Errors
/// A line that says what to do.
pub(super) fn run(run: Run) -> anyhow::Result<ExitCode> {
    let ready = applications(&run.applications)?;
    let peers = peers(&run.address, &run.peer_address)?;
    for (what, count, most) in [
        ("addresses", run.address.len(), limits::ADDRESSES),
        ("settings", run.setting.len(), limits::SETTINGS),
    ] {
        if count > most {
            return Err(usage(format!("{most} {what} at most")));
        }
    }
    let ready = ready.into_iter().map(Ready::new).collect::<anyhow::Result<Vec<Ready>>>()?;
    let module = Module::of(run.placement, run.module.as_deref())?.server_spin(run.server_spin);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(served(&run, &peers, ready, &module))?;
    // A thread that reads a file may be stuck in it.
    runtime.shutdown_background();
    Ok(code)
}

async fn served(run: &Run, peers: &[Cidr], ready: Vec<Ready>, module: &Module) -> anyhow::Result<ExitCode> {
    // From here on a signal ends in kind.
    let mut signals = Signals::new()?;
    let opened = device::open(run, peers)?;
    let mut stacks = Stacks::new(run, opened.queues, module)?;
    let begun = cpu_time();
    let (stopper, stop) = Stopper::new();
    let (mut counted, mut on_host) = (Vec::new(), Vec::new());
    let mut lines = banner(run, peers, module, &opened.about);
    for one in ready {
        let application = one.application;
        match one.start {
            Start::Stack(port, serve) => {
                let local = SocketAddr::new(everywhere(&run.address), port);
                let options = listening(run, local);
                stacks
                    .serve(local, options, |listener| serve(listener, stop.clone()))
                    .with_context(|| format!("{application}: cannot listen on port {port}"))?;
            }
            Start::Host(serve) => {
                let net = stacks.first().context("there is no stack")?;
                on_host.push(serve(net, stop.clone()));
            }
        }
        lines.push_str(&invitation(&application, &run.address));
        counted.push((application.to_string(), one.counters));
    }
    let mut serving = stacks.start()?;
    on_host.into_iter().for_each(|one| drop(serving.spawn(one)));
    let _watching = watching(run, &stacks, &counted, &mut lines).await?;
    eprint!("{lines}\nCtrl-C ends.\n");

    let end = tokio::select! {
        signal = signals.next() => {
            eprintln!("bulkhead: {signal}: ending, {} s at most; once more ends at once", run.drain.as_secs_f64());
            stopper.stop();
            tokio::select! {
                () = ended(&stacks, run.drain, &mut serving) => End::Asked,
                _ = signals.next() => End::AtOnce,
            }
        }
        failure = failed(&mut serving) => End::Failed(failure),
    };
    // At once means without waiting for anything, but what is left is still reset if the stack can.
    let last = tokio::time::timeout(LAST_WORDS, stacks.shutdown(Duration::ZERO)).await;
    opened.captures.into_iter().for_each(Capture::end);
    stacks.end_recordings();
    let report = Report {
        applications: counted.into_iter().map(|(name, counters)| (name, counters.counts())).collect(),
        stack: last.unwrap_or_else(|_| stacks.stat()),
        cpu: cpu_time().saturating_sub(begun),
        placement: module.placement(),
    };
    print(&if run.json { format!("{:#}\n", report.json()) } else { report.table() })?;
    match end {
        End::Asked => Ok(ExitCode::SUCCESS),
        End::AtOnce => Ok(ExitCode::from(INTERRUPTED)),
        End::Failed(error) => Err(error),
    }
}

/// Answers leave at once: a head and a body are two writes, and a peer that delays its acknowledgement of the first would
/// hold the second back for 40 ms.
fn listening(run: &Run, local: SocketAddr) -> ListenOptions {
    let is_said = run.setting.iter().any(|said| said.key == setting::NODELAY);
    let nodelay = Setting { key: setting::NODELAY, value: 1 };
    let settings = if is_said { Vec::new() } else { vec![nodelay] };
    ListenOptions { dual_stack: local.is_ipv6(), settings, ..ListenOptions::default() }
}

type Counted = Vec<(String, Arc<Counters>)>;

/// Those who look on: the control socket, figures for Prometheus, progress on a terminal. They end with what is returned.
async fn watching(
    run: &Run,
    stacks: &Stacks,
    counted: &Counted,
    lines: &mut String,
) -> anyhow::Result<JoinSet<()>> {
    let mut watching = JoinSet::new();
    let path = run.control.clone().unwrap_or_else(|| path_for(&run.tun));
    match Control::open(&path) {
        Ok(control) => {
            let (stacks, counted) = (stacks.asked(), counted.clone());
            watching.spawn(control.serve(move |command, question| match command {
                "stat" => stat::json(&stacks, applications_json(&counted)),
                "swap" | "shadow" | "shadow-report" => swap::answer(&stacks, command, question),
                "reseed" => reseed(&stacks),
                other => json!({ "error": format!("{other:?} is no command here") }),
            }));
        }
        // Nobody asked for it by name: the program does without.
        Err(error) if run.control.is_none() => tracing::info!("no control socket: {error:#}"),
        Err(error) => return Err(error),
    }
    if let Some(at) = run.metrics {
        let listener =
            metrics::listen(at).await.with_context(|| format!("--metrics {at}: cannot listen there"))?;
        let stacks = stacks.asked();
        watching.spawn(metrics::serve(listener, move || metrics::text(stat::json(&stacks, json!([])))));
        lines.push_str(&format!("\nfigures  at http://{at}/metrics\n"));
    }
    if io::stderr().is_terminal() {
        watching.spawn(progress(counted.clone()));
    }
    Ok(watching)
}

/// Secrets anew in every shard.
fn reseed(stacks: &super::stacks::Asked) -> Value {
    let failed = stacks.nets().find_map(|net| net.reseed().err());
    failed.map_or(json!({}), |error| json!({ "error": format!("no random numbers: {error}") }))
}

fn applications_json(counted: &Counted) -> Value {
    let each = counted.iter().map(|(name, counters)| {
        let counts = counters.counts();
        json!({
            "name": name, "connections": counts.accepted, "ended": counts.ended, "failed": counts.failed,
            "bytes_in": counts.bytes_in, "bytes_out": counts.bytes_out,
        })
    });
    each.collect()
}

/// A line that stays in its place, while there is something to tell of.
async fn progress(counted: Counted) {
    let sum = || {
        counted.iter().map(|(_, counters)| counters.counts()).fold((0, 0, 0), |(open, into, out), counts| {
            (open + counts.accepted - counts.ended, into + counts.bytes_in, out + counts.bytes_out)
        })
    };
    let mut before = sum();
    let mut is_shown = false;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = sum();
        if (now.1, now.2) != (before.1, before.2) {
            let rate = |now: u64, before: u64| bytes(now.saturating_sub(before));
            eprint!(
                "\r\x1b[K{} open, {} in ({}/s), {} out ({}/s)",
                now.0,
                bytes(now.1),
                rate(now.1, before.1),
                bytes(now.2),
                rate(now.2, before.2)
            );
            is_shown = true;
        } else if std::mem::take(&mut is_shown) {
            eprintln!();
        }
        before = now;
    }
}

/// How it came to an end.
enum End {
    /// A signal, and everything was ended in kind or in time.
    Asked,
    /// A second signal.
    AtOnce,
    /// By itself.
    Failed(anyhow::Error),
}

/// How long the resets of a stack that is ended may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// All of our addresses: IPv6's unspecified address stands for those of IPv4 too.
fn everywhere(ours: &[Cidr]) -> IpAddr {
    if ours.iter().all(|own| own.address.is_ipv4()) {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

/// Waits until an application has come to an end that nobody asked for.
async fn failed(serving: &mut JoinSet<io::Result<()>>) -> anyhow::Error {
    match serving.join_next().await {
        Some(Ok(Err(error))) => anyhow::Error::new(error),
        Some(Err(error)) => anyhow::Error::new(error).context("an application failed"),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("an application has ended by itself"),
    }
}

/// The applications come to their end, then the connections do; all of it takes `drain` at most.
async fn ended(stacks: &Stacks, drain: Duration, serving: &mut JoinSet<io::Result<()>>) {
    let until = Instant::now() + drain;
    let all = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout_at(until, all).await.is_ok() {
        stacks.shutdown(until.saturating_duration_since(Instant::now())).await;
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What was set up.
fn banner(run: &Run, peers: &[Cidr], module: &Module, device: &str) -> String {
    let list = |all: &[Cidr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = format!("module   {}\n", module.about());
    lines.push_str(&format!("device   {device}, the kernel at {}\n", list(peers)));
    lines.push_str(&format!("address  {}\n", list(&run.address)));
    if let Some(path) = &run.pcap {
        lines.push_str(&format!("frames   to {}\n", path.display()));
    }
    lines
}

/// An application, and what to type to try it.
fn invitation(application: &Application, ours: &[Cidr]) -> String {
    let about = match &application.kind {
        Kind::Http(directory) => format!("{application}, serving {}", directory.display()),
        _ => application.to_string(),
    };
    let mut lines = format!("\n{about}\n");
    let mut told: Vec<String> = ours.iter().filter_map(|own| application.try_it(own.address)).collect();
    told.dedup();
    told.iter().for_each(|line| lines.push_str(&format!("  try: {line}\n")));
    lines
}
