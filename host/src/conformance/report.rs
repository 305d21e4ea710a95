//! What a failed script leaves behind.

use super::run::Problem;
use super::script::{Event, Script};
use bulkhead_wit::Time;
use bulkhead_wit::limits::{MICROSECOND, SECOND};
use std::fmt;
use std::io::{self, Write};

/// Lines of a trace that a failure shows.
const SHOWN: usize = 24;
/// Lines and frames that are kept.
const KEPT: usize = 20_000;
/// libpcap's link type for bare IP packets.
const LINKTYPE_RAW: u32 = 101;

/// Everything that passed the device.
#[derive(Clone, Debug)]
pub struct Trace {
    origin: Time,
    lines: Vec<String>,
    frames: Vec<(Time, Vec<u8>)>,
}

impl Trace {
    pub(super) fn new(origin: Time) -> Self {
        Self { origin, lines: Vec::new(), frames: Vec::new() }
    }

    pub(super) fn line(&mut self, now: Time, text: &str) {
        if self.lines.len() < KEPT {
            self.lines.push(format!("{} {text}", seconds(now.saturating_sub(self.origin))));
        }
    }

    pub(super) fn frame(&mut self, now: Time, bytes: &[u8]) {
        if self.frames.len() < KEPT {
            self.frames.push((now.saturating_sub(self.origin), bytes.to_vec()));
        }
    }

    /// Its lines, as a script would have them.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Writes the frames as a capture file.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_pcap(&self, to: &mut dyn Write) -> io::Result<()> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        to.write_all(&words(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, LINKTYPE_RAW]))?;
        for (time, frame) in &self.frames {
            let length = u32::try_from(frame.len()).unwrap_or(0);
            let whole = u32::try_from(time / SECOND).unwrap_or(0);
            let part = (time % SECOND / MICROSECOND) as u32;
            to.write_all(&words(&[whole, part, length, length]))?;
            to.write_all(frame)?;
        }
        Ok(())
    }
}

/// Nanoseconds as seconds.
pub(super) fn seconds(time: Time) -> String {
    format!("{}.{:06}", time / SECOND, time % SECOND / MICROSECOND)
}

/// A script that does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The script.
    pub script: String,
    /// The line, counted from 1; 0 if it failed before the first.
    pub line: u32,
    /// The line as written.
    pub text: String,
    /// What was expected.
    pub expected: String,
    /// What came instead.
    pub got: String,
    /// What is wrong, in words.
    pub why: String,
    /// What passed the device until then.
    pub trace: Trace,
}

impl Failure {
    pub(super) fn new(script: &Script, event: Option<&Event>, problem: Problem) -> Self {
        Self {
            script: script.name.clone(),
            line: event.map_or(0, |event| event.line),
            text: event.map(|event| event.text.clone()).unwrap_or_default(),
            expected: problem.expected,
            got: problem.got,
            why: problem.why,
            trace: Trace::new(0),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}: {}", self.script, self.line, self.why)?;
        writeln!(f, "    line      {}", self.text)?;
        if !self.expected.is_empty() {
            writeln!(f, "    expected  {}", self.expected)?;
        }
        if !self.got.is_empty() {
            writeln!(f, "    got       {}", self.got)?;
        }
        let from = self.trace.lines.len().saturating_sub(SHOWN);
        for line in self.trace.lines.get(from..).unwrap_or_default() {
            writeln!(f, "        {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
