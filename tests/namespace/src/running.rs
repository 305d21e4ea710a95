//! Programs that run beside a test, and the end of our own.

use std::io::{self, Read as _};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

/// How long a program may take to end once it was asked to.
const PATIENCE: Duration = Duration::from_secs(20);
/// The variable that tells a program to end with its standard input.
const ASKED: &str = "BULKHEAD_ENDS_WITH_INPUT";

/// A program that is killed on drop, if it has not ended before.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Starts it. What it writes to a pipe is read at its end: only where that is little.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self(Some(command.spawn()?)))
    }

    /// Its process id, until it has been ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.0.as_ref().map(Child::id)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Ends it with Ctrl-C and returns what it printed last. One that does not end is killed.
    ///
    /// # Errors
    /// Where it did not end in time.
    pub fn end(mut self) -> io::Result<Output> {
        let Some(mut child) = self.0.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let begun = Instant::now();
        Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
        while child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other("it did not end on Ctrl-C"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Does it until it works, at most so long: interfaces and listeners take their time.
///
/// # Errors
/// Those of the last attempt.
pub fn patiently<T, E>(limit: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(_) if begun.elapsed() < limit => std::thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
}

/// Ends this process with its standard input, if whoever started it by [`bound`] is gone: by whatever signal, and with
/// `sudo` in between. Then its namespaces are cleared away as always.
///
/// # Errors
/// Where no thread can be started.
pub fn end_with_input() -> io::Result<()> {
    if std::env::var_os(ASKED).is_some() {
        std::thread::Builder::new().name("input".into()).spawn(|| {
            // Nobody writes: what ends the read is the end.
            let _ = io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(1);
        })?;
    }
    Ok(())
}

/// A command that runs `program` so that it can [end with us](end_with_input): to be spawned with a pipe for its standard
/// input that is kept until it has ended. With `sudo`, as root.
#[must_use]
pub fn bound(program: &std::path::Path, sudo: bool) -> Command {
    let mut command = Command::new(if sudo { "sudo" } else { "env" });
    if sudo {
        command.arg("-E");
    }
    // sudo and env take assignments alike.
    command.arg(format!("{ASKED}=1")).arg(program).stdin(std::process::Stdio::piped());
    command
}
