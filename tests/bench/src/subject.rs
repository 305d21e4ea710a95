//! The stacks that are measured: each in a process and a namespace of its own, with the kernel as peer.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail};
use bulkhead_namespace::Namespace;
use clap::ValueEnum;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// A stack, and how it reaches the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// The kernel's TCP in a second namespace, over a pair of virtual Ethernet devices
    Kernel,
    /// bulkhead's TCP in the sandbox, over TUN with offload
    Wasm,
    /// The same TCP natively, over TUN with offload
    Native,
    /// The sandbox on two shards
    Shards,
    /// bulkhead's TCP in the sandbox, over plain TUN
    WasmPlain,
    /// The same natively, over plain TUN
    NativePlain,
    /// smoltcp natively over plain TUN, as people embed it
    Smoltcp,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Kernel,
        Self::Wasm,
        Self::Native,
        Self::Shards,
        Self::WasmPlain,
        Self::NativePlain,
        Self::Smoltcp,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel, veth",
            Self::Wasm => "wasm, offload",
            Self::Native => "native, offload",
            Self::Shards => "wasm, 2 shards",
            Self::WasmPlain => "wasm, plain",
            Self::NativePlain => "native, plain",
            Self::Smoltcp => "smoltcp, plain",
        }
    }
}

/// Where stacks are, in every namespace.
pub(crate) const STACK4: &str = "10.77.0.2";
pub(crate) const PEER4: &str = "10.77.0.1";
pub(crate) const STACK6: &str = "fd77::2";
pub(crate) const PEER6: &str = "fd77::1";

/// A stack that serves.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// Where the peer is.
    pub(crate) peer: Namespace,
    child: Child,
    /// The kernel's own stack needs a second one.
    _own: Option<Namespace>,
}

impl Subject {
    /// Starts it and waits until it serves.
    pub(crate) fn start(kind: Kind) -> anyhow::Result<Self> {
        let peer = Namespace::new().context("a network namespace is needed: run it as root")?;
        let own = if kind == Kind::Kernel { Some(veth(&peer)?) } else { None };
        for space in [Some(&peer), own.as_ref()].into_iter().flatten() {
            // The same for all, whatever this machine's default is, and what bulkhead does by default.
            space.inside(|| std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "cubic"))??;
        }
        let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = own.as_ref().unwrap_or(&peer).command(std::env::current_exe()?);
        let mut child = command.args(["serve", &name]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("{}: does not serve", kind.name());
        }
        Ok(Self { kind, peer, child, _own: own })
    }

    /// CPU time that its process has used, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let ticks = |text: String| -> Option<u64> {
            let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
            Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
        };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok();
        stat.and_then(ticks).unwrap_or_default() as f64 / 100.0
    }

    /// Bytes of memory that its process has resident.
    pub(crate) fn memory(&self) -> f64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap_or_default();
        let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        (pages * 4096) as f64
    }

    /// Keeps all its threads on one processor, or lets them go where they will.
    pub(crate) fn pin(&self, processor: Option<usize>) {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return };
        for task in tasks.flatten() {
            let id = task.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if id.is_some() {
                pin(id, processor);
            }
        }
    }

    /// Context switches of all its threads.
    pub(crate) fn switches(&self) -> u64 {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return 0 };
        let of = |path: std::path::PathBuf| -> u64 {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
        };
        tasks.flatten().map(|task| of(task.path())).sum()
    }
}

/// Keeps a thread, or this one, on one processor; or lets it go where it will.
pub(crate) fn pin(thread: Option<Pid>, processor: Option<usize>) {
    let mut set = CpuSet::new();
    match processor {
        Some(processor) => set.set(processor),
        None => (0..CpuSet::MAX_CPU).for_each(|processor| set.set(processor)),
    }
    // A thread that has ended since needs no place.
    let _ = sched_setaffinity(thread, &set);
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A second namespace, joined to the peer's.
fn veth(peer: &Namespace) -> anyhow::Result<Namespace> {
    let own = Namespace::new()?;
    peer.run(&["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", own.name()])?;
    for (space, device, v4, v6) in [(peer, "veth0", PEER4, PEER6), (&own, "veth1", STACK4, STACK6)] {
        space.run(&["ip", "address", "add", &format!("{v4}/24"), "dev", device])?;
        space.run(&["ip", "address", "add", &format!("{v6}/64"), "dev", device, "nodad"])?;
        space.run(&["ip", "link", "set", device, "up"])?;
    }
    Ok(own)
}
