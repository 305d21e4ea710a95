//! What was done, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use bulkhead::net::Summary;
use serde_json::{Value, json};

use crate::apps::counted::Counts;

/// Everything that there is to say at the end.
pub(super) struct Report {
    /// Each application with its port, and what it has done.
    pub(super) applications: Vec<(String, Counts)>,
    pub(super) stack: Summary,
    /// CPU time of the whole process, or what of it there was since the stack began.
    pub(super) cpu: Duration,
    pub(super) placement: &'static str,
}

/// Writes to standard output. A reader that has gone away is no error.
///
/// # Errors
/// Any other error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" { format!("{count} bytes") } else { format!("{value:.1} {unit}") }
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Report {
    /// CPU time that was not spent in the module's steps. Steps are measured by the wall clock, so this is a little low
    /// where the thread was interrupted in one.
    fn host_cpu(&self) -> Duration {
        self.cpu.saturating_sub(self.stack.module_time)
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        let width = self.applications.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(14) + 2;
        let _ = writeln!(
            out,
            "{:<width$}{:>12}{:>8}{:>14}{:>14}",
            "application", "connections", "failed", "bytes in", "bytes out"
        );
        for (name, counts) in &self.applications {
            let _ = writeln!(
                out,
                "{name:<width$}{:>12}{:>8}{:>14}{:>14}",
                counts.accepted,
                counts.failed,
                bytes(counts.bytes_in),
                bytes(counts.bytes_out)
            );
        }
        out.push('\n');
        for (name, value) in self.rows() {
            let _ = writeln!(out, "{name:<width$}{value}");
        }
        out
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let stack = &self.stack;
        let running = stack.running.as_secs_f64();
        let module = stack.module_time.as_secs_f64();
        let mut rows = vec![
            ("ran for", seconds(stack.running)),
            ("connections", format!("{} opened, {} ended", stack.connections, stack.ended)),
            ("bytes", format!("{} in, {} out", bytes(stack.bytes_in), bytes(stack.bytes_out))),
        ];
        if let Some(census) = stack.census {
            rows.push((
                "segments",
                format!(
                    "{} in, {} out, {} retransmitted, {} resets out, {} resets in",
                    census.segs_in, census.segs_out, census.retrans, census.resets_out, census.resets_in
                ),
            ));
        }
        rows.extend([
            ("steps", format!("{} in {} turns", stack.steps, stack.turns)),
            (
                "module",
                format!(
                    "{} inside ({}, {:.2} us a step), {:.1} % of the time",
                    seconds(stack.module_time),
                    self.placement,
                    share(module * 1e6, stack.steps as f64),
                    share(module * 100.0, running)
                ),
            ),
            (
                "host",
                format!(
                    "{} of CPU outside of it, files and applications included; {:.1} % of all CPU is the module's",
                    seconds(self.host_cpu()),
                    share(module * 100.0, self.cpu.as_secs_f64())
                ),
            ),
            ("longest gap", format!("{:.1} ms before a turn that was due", stack.longest_gap.as_secs_f64() * 1e3)),
            ("drops", format!("{}, {} errors of the device", stack.drops, stack.device_errors)),
            ("faults", stack.faults.to_string()),
        ]);
        rows
    }

    /// For programs; times in nanoseconds.
    pub(super) fn json(&self) -> Value {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let stack = &self.stack;
        let applications: Vec<Value> = self
            .applications
            .iter()
            .map(|(name, counts)| {
                json!({
                    "name": name, "connections": counts.accepted, "ended": counts.ended, "failed": counts.failed,
                    "bytes_in": counts.bytes_in, "bytes_out": counts.bytes_out,
                })
            })
            .collect();
        let census = stack.census.map(|census| {
            json!({
                "segments_in": census.segs_in, "segments_out": census.segs_out, "retransmissions": census.retrans,
                "resets_in": census.resets_in, "resets_out": census.resets_out,
            })
        });
        json!({
            "applications": applications,
            "placement": self.placement,
            "running_ns": ns(stack.running),
            "connections": stack.connections,
            "ended": stack.ended,
            "bytes_in": stack.bytes_in,
            "bytes_out": stack.bytes_out,
            "retransmissions": stack.retransmissions(),
            "census": census,
            "turns": stack.turns,
            "steps": stack.steps,
            "module_ns": ns(stack.module_time),
            "cpu_ns": ns(self.cpu),
            "host_cpu_ns": ns(self.host_cpu()),
            "longest_gap_ns": ns(stack.longest_gap),
            "drops": stack.drops,
            "device_errors": stack.device_errors,
            "refused": {
                "text_dropped": stack.refused.text_dropped,
                "connections_refused": stack.refused.connections_refused,
                "source_refused": stack.refused.source_refused,
                "evicted": stack.refused.evicted,
                "throttled": stack.refused.throttled,
            },
            "faults": stack.faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(100 << 20), "100.0 MiB");
    }
}
