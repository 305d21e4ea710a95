//! Applications that are ready to be served: everything that can fail without a stack has not.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use bulkhead::net::{Net, TcpListener, TcpStream};

use super::plan::{Application, At, Kind};
use super::report::bytes;
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

/// An application at work on one stack.
pub(super) type Serving = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// An application that is ready to be served.
pub(super) struct Ready {
    pub(super) application: Application,
    pub(super) counters: Arc<Counters>,
    pub(super) start: Start,
}

/// How it begins.
pub(super) enum Start {
    /// With a listener of each stack.
    Stack(u16, Box<dyn Fn(TcpListener, Stop) -> Serving>),
    /// By itself, with a stack to connect through.
    Host(Box<dyn FnOnce(Net, Stop) -> Serving>),
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
        let start = match (&application.kind, application.at) {
            (Kind::Echo, At::Stack(port)) => on_stack(port, Echo, &counters),
            (Kind::Discard, At::Stack(port)) => on_stack(port, Discard, &counters),
            (Kind::Source, At::Stack(port)) => on_stack(port, Source::new(), &counters),
            (Kind::Perf, At::Stack(port)) => on_stack(port, Perf::default(), &counters),
            (Kind::Http(directory), At::Stack(port)) => {
                let http = Http::new(directory).with_context(|| {
                    format!("{}: cannot serve it; give http a directory that exists", directory.display())
                })?;
                on_stack(port, http, &counters)
            }
            (Kind::Forward(target), At::Stack(port)) => {
                on_stack(port, Forward { target: target.clone(), by: Host }, &counters)
            }
            (Kind::Forward(target), At::Host(at)) => {
                let target = target.clone();
                on_host(at, move |by| Forward { target, by }, &counters)?
            }
            (Kind::Socks5, At::Host(at)) => on_host(at, Socks5, &counters)?,
            (Kind::PerfTo(target, plan), _) => {
                let (target, plan) = (target.clone(), *plan);
                Start::Host(Box::new(move |net, stop| Box::pin(perf_to(net, target, plan, stop))))
            }
            _ => anyhow::bail!("{application} cannot listen there"),
        };
        Ok(Self { application, counters, start })
    }
}

fn on_stack(port: u16, service: impl Service, counters: &Arc<Counters>) -> Start {
    let (service, counting) = (Arc::new(service), Arc::clone(counters));
    Start::Stack(
        port,
        Box::new(move |listener, stop| {
            Box::pin(serve(listener, Arc::clone(&service), Arc::clone(&counting), stop))
        }),
    )
}

/// The host's socket listens from now on, so that a port that is taken is told at once.
fn on_host<S: Service>(
    at: SocketAddr,
    service: impl FnOnce(Net) -> S + Send + 'static,
    counters: &Arc<Counters>,
) -> anyhow::Result<Start> {
    let listener =
        std::net::TcpListener::bind(at).with_context(|| format!("cannot listen on the host's {at}"))?;
    listener.set_nonblocking(true)?;
    let counting = Arc::clone(counters);
    Ok(Start::Host(Box::new(move |net, stop| {
        Box::pin(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            serve(listener, Arc::new(service(net)), counting, stop).await
        })
    })))
}

/// Measures once, says what came of it on standard error, and waits for the end.
async fn perf_to(net: Net, server: Target, plan: Plan, mut stop: Stop) -> io::Result<()> {
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
    Ok(())
}
