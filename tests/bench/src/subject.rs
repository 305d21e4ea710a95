//! The stacks that are measured: each in a process and a namespace of its own, with the kernel as peer.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail};
use bulkhead::compare::Usage;
use bulkhead_namespace::Namespace;
use clap::ValueEnum;

/// A stack, and how it reaches the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// The kernel's TCP in a second namespace, over a pair of virtual Ethernet devices
    Kernel,
    /// bulkhead's TCP in the sandbox, over TUN with offload, on the thread of the applications
    Wasm,
    /// The same TCP natively, over TUN with offload
    Native,
    /// The sandbox on a thread of its own beside the applications', as `Builder::spawn` has it
    Spawned,
    /// The sandbox without the recording that recovery needs
    Unrecorded,
    /// The sandbox, which polls its device for a while before it sleeps (`--busy-poll`); only round trips and requests
    Polling,
    /// The sandbox on two shards
    Shards,
    /// bulkhead's TCP in the sandbox, over plain TUN
    WasmPlain,
    /// The same natively, over plain TUN
    NativePlain,
    /// smoltcp natively over plain TUN, as people embed it
    Smoltcp,
    /// lwIP as Debian builds it, over plain TUN: windows of 64 KiB
    Lwip,
}

impl Kind {
    /// Those that are measured unless others are asked for.
    pub(crate) const USUAL: [Self; 10] = [
        Self::Kernel,
        Self::Wasm,
        Self::Native,
        Self::Spawned,
        Self::Polling,
        Self::Shards,
        Self::WasmPlain,
        Self::NativePlain,
        Self::Smoltcp,
        Self::Lwip,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel, veth",
            Self::Wasm => "wasm, offload",
            Self::Native => "native, offload",
            Self::Spawned => "wasm, own thread",
            Self::Unrecorded => "wasm, no recording",
            Self::Polling => "wasm, busy polling",
            Self::Shards => "wasm, 2 shards",
            Self::WasmPlain => "wasm, plain",
            Self::NativePlain => "native, plain",
            Self::Smoltcp => "smoltcp, plain",
            Self::Lwip => "lwIP, plain",
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
    own: Option<Namespace>,
}

impl Subject {
    /// Starts it and waits until it serves.
    pub(crate) fn start(kind: Kind, lwip: Option<&Path>) -> anyhow::Result<Self> {
        let peer = Namespace::new().context("a network namespace is needed: run it as root")?;
        let own = if kind == Kind::Kernel { Some(veth(&peer)?) } else { None };
        for space in [Some(&peer), own.as_ref()].into_iter().flatten() {
            // The same for all, whatever this machine's default is, and what bulkhead does by default.
            space.set_congestion("cubic")?;
        }
        let space = own.as_ref().unwrap_or(&peer);
        let mut command = if kind == Kind::Lwip {
            let mut command = space.command(lwip.context("needs --lwip FILE")?);
            command.args(["bench0", "1500", STACK4, PEER4, STACK6, PEER6]);
            command
        } else {
            let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let mut command = space.command(std::env::current_exe()?);
            command.args(["serve", &name]);
            command
        };
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        wait_ready(&mut child).with_context(|| kind.name())?;
        Ok(Self { kind, peer, child, own })
    }

    pub(crate) fn is_kernel(&self) -> bool {
        self.kind == Kind::Kernel
    }

    /// The peer's device.
    pub(crate) fn device(&self) -> &'static str {
        if self.is_kernel() { "veth0" } else { "bench0" }
    }

    /// Another server on the kernel's stack, whose ports are so many further, on this processor.
    pub(crate) fn another(&self, further: u16, processor: usize) -> anyhow::Result<Another> {
        let space = self.own.as_ref().context("only the kernel's stack serves several processes")?;
        let mut command = space.command(std::env::current_exe()?);
        command.args(["serve", "kernel", &further.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let ready = wait_ready(&mut child);
        let another = Another(child);
        ready?;
        Usage(another.0.id()).pin(Some(processor));
        Ok(another)
    }

    fn usage(&self) -> Usage {
        Usage(self.child.id())
    }

    /// CPU time that its process has used, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.usage().cpu()
    }

    /// Bytes of memory that its process has resident.
    pub(crate) fn memory(&self) -> f64 {
        self.usage().memory(true)
    }

    /// Keeps all its threads on one processor, or lets them go where they will.
    pub(crate) fn pin(&self, processor: Option<usize>) {
        self.usage().pin(processor);
    }

    /// Context switches of all its threads.
    pub(crate) fn switches(&self) -> f64 {
        self.usage().switches()
    }
}

/// A server beside a subject's own.
pub(crate) struct Another(Child);

impl Drop for Another {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a server that was started says that it serves.
pub(crate) fn wait_ready(child: &mut Child) -> anyhow::Result<()> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("does not serve");
    }
    Ok(())
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
