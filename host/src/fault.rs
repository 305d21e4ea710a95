//! How an instance failed, in words that name what went wrong.

use std::fmt;
use std::time::Duration;

/// Why an instance was ended. A step that ends in a fault has had no effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The module's code stopped: a panic, a bad memory access, an exhausted stack.
    Trap(Box<Trap>),
    /// The module used up a budget.
    Budget(Overrun),
    /// What the module gave breaks a rule of the contract. Nothing of the step was carried out.
    Broken(Broken),
    /// The module itself said no to `start` or `load`.
    Refused(Refused),
    /// The process that the module ran in is gone, or says nothing more.
    Lost(Lost),
    /// An earlier step failed, and the instance is not entered again.
    Ended,
}

/// Code that stopped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trap {
    /// What the machine said: `unreachable`, `out of bounds memory access`, `panic`.
    pub code: String,
    /// The module's own panic message, where it could be recovered.
    pub panic: Option<String>,
    /// The module's stack, innermost frame first.
    pub frames: Vec<Frame>,
}

/// One frame of a module's backtrace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// The function's name, demangled; its number where the module has no names.
    pub function: String,
    /// The source file, where the module carries line tables.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

/// A budget that was used up, and where the module was then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overrun {
    /// Which.
    pub budget: Budget,
    /// The module's stack, innermost frame first.
    pub frames: Vec<Frame>,
}

/// What was used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// CPU time of the thread within one call.
    Cpu {
        /// Used when the step was ended.
        used: Duration,
        /// Allowed.
        limit: Duration,
    },
    /// Units of work within one call (about an instruction each), where runs must end at the same place every time.
    Fuel {
        /// Allowed.
        limit: u64,
    },
    /// Linear memory of the instance.
    Memory {
        /// Bytes that it asked for in all.
        asked: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Bytes that one call gives back.
    Outputs {
        /// Bytes allowed.
        limit: u64,
    },
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// What was found, with its numbers.
    pub detail: String,
}

/// What a module refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// `start` or `load`.
    pub call: &'static str,
    /// The module's own sentence; untrusted text, escaped and cut when shown.
    pub text: String,
}

/// How a module's process was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// How it ended.
    pub ending: Ending,
    /// What it, or the system, said last: untrusted text, escaped and cut when shown.
    pub words: String,
}

/// How a module's process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It did not start, or what started is no server of modules.
    NotStarted,
    /// By a signal, with its number.
    Killed {
        /// As in `signal(7)`.
        signal: i32,
    },
    /// By itself, with its exit code.
    Exited {
        /// The code.
        code: i32,
    },
    /// It was ended, since it neither answered nor used the CPU for so long.
    Silent {
        /// Wall clock time.
        waited: Duration,
    },
}

impl Lost {
    /// There is no process.
    #[must_use]
    pub fn not_started(words: String) -> Self {
        Self { ending: Ending::NotStarted, words }
    }

    /// It was stopped, or waits for what never comes.
    #[must_use]
    pub fn silent(waited: Duration) -> Self {
        Self { ending: Ending::Silent { waited }, words: String::new() }
    }

    /// It ended by a signal, or with an exit code.
    #[must_use]
    pub fn ended(signal: Option<i32>, code: Option<i32>, words: String) -> Self {
        let code = Ending::Exited { code: code.unwrap_or_default() };
        Self { ending: signal.map_or(code, |signal| Ending::Killed { signal }), words }
    }
}

