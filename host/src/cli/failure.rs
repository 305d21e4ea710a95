//! Errors as one line, and the exit code that goes with them.

use std::fmt;
use std::process::ExitCode;

/// The command line asks for something that makes no sense, whatever the machine is like.
#[derive(Debug)]
pub(super) struct Usage(pub(super) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error about the command line.
pub(super) fn usage(line: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(line.into()))
}

/// The whole chain on one line. Texts that repeat what was said already are left out.
pub(super) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    line
}

/// 2 for errors about the command line, 1 for all others.
pub(super) fn code(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<Usage>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
}
