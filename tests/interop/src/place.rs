//! Where a cell happens: two namespaces and a relay between them. The stack stands behind a TUN device in the near one,
//! whose kernel forwards; its peer is the far one's kernel, or stands behind a device there.
//!
//! Connections pass through `bulkhead run forward`, so that any program can be at either end: an application of the near
//! side speaks to a socket of its own kernel, and the stack carries on from there. A peer that is no kernel does the same.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bulkhead_namespace::{Namespace, Running, patiently};
use serde_json::Value;

use crate::Arguments;
use crate::addresses::Addresses;
use crate::factor::{Cell, Direction, Ip, Peer};
use crate::load;

/// The device of a peer that is neither the kernel nor this stack.
const DEVICE: &str = "peer0";
/// How long anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long connections may take to end once their programs have: retransmissions of a FIN back off.
pub(crate) const ENDING: Duration = Duration::from_secs(60);

/// A running `bulkhead run`.
struct Stack {
    running: Running,
    is_near: bool,
    control: PathBuf,
    said: PathBuf,
    /// Descriptors that it had before there was a connection.
    descriptors: usize,
}

/// Both namespaces, and what runs in them.
pub(crate) struct Place<'a> {
    arguments: &'a Arguments,
    cell: &'a Cell,
    at: Addresses,
    near: Namespace,
    far: Namespace,
    stacks: Vec<Stack>,
    link: Option<Running>,
    peer: Option<Running>,
    /// The load's.
    servers: Mutex<Vec<Running>>,
}

/// Where a load's server listens, and where its client finds it.
pub(crate) struct Ends<'a> {
    pub(crate) server: &'a Namespace,
    pub(crate) listen: SocketAddr,
    pub(crate) client: &'a Namespace,
    pub(crate) target: SocketAddr,
    /// They outlive their clients until every connection has ended: one that is killed resets connections, and a reset may be
    /// lost.
    pub(crate) servers: &'a Mutex<Vec<Running>>,
}

impl<'a> Place<'a> {
    /// Makes it, with everything but the load's own programs.
    pub(crate) fn new(arguments: &'a Arguments, cell: &'a Cell) -> anyhow::Result<Self> {
        let near = Namespace::new().context("a network namespace is needed: run it as root")?;
        let far = Namespace::new()?;
        let (at, stacks, link, peer) = (Addresses::of(cell.ip), Vec::new(), None, None);
        let servers = Mutex::default();
        let mut place = Self { arguments, cell, at, near, far, stacks, link, peer, servers };
        place.set_kernels()?;
        place.link().context("the relay")?;
        place.peer().context("the peer")?;
        place.stack().context("the stack")?;
        Ok(place)
    }

    /// Both kernels forward; the far one has the cell's options, where it is the peer.
    fn set_kernels(&self) -> anyhow::Result<()> {
        let set = |space: &Namespace, setting: &str| space.run(&["sysctl", "-qw", setting]).map(drop);
        for space in [&self.near, &self.far] {
            set(space, "net.ipv4.ip_forward=1")?;
            set(space, "net.ipv4.tcp_no_metrics_save=1")?;
            set(space, "net.ipv4.conf.all.rp_filter=0")?;
            if self.cell.ip == Ip::V6 {
                set(space, "net.ipv6.conf.all.forwarding=1")?;
            }
        }
        let (cell, far) = (self.cell, &self.far);
        if cell.peer.congestion().is_none() {
            return Ok(());
        }
        set(far, &format!("net.ipv4.tcp_sack={}", number(cell.sack)))?;
        set(far, &format!("net.ipv4.tcp_timestamps={}", number(cell.timestamps)))?;
        set(far, &format!("net.ipv4.tcp_window_scaling={}", number(cell.scaling)))?;
        Ok(set(far, &format!("net.ipv4.tcp_ecn={}", number(cell.ecn)))?)
    }

    fn link(&mut self) -> anyhow::Result<()> {
        // In a namespace of ours, so that it ends with it whatever happens to us.
        let mut command = self.near.command(&self.arguments.program);
        command.args(["link", "--a", "wan0", "--b", &format!("wan0@{}", self.far.name())]);
        command.args(["--mtu", &self.cell.mtu.to_string(), "--seed", "7", "--json"]);
        command.args(["--delay", &format!("{}us", self.cell.rtt.as_micros() / 2)]);
        command.args(self.cell.fault.flags());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        self.link = Some(Running::start(&mut command)?);
        let at = &self.at;
        for (space, address) in [(&self.near, at.near), (&self.far, at.far)] {
            patiently(PATIENCE, || run(space, &at.add(address, "wan0")))?;
        }
        let mut route = at.route(at.stack, at.near);
        if let Some(congestion) = self.cell.peer.congestion() {
            // Not by sysctl: what a namespace may have there, the whole machine's setting decides.
            route.extend(["congctl", congestion].map(str::to_owned));
        }
        run(&self.far, &route)?;
        run(&self.near, &at.route(at.far_stack, at.far))
    }

