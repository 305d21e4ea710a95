//! A run for people: every event, and under it every frame as tcpdump would show it; and the same for Wireshark.

use std::fmt::Write as _;
use std::io::IoSlice;

use bulkhead_wit::{Time, limits};

use super::case::Event;
use super::execute::Watcher;
use super::finding::Finding;
use super::wire::Seen;
use crate::device::pcap::PcapWriter;

/// Lines that are kept.
const LINES: usize = 4000;

/// Writes a run down.
#[derive(Default)]
pub struct Trace {
    text: String,
    lines: usize,
    frames: Vec<(Time, Vec<u8>)>,
}

impl Trace {
    /// What happened, line by line.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every frame, as a pcap file.
    #[must_use]
    pub fn pcap(&self) -> Vec<u8> {
        let mut file = Vec::new();
        if let Ok(mut writer) = PcapWriter::new(&mut file, 0) {
            self.frames.iter().for_each(|(now, frame)| writer.write(*now, &[IoSlice::new(frame)]));
        }
        file
    }

    fn line(&mut self, line: &str) {
        self.lines += 1;
        if self.lines <= LINES {
            self.text.push_str(line);
            self.text.push('\n');
        } else if self.lines == LINES + 1 {
            self.text.push_str("...\n");
        }
    }
}

impl Watcher for Trace {
    fn event(&mut self, number: usize, event: &Event) {
        self.line(&format!("{number:>3}  {event}"));
    }

    fn frame(&mut self, now: Time, from_module: bool, frame: &[u8]) {
        let arrow = if from_module { "<" } else { ">" };
        self.line(&format!("      {:>12.6} {arrow} {}", now as f64 / limits::SECOND as f64, shown(frame)));
        if self.frames.len() < LINES {
            self.frames.push((now, frame.to_vec()));
        }
    }
}

/// A frame in one line, as tcpdump would show it.
#[must_use]
pub fn shown(frame: &[u8]) -> String {
    let Some(seen) = Seen::of(frame) else { return other(frame) };
    let letters = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (32, 'U'), (64, 'E'), (128, 'W'), (16, '.')];
    let flags: String =
        letters.iter().filter(|(bit, _)| seen.flags & bit != 0).map(|(_, letter)| *letter).collect();
    let mut line = format!("{} > {}: Flags [{flags}], seq {}", seen.from, seen.to, seen.seq);
    if seen.length > 0 {
        let _ = write!(line, ":{}", seen.seq.wrapping_add(seen.length));
    }
    if seen.flags & 16 != 0 {
        let _ = write!(line, ", ack {}", seen.ack);
    }
    let _ = write!(line, ", win {}", seen.window);
    if let Some(scale) = seen.scale {
        let _ = write!(line, ", wscale {scale}");
    }
    if let Some(stamp) = seen.stamp {
        let _ = write!(line, ", TS val {stamp}");
    }
    let _ = write!(line, ", length {}", seen.length);
    line
}

fn other(frame: &[u8]) -> String {
    let version = frame.first().map_or(0, |first| first >> 4);
    let at = |at: usize| frame.get(at).copied().unwrap_or(0);
    let (protocol, field) = match version {
        4 => (at(9), u16::from_be_bytes([at(6), at(7)])),
        6 => (at(6), 0),
        _ => return format!("{} bytes that are no IP", frame.len()),
    };
    let name = match protocol {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        44 => "fragment".to_owned(),
        58 => "ICMPv6".to_owned(),
        number => format!("protocol {number}"),
    };
    let fragment = if field & 0x3fff == 0 {
        String::new()
    } else {
        format!(", fragment at {}{}", (field & 0x1fff) * 8, if field & 0x2000 == 0 { "" } else { "+" })
    };
    format!("IPv{version} {name}{fragment}, {} bytes", frame.len())
}

/// The module's stack, a line for each frame; empty where it is not known.
#[must_use]
pub fn backtrace(finding: &Finding) -> String {
    let mut text = String::new();
    for (number, frame) in finding.frames().iter().enumerate() {
        let _ = writeln!(text, "  {number:>2}: {frame}");
    }
    text
}
