//! `bulkhead gateway`: a network for any program, through the sandboxed stack.

mod arguments;
mod inside;
mod machine;
mod session;
mod slirp4netns;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead::device::Device;
use bulkhead::net::{Builder, Net};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::json;
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Child;
use tokio::task::JoinSet;

pub(super) use arguments::{GATEWAY_EXAMPLES, Gateway, Inside};
pub(super) use inside::inside;
pub(super) use slirp4netns::{SLIRP4NETNS, SLIRP4NETNS_HELP, Slirp4netns, by_name};

use super::arguments::Placement;
use super::module::Module;
use super::signals::Signals;
use crate::gateway::limits::{DESCRIPTORS, FLOWS, OFFERS};
use crate::gateway::policy::{DNS, Policy};
use crate::gateway::{self, carry};
use arguments::Published;
use machine::Machine;
use session::{Session, Settled, host_name_servers};

/// What tools that run programs say when they fail themselves.
const FAILED: u8 = 125;
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long what is on its way may take once the program has ended.
const DRAIN: Duration = Duration::from_millis(500);

/// Gives a program, or a namespace, its network.
///
/// # Errors
/// A line that says what to do.
pub(super) fn gateway(mut arguments: Gateway) -> anyhow::Result<ExitCode> {
    let module = Module::of(arguments.placement, arguments.module.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = match runtime.block_on(served(&mut arguments, &module)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bulkhead: {}", super::failure::one_line(&error));
            ExitCode::from(FAILED)
        }
    };
    runtime.shutdown_background();
    Ok(code)
}

async fn served(arguments: &mut Gateway, module: &Module) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let policy = policy(arguments);
    // Ports of the host's are taken before anything is started.
    let mut published = Vec::new();
    for port in &arguments.publish {
        let listener = TcpListener::bind(port.at)
            .await
            .with_context(|| format!("--publish {}: cannot listen", port.at))?;
        published.push((listener, *port));
    }
    let Some((within, device)) = Within::begin(arguments, &mut signals).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    // What runs inside has been started, with what it is used to.
    let_in(arguments.connections);
    let mut builder =
        module.give_to(Builder::new(device)).udp().any_address().offers(OFFERS).turns_in_calls(true);
    for (address, length) in arguments.ours() {
        builder = builder.address(address, length);
    }
    for setting in &arguments.setting {
        builder = builder.setting(setting.key, setting.value);
    }
    let (net, driver) = builder.build()?;
    let driving = tokio::spawn(driver.run());
    let gateway = Arc::new(gateway::Gateway {
        policy,
        connections: arguments.connections,
        rate: arguments.rate,
        outbound: arguments.caller.outbound.clone(),
        counters: Default::default(),
    });
    let mut carrying = JoinSet::new();
    let heard = gateway::listen(&net)?;
    let shared = Arc::clone(&gateway);
    carrying.spawn(async move { gateway::serve(heard, &shared).await });
    for (listener, port) in published {
        // The first is IPv4, and there always.
        if let Some((inside, _)) = arguments.inside().first() {
            carrying.spawn(publish(listener, port, net.clone(), *inside));
        }
    }
    let within = within.settle();
    let exit = arguments.caller.exit.take().map(watched).transpose().context("--exit-fd")?;
    if arguments.placement != Placement::Process {
        // A server process that fails is followed by another, which is a program to be run.
        gateway::confine().context("the process cannot be confined")?;
    }
    let (program, machine) = within.go().await?;
    match arguments.caller.ready.take() {
        Some(ready) => drop(rustix::io::write(&ready, b"1").context("--ready-fd")?),
        None if machine.is_some() => eprintln!("the machine has its network; Ctrl-C ends it"),
        None if program.is_none() => eprintln!("the namespace has its network; Ctrl-C ends it"),
        None => {}
    }
    let code = tokio::select! {
        code = ended(program, &mut signals) => code?,
        () = happens(exit.as_ref()) => ExitCode::SUCCESS,
        () = machine::gone(machine.as_ref()) => ExitCode::SUCCESS,
        failed = carrying.join_next() => match failed {
            Some(Ok(Err(error))) => return Err(error.into()),
            _ => anyhow::bail!("the gateway has ended by itself"),
        },
    };
    carrying.abort_all();
    let summary = net.shutdown(DRAIN).await;
    // The driver has told the summary, and ends.
    let _ = driving.await;
    if arguments.json {
        let report = json!({
            "gateway": gateway.counters.json(), "steps": summary.steps, "faults": summary.faults,
            "drops": summary.drops, "memory": summary.memory,
        });
        eprintln!("{report:#}");
    }
    Ok(code)
}

