//! Installs what is missing, by its Debian name.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use anyhow::bail;

use crate::shell::{run, say, which};

/// Programs that we call, and the packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
    ("strace", "strace"),
    ("slirp4netns", "slirp4netns"),
    ("pasta", "passt"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("wrk", "wrk"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("redis-cli", "redis-tools"),
    ("ssh", "openssh-client"),
    ("scp", "openssh-client"),
    // Without the service that openssh-server would start.
    ("dropbear", "dropbear-bin"),
    ("git", "git"),
    ("rsync", "rsync"),
    ("wget", "wget"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
    ("c++", "g++"),
];

/// Installs the packages of those `programs` that are not on the search path. `why` completes the sentence "needed to ...".
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_programs(programs: &[&str], why: &str) -> anyhow::Result<()> {
    let missing = PROGRAMS.iter().filter(|(name, _)| programs.contains(name) && which(name).is_none());
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    ensure(&packages, why)
}

/// Installs those of `packages` that are missing. `why` completes the sentence "needed to ...".
///
/// # Errors
/// Where there is no apt-get, no right to use it, or no such package: what to install by hand.
pub(crate) fn ensure(packages: &[&str], why: &str) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if which("apt-get").is_none() {
        bail!("{names}: needed to {why}, and there is no apt-get here; install what your system calls them");
    }
    if !is_root() && which("sudo").is_none() {
        bail!("{names}: needed to {why}; as root, run `apt-get install {names}`");
    }
    say(format!("installing {names} with apt-get: needed to {why}"));
    // An index that is there may well do; without one, or with an old one, the second attempt brings it up to date.
    if apt(&["install", "-y", "-qq", "--no-install-recommends"], &missing).is_ok() {
        return Ok(());
    }
    apt(&["update", "-qq"], &[])?;
    match apt(&["install", "-y", "-qq", "--no-install-recommends"], &missing) {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(format!("cannot install {names}, needed to {why}"))),
    }
}

/// Whether dpkg knows this package as installed.
fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn apt(action: &[&str], packages: &[&str]) -> anyhow::Result<()> {
    let mut command = if is_root() { Command::new("env") } else { Command::new("sudo") };
    // sudo and env take assignments alike.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(action).args(packages);
    command.stdout(std::process::Stdio::null());
    run(&mut command)
}
