//! The protocol module in C, `examples/c-module`: compiled by Debian's clang, without a C library, and wrapped as all others.
//!
//! Its types come out of the contract's WIT by wit-bindgen, and the contract's numbers out of its Rust twin, so that what
//! the module is written against is what the host is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use super::{Guest, PROTOCOL_MODULE, STACK, build_folder, fingerprint, wrap, write_whole};
use crate::packages;
use crate::shell::{capture, root, run, say, which};
use crate::toolchain::remapped;

const NAME: &str = "c-module";

const MEMORY_MIB: u32 = 4;

/// Where it is, from the root of the workspace.
const FOLDER: &str = "examples/c-module";

/// The interface's types are called `exports_bulkhead_...`, and not by the interface's full name.
const RENAMED: (&str, &str) = ("bulkhead:protocol/protocol@1.0.0", "bulkhead");

/// Memory is copied by instructions, and beside the compiler's own headers there are only the module's.
const FLAGS: [&str; 5] = ["--target=wasm32", "-std=c11", "-O2", "-nostdlibinc", "-mbulk-memory"];

/// For what is written by hand; what is generated is as it is.
const STRICT: [&str; 3] = ["-Wall", "-Wextra", "-Werror"];

macro_rules! numbers {
    ($($registry:ident: $($name:ident)*;)*) => {
        &[$($((concat!(stringify!($registry), "_", stringify!($name)), numbers::$registry::$name as u64),)*)*]
    };
}

/// What [`numbers!`] finds its names in.
mod numbers {
    pub(super) use bulkhead_wit::limits;
    pub(super) use bulkhead_wit::registry::{census, protocol, reason, service, setting};
}

/// The contract's numbers that the module uses.
const NUMBERS: &[(&str, u64)] = numbers! {
    limits: ADDRESSES CALLS DEADLINE_MIN EVENTS EXTENSION_HEADERS HEADER_BYTES HOLDS HOLDS_BYTES HOLD_BYTES HOLD_TIME ISLANDS
        MESSAGES PLACES SECOND SEGMENTS SENDS;
    protocol: ICMP ICMPV6 UDP;
    service: IP_PROTOCOL;
    setting: TTL TRAFFIC_CLASS;
    census: DROPPED ECHOES LISTENERS SEGS_IN SEGS_OUT STATE_BYTES;
    reason: EXHAUSTED HOST_UNREACHABLE INVALID IN_USE NETWORK_UNREACHABLE NOT_AVAILABLE PORT_UNREACHABLE PROHIBITED REFUSED
        UNKNOWN UNSUPPORTED;
};

/// Builds the module if its inputs have changed. Where there is no clang and none can be installed it is left out, with a
/// line: nothing else is made of it.
///
/// # Errors
/// Where it does not compile, or breaks the rules of its world.
pub(super) fn build(target: &Path, force: bool) -> anyhow::Result<()> {
    let Some(version) = compiler() else { return Ok(()) };
    let output = target.join("guests").join(NAME).with_extension("wasm");
    let mark = output.with_extension("fingerprint");
    let settings = [FLAGS.join(" "), STRICT.join(" "), linker_flags().join(" "), version.clone()].join("\n");
    let fingerprint = fingerprint::of_folders(&[root().join(FOLDER), root().join("wit")], &settings)?;
    if output.is_file() && !force && std::fs::read_to_string(&mark).is_ok_and(|old| old == fingerprint) {
        say(format!("guest {NAME}: up to date"));
        return Ok(());
    }
    say(format!("guest {NAME}: compiling with {version}"));
    let folder = build_folder(target).join(NAME);
    let generated = generate(&folder).context("the bindings for C")?;
    let core = compile(&folder, &generated).with_context(|| format!("guest {NAME} does not compile"))?;
    let guest = Guest { package: NAME.to_owned(), imports: PROTOCOL_MODULE, memory_mib: MEMORY_MIB };
    let about = wrap(&guest, &core, &output)?;
    write_whole(&mark, fingerprint.as_bytes())?;
    say(format!("guest {NAME}: {} ({about})", output.display()));
    Ok(())
}

