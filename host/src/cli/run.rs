//! `bulkhead run`: applications on the sandboxed stack.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead::ListenOptions;
use bulkhead::net::{TcpListener, TcpStream};
use bulkhead_wit::limits;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::address::{Cidr, peers};
use super::arguments::Run;
use super::capture::Capture;
use super::device;
use super::failure::usage;
use super::module::Module;
use super::plan::{Application, Kind, applications};
use super::report::{Report, print};
use super::signals::Signals;
use super::stacks::Stacks;
use crate::apps::counted::Counters;
use crate::apps::discard::Discard;
use crate::apps::echo::Echo;
use crate::apps::http::Http;
use crate::apps::source::Source;
use crate::apps::{Listener, Service, Stop, Stopper, serve};

/// What a shell calls a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// An application that is ready to be served.
struct Ready {
    application: Application,
    counters: Arc<Counters>,
    serve: Box<dyn Fn(TcpListener, Stop) -> Serving>,
}

/// An application at work on one stack.
pub(super) type Serving = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Ready {
    /// Everything that can fail without a stack fails here.
    fn new(application: Application) -> anyhow::Result<Self> {
        Ok(match &application.kind {
            Kind::Echo => Self::of(application, Echo),
            Kind::Discard => Self::of(application, Discard),
            Kind::Source => Self::of(application, Source::new()),
            Kind::Http(directory) => {
                let http = Http::new(directory).with_context(|| {
                    format!("{}: cannot serve it; give http a directory that exists", directory.display())
                })?;
                Self::of(application, http)
            }
        })
    }

    fn of(application: Application, service: impl Service) -> Self {
        let counters = Arc::new(Counters::default());
        let (service, counting) = (Arc::new(service), Arc::clone(&counters));
        Self {
            application,
            counters,
            serve: Box::new(move |listener, stop| {
                Box::pin(serve(listener, Arc::clone(&service), Arc::clone(&counting), stop))
            }),
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    /// A listener outlives faults of the module; when it ends, so has the stack.
    fn is_final(_: &io::Error) -> bool {
        true
    }
}

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
    let module = Module::of(&run)?;
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
    let mut counted = Vec::new();
    let mut lines = banner(run, peers, module, &opened.about);
    for one in ready {
        let application = one.application;
        let local = SocketAddr::new(everywhere(&run.address), application.port);
        let options = ListenOptions { dual_stack: local.is_ipv6(), ..ListenOptions::default() };
        stacks
            .serve(local, options, |listener| (one.serve)(listener, stop.clone()))
            .with_context(|| format!("{application}: cannot listen on port {}", application.port))?;
        lines.push_str(&invitation(&application, &run.address));
        counted.push((application.to_string(), one.counters));
    }
    let mut serving = stacks.start()?;
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
    for own in ours {
        lines.push_str(&format!("  try: {}\n", application.try_it(own.address)));
    }
    lines
}