/// The rules that outputs are inspected for, numbered as in the contract's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Rule {
    /// Every value is one of its type: no pointer outside the memory, no unknown variant, no invalid text encoding.
    Encoding = 0,
    /// Counts and lengths are within limits and room.
    Counts = 1,
    /// A header is whole, lies inside `headers`, and is of a protocol that the module may send.
    Header = 2,
    /// The source is an address of ours or mirrored, the destination one that may be sent to.
    Address = 3,
    /// A payload exists and its range lies within it.
    Payload = 4,
    /// A send of queue bytes has the connection's endpoints and the right sequence number.
    SendBinding = 5,
    /// A placed byte comes from the connection's peer and goes where its sequence number says.
    PlaceBinding = 6,
    /// Places stay within the receive memory, overlap nothing, and only placed bytes are exposed.
    ReceiveMemory = 7,
    /// What is called acknowledged was acknowledged, by the segment named.
    Acknowledged = 8,
    /// A stream ends where a FIN ended it, once.
    Finished = 9,
    /// A connection opens by a segment of this batch, on free endpoints, within what was allowed.
    Opening = 10,
    /// A hold slot stays with its datagram and within its size.
    Hold = 11,
    /// A deadline is neither past nor nearer than allowed.
    Deadline = 12,
    /// Nothing is said of a handle that is closed or was never given.
    Handle = 13,
    /// Text is valid and short.
    Text = 14,
}

impl Rule {
    /// All rules, in order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Encoding,
        Self::Counts,
        Self::Header,
        Self::Address,
        Self::Payload,
        Self::SendBinding,
        Self::PlaceBinding,
        Self::ReceiveMemory,
        Self::Acknowledged,
        Self::Finished,
        Self::Opening,
        Self::Hold,
        Self::Deadline,
        Self::Handle,
        Self::Text,
    ];

    /// Its number in the contract's list; 0 is what a value must be to be looked at at all.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Counts => "counts",
            Self::Header => "header",
            Self::Address => "address",
            Self::Payload => "payload",
            Self::SendBinding => "send-binding",
            Self::PlaceBinding => "place-binding",
            Self::ReceiveMemory => "receive-memory",
            Self::Acknowledged => "acknowledged",
            Self::Finished => "finished",
            Self::Opening => "opening",
            Self::Hold => "hold",
            Self::Deadline => "deadline",
            Self::Handle => "handle",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} ({})", self.number(), self.name())
    }
}

/// Characters of a module's own text that a report shows.
const TEXT_SHOWN: usize = 512;

impl Fault {
    /// A broken rule, with what was found.
    #[must_use]
    pub fn broken(rule: Rule, detail: impl Into<String>) -> Self {
        Self::Broken(Broken { rule, detail: detail.into() })
    }

    /// A budget that was used up, where the module's stack is not known.
    #[must_use]
    pub fn over(budget: Budget) -> Self {
        Self::Budget(Overrun { budget, frames: Vec::new() })
    }

    /// The rule that was broken, if that is what happened.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Self::Broken(broken) => Some(broken.rule),
            _ => None,
        }
    }

    /// The module's stack when it failed, innermost frame first, where it is known.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        match self {
            Self::Trap(trap) => &trap.frames,
            Self::Budget(overrun) => &overrun.frames,
            _ => &[],
        }
    }

    /// The long form: the line of [`Display`](fmt::Display), and the module's backtrace below it.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        for (number, frame) in self.frames().iter().enumerate() {
            text.push_str(&format!("\n  {number:>2}: {frame}"));
        }
        text
    }
}

/// Text that a module wrote, made fit for a terminal: no control characters, and not longer than is useful.
fn shown(text: &str) -> String {
    let mut out: String = text.trim().chars().take(TEXT_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > TEXT_SHOWN {
        out.push_str(" ...");
    }
    out.replace("\\\"", "\"").replace("\\'", "'")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap(trap) => trap.fmt(f),
            Self::Budget(overrun) => overrun.fmt(f),
            Self::Broken(Broken { rule, detail }) => {
                write!(f, "the module broke the contract, {rule}: {detail}")
            }
            Self::Refused(Refused { call, text }) => {
                write!(f, "the module refused to {call}: {}", shown(text))
            }
            Self::Lost(lost) => lost.fmt(f),
            Self::Ended => f.write_str("the instance has failed before and is not entered again"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ending {
            Ending::NotStarted => f.write_str("the module's process did not start")?,
            Ending::Killed { signal } => {
                write!(f, "the module's process was killed by signal {signal}")?;
                // As they are numbered on every Linux that this is built for.
                let meaning = match signal {
                    4 => " (illegal instruction)",
                    6 => " (it aborted)",
                    7 | 11 => " (bad memory access)",
                    9 => " (from outside, or for want of memory)",
                    31 => " (a system call that it has no right to)",
                    _ => "",
                };
                f.write_str(meaning)?;
            }
            Ending::Exited { code } => write!(f, "the module's process ended with code {code}")?,
            Ending::Silent { waited } => {
                write!(f, "the module's process said nothing for {} ms", waited.as_millis())?;
            }
        }
        if self.words.is_empty() { Ok(()) } else { write!(f, ": {}", shown(&self.words)) }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            Some(text) => write!(f, "the module panicked: {}", shown(text))?,
            None => write!(f, "the module trapped: {}", self.code)?,
        }
        at(&self.frames, f)
    }
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.budget.fmt(f)?;
        at(&self.frames, f)
    }
}

