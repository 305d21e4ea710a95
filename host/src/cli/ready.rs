//! Applications that are ready to be served: everything that can fail without a stack has not.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use bulkhead::ListenOptions;
use bulkhead::net::{Net, TcpListener, TcpStream};

use super::plan::{Application, At, Kind};
use super::report::bytes;
use crate::apps::carried::{Carried, Rest, Socket, Standing};
use crate::apps::connect::{Host, Target};
use crate::apps::counted::Counters;
use crate::apps::discard::Discard;
use crate::apps::echo::Echo;
use crate::apps::forward::Forward;
use crate::apps::http::Http;
use crate::apps::perf::Plan;
use crate::apps::perf::client::measure;
use crate::apps::perf::server::Perf;
use crate::apps::socks5::Socks5;
use crate::apps::source::Source;
use crate::apps::{Listener, Service, Stop, serve};

/// Where an application listens: on a stack, on a descriptor of the host's, or nowhere.
#[derive(Debug)]
pub(super) enum Ear {
    Stack(TcpListener),
    Host(OwnedFd),
    Nowhere,
}

/// An application that stands still, or has not begun.
#[derive(Debug)]
pub(super) struct Resting {
    pub(super) ear: Ear,
    pub(super) open: Vec<Standing<Socket>>,
}

impl Resting {
    /// One that begins.
    pub(super) const fn new(ear: Ear) -> Self {
        Self { ear, open: Vec::new() }
    }
}

/// An application, and the stack that it is at work on, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) application: usize,
    pub(super) stack: usize,
}

/// Where an application runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    /// With its stack: every stack has one of it.
    Stack,
    /// With the program: it connects through the first stack.
    Program,
}

/// An application at work on one stack; what it ends with is how it stands still, if it was asked to.
pub(super) type Serving = Pin<Box<dyn Future<Output = io::Result<Option<Resting>>> + Send>>;
/// Puts an application to work.
type Begin = Box<dyn Fn(&Net, Resting, Stop) -> Serving>;

/// An application that is ready to be served.
pub(super) struct Ready {
    pub(super) application: Application,
    pub(super) counters: Arc<Counters>,
    begin: Begin,
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

impl Ready {
    /// # Errors
    /// A line that says what to do.
    pub(super) fn new(application: Application) -> anyhow::Result<Self> {
        let counters = Arc::new(Counters::default());
        let begin = match (&application.kind, application.at) {
            (Kind::Echo, At::Stack(_)) => on_stack(Echo, &counters),
            (Kind::Discard, At::Stack(_)) => on_stack(Discard, &counters),
            (Kind::Source, At::Stack(_)) => on_stack(Source::new(), &counters),
            (Kind::Perf, At::Stack(_)) => on_stack(Perf::default(), &counters),
            (Kind::Http(directory), At::Stack(_)) => {
                let http = Http::new(directory).with_context(|| {
                    format!("{}: cannot serve it; give http a directory that exists", directory.display())
                })?;
                on_stack(http, &counters)
            }
            (Kind::Forward(target), At::Stack(_)) => {
                on_stack(Forward { target: target.clone(), by: Host }, &counters)
            }
            (Kind::Forward(target), At::Host(_)) => {
                let target = target.clone();
                on_host(move |by| Forward { target: target.clone(), by }, &counters)
            }
            (Kind::Socks5, At::Host(_)) => on_host(Socks5, &counters),
            (Kind::PerfTo(target, plan), _) => measuring(target.clone(), *plan),
            _ => anyhow::bail!("{application} cannot listen there"),
        };
        Ok(Self { application, counters, begin })
    }

    /// Where it listens on a stack from now on, or on the host, so that a port that is taken is told at once.
    ///
    /// # Errors
    /// A line that says what is wrong.
    pub(super) fn listen(&self, net: &Net, local: impl Fn(u16) -> Listening) -> anyhow::Result<Resting> {
        let ear = match self.application.at {
            At::Stack(port) => {
                let (local, options) = local(port);
                let listener = net
                    .listen_with(local, options)
                    .with_context(|| format!("{}: cannot listen on port {port}", self.application))?;
                Ear::Stack(listener)
            }
            At::Host(at) => {
                let listener = std::net::TcpListener::bind(at)
                    .with_context(|| format!("cannot listen on the host's {at}"))?;
                listener.set_nonblocking(true)?;
                Ear::Host(listener.into())
            }
            At::Nowhere => Ear::Nowhere,
        };
        Ok(Resting::new(ear))
    }

