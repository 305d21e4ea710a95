//! The one tool of the project: `cargo xtask help` says what it does.
//!
//! - [`guests`]: compiles the protocol modules and wraps them into components;
//! - [`new_module`]: begins another one;
//! - [`mod@test`]: runs every test, and what is as good as one;
//! - [`mod@bench`]: measures the stack beside the kernel, smoltcp and lwIP;
//! - [`faults`]: what a defect of the module does in each placement;
//! - [`demo`]: shows a download from the sandboxed stack;
//! - [`goodput`]: goodput against loss and round trip, beside the kernel;
//! - [`interop`]: the stack against other stacks, with programs that people use;
//! - [`libfuzzer`]: native fuzzing of what reads strangers' and modules' words;
//! - [`lwip`]: compiles what serves or forwards over lwIP;
//! - [`page`]: generates docs/conformance.md;
//! - [`privileged`]: builds what needs root, and runs it so that it ends with us;
//! - [`policy`]: what we may depend on;
//! - [`recovery`]: faults of every kind under load, and what is lost;
//! - [`leftovers`]: whether tests have cleaned up;
//! - [`toolchain`]: finds, or installs, a compiler for them;
//! - [`packages`]: installs what is missing by its Debian name;
//! - [`shell`]: runs other programs, and says so.

mod bench;
mod demo;
mod faults;
mod goodput;
mod guests;
mod interop;
mod leftovers;
mod libfuzzer;
mod lwip;
mod new_module;
mod packages;
mod page;
mod policy;
mod privileged;
mod recovery;
mod shell;
mod test;
mod toolchain;
mod watch;

use std::process::ExitCode;

use anyhow::bail;

const HELP: &str = "\
cargo xtask test [--all]       set-up, guests, dependency policy, formatting, lints, every test
cargo xtask demo               download 1 GiB from a server on the sandboxed stack, with the kernel's curl
cargo xtask bench [--help]     throughput, latency, CPU time: this stack, the kernel's, smoltcp, lwIP, in one run
cargo xtask gateway-bench      `bulkhead gateway` beside slirp4netns and pasta, in one run (--quick, --json FILE)
cargo xtask goodput [--quick]  goodput against loss and round trip, beside the kernel as a sender, over `bulkhead link`
cargo xtask interop [--quick]  the stack against Linux, smoltcp, lwIP and itself, with real programs, over a link with faults
cargo xtask conformance-page   generate docs/conformance.md: scripts, contract, packetdrill, interop
cargo xtask faults [--json]    what a defect of the TCP module does in each placement: who dies, what is corrupted
cargo xtask recovery [--quick] a thousand faults of every kind under load: what is lost, how long recoveries take
cargo xtask libfuzzer TARGET   native fuzzing of split, inspect or tcp by libFuzzer (compare: how fast beside `bulkhead fuzz`)
cargo xtask guests [--force]   build every protocol module into <target>/guests/<name>.wasm
cargo xtask new-module NAME    begin a protocol module in examples/NAME (--in FOLDER: elsewhere), small and whole
cargo xtask policy             check licences and sources of all dependencies
cargo xtask help               this text

test    Installs what is missing (iproute2, curl, iperf3; rustfmt and clippy), then runs everything: first what needs
        nothing but virtual time, then, one after the other and as root (by sudo if need be), the tests against the
        kernel over TUN. --all adds documentation and the tests that take long. At the end nothing may be left behind.
demo    Builds everything, makes a network namespace (as root, by sudo if need be), runs `bulkhead run http` in it,
        compares checksums and shows the throughput and where the time went. Leaves nothing behind, even on Ctrl-C.
interop Installs nginx, curl, iperf3, redis, an ssh client, dropbear, wrk and lwIP (without which its cells are left out),
        then runs each of some sixty cells in namespaces of its own (as root, by sudo if need be). Results are written as
        JSON and Markdown beside the target directory's other files; `cargo xtask interop --help` has more. Leaves nothing
        behind, even on Ctrl-C.
libfuzzer  TARGET [--no-sanitizer] [libFuzzer's options, as -max_total_time=60]. Builds tests/libfuzzer with the stable compiler,
        counters and AddressSanitizer, and fuzzes until Ctrl-C or a finding. The corpus stays in the target directory. Installs
        g++ where it is missing.
guests  Needs the target wasm32-unknown-unknown. It uses rustup's where it is installed, else adds it by
        `rustup target add`, else installs Debian's rustc-web, cargo-web and rust-web-src (beside rustup, to /usr/bin).
        The module in C takes Debian's clang and lld, installed where they are missing; without them it is left out.
        It builds only what has changed; --force builds all. What it writes is in the target directory alone. A module is
        a package with [package.metadata.bulkhead]; --manifest-path FILE builds those of a workspace elsewhere, into its
        own target directory.
new-module  Writes Cargo.toml and src/lib.rs of a module that answers ping, which `cargo xtask guests` builds and `bulkhead
        check` has nothing against. Within the repository it becomes a member of the workspace, elsewhere its own.
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
        "test" => test::run_all(flag(rest, "--all")?),
        "bench" => bench::measure(rest),
        "gateway-bench" => bench::gateways(rest),
        "demo" => flag(rest, "").and_then(|_| demo::show()),
        // What `demo` starts by sudo.
        "demo-as-root" => match rest {
            [program] => demo::download(program.as_ref()),
            _ => bail!("`cargo xtask demo` calls this with the program to show"),
        },
        "faults" => faults::compare(rest),
        "goodput" => goodput::measure(rest),
        "interop" => interop::run(rest),
        "conformance-page" => flag(rest, "").and_then(|_| page::generate()),
        "recovery" => recovery::measure(rest),
        "libfuzzer" => libfuzzer::fuzz(rest),
        "policy" => flag(rest, "").and_then(|_| policy::check()),
        "guests" => match rest {
            [option, manifest] if option == "--manifest-path" => guests::build_elsewhere(manifest.as_ref()),
            _ => guests::build_all(flag(rest, "--force")?),
        },
        "new-module" => new_module::begin(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command `{other}`; `cargo xtask help` lists what there is"),
    }
}

/// The one flag that a command knows, if it knows one: given or not. Anything else is an error.
fn flag(arguments: &[String], name: &str) -> anyhow::Result<bool> {
    match arguments {
        [] => Ok(false),
        [only] if only == name => Ok(true),
        _ if name.is_empty() => {
            bail!("expected nothing, not `{}`; see `cargo xtask help`", arguments.join(" "))
        }
        _ => bail!("expected nothing or {name}, not `{}`; see `cargo xtask help`", arguments.join(" ")),
    }
}
