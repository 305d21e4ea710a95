//! Watches a run of `cargo test`: shows what it prints as it comes, and ends a test program that has fallen silent, so that a
//! test that hangs is one that fails, by name, and not the end of the whole run.

use std::io::{Read as _, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::packages::is_root;
use crate::shell::say;

/// How long somebody else may hold the output of a run that has ended.
const HELD: Duration = Duration::from_secs(10);

/// What `cargo test` has printed, line by line, and what follows from it.
#[derive(Default)]
struct Printed {
    /// The line that is not at its end yet.
    line: Vec<u8>,
    /// Whether a test program is running, by its own words: compiling takes as long as it takes.
    is_testing: bool,
}

impl Printed {
    /// Takes what has come, and gives each line that is whole to `heard`.
    fn take(&mut self, bytes: &[u8], heard: &mut impl FnMut(&str)) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = String::from_utf8_lossy(&self.line);
            if line.starts_with("running ") {
                self.is_testing = true;
            } else if line.starts_with("test result: ") {
                self.is_testing = false;
            }
            heard(&line);
            self.line.clear();
        }
    }
}

/// Copies a child's standard output to `shown` until it ends, and gives each line to `heard`. A test program that prints nothing
/// for as long as `patience` is killed; returns how many were.
///
/// # Errors
/// If the output cannot be read.
pub(crate) fn watch(
    child: &mut Child,
    patience: Duration,
    shown: &mut impl Write,
    mut heard: impl FnMut(&str),
) -> anyhow::Result<u64> {
    let mut output = child.stdout.take().context("its output is ours")?;
    let (pieces, coming) = mpsc::sync_channel(16);
    let reader = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length = output.read(&mut buffer)?;
            let piece = buffer.get(..length).unwrap_or_default().to_vec();
            if length == 0 || pieces.send(piece).is_err() {
                return Ok(());
            }
        }
    });
    let (mut printed, mut last, mut killed) = (Printed::default(), Instant::now(), 0);
    loop {
        match coming.recv_timeout(Duration::from_secs(1)) {
            Ok(bytes) => {
                last = Instant::now();
                // Whoever reads us may be gone; the tests go on and are counted.
                let _ = shown.write_all(&bytes).and_then(|()| shown.flush());
                printed.take(&bytes, &mut heard);
            }
            Err(RecvTimeoutError::Timeout) if printed.is_testing && last.elapsed() >= patience => {
                let doing = String::from_utf8_lossy(&printed.line).into_owned();
                let _ = writeln!(shown);
                say(format!("silent for {} s, killed: {doing}", patience.as_secs()));
                for of in descendants(child.id()) {
                    tell(of);
                    kill(of);
                }
                killed += 1;
                (printed.is_testing, last) = (false, Instant::now());
            }
            // Something that a test has left behind may hold the other end of the pipe for ever.
            Err(RecvTimeoutError::Timeout) if last.elapsed() >= HELD && child.try_wait()?.is_some() => {
                return Ok(killed);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    reader.join().ok().context("the thread that reads has panicked")??;
    Ok(killed)
}

/// All processes that a process has started, and theirs, before those that started them.
fn descendants(ancestor: u32) -> Vec<u32> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children: Vec<u32> = pids.filter(|pid| parent_of(*pid) == Some(ancestor)).collect();
    let of_child = |child: u32| descendants(child).into_iter().chain([child]);
    children.into_iter().flat_map(of_child).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (command) state parent ...
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Says what a process is, what its threads are called and what they wait for: the test harness calls each after its test.
fn tell(pid: u32) {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    say(format!("  process {pid}: {}", String::from_utf8_lossy(&words).replace('\0', " ")));
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let of = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        say(format!("    thread {}: {}", of("comm").trim(), of("wchan").trim()));
    }
}

/// Kills a process; one of root's by root.
fn kill(pid: u32) {
    let mut command = Command::new(if is_root() { "kill" } else { "sudo" });
    if !is_root() {
        command.arg("kill");
    }
    let _ = command.args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::{Printed, watch};
    use std::io::sink;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let (mut printed, mut lines) = (Printed::default(), Vec::new());
        for piece in ["running 2 te", "sts\ntest a ... ok\ntest b"] {
            printed.take(piece.as_bytes(), &mut |line| lines.push(line.to_owned()));
        }
        assert_eq!(lines, ["running 2 tests", "test a ... ok"]);
        assert!(printed.is_testing);
        assert_eq!(printed.line, b"test b");
        printed.take(b" ... ok\n\ntest result: ok.\n", &mut |_| ());
        assert!(!printed.is_testing);
    }

    #[test]
    fn what_hangs_is_killed_and_the_rest_goes_on() {
        // As cargo does: one program after the other, whatever becomes of the first.
        let script = "sh -c 'echo running 1 test; printf \"test hangs ... \"; exec sleep 1000'; echo after";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = Vec::new();
        let killed =
            watch(&mut child, Duration::from_millis(100), &mut sink(), |line| lines.push(line.to_owned()));
        assert_eq!(killed.unwrap(), 1);
        assert!(child.wait().unwrap().success());
        assert_eq!(lines, ["running 1 test", "test hangs ... after"]);
    }
}
