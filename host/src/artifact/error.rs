//! What can be wrong with a module's file: one line each, and what to do.

use std::fmt;

use bulkhead_wit::{CONTRACT, limits};

use crate::fault::Fault;

/// A module that cannot be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArtifactError {
    /// The file.
    pub name: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a module's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The system does not let us read it.
    Unreadable(String),
    /// It has no bytes.
    Empty,
    /// It is larger than a module may be.
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// It is text.
    Text,
    /// It is something else.
    NotWasm,
    /// It is WebAssembly, but a core module and no component.
    CoreModule,
    /// It is damaged or cut off.
    Malformed(String),
    /// It was made for another version of the contract.
    Version {
        /// What it exports.
        found: String,
    },
    /// It is a component of another kind.
    NotProtocol {
        /// What it exports.
        exports: Vec<String>,
    },
    /// It imports more than a protocol module may.
    Imports(Vec<String>),
    /// Its memory begins larger than an instance may have.
    Memory {
        /// Bytes.
        least: u64,
    },
    /// It exports functions of other types than the contract's.
    Link(String),
    /// The compiler refuses it.
    Compile(String),
    /// It fails when asked what it is.
    Describe(Fault),
    /// It fails as it is instantiated.
    Instance(Fault),
    /// This machine cannot run compiled modules.
    System(String),
}

impl ArtifactError {
    pub(crate) fn new(name: &str, problem: Problem) -> Self {
        Self { name: name.to_owned(), problem }
    }
}

/// Names that a file contains, cut to what fits on a line.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 6;
    if names.is_empty() {
        return "nothing".into();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| line(name)).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// Text of a file or of a library, as one line of bounded length.
fn line(text: &str) -> String {
    const SHOWN: usize = 240;
    let one: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one.chars().take(SHOWN).filter(|letter| !letter.is_control()).collect()
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", line(&self.name), self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {}", line(error)),
            Self::Empty => f.write_str("is empty; give a protocol module, a .wasm component"),
            Self::TooLarge { size } => {
                write!(f, "is too large for a protocol module: {size} bytes, {} allowed", super::SIZE_MAX)
            }
            Self::Text => f.write_str(
                "is text, not a WebAssembly component; if it is WAT, make it binary first (`wasm-tools parse`)",
            ),
            Self::NotWasm => f.write_str("is not WebAssembly; give a protocol module, a .wasm component"),
            Self::CoreModule => f.write_str(
                "is a core module, not a component; wrap it first (`cargo xtask guests`, or `wasm-tools component new`)",
            ),
            Self::Malformed(detail) => {
                write!(f, "is damaged or cut off ({}); build or copy it again", line(detail))
            }
            Self::Version { found } => write!(
                f,
                "was built for another version of the contract: it exports {}, this host speaks {CONTRACT}; \
                 build it against this host's WIT",
                line(found)
            ),
            Self::NotProtocol { exports } => write!(
                f,
                "is a component but no protocol module: it exports {}, and not {CONTRACT}",
                listed(exports)
            ),
            Self::Imports(names) => write!(
                f,
                "imports more than a protocol module may: {}; it may import nothing, or bulkhead:protocol/payload",
                listed(names)
            ),
            Self::Memory { least } => write!(
                f,
                "needs {least} bytes of memory from the start, {} allowed; build it with a smaller memory",
                limits::MEMORY
            ),
            Self::Link(detail) => {
                write!(f, "does not fit the contract ({}); build it against this host's WIT", line(detail))
            }
            Self::Compile(detail) => write!(f, "cannot be compiled: {}", line(detail)),
            Self::Describe(fault) => write!(f, "failed when asked what it is: {fault}"),
            Self::Instance(fault) => write!(f, "failed as it was instantiated: {fault}"),
            Self::System(detail) => write!(f, "cannot be run on this machine: {}", line(detail)),
        }
    }
}

impl std::error::Error for ArtifactError {}
