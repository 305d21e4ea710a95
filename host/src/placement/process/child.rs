//! The server as the host sees it: a child that is started, watched and ended.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Launch;
use crate::fault::Lost;

/// Bytes of what the server wrote last that go into a report.
const LAST_WORDS: usize = 2048;
/// How long is waited for a process that was killed. Only one that the kernel itself holds takes longer.
const BURIAL: Duration = Duration::from_secs(1);

/// A running server. It ends when this is dropped, and when this process ends in whatever way: then the pipe that it
/// listens on is closed.
#[derive(Debug)]
pub(super) struct Child {
    child: std::process::Child,
    /// Closed by our end, which the server takes for its own.
    _life: PipeWriter,
    words: PipeReader,
    /// Its CPU time, as the scheduler counts it.
    schedule: Option<File>,
}

impl Child {
    /// Starts a server over this memory. It gets an empty environment, a process group of its own (an interrupt from
    /// the terminal is for the host to deal with), a pipe as standard input whose end is its end, the memory as
    /// standard output, and a pipe for its last words.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(launch: &Launch, memory: OwnedFd) -> io::Result<Self> {
        let (listening, life) = io::pipe()?;
        let (words, speaking) = io::pipe()?;
        fcntl_setfl(&words, fcntl_getfl(&words)? | OFlags::NONBLOCK)?;
        let child = Command::new(&launch.program)
            .arg0("bulkhead-module-server")
            .args(&launch.arguments)
            .env_clear()
            .process_group(0)
            .stdin(listening)
            .stdout(Stdio::from(memory))
            .stderr(speaking)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", launch.program.display()))
            })?;
        if let Some(processor) = launch.processor {
            let mut set = CpuSet::new();
            set.set(processor);
            sched_setaffinity(i32::try_from(child.id()).ok().and_then(Pid::from_raw), &set)?;
        }
        let schedule = File::open(format!("/proc/{}/schedstat", child.id())).ok();
        Ok(Self { child, _life: life, words, schedule })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the thread that serves. Nothing where the kernel does not count it: then only silence is noticed.
    pub(super) fn cpu_used(&self) -> Duration {
        let mut bytes = [0; 64];
        let length = self.schedule.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or(0);
        let text = std::str::from_utf8(bytes.get(..length).unwrap_or_default()).unwrap_or_default();
        let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
        Duration::from_nanos(first.unwrap_or(0))
    }

    /// How it ended, if it has.
    pub(super) fn fate(&mut self) -> Option<Lost> {
        let status = self.child.try_wait().ok()??;
        Some(Lost::ended(status.signal(), status.code(), self.last_words()))
    }

    /// Ends it. It has no say in that.
    pub(super) fn kill(&mut self) {
        // An error says that it is gone already.
        let _ = self.child.kill();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < BURIAL {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn last_words(&mut self) -> String {
        let mut bytes = vec![0; LAST_WORDS];
        // Nothing to read is no error of ours.
        let length = self.words.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).trim().to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
