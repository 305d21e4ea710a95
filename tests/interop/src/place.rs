//! Where a cell happens: two namespaces and a relay between them. The stack stands behind a TUN device in the near one,
//! whose kernel forwards; its peer is the far one's kernel, or stands behind a device there.
//!
//! Connections pass through `bulkhead run forward`, so that any program can be at either end: an application of the near
//! side speaks to a socket of its own kernel, and the stack carries on from there.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bulkhead_namespace::{Namespace, Running, patiently};
use serde_json::Value;

use crate::Arguments;
use crate::factor::{Cell, Direction, Peer};
use crate::load;

/// The two ends of the relay.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The stack, a second one, and smoltcp: each behind a device with a network of its own.
const STACK: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const FAR_STACK: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const SMOLTCP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// How long anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long connections may take to end once their programs have: retransmissions of a FIN back off.
const ENDING: Duration = Duration::from_secs(60);

/// A running `bulkhead run`.
struct Stack {
    running: Running,
    control: PathBuf,
    said: PathBuf,
}

/// Both namespaces, and what runs in them.
pub(crate) struct Place<'a> {
    arguments: &'a Arguments,
    cell: &'a Cell,
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
    stacks: Vec<Stack>,
    link: Option<Running>,
    smoltcp: Option<Running>,
}

/// Where a load's server listens, and where its client finds it.
pub(crate) struct Ends<'a> {
    pub(crate) server: &'a Namespace,
    pub(crate) listen: IpAddr,
    pub(crate) client: &'a Namespace,
    pub(crate) target: IpAddr,
}

impl<'a> Place<'a> {
    /// Makes it, with everything but the load's own programs.
    pub(crate) fn new(arguments: &'a Arguments, cell: &'a Cell) -> anyhow::Result<Self> {
        let near = Namespace::new().context("a network namespace is needed: run it as root")?;
        let far = Namespace::new()?;
        let (stacks, link, smoltcp) = (Vec::new(), None, None);
        let mut place = Self { arguments, cell, near, far, stacks, link, smoltcp };
        for space in [&place.near, &place.far] {
            for setting in
                ["net.ipv4.ip_forward=1", "net.ipv4.tcp_no_metrics_save=1", "net.ipv4.conf.all.rp_filter=0"]
            {
                space.run(&["sysctl", "-qw", setting])?;
            }
        }
        place.set_kernel()?;
        place.link().context("the relay")?;
        place.peer().context("the peer")?;
        place.stack().context("the stack")?;
        Ok(place)
    }

    /// The far kernel, where it is the peer.
    fn set_kernel(&self) -> anyhow::Result<()> {
        let Some(congestion) = self.cell.peer.congestion() else { return Ok(()) };
        let cell = self.cell;
        for (name, value) in [
            ("congestion_control", congestion),
            ("sack", number(cell.sack)),
            ("timestamps", number(cell.timestamps)),
            ("window_scaling", number(cell.scaling)),
            ("ecn", number(cell.ecn)),
        ] {
            self.far.run(&["sysctl", "-qw", &format!("net.ipv4.tcp_{name}={value}")])?;
        }
        Ok(())
    }

    fn link(&mut self) -> anyhow::Result<()> {
        // In a namespace of ours, so that it ends with it whatever happens to us.
        let mut command = self.near.command(&self.arguments.program);
        command.args(["link", "--a", "wan0", "--b", &format!("wan0@{}", self.far.name())]);
        command.args(["--mtu", &self.cell.mtu.to_string(), "--seed", "7", "--json"]);
        command.args(["--delay", &format!("{}us", self.cell.rtt.as_micros() / 2)]);
        command
            .args(self.cell.fault.flags())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        self.link = Some(Running::start(&mut command)?);
        for (space, address) in [(&self.near, NEAR), (&self.far, FAR)] {
            let words = ["ip", "address", "add", &format!("{address}/24"), "dev", "wan0"];
            patiently(PATIENCE, || space.run(&words))?;
        }
        let route = |space: &Namespace, network: &str, via: Ipv4Addr| {
            space.run(&["ip", "route", "add", network, "via", &via.to_string()])
        };
        route(&self.far, "10.78.0.0/24", NEAR)?;
        route(&self.near, "10.79.0.0/24", FAR)?;
        route(&self.near, "10.77.0.0/24", FAR)?;
        Ok(())
    }

    /// What stands behind a device in the far namespace, if anything does.
    fn peer(&mut self) -> anyhow::Result<()> {
        match self.cell.peer {
            Peer::Reno | Peer::Cubic | Peer::Bbr => Ok(()),
            Peer::Itself => {
                let forwards = self.forwards(true);
                let settings = self.cell.options().map(|(name, is_on)| format!("{name}={}", number(is_on)));
                let stack = self.run(&self.far, &forwards, FAR_STACK, &settings)?;
                self.stacks.push(stack);
                Ok(())
            }
            Peer::Smoltcp => {
                let mtu = self.cell.mtu.to_string();
                self.far.run(&["ip", "tuntap", "add", "dev", "bench0", "mode", "tun"])?;
                self.far.run(&["ip", "link", "set", "dev", "bench0", "mtu", &mtu])?;
                if self.cell.direction == Direction::Out {
                    let mut command = self.far.command(&self.arguments.bench);
                    command.args(["serve", "smoltcp"]).stdin(Stdio::null()).stdout(Stdio::null());
                    self.smoltcp = Some(Running::start(&mut command)?);
                    let up = ["ip", "-br", "link", "show", "dev", "bench0", "up"];
                    patiently(PATIENCE, || {
                        let text = self.far.run(&up).map(|output| output.stdout)?;
                        if text.is_empty() { Err(std::io::Error::other("bench0 is not up")) } else { Ok(()) }
                    })?;
                }
                Ok(())
            }
        }
    }

