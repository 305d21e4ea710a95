//! The one tool of the project: `cargo xtask help` says what it does.
//!
//! - [`guests`]: compiles the protocol modules and wraps them into components;
//! - [`toolchain`]: finds, or installs, a compiler for them;
//! - [`packages`]: installs what is missing by its Debian name;
//! - [`shell`]: runs other programs, and says so.

mod guests;
mod packages;
mod shell;
mod toolchain;

use std::process::ExitCode;

use anyhow::bail;

const HELP: &str = "\
cargo xtask guests [--force]   build every protocol module into <target>/guests/<name>.wasm
cargo xtask help               this text

`guests` needs the target wasm32-unknown-unknown. It uses rustup's where it is installed, else adds it by
`rustup target add`, else installs Debian's rustc-web, cargo-web and rust-web-src (beside rustup, to /usr/bin).
It builds only what has changed; --force builds all. What it writes is in the target directory alone.
";

fn main() -> ExitCode {
    match dispatch(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> anyhow::Result<()> {
    let (command, rest) = arguments.split_first().map_or(("help", &[][..]), |(c, r)| (c.as_str(), r));
    match command {
        "guests" => guests::build_all(flag(rest, "--force")?),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command `{other}`; `cargo xtask help` lists what there is"),
    }
}

/// The one flag that a command knows: given or not. Anything else is an error.
fn flag(arguments: &[String], name: &str) -> anyhow::Result<bool> {
    match arguments {
        [] => Ok(false),
        [only] if only == name => Ok(true),
        _ => bail!("expected nothing or {name}, not `{}`; see `cargo xtask help`", arguments.join(" ")),
    }
}
