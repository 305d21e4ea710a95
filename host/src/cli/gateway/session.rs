//! From the outside: namespaces are made or entered, and the device that was made there comes back.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead::device::OffloadTun;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, geteuid, pidfd_getfd, pidfd_open};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use super::arguments::Gateway;

/// How long the inside may take to make its interface.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of what it says.
const LINE: u64 = 64;

/// A folder of our own, gone when this is.
pub(super) struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let base = if base.is_dir() { base } else { std::env::temp_dir() };
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
        let path = base.join(format!("bulkhead-{:016x}", u64::from_ne_bytes(bytes)));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A namespace that was made or entered.
pub(super) struct Session {
    /// The part inside, which becomes the program where there is one.
    child: Child,
    /// It waits until somebody listens.
    waiting: Waiting,
    /// Holds the file that stands in the place of resolv.conf.
    _folder: Folder,
}

impl Session {
    /// Makes or enters the namespaces.
    ///
    /// # Errors
    /// A line that says what to do.
    pub(super) async fn begin(gateway: &Gateway) -> anyhow::Result<(Self, OffloadTun)> {
        let folder = Folder::new().context("cannot make a folder for the time of the session")?;
        let socket = folder.0.join("device");
        let listener = UnixListener::bind(&socket)?;
        let resolv = resolv_conf(gateway, &folder.0)?;
        let mut child = entering(gateway)?
            .args(words(gateway, &socket, resolv.as_deref()))
            .kill_on_drop(true)
            .spawn()
            .context("cannot run unshare or nsenter, of util-linux")?;
        let taken = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                biased;
                stream = listener.accept() => take(stream?.0).await,
                // It has said why on standard error.
                status = child.wait() => Err(anyhow::anyhow!("no namespace with a device could be made: {}", status?)),
            }
        });
        let (descriptor, waiting) =
            taken.await.context("the inside does not make its interface in time")??;
        let device = OffloadTun::adopt(descriptor, gateway.mtu)?;
        let waiting = Waiting { stream: waiting, is_program: !gateway.program.is_empty() };
        Ok((Self { child, waiting, _folder: folder }, device))
    }

    /// Forgets what was only needed until the inside was made: it cannot be removed later on.
    pub(super) fn settle(self) -> Settled {
        Settled { child: self.child, waiting: self.waiting }
    }
}

/// The part inside, which waits for a word before it becomes the program.
struct Waiting {
    stream: UnixStream,
    is_program: bool,
}

/// A session whose files are gone.
pub(super) struct Settled {
    child: Child,
    waiting: Waiting,
}

impl Settled {
    /// Lets it go on; without a program it ends here.
    ///
    /// # Errors
    /// It has gone away.
    pub(super) async fn go(mut self) -> anyhow::Result<Option<Child>> {
        self.waiting.stream.write_all(b"taken\n").await.context("the inside has gone away")?;
        if self.waiting.is_program {
            return Ok(Some(self.child));
        }
        let status = self.child.wait().await?;
        anyhow::ensure!(status.success(), "the inside ended with {status}");
        Ok(None)
    }
}

/// What makes the namespaces, or enters them; what is to be done there follows.
fn entering(gateway: &Gateway) -> anyhow::Result<Command> {
    let ourselves = std::env::current_exe().context("cannot find this program")?;
    let mut command;
    if let Some(path) = &gateway.netns {
        command = Command::new("nsenter");
        command.arg(named("--net=", path));
        if let Some(path) = &gateway.caller.user_namespace {
            command.arg(named("--user=", path)).arg("--preserve-credentials");
        }
    } else if let Some(pid) = gateway.pid {
        command = Command::new("nsenter");
        command.arg(format!("--target={pid}")).arg("--net");
        if !geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
    } else {
        command = Command::new("unshare");
        command.args(["--net", "--mount"]);
        if !geteuid().is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
    }
    command.arg("--").arg(ourselves).arg("gateway-inside");
    if gateway.program.is_empty() {
        command.stdin(Stdio::null());
    }
    Ok(command)
}

fn named(option: &str, path: &Path) -> OsString {
    let mut word = OsString::from(option);
    word.push(path);
    word
}

fn words(gateway: &Gateway, socket: &Path, resolv: Option<&Path>) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![
        "--socket".into(),
        socket.into(),
        "--tun".into(),
        gateway.tun.clone().into(),
        "--mtu".into(),
        gateway.mtu.to_string().into(),
    ];
    let addresses = if gateway.caller.is_bare { Vec::new() } else { gateway.inside() };
    for (address, length) in addresses {
        words.extend(["--address".into(), format!("{address}/{length}").into()]);
    }
    if let Some(resolv) = resolv.filter(|_| !gateway.program.is_empty()) {
        words.extend(["--resolv".into(), resolv.into()]);
    }
    if !gateway.program.is_empty() {
        words.push("--".into());
        words.extend(gateway.program.iter().cloned());
    }
    words
}

/// Takes a descriptor of the device from the process that made it.
async fn take(stream: UnixStream) -> anyhow::Result<(OwnedFd, UnixStream)> {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    (&mut lines).take(LINE).read_line(&mut line).await?;
    let (pid, descriptor) = line.trim().split_once(' ').context("the inside says nothing of its device")?;
    let pid = Pid::from_raw(pid.parse()?).context("the inside has no process")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
    let descriptor = pidfd_getfd(&process, descriptor.parse()?, PidfdGetfdFlags::empty())
        .context("cannot take the device from the process that made it (pidfd_getfd, Linux 5.6)")?;
    Ok((descriptor, lines.into_inner()))
}

/// The file that stands in the place of resolv.conf inside.
fn resolv_conf(gateway: &Gateway, folder: &Path) -> io::Result<Option<PathBuf>> {
    let servers = gateway.name_servers();
    if servers.is_empty() {
        return Ok(None);
    }
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let path = folder.join("resolv.conf");
    std::fs::write(&path, lines + "options edns0\n")?;
    Ok(Some(path))
}

/// The host's own name servers.
pub(super) fn host_name_servers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|server| server.trim().split('%').next()?.parse().ok()).collect()
}
