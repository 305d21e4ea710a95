//! Programs over lwIP, from Debian's library.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::shell::{root, run};

/// Debian's packages for that.
const PACKAGES: [&str; 3] = ["liblwip-dev", "gcc", "libc6-dev"];

/// Compiles one of ours into this folder.
///
/// # Errors
/// Where there is no such library to be had: whoever wants it goes without it then.
pub(crate) fn compile(source: &str, name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    packages::ensure(&PACKAGES, "have lwIP beside the others")?;
    let program = folder.join(name);
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-Wall", "-Wextra", "-Werror", "-I/usr/include/lwip", "-o"]);
    run(compiler.arg(&program).arg(root().join(source)).arg("-llwip"))?;
    Ok(program)
}
