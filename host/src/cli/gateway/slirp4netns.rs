//! The gateway as rootless tools call `slirp4netns`: the same words, the same descriptors, the same addresses inside.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, FromArgMatches as _, ValueEnum};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use super::arguments::{Caller, Gateway, Network};
use crate::cli::failure::usage;

pub(in crate::cli) const SLIRP4NETNS_HELP: &str = "\
This is `bulkhead gateway` for tools that call slirp4netns: install it under that name (`ln -s $(command -v bulkhead) \
slirp4netns`), or name it in their configuration. What differs: the interface is a TUN interface, which has no MAC address and \
must not exist already; system calls are always filtered; and what comes in is refused in kind before it is accepted.";

/// The name that makes this program be that one.
pub(in crate::cli) const SLIRP4NETNS: &str = "slirp4netns";

/// What `slirp4netns` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Slirp4netns {
    /// Bring the interface up, with addresses and routes
    #[arg(short, long)]
    configure: bool,

    /// End when something happens on this descriptor
    #[arg(short, long, value_name = "FD", value_parser = clap::value_parser!(i32).range(3..))]
    exit_fd: Option<RawFd>,

    /// Write a 1 to this descriptor once the network is there, and close it
    #[arg(short, long, value_name = "FD", value_parser = clap::value_parser!(i32).range(3..))]
    ready_fd: Option<RawFd>,

    /// The interface's MTU in bytes
    #[arg(short, long, value_name = "MTU", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65_521))]
    mtu: u32,

    /// IPv6 as well
    #[arg(short = '6', long)]
    enable_ipv6: bool,

    /// Not served: publish ports with `bulkhead gateway --publish`, or let the calling tool forward them
    #[arg(short, long, value_name = "PATH")]
    api_socket: Option<PathBuf>,

    /// The IPv4 network inside
    #[arg(long, value_name = "CIDR", default_value = "10.0.2.0/24")]
    cidr: Network,

    /// The gateway's address does not stand for the host's loopback
    #[arg(long)]
    disable_host_loopback: bool,

    /// What the target is
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = Kind::Pid)]
    netns_type: Kind,

    /// The user namespace to enter with a network namespace by path
    #[arg(long, value_name = "PATH")]
    userns_path: Option<PathBuf>,

    /// Always so
    #[arg(long)]
    enable_sandbox: bool,

    /// Always so
    #[arg(long)]
    enable_seccomp: bool,

    /// The host's IPv4 address that connections leave from
    #[arg(long, value_name = "IPv4")]
    outbound_addr: Option<Ipv4Addr>,

    /// The host's IPv6 address that connections leave from
    #[arg(long, value_name = "IPv6")]
    outbound_addr6: Option<Ipv6Addr>,

    /// No name server inside
    #[arg(long)]
    disable_dns: bool,

    /// Not served: a TUN interface has none
    #[arg(long, value_name = "MAC")]
    macaddress: Option<String>,

    /// What kind of target it is: a network namespace
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = Target::Netns)]
    target_type: Target,

    /// The namespace: the id of a process in it, or with --netns-type=path its file
    #[arg(value_name = "PID|PATH")]
    target: String,

    /// The interface inside
    #[arg(value_name = "TAPNAME", default_value = "tap0")]
    interface: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    Path,
    Pid,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Target {
    Netns,
}

impl Slirp4netns {
    /// The same in the gateway's own words. Takes over the descriptors, so it must come before anything is opened.
    ///
    /// # Errors
    /// A line that says which word is wrong.
    pub(in crate::cli) fn into_gateway(self) -> anyhow::Result<Gateway> {
        if self.api_socket.is_some() {
            return Err(usage("--api-socket is not served; publish ports with `bulkhead gateway --publish`"));
        }
        if self.macaddress.is_some() {
            return Err(usage(
                "--macaddress is not served: the interface is a TUN interface, which has no MAC address",
            ));
        }
        let gateway = self.words()?;
        let outbound = [self.outbound_addr.map(IpAddr::from), self.outbound_addr6.map(IpAddr::from)];
        let caller = Caller {
            ready: self.ready_fd.map(take).transpose().context("--ready-fd")?,
            exit: self.exit_fd.map(take).transpose().context("--exit-fd")?,
            user_namespace: self.userns_path,
            is_bare: !self.configure,
            outbound: outbound.into_iter().flatten().collect(),
        };
        Ok(Gateway { caller, ..gateway })
    }

    /// What is said with other words; everything else is as `bulkhead gateway` has it.
    fn words(&self) -> anyhow::Result<Gateway> {
        let target = match self.netns_type {
            Kind::Path => "--netns",
            Kind::Pid if self.target.parse::<u32>().is_ok() => "--pid",
            Kind::Pid => {
                let wrong = format!("{}: no process id; say --netns-type=path if it is a file", self.target);
                return Err(usage(wrong));
            }
        };
        let (mtu, network) = (self.mtu.to_string(), self.cidr.to_string());
        let mut words = vec!["gateway", target, &self.target, "--tun", &self.interface, "--mtu", &mtu];
        words.extend(["--network", &network]);
        for (is_said, word) in [
            (!self.enable_ipv6, "--no-ipv6"),
            (self.disable_dns, "--no-dns"),
            (!self.disable_host_loopback, "--host-loopback"),
        ] {
            words.extend(is_said.then_some(word));
        }
        let command = Gateway::augment_args(clap::Command::new("gateway"));
        Ok(Gateway::from_arg_matches(&command.try_get_matches_from(words)?)?)
    }
}

/// The words of the command line; where this program was called by that name, those of `bulkhead slirp4netns`.
pub(in crate::cli) fn by_name(mut words: Vec<OsString>) -> Vec<OsString> {
    let called = words.first().map(Path::new).and_then(Path::file_name);
    if called.is_some_and(|name| name == SLIRP4NETNS) {
        words.insert(1, SLIRP4NETNS.into());
    }
    words
}

/// A descriptor that our caller has named by its number.
#[expect(
    unsafe_code,
    reason = "a caller hands descriptors over by number, which is the interface of slirp4netns"
)]
fn take(number: RawFd) -> anyhow::Result<OwnedFd> {
    // SAFETY: it is only asked whether there is such a descriptor.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl_getfd(borrowed).with_context(|| format!("no descriptor {number} was handed over"))?;
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and it was our caller's: this runs before this program opens anything of its own.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