    /// What stands behind a device in the far namespace, if anything does.
    fn peer(&mut self) -> anyhow::Result<()> {
        match self.cell.peer {
            Peer::Reno | Peer::Cubic | Peer::Bbr => Ok(()),
            Peer::Itself => {
                let settings = self.cell.options().map(|(name, is_on)| format!("{name}={}", number(is_on)));
                let stack = self.run(false, &settings)?;
                self.stacks.push(stack);
                Ok(())
            }
            Peer::Smoltcp | Peer::Lwip => self.foreign(),
        }
    }

    /// A peer that is neither the kernel nor this stack. Its device is there before it, so that it ends with its namespace.
    fn foreign(&mut self) -> anyhow::Result<()> {
        let (at, far) = (&self.at, &self.far);
        let (mtu, port) = (self.cell.mtu.to_string(), load::port(self.cell.load));
        far.run(&["ip", "tuntap", "add", "dev", DEVICE, "mode", "tun"])?;
        far.run(&["ip", "link", "set", "dev", DEVICE, "mtu", &mtu, "up"])?;
        run(far, &at.add(at.far_kernel, DEVICE))?;
        let own = std::env::current_exe()?;
        let (program, first) = match (self.cell.peer, &self.arguments.lwip) {
            (Peer::Lwip, Some(program)) => (program, None),
            (Peer::Lwip, None) => bail!("no --lwip"),
            _ => (&own, Some("smoltcp")),
        };
        let mut command = far.command(program);
        command.args(first).args([DEVICE, &mtu, &at.far_stack.to_string()]);
        command.args([at.local.to_string(), port.to_string()]);
        if self.cell.direction == Direction::In {
            command.arg(at.stack.to_string());
        }
        let said = far.folder().join("peer");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?);
        let mut running = Running::start(&mut command)?;
        // Once it has the device, that has a carrier.
        patiently(PATIENCE, || {
            let link = far.run(&["ip", "-br", "link", "show", "dev", DEVICE])?;
            let is_ready = String::from_utf8_lossy(&link.stdout).contains("LOWER_UP");
            ensure!(is_ready, "{DEVICE} has nobody at its other end: {}", last_line(&said));
            Ok(())
        })?;
        ensure!(!running.has_ended(), "it ended at once: {}", last_line(&said));
        if self.cell.direction == Direction::In {
            load::listens(far, port)?;
        }
        self.peer = Some(running);
        Ok(())
    }

    fn stack(&mut self) -> anyhow::Result<()> {
        // It asks for ECN where its peer is to be met with it.
        let ecn = self.cell.ecn.then(|| "ecn=1".to_owned());
        let stack = self.run(true, ecn.as_slice())?;
        self.stacks.push(stack);
        Ok(())
    }

    /// What a stack hands on: the near one, or the far one of two. Connections come in where the server is, and go out
    /// where the client is.
    fn forward(&self, is_near: bool) -> String {
        let port = load::port(self.cell.load);
        let local = SocketAddr::new(self.at.local, port);
        if (self.cell.direction == Direction::In) == is_near {
            return format!("{port}={local}");
        }
        let server = if is_near { self.server() } else { self.at.stack };
        format!("host:{local}={}", SocketAddr::new(server, port))
    }

    /// Where the server is, seen through the near stack.
    fn server(&self) -> IpAddr {
        if self.cell.peer.congestion().is_some() { self.at.far } else { self.at.far_stack }
    }

    fn run(&self, is_near: bool, settings: &[String]) -> anyhow::Result<Stack> {
        let space = if is_near { &self.near } else { &self.far };
        let address = if is_near { self.at.stack } else { self.at.far_stack };
        let (control, said) = (space.folder().join("control"), space.folder().join("said"));
        let forward = self.forward(is_near);
        let mut command = space.command(&self.arguments.program);
        command.args(["run", "forward", &forward, "--json"]);
        if let Some(module) = self.arguments.module.as_ref().filter(|_| is_near) {
            command.arg("--module").arg(module);
        }
        command.args(["--address", &format!("{address}/{}", self.at.length)]);
        command.arg("--control").arg(&control).args(["--placement", &self.arguments.placement]);
        // A smaller link is for path MTU discovery to find.
        command.args(["--mtu", &self.cell.mtu.max(1500).to_string()]);
        command.args(settings.iter().flat_map(|setting| ["--setting", setting]));
        if let Some(folder) = &self.arguments.pcap {
            std::fs::create_dir_all(folder)?;
            let side = if is_near { "stack" } else { "peer" };
            command.arg("--pcap").arg(folder.join(format!("{} {side}.pcap", self.cell)));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&said)?);
        let mut running = Running::start(&mut command)?;
        patiently(PATIENCE, || match self.stat(space, &control) {
            Err(_) if running.has_ended() => Ok(None),
            other => other.map(Some),
        })?
        .with_context(|| format!("bulkhead ended at once: {}", last_line(&said)))?;
        if forward.starts_with("host:") {
            load::listens(space, load::port(self.cell.load))?;
        }
        let descriptors = descriptors(&running)?;
        Ok(Stack { running, is_near, control, said, descriptors })
    }

    fn stat(&self, space: &Namespace, control: &std::path::Path) -> anyhow::Result<Value> {
        let mut command = space.command(&self.arguments.program);
        let output = command.arg("stat").arg("--json").arg("--control").arg(control).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Where the load's programs are. One that has a stack beside it speaks to that by its own kernel.
    pub(crate) fn ends(&self) -> Ends<'_> {
        let of = |address| SocketAddr::new(address, load::port(self.cell.load));
        let (local, is_kernel) = (of(self.at.local), self.cell.peer.congestion().is_some());
        let servers = &self.servers;
        match self.cell.direction {
            Direction::In => {
                let target = if is_kernel { of(self.at.stack) } else { local };
                Ends { server: &self.near, listen: local, client: &self.far, target, servers }
            }
            Direction::Out => {
                let listen = if is_kernel { of(self.at.far) } else { local };
                Ends { server: &self.far, listen, client: &self.near, target: local, servers }
            }
        }
    }

    /// Once the programs are done: waits until no connection is left but in TIME-WAIT, ends everything in order, and looks
    /// at what it says.
    pub(crate) fn end(mut self) -> anyhow::Result<String> {
        let mut resent = 0;
        for stack in &self.stacks {
            let space = if stack.is_near { &self.near } else { &self.far };
            let idle = patiently(ENDING, || self.is_idle(space, stack));
            resent += idle.with_context(|| format!("leaked: {}", last_line(&stack.said)))?;
        }
        for space in [&self.near, &self.far] {
            patiently(ENDING, || no_connection(space)).context("leaked")?;
        }
        drop(std::mem::take(&mut *self.servers.lock().unwrap_or_else(PoisonError::into_inner)));
        if let Some(peer) = &mut self.peer {
            ensure!(!peer.has_ended(), "the peer ended: {}", last_line(&self.far.folder().join("peer")));
        }
        for stack in std::mem::take(&mut self.stacks) {
            let output = stack.running.end().context("the stack")?;
            ensure!(output.status.success(), "bulkhead: {}: {}", output.status, last_line(&stack.said));
            let summary: Value = serde_json::from_slice(&output.stdout).context("its summary")?;
            for name in ["faults", "device_errors"] {
                ensure!(summary[name] == 0, "{name}: {}", summary[name]);
            }
        }
        let output = self.link.take().context("the relay")?.end()?;
        ensure!(output.status.success(), "the relay: {}", output.status);
        Ok(format!("{resent} segments sent again"))
    }

    /// How many segments it has sent again, if it holds nothing any more: no connection of the module's, no stream of the
    /// host's, no descriptor that it had not before.
    fn is_idle(&self, space: &Namespace, stack: &Stack) -> anyhow::Result<u64> {
        let stat = self.stat(space, &stack.control)?;
        let census = &stat["census"];
        let streams = stat["connections"].as_array().context("connections")?;
        let streams: Vec<_> = streams.iter().filter(|one| one["state"] != "TIME-WAIT").collect();
        ensure!(streams.is_empty(), "{} streams, such as {}", streams.len(), streams[0]);
        for state in ["syn_sent", "syn_received", "established", "closing"] {
            if census[state] != 0 {
                bail!("{} connections in {state}", census[state]);
            }
        }
        let descriptors = descriptors(&stack.running)?;
        ensure!(descriptors <= stack.descriptors, "{descriptors} descriptors, {} before", stack.descriptors);
        Ok(census["retransmissions"].as_u64().unwrap_or(0))
    }
}

fn run(space: &Namespace, words: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    space.run(&words)?;
    Ok(())
}

/// Fails while the namespace's kernel has a connection: of a program, of a peer's other side, or the peer's own.
fn no_connection(space: &Namespace) -> anyhow::Result<()> {
    let output = space.run(&["ss", "-Htan", "state", "connected", "exclude", "time-wait"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default();
    ensure!(first.is_empty(), "{} connections of a kernel, such as {first}", text.lines().count());
    Ok(())
}

/// How many files and sockets it has open.
fn descriptors(running: &Running) -> anyhow::Result<usize> {
    let id = running.id().context("it has ended")?;
    Ok(std::fs::read_dir(format!("/proc/{id}/fd"))?.count())
}

fn number(is_on: bool) -> &'static str {
    if is_on { "1" } else { "0" }
}

fn last_line(file: &std::path::Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().next_back().unwrap_or_default().to_owned()
}