/// Who has the network.
enum Within {
    Namespace(Box<Session>),
    Machine(Machine),
}

impl Within {
    /// Makes or enters the namespaces, or waits for the machine. None if a signal came first.
    async fn begin(
        arguments: &Gateway,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<(Self, Box<dyn Device>)>> {
        if arguments.is_machine() {
            let begun = Machine::begin(arguments, signals).await?;
            return Ok(
                begun.map(|(machine, device)| (Self::Machine(machine), Box::new(device) as Box<dyn Device>))
            );
        }
        let (session, device) = Session::begin(arguments).await?;
        Ok(Some((Self::Namespace(Box::new(session)), Box::new(device))))
    }

    fn settle(self) -> Ready {
        match self {
            // What stands in the session's files is mounted by now.
            Self::Namespace(session) => Ready::Namespace(Box::new(session.settle())),
            Self::Machine(machine) => Ready::Machine(machine),
        }
    }
}

/// The same, once the process is confined.
enum Ready {
    Namespace(Box<Settled>),
    Machine(Machine),
}

impl Ready {
    /// Lets it begin: the program, if there is one, or the machine.
    async fn go(self) -> anyhow::Result<(Option<Child>, Option<Machine>)> {
        match self {
            Self::Namespace(session) => Ok((session.go().await?, None)),
            Self::Machine(machine) => Ok((None, Some(machine))),
        }
    }
}

/// Every connection and every flow takes a descriptor: as many as the system gives this user.
fn let_in(connections: usize) {
    let needed = connections as u64 + FLOWS as u64 + DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let most = maximum.map_or(needed, |maximum| maximum.min(needed));
    if most < needed {
        tracing::warn!(
            "{needed} descriptors would be needed and {most} may be open: raise the hard limit (ulimit -Hn)"
        );
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }) {
        tracing::warn!(%error, "the limit of open descriptors stays");
    }
}

/// Waits for the program's end, or where there is none for ours.
async fn ended(program: Option<Child>, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let Some(mut child) = program else {
        signals.next().await;
        return Ok(ExitCode::SUCCESS);
    };
    loop {
        tokio::select! {
            status = child.wait() => return Ok(code_of(status?)),
            signal = signals.next() => {
                // Ctrl-C has reached the program by its terminal; whether it ends is for it to say.
                let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
                if let Some(pid) = pid.filter(|_| signal == "SIGTERM") {
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
        }
    }
}

/// A descriptor to wait on, of whatever kind: the type is only there for the runtime.
fn watched(descriptor: OwnedFd) -> io::Result<UnixStream> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    UnixStream::from_std(descriptor.into())
}

/// Waits until something happens on the descriptor that ends us, if there is one.
async fn happens(exit: Option<&UnixStream>) {
    match exit {
        Some(exit) => drop(exit.readable().await),
        None => std::future::pending().await,
    }
}

/// As a shell tells it.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED))
}

fn policy(arguments: &Gateway) -> Policy {
    let server = arguments.dns.or_else(|| host_name_servers().first().copied());
    let names = arguments.name_servers();
    if server.is_none() && !names.is_empty() {
        tracing::warn!("the host has no name server in /etc/resolv.conf; name one with --dns");
    }
    Policy {
        allow: arguments.allow.clone(),
        deny: arguments.deny.clone(),
        gateway: arguments.ours().into_iter().map(|(address, _)| address).collect(),
        host_loopback: arguments.host_loopback,
        dns: server.map_or_else(Vec::new, |server| {
            names.into_iter().map(|name| (name, SocketAddr::new(server, DNS))).collect()
        }),
        inside: arguments.ours(),
        from: arguments.from.clone(),
    }
}

/// Connections to a port of the host's go inside.
async fn publish(listener: TcpListener, port: Published, net: Net, inside: IpAddr) -> io::Result<()> {
    let to = SocketAddr::new(inside, port.inside);
    loop {
        let far = match listener.accept().await {
            Ok((far, _)) => far,
            Err(error) => {
                tracing::warn!(%error, "not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let net = net.clone();
        tokio::spawn(async move {
            let carried = async {
                let near = net.connect(to).await?;
                near.set_nodelay(true)?;
                far.set_nodelay(true)?;
                carry(near, far).await
            };
            if let Err(error) = carried.await {
                tracing::debug!(%to, %error, "failed");
            }
        });
    }
}
