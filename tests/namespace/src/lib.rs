//! A network namespace for a test or the demo: a machine's network of its own, with a folder for files, that is gone
//! afterwards whatever happens.
//!
//! Both are called `bh-<pid>-<number>`, after the process that makes them, so that what is left of a process that is gone
//! can be told from what others are using. They are cleared away by a child process that waits for the end of its
//! standard input: it comes when the [`Namespace`] is dropped, and just as well when our process is killed.

mod running;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub use running::{Running, bound, end_with_input, patiently};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Waits until nobody holds the other end of its input, then ends what still runs in the namespace and removes all.
/// The terminal's signals are not for it.
const CLEAR_AWAY: &str = r#"
trap '' INT TERM HUP
read -r _
for _ in 1 2 3 4 5; do
    pids=$(ip netns pids "$1") || break
    [ -z "$pids" ] && break
    kill -9 $pids
    sleep 0.02
done
ip netns del "$1"
rm -rf -- "$2"
"#;

/// A network namespace and a folder, both removed on drop together with every process that still runs inside.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    folder: PathBuf,
    /// Holds its standard input, whose end is the sign to clear away.
    cleaner: Child,
}

impl Namespace {
    /// Makes a namespace in which nothing but the loopback device is up.
    ///
    /// # Errors
    /// Without root (or `CAP_SYS_ADMIN`), or without the program `ip`.
    pub fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bh-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        // First of all the one that clears away, so that there is no moment without it.
        let mut clear = Command::new("sh");
        clear.args(["-c", CLEAR_AWAY, "sh", &name]).arg(&folder);
        clear.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let cleaner = clear.spawn()?;
        let own = Self { name, folder, cleaner };
        checked(Command::new("ip").args(["netns", "add", &own.name]))?;
        own.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(own)
    }

    /// Its name, as `ip netns` has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for files, mode 0700.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that will run inside. The child's process id is the program's own, so it can be sent signals.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program inside, to its end, and returns what it printed.
    ///
    /// # Errors
    /// Where it cannot be started, or where its exit code is not 0: with what it wrote to standard error.
    pub fn run(&self, words: &[&str]) -> io::Result<Output> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program"))?;
        checked(self.command(program).args(arguments))
    }

    /// Sets the congestion control of connections in here. A machine may keep one for privileged programs outside of
    /// namespaces (`tcp_allowed_congestion_control`); it is allowed to all then, and stays so.
    ///
    /// # Errors
    /// The kernel has no such congestion control, or we are not root.
    pub fn set_congestion(&self, name: &str) -> io::Result<()> {
        const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
        let set = || self.inside(|| fs::write("/proc/sys/net/ipv4/tcp_congestion_control", name))?;
        match set() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let allowed = fs::read_to_string(ALLOWED)?;
                fs::write(ALLOWED, format!("{} {name}", allowed.trim()))?;
                set()
            }
            done => done,
        }
    }

    /// Does `work` on a thread that lives inside: sockets and devices that it opens are of this namespace, and so are the
    /// threads that it starts. A panic of `work` is a panic here.
    ///
    /// # Errors
    /// Where the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let handle = File::open(Path::new("/run/netns").join(&self.name))?;
        // Never the caller's own thread: there is no way back that could not fail.
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || -> io::Result<T> {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&handle),
                    Some(LinkNameSpaceType::Network),
                )?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        // What it could not remove is found by `cargo xtask test`; a drop has nobody to tell.
        let _ = self.cleaner.wait();
    }
}

/// Runs a command to its end; an exit code other than 0 is an error.
fn checked(command: &mut Command) -> io::Result<Output> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{command:?}: {}: {}", output.status, text.trim())));
    }
    Ok(output)
}
