//! `bulkhead run` in a network namespace, with the kernel on the other side of its device.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_namespace::Namespace;
use serde_json::Value;

/// The program that is tested.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bulkhead");
/// What only a failure waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace, where this machine lets us have one; says so where it does not.
pub(crate) fn namespace() -> Option<Namespace> {
    if !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: there is no /dev/net/tun here");
        return None;
    }
    match Namespace::new() {
        Ok(space) => Some(space),
        Err(error) => {
            eprintln!("skipped: no network namespace can be made here (it needs root): {error}");
            None
        }
    }
}

/// The program with what its tests need: machine code is cached between runs, and never with the user's own.
pub(crate) fn program(space: Option<&Namespace>) -> Command {
    let mut command = match space {
        Some(space) => space.command(PROGRAM),
        None => Command::new(PROGRAM),
    };
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

/// A running program.
pub(crate) struct Server {
    child: Child,
    said: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
    summary: Option<JoinHandle<String>>,
}

impl Server {
    /// Starts `bulkhead run` with these words and waits until it serves.
    pub(crate) fn start(space: &Namespace, words: &[&str]) -> Self {
        let mut command = program(Some(space));
        command.arg("run").args(words).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let hearing = Arc::clone(&said);
        let listening = std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                hearing.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let summary = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        });
        let mut server = Self { child, said, listening: Some(listening), summary: Some(summary) };
        server.wait_for("Ctrl-C ends");
        server
    }

    /// Waits until it has said this on standard error.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.said().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "{ended:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end: exit code and summary.
    pub(crate) fn wait(mut self) -> (ExitStatus, Value, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        };
        self.listening.take().unwrap().join().unwrap();
        let summary = self.summary.take().unwrap().join().unwrap();
        (status, serde_json::from_str(&summary).unwrap_or_default(), self.said())
    }

    /// Ctrl-C, and an end in order; returns the summary.
    pub(crate) fn end(self) -> Value {
        self.signal("INT");
        let (status, summary, said) = self.wait();
        assert!(status.success(), "{status}: {said}");
        assert_eq!((&summary["faults"], &summary["device_errors"]), (&0.into(), &0.into()), "{said}");
        summary
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs curl inside, and returns what it wrote to standard output.
pub(crate) fn curl(space: &Namespace, words: &[&str]) -> Vec<u8> {
    let all = [&["curl", "-sS", "--fail", "--max-time", "300"], words].concat();
    space.run(&all).unwrap_or_else(|error| panic!("{error}")).stdout
}

/// Bytes that look like nothing else: no piece of them is like another.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// Whether the interface is gone from the namespace.
pub(crate) fn is_gone(space: &Namespace, interface: &str) -> bool {
    space.run(&["ip", "link", "show", "dev", interface]).is_err()
}
