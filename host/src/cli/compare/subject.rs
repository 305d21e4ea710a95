//! A stack that serves: in this process over a link in memory, or in a child with the kernel as its peer.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use bulkhead::Fault;
use bulkhead::compare::{Kernel, Peer, Through, Usage, listen, listen_at, pin};
use bulkhead::net::{Builder, PairDevice, pair};
use bulkhead::placement::native::Native;
use clap::ValueEnum as _;
use tokio::runtime::Runtime;

use super::super::arguments::COMPARE_SERVE;
use super::variant::Variant;

/// The longest frame on the link in memory.
const MTU: u32 = 1500;

/// Where a subject is, and who its peer is.
pub(super) trait Place {
    /// Runs it against the peer, whichever that is.
    fn against<T>(&self, work: impl Work<T>) -> std::io::Result<T>;

    /// The processes whose CPU time is this subject's.
    fn processes(&self) -> Vec<Usage>;

    /// Everything on one processor, a server where its placement wants it; or wherever the scheduler likes.
    fn together(&self, variant: Variant, is_together: bool);

    /// Where it is, in a word.
    const NAME: &'static str;
}

/// What is done to a peer of any kind.
pub(super) trait Work<T> {
    /// Does it.
    fn with<P: Peer>(self, peer: &P) -> impl Future<Output = std::io::Result<T>>;
}

/// A stack that is measured.
pub(super) struct Subject<P> {
    pub(super) variant: Variant,
    pub(super) place: P,
}

/// An error with the placement's name before it.
pub(super) fn context(variant: Variant) -> impl Fn(Fault) -> anyhow::Error {
    move |fault| anyhow::Error::new(fault).context(variant.name())
}

/// In this process: the stack, its peer and both applications on this thread.
pub(super) struct Inside {
    runtime: Runtime,
    peer: Met,
    server: Option<u32>,
}

/// Who is on the other side.
enum Met {
    Kernel(Kernel),
    Stack(Box<Through>),
}

impl Subject<Inside> {
    /// A stack and a native one as its peer, or the kernel's loopback.
    pub(super) fn inside(variant: Variant) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _context = runtime.enter();
        let mut server = None;
        let peer = if variant == Variant::Kernel {
            let own = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 1));
            listen_at(own, 0).context("the kernel's loopback")?;
            Met::Kernel(Kernel(own))
        } else {
            let (left, right) = pair(MTU)?;
            let addressed =
                |device: PairDevice, last: u8| Builder::new(device).address([10, 9, 0, last].into(), 24);
            let (instance, id) = variant.instance(true).map_err(context(variant))?;
            server = id;
            let (net, driver) = addressed(left, 1).instance(instance).build()?;
            tokio::spawn(driver.run());
            let honest = Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new())));
            let (client, driver) = addressed(right, 2).instance(honest).build()?;
            tokio::spawn(driver.run());
            listen(&net)?;
            Met::Stack(Box::new(Through(client, [10, 9, 0, 1].into())))
        };
        drop(_context);
        Ok(Self { variant, place: Inside { runtime, peer, server } })
    }
}

impl Place for Inside {
    fn against<T>(&self, work: impl Work<T>) -> std::io::Result<T> {
        self.runtime.block_on(async {
            match &self.peer {
                Met::Kernel(peer) => work.with(peer).await,
                Met::Stack(peer) => work.with(peer.as_ref()).await,
            }
        })
    }

    fn processes(&self) -> Vec<Usage> {
        [Usage::own()].into_iter().chain(self.server.map(Usage)).collect()
    }

    // It is so from the beginning.
    fn together(&self, _: Variant, _: bool) {}

    const NAME: &'static str = "in memory";
}

/// In a child, which has a TUN device and is asked by the kernel's sockets of this process.
pub(super) struct Outside {
    child: Child,
    peer: Kernel,
    server: Option<u32>,
}

impl Subject<Outside> {
    /// A child that serves; `number` tells its network from those of others.
    pub(super) fn outside(variant: Variant, number: u8) -> anyhow::Result<Self> {
        let name = variant.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut child = Command::new("/proc/self/exe")
            .args([COMPARE_SERVE, &name, &number.to_string()])
            // Its end is the child's.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let ready = (words.next() == Some("ready")).then_some(()).and(words.next());
        let address = ready.and_then(|word| word.parse().ok());
        let peer = Kernel(address.with_context(|| format!("{}: does not serve", variant.name()))?);
        let server = words.next().and_then(|word| word.parse().ok());
        Ok(Self { variant, place: Outside { child, peer, server } })
    }
}

impl Place for Outside {
    fn against<T>(&self, work: impl Work<T>) -> std::io::Result<T> {
        bulkhead::compare::run(work.with(&self.peer))
    }

    fn processes(&self) -> Vec<Usage> {
        [Usage(self.child.id())].into_iter().chain(self.server.map(Usage)).collect()
    }

    fn together(&self, variant: Variant, is_together: bool) {
        let there = |processor| is_together.then_some(processor);
        pin(None, there(0));
        Usage(self.child.id()).pin(there(0));
        if let Some(server) = self.server {
            Usage(server).pin(there(variant.processor().unwrap_or(0)));
        }
    }

    const NAME: &'static str = "over TUN";
}

impl Drop for Outside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