    fn stack(&mut self) -> anyhow::Result<()> {
        let forwards = self.forwards(false);
        // It asks for ECN where its peer is to be met with it.
        let ecn = self.cell.ecn.then(|| "ecn=1".to_owned());
        let stack = self.run(&self.near, &forwards, STACK, ecn.as_slice())?;
        self.stacks.push(stack);
        Ok(())
    }

    /// What a stack hands on: the near one, or the far one of two.
    fn forwards(&self, is_far: bool) -> Vec<String> {
        let port = load::port(self.cell.load);
        if self.cell.peer == Peer::Smoltcp {
            return match self.cell.direction {
                Direction::In => vec![format!("echo:{port}")],
                Direction::Out => vec!["forward".into(), format!("host:{port}={SMOLTCP}:{port}")],
            };
        }
        // Connections come in where the server is, and go out where the client is.
        let takes_in = (self.cell.direction == Direction::In) != is_far;
        let rule = if takes_in {
            format!("{port}=127.0.0.1:{port}")
        } else {
            format!("host:{port}={}:{port}", self.server(is_far))
        };
        vec!["forward".into(), rule]
    }

    /// Where the server is, seen through a stack.
    fn server(&self, is_far: bool) -> Ipv4Addr {
        match (is_far, self.cell.peer) {
            (true, _) => STACK,
            (false, Peer::Itself) => FAR_STACK,
            (false, _) => FAR,
        }
    }

    fn run(
        &self,
        space: &Namespace,
        applications: &[String],
        address: Ipv4Addr,
        settings: &[String],
    ) -> anyhow::Result<Stack> {
        let (control, said) = (space.folder().join("control"), space.folder().join("said"));
        let mut command = space.command(&self.arguments.program);
        command.arg("run").args(applications).args(["--address", &format!("{address}/24"), "--json"]);
        command.arg("--control").arg(&control).args(["--placement", &self.arguments.placement]);
        // A smaller link is for path MTU discovery to find.
        command.args(["--mtu", &self.cell.mtu.max(1500).to_string()]);
        command.args(settings.iter().flat_map(|setting| ["--setting", setting]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&said)?);
        let mut running = Running::start(&mut command)?;
        patiently(PATIENCE, || match self.stat(space, &control) {
            Err(_) if running.has_ended() => Ok(None),
            other => other.map(Some),
        })?
        .with_context(|| format!("bulkhead ended at once: {}", last_line(&said)))?;
        if applications.iter().any(|word| word.starts_with("host:")) {
            load::listens(space, load::port(self.cell.load))?;
        }
        Ok(Stack { running, control, said })
    }

    fn stat(&self, space: &Namespace, control: &std::path::Path) -> anyhow::Result<Value> {
        let mut command = space.command(&self.arguments.program);
        let output = command.arg("stat").arg("--json").arg("--control").arg(control).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Where the load's programs are.
    pub(crate) fn ends(&self) -> Ends<'_> {
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        match (self.cell.direction, self.cell.peer) {
            (Direction::In, Peer::Itself) => {
                Ends { server: &self.near, listen: local, client: &self.far, target: local }
            }
            (Direction::In, _) => {
                Ends { server: &self.near, listen: local, client: &self.far, target: STACK.into() }
            }
            (Direction::Out, Peer::Itself) => {
                Ends { server: &self.far, listen: local, client: &self.near, target: local }
            }
            (Direction::Out, _) => {
                Ends { server: &self.far, listen: FAR.into(), client: &self.near, target: local }
            }
        }
    }

    /// Once the programs are done: waits until no connection is left but in TIME-WAIT, ends everything in order, and looks
    /// at what it says.
    pub(crate) fn end(mut self) -> anyhow::Result<String> {
        let mut resent = 0;
        for stack in &self.stacks {
            let space = if stack.control.starts_with(self.near.folder()) { &self.near } else { &self.far };
            let idle = patiently(ENDING, || self.is_idle(space, stack));
            resent += idle.with_context(|| format!("leaked: {}", last_line(&stack.said)))?;
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

    /// How many segments it has sent again, if there is nothing left to be done.
    fn is_idle(&self, space: &Namespace, stack: &Stack) -> anyhow::Result<u64> {
        let stat = self.stat(space, &stack.control)?;
        let census = &stat["census"];
        for state in ["syn_sent", "syn_received", "established", "closing"] {
            if census[state] != 0 {
                bail!("{} connections in {state}", census[state]);
            }
        }
        Ok(census["retransmissions"].as_u64().unwrap_or(0))
    }
}

fn number(is_on: bool) -> &'static str {
    if is_on { "1" } else { "0" }
}

fn last_line(file: &std::path::Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().next_back().unwrap_or_default().to_owned()
}
