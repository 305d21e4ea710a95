//! The goodput table: the sandboxed stack's sender beside the kernel's, against loss and round trip.

use anyhow::Context as _;

use crate::privileged::{build, run_as_root};

/// Builds everything and measures. `arguments` are those of the program that measures.
///
/// # Errors
/// Where something is missing that cannot be installed, or where a measurement cannot be set up.
pub(crate) fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let folder = build(&["bulkhead", "goodput"])?;
    let program = folder.join("bulkhead").display().to_string();
    let words = ["--program".to_owned(), program];
    run_as_root(&folder.join("goodput"), words.iter().chain(arguments)).context("the table")
}