/// The innermost frame that says something.
fn at(frames: &[Frame], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match telling(frames).first() {
        Some(frame) => write!(f, ", in {frame}"),
        None => Ok(()),
    }
}

/// The frames from where the module's own code went wrong, innermost first: without the machinery of panics and without the
/// language's library in front of it. All frames where that leaves nothing.
pub(crate) fn telling(frames: &[Frame]) -> &[Frame] {
    let after_panic = frames.iter().rposition(Frame::is_of_panicking).map_or(0, |last| last + 1);
    let own = |frame: &Frame| !frame.is_of_library();
    let first = frames.iter().skip(after_panic).position(own);
    first.and_then(|first| frames.get(after_panic + first..)).unwrap_or(frames)
}

impl Frame {
    /// Whether it belongs to the machinery of panics, which says nothing about the cause.
    fn is_of_panicking(&self) -> bool {
        let parts = ["core::panicking", "rust_begin_unwind", "__rustc"];
        parts.iter().any(|part| self.function.contains(part))
            || self.file.as_ref().is_some_and(|file| file.ends_with("library/core/src/panicking.rs"))
    }

    /// Whether it is the language's library, by its file or, where that is not known, by its name.
    fn is_of_library(&self) -> bool {
        let crates = ["core::", "alloc::", "std::"];
        crates.iter().any(|name| self.function.trim_start_matches(['<', '&']).starts_with(name))
            || self.file.as_ref().is_some_and(|file| file.starts_with("library/"))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.function))?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({}:{line})", shown(file)),
            (Some(file), None) => write!(f, " ({})", shown(file)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { used, limit } => write!(
                f,
                "the module exceeded its time: {} ms of CPU in one call, {} ms allowed",
                used.as_millis(),
                limit.as_millis()
            ),
            Self::Fuel { limit } => {
                write!(f, "the module exceeded its time: more than {limit} units of work in one call")
            }
            Self::Memory { asked, limit } => {
                write!(f, "the module exceeded its memory: asked for {asked} bytes, {limit} allowed")
            }
            Self::Outputs { limit } => {
                write!(f, "the module gave too much back: more than {limit} bytes in one call")
            }
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_numbered_as_they_are_listed() {
        for (number, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(rule.number()), number);
        }
    }

    #[test]
    fn a_fault_is_one_line_whatever_the_module_wrote() {
        let frame = Frame { function: "a\u{1b}[31mb".into(), file: Some("x\ny.rs".into()), line: Some(3) };
        let fault = Fault::Trap(Box::new(Trap {
            code: "unreachable".into(),
            panic: Some(format!("first\nsecond {}", "x".repeat(9000))),
            frames: vec![frame],
        }));
        let line = fault.to_string();
        assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
        assert!(line.starts_with("the module panicked: first\\nsecond "), "{line}");
        assert!(line.len() < 800, "{}", line.len());
        assert_eq!(fault.report().lines().count(), 2);
    }

    #[test]
    fn a_broken_rule_is_named() {
        let fault = Fault::broken(Rule::SendBinding, "send 3: sequence number 7 is not 9");
        assert_eq!(
            fault.to_string(),
            "the module broke the contract, rule 5 (send-binding): send 3: sequence number 7 is not 9"
        );
    }
}
