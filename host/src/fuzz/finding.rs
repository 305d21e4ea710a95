//! What was found: what went wrong, at which event, and the name under which the same thing is known.

use std::fmt::{self, Display};
use std::sync::Arc;

use crate::fault::{Budget, Fault, Frame, telling};

/// Frames of a backtrace that tell one bug from another.
const FRAMES: usize = 3;
/// Characters of a name.
const NAME: usize = 96;

/// Something that a module must not do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The event at which it was seen, from 0 on.
    pub event: usize,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The module trapped, used up a budget, or broke the contract.
    Fault(Arc<Fault>),
    /// What it sent breaks a rule that any peer may count on.
    Wire {
        /// The rule's name.
        rule: &'static str,
        /// What was found, with its numbers.
        detail: String,
    },
    /// The application was given bytes that the peer has not sent there.
    Stream {
        /// How many bytes into the stream.
        at: u64,
    },
    /// Something is outstanding, and the module asks never to be called again.
    Silent {
        /// What waits.
        detail: String,
    },
    /// With peers that are fair something did not arrive.
    Stalled {
        /// What.
        detail: String,
    },
    /// The module wants to be called again and again and does nothing.
    Spins,
    /// Instances with different seeds choose the same initial sequence numbers, or numbers that follow from each other.
    Predictable {
        /// Which.
        detail: String,
    },
    /// A state that was saved cannot be loaded, or is another one then.
    State {
        /// What happened.
        detail: String,
    },
    /// Another module does otherwise.
    Differs {
        /// In what.
        detail: String,
    },
}

impl Finding {
    /// The name under which the same bug is known: by what went wrong, and where in the module.
    #[must_use]
    pub fn key(&self) -> String {
        let name = match &self.kind {
            Kind::Fault(fault) => fault_key(fault),
            Kind::Wire { rule, .. } => format!("wire-{rule}"),
            Kind::Stream { .. } => "stream".into(),
            Kind::Silent { .. } => "silent".into(),
            Kind::Stalled { .. } => "stalled".into(),
            Kind::Spins => "spins".into(),
            Kind::Predictable { .. } => "predictable-isn".into(),
            Kind::State { .. } => "state".into(),
            Kind::Differs { .. } => "differs".into(),
        };
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let mut slug: String = name.chars().map(plain).collect();
        while slug.contains("--") {
            slug = slug.replace("--", "-");
        }
        slug.truncate(NAME);
        slug.trim_matches('-').to_owned()
    }

    /// The module's stack, where it is known.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        match &self.kind {
            Kind::Fault(fault) => fault.frames(),
            _ => &[],
        }
    }
}

fn fault_key(fault: &Fault) -> String {
    let what = match fault {
        Fault::Trap(trap) if trap.panic.is_some() => "panic".to_owned(),
        Fault::Trap(trap) => format!("trap-{}", trap.code),
        Fault::Budget(overrun) => match overrun.budget {
            Budget::Fuel { .. } | Budget::Cpu { .. } => "hang".into(),
            Budget::Memory { .. } => "memory".into(),
            Budget::Outputs { .. } => "outputs".into(),
        },
        Fault::Broken(broken) => return format!("rule-{}-{}", broken.rule.number(), broken.rule.name()),
        Fault::Refused(_) => "refused".into(),
        Fault::Ended => "ended".into(),
        Fault::Lost(_) => "lost".into(),
    };
    let frames: Vec<&str> =
        telling(fault.frames()).iter().take(FRAMES).map(|frame| last_parts(&frame.function)).collect();
    format!("{what}-{}", frames.join("-"))
}

/// A function's name without the crates and modules that it lies in, but for the last.
fn last_parts(function: &str) -> &str {
    let mut at = function.rmatch_indices("::").map(|(at, _)| at + 2);
    at.nth(1).and_then(|at| function.get(at..)).unwrap_or(function)
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Fault(fault) => fault.fmt(f),
            Kind::Wire { rule, detail } => write!(f, "the wire, rule {rule}: {detail}"),
            Kind::Stream { at } => {
                write!(f, "the application was given bytes at {at} that the peer has not sent there")
            }
            Kind::Silent { detail } => write!(f, "the module has gone silent: {detail}, and no deadline"),
            Kind::Stalled { detail } => write!(f, "with fair peers there is no progress: {detail}"),
            Kind::Spins => f.write_str("the module asks to be called again without end"),
            Kind::Predictable { detail } => write!(f, "initial sequence numbers can be foreseen: {detail}"),
            Kind::State { detail } => write!(f, "a saved state: {detail}"),
            Kind::Differs { detail } => write!(f, "the other module does otherwise: {detail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Trap;

    fn at(functions: &[&str]) -> String {
        let frames = functions
            .iter()
            .map(|function| Frame { function: (*function).into(), ..Frame::default() })
            .collect();
        let trap = Trap { code: "unreachable".into(), panic: Some("no".into()), frames };
        Finding { kind: Kind::Fault(Arc::new(Fault::Trap(Box::new(trap)))), event: 0 }.key()
    }

    #[test]
    fn a_bug_is_named_by_where_it_is_and_not_by_how_the_panic_got_out() {
        let one = at(&["core::panicking::panic_fmt", "bulkhead_tcp::arrive::text::place", "a::b::c::d"]);
        assert_eq!(one, "panic-text-place-c-d");
        assert_eq!(
            one,
            at(&["core::option::unwrap_failed", "bulkhead_tcp::arrive::text::place", "a::b::c::d"])
        );
        assert_eq!(at(&[]), "panic");
    }
}