/// The compiler's version, once it and its linker are there.
fn compiler() -> Option<String> {
    if (which("clang").is_none() || which("wasm-ld").is_none())
        && let Err(error) = packages::ensure(&["clang", "lld"], "build the protocol module in C")
    {
        say(format!("guest {NAME}: left out: {error:#}"));
        return None;
    }
    let version = capture(Command::new("clang").arg("--version"));
    match version {
        Ok(version) => version.lines().next().map(str::to_owned),
        Err(error) => {
            say(format!("guest {NAME}: left out: {error:#}"));
            None
        }
    }
}

/// Writes the contract's types and numbers into `folder`; returns what has to be compiled and linked of it.
fn generate(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root().join("wit").join("bulkhead.wit"))?;
    let world = resolve.select_world(&[package], Some("protocol-module"))?;
    let rename = vec![(RENAMED.0.to_owned(), RENAMED.1.to_owned())];
    let options = wit_bindgen_c::Opts { rename, ..wit_bindgen_c::Opts::default() };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let mut paths = Vec::new();
    for (name, bytes) in files.iter() {
        write_whole(&folder.join(name), bytes)?;
        // A source, or the object that says which world it is.
        paths.extend((!name.ends_with(".h")).then(|| folder.join(name)));
    }
    write_whole(&folder.join("numbers.h"), numbers_header().as_bytes())?;
    Ok(paths)
}

fn numbers_header() -> String {
    let mut text = "/* wit/src/limits.rs and wit/src/registry.rs. */\n#pragma once\n".to_owned();
    for &(name, number) in NUMBERS {
        let kind = if u32::try_from(number).is_ok() { "u" } else { "ull" };
        let _ = writeln!(text, "#define {} {number}{kind}", name.to_uppercase());
    }
    text
}

fn linker_flags() -> [String; 6] {
    let memory = u64::from(MEMORY_MIB) << 20;
    let linked = |flag: String| format!("-Wl,{flag}");
    [
        "-nostdlib".to_owned(),
        linked("--no-entry".to_owned()),
        // Below everything else, as the other guests have it, so that running over its end is a trap.
        linked("--stack-first".to_owned()),
        linked(format!("-z,stack-size={STACK}")),
        linked(format!("--initial-memory={memory}")),
        linked(format!("--max-memory={memory}")),
    ]
}

/// Compiles the sources and links them to the core module.
fn compile(folder: &Path, generated: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let own = root().join(FOLDER);
    let mut sources: Vec<(PathBuf, &[&str])> = Vec::new();
    for entry in std::fs::read_dir(&own).with_context(|| format!("cannot read {}", own.display()))? {
        sources.push((entry?.path(), &STRICT));
    }
    sources.extend(generated.iter().map(|path| (path.clone(), &["-w"][..])));
    sources.retain(|(path, _)| path.extension().is_some_and(|kind| kind == "c"));
    sources.sort();
    let mut objects: Vec<PathBuf> =
        generated.iter().filter(|path| path.extension().is_some_and(|kind| kind == "o")).cloned().collect();
    for (source, warnings) in sources {
        let object = folder.join(source.file_name().context("a source has a name")?).with_extension("c.o");
        let mut command = Command::new("clang");
        command.args(FLAGS).args(warnings).arg("-I").arg(own.join("include")).arg("-I").arg(folder);
        for (path, instead) in remapped() {
            command.arg(format!("-ffile-prefix-map={}={instead}", path.to_string_lossy()));
        }
        run(command.arg("-c").arg(&source).arg("-o").arg(&object))?;
        objects.push(object);
    }
    let linked = folder.join("c_module.wasm");
    run(Command::new("clang").arg(FLAGS[0]).args(linker_flags()).args(&objects).arg("-o").arg(&linked))?;
    std::fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))
}