    pub(super) fn home(&self) -> Home {
        if matches!(self.application.at, At::Stack(_)) { Home::Stack } else { Home::Program }
    }

    /// Puts it to work, from where it stands.
    pub(super) fn begin(&self, net: &Net, resting: Resting, stop: Stop) -> Serving {
        (self.begin)(net, resting, stop)
    }

    /// Why it cannot stand still now, if it cannot.
    pub(super) fn holds(&self) -> Option<String> {
        let counts = self.counters.counts();
        let open = counts.accepted.saturating_sub(counts.ended);
        match self.application.kind {
            Kind::Perf if open > 0 => Some(format!(
                "{} is measuring over {open} connections; when it has ended, try again",
                self.application
            )),
            Kind::PerfTo(..) => Some(format!("{} measures in this process alone", self.application)),
            _ => None,
        }
    }
}

/// An end to listen on, and how.
pub(super) type Listening = (SocketAddr, ListenOptions);

fn on_stack(service: impl Service, counters: &Arc<Counters>) -> Begin {
    let (service, counters) = (Arc::new(service), Arc::clone(counters));
    Box::new(move |_, resting, stop| {
        let (service, counters) = (Arc::clone(&service), Arc::clone(&counters));
        Box::pin(async move {
            let Ear::Stack(listener) = resting.ear else { return Err(io::ErrorKind::InvalidData.into()) };
            let rest = Rest { listener, open: taken_up(resting.open)? };
            match serve(rest, service, counters, stop).await? {
                Some(rest) => put_aside(rest.open, Ear::Stack(rest.listener)).map(Some),
                None => Ok(None),
            }
        })
    })
}

fn on_host<S: Service>(service: impl Fn(Net) -> S + Send + 'static, counters: &Arc<Counters>) -> Begin {
    let counters = Arc::clone(counters);
    Box::new(move |net, resting, stop| {
        let (service, counters) = (Arc::new(service(net.clone())), Arc::clone(&counters));
        Box::pin(async move {
            let Ear::Host(listener) = resting.ear else { return Err(io::ErrorKind::InvalidData.into()) };
            let listener = tokio::net::TcpListener::from_std(listener.into())?;
            let rest = Rest { listener, open: taken_up(resting.open)? };
            match serve(rest, service, counters, stop).await? {
                Some(rest) => {
                    let listener = rest.listener.into_std()?;
                    put_aside(rest.open, Ear::Host(listener.into())).map(Some)
                }
                None => Ok(None),
            }
        })
    })
}

fn measuring(target: Target, plan: Plan) -> Begin {
    Box::new(move |net, _, stop| Box::pin(perf_to(net.clone(), target.clone(), plan, stop)))
}

fn taken_up<S: Carried>(open: Vec<Standing<Socket>>) -> io::Result<Vec<Standing<S>>> {
    let each = open.into_iter();
    each.map(|Standing { stream, peer, left }| Ok(Standing { stream: S::take_up(stream)?, peer, left }))
        .collect()
}

fn put_aside<S: Carried>(open: Vec<Standing<S>>, ear: Ear) -> io::Result<Resting> {
    let each = open.into_iter();
    let open =
        each.map(|Standing { stream, peer, left }| Ok(Standing { stream: stream.put_aside()?, peer, left }));
    Ok(Resting { ear, open: open.collect::<io::Result<_>>()? })
}

/// Measures once, says what came of it on standard error, and waits for the end.
async fn perf_to(net: Net, server: Target, plan: Plan, mut stop: Stop) -> io::Result<Option<Resting>> {
    let mut cookie = [b'a'; 37];
    let seed = std::process::id().to_string();
    cookie.iter_mut().zip(seed.bytes()).for_each(|(to, from)| *to = from);
    if let Some(last) = cookie.last_mut() {
        *last = 0;
    }
    let told = |at: std::time::Duration, moved: u64| {
        eprintln!("perf-to {server}: {:5.1} s  {}", at.as_secs_f64(), bytes(moved));
    };
    tokio::select! {
        measured = measure(&net, &server, plan, cookie, told) => {
            let measured = measured?;
            eprintln!(
                "perf-to {server}: {} received in {:.2} s, {:.2} Gbit/s",
                bytes(measured.received),
                measured.seconds,
                measured.rate() / 1e9
            );
            stop.begun().await;
        }
        () = stop.begun() => {}
    }
    Ok(None)
}
