//! The part of the gateway that is inside: it makes the interface, gives its descriptor out, and becomes the program.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use bulkhead::device::interface::Interface;
use bulkhead::device::{Device as _, DeviceError, OffloadTun, TunOptions};
use rustix::thread::clear_ambient_capability_set;

use super::arguments::Inside;

/// Where programs look for name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// As a shell tells that there is no such program, or that it cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// Makes the interface, waits until the gateway has it, and becomes the program.
///
/// # Errors
/// A line that says what to do.
pub(in crate::cli) fn inside(inside: Inside) -> anyhow::Result<ExitCode> {
    let addresses = inside.address.iter().map(|text| address(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let options = TunOptions {
        name: inside.tun.clone(),
        mtu: Some(inside.mtu),
        addresses: addresses.clone(),
        // Without addresses it is somebody else who sees to it.
        up: !addresses.is_empty(),
        multi_queue: false,
    };
    if options.up {
        Interface::new("lo")?.up()?;
    }
    let device = OffloadTun::open(&options).map_err(|error| match error {
        DeviceError::NotPermitted { .. } => anyhow::anyhow!(
            "/dev/net/tun is closed to this user; on most systems it is open, and here root can open it with \
             `chmod 666 /dev/net/tun` (it gives nobody a right outside of namespaces of their own)"
        ),
        other => other.into(),
    })?;
    for version in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        if let Some((address, _)) = addresses.iter().find(|(address, _)| version(address)) {
            device.interface().add_default_route(*address)?;
        }
    }
    if let Some(resolv) = &inside.resolv {
        name_servers(resolv);
    }
    give(&device, &inside.socket).context("the gateway has gone away")?;
    // The interface lives on with the gateway's descriptor of it.
    drop(device);
    let Some((program, arguments)) = inside.program.split_first() else { return Ok(ExitCode::SUCCESS) };
    // What made the interface is nothing that the program needs. As root of the namespace it keeps what root has.
    let _ = clear_ambient_capability_set();
    let error = Command::new(program).args(arguments).exec();
    eprintln!("bulkhead: cannot run {}: {error}", Path::new(program).display());
    Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN }))
}

fn address(text: &str) -> anyhow::Result<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').context("no network")?;
    Ok((address.parse()?, length.parse()?))
}

/// Says which descriptor it is, and waits until the gateway has its own of it.
fn give(device: &OffloadTun, socket: &Path) -> anyhow::Result<()> {
    let descriptor = device.as_fd().context("the device has no descriptor")?.as_fd().as_raw_fd();
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "{} {descriptor}", std::process::id())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    anyhow::ensure!(line == "taken\n", "it has not taken the device");
    Ok(())
}

/// In this mount namespace only. A system without the file does without.
fn name_servers(file: &Path) {
    let done = Command::new("mount").arg("--bind").arg(file).arg(RESOLV_CONF).output();
    let failed = match done {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!("{RESOLV_CONF} stays the host's: {failed}");
}
