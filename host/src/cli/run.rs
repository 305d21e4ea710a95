//! `bulkhead run`: applications on the sandboxed stack.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_wit::limits;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::address::{Cidr, peers};
use super::arguments::Run;
use super::capture::Capture;
use super::device;
use super::failure::usage;
use super::module::Module;
use super::plan::{Application, Kind, applications};
use super::ready::Ready;
use super::report::{Report, bytes, print};
use super::running::Running;
use super::signals::Signals;
use super::stacks::{Ended, Stacks};
use super::upgrade::{self, Asked, Predecessor};
use super::{metrics, stat, swap};
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
    let begun = cpu_time();
    let (mut running, about) = if run.take_over {
        let mut predecessor = Predecessor::new()?;
        let taken = upgrade::take_over(run, ready, module, &mut predecessor);
        let running = taken.inspect_err(|error| predecessor.fail(error))?;
        (running, run.tun.clone())
    } else {
        let mut opened = device::open(run, peers)?;
        let running = Running::begin(run, ready, module, &mut opened)?;
        (running, opened.about)
    };
    let mut lines = banner(run, peers, module, &about);
    running.ready.iter().for_each(|one| lines.push_str(&invitation(&one.application, &run.address)));
    let (upgrading, mut upgrades) = mpsc::channel(1);
    let mut watching = watching(run, &running, upgrading, &mut lines)?;
    eprint!("{lines}\nCtrl-C ends.\n");

    let end = loop {
        tokio::select! {
            signal = signals.next() => {
                eprintln!("bulkhead: {signal}: ending, {} s at most; once more ends at once", run.drain.as_secs_f64());
                running.stopper.stop();
                break tokio::select! {
                    () = ended(&running.stacks, run.drain, &mut running.tasks) => End::Asked,
                    _ = signals.next() => End::AtOnce,
                };
            }
            Some(Asked { program, reply }) = upgrades.recv() => {
                let done = upgrade::hand_over(run, &mut running, program).await;
                let is_done = done.is_ok();
                // Whoever has asked may not wait for it.
                let _ = reply.send(done.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })));
                if is_done {
                    watching.shutdown().await;
                    if let Some(control) = running.outside.control.take() {
                        control.leave().await;
                    }
                    return Ok(ExitCode::SUCCESS);
                }
            }
            failure = failed(&mut running.tasks) => break End::Failed(failure),
        }
    };
    // At once means without waiting for anything, but what is left is still reset if the stack can.
    let last = tokio::time::timeout(LAST_WORDS, running.stacks.shutdown(Duration::ZERO)).await;
    running.files().for_each(Capture::write_out);
    let Running { stacks, ready, outside, .. } = running;
    drop(outside);
    let counts = ready.iter().map(|one| (one.application.to_string(), one.counters.counts()));
    let report = Report {
        applications: counts.collect(),
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

type Counted = Vec<(String, Arc<Counters>)>;

/// Those who look on: the control socket, figures for Prometheus, progress on a terminal. They end with what is returned.
fn watching(
    run: &Run,
    running: &Running,
    upgrading: mpsc::Sender<Asked>,
    lines: &mut String,
) -> anyhow::Result<JoinSet<()>> {
    let mut watching = JoinSet::new();
    let counted = running.ready.iter().map(|one| (one.application.to_string(), Arc::clone(&one.counters)));
    let counted: Counted = counted.collect();
    if let Some(control) = &running.outside.control {
        let (stacks, counted, swapping) =
            (running.stacks.asked(), counted.clone(), Arc::clone(&running.swapping));
        watching.spawn(control.serve(move |command, question| match command {
            "stat" => stat::json(&stacks, applications_json(&counted)),
            "swap" | "shadow" => {
                let _alone = swapping.blocking_lock();
                swap::answer(&stacks, command, question)
            }
            "shadow-report" => swap::answer(&stacks, command, question),
            "reseed" => {
                let _alone = swapping.blocking_lock();
                reseed(&stacks)
            }
            "upgrade" => upgrade_asked(&upgrading, question),
            other => json!({ "error": format!("{other:?} is no command here") }),
        })?);
    }
    if let (Some(at), Some(listener)) = (run.metrics, &running.outside.metrics) {
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let stacks = running.stacks.asked();
        watching.spawn(metrics::serve(listener, move || metrics::text(stat::json(&stacks, json!([])))));
        lines.push_str(&format!("\nfigures  at http://{at}/metrics\n"));
    }
    if io::stderr().is_terminal() {
        watching.spawn(progress(counted));
    }
    Ok(watching)
}

/// Waits, on a thread of its own, until a successor has taken over or has not.
fn upgrade_asked(upgrading: &mpsc::Sender<Asked>, question: &Value) -> Value {
    let (reply, answer) = oneshot::channel();
    let asked = Asked { program: question["program"].as_str().map(Into::into), reply };
    let ending = || json!({ "error": "the instance is ending" });
    if upgrading.blocking_send(asked).is_err() {
        return ending();
    }
    answer.blocking_recv().unwrap_or_else(|_| ending())
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

/// Waits until an application has come to an end that nobody asked for.
async fn failed(tasks: &mut JoinSet<Ended>) -> anyhow::Error {
    match tasks.join_next().await {
        Some(Ok((_, Err(error)))) => anyhow::Error::new(error),
        Some(Err(error)) => anyhow::Error::new(error).context("an application failed"),
        Some(Ok((_, Ok(_)))) | None => anyhow::anyhow!("an application has ended by itself"),
    }
}

/// The applications come to their end, then the connections do; all of it takes `drain` at most.
async fn ended(stacks: &Stacks, drain: Duration, tasks: &mut JoinSet<Ended>) {
    let until = Instant::now() + drain;
    let all = async { while tasks.join_next().await.is_some() {} };
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
