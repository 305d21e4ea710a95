//! Compiles the protocol modules and wraps them into components: `<target>/guests/<name>.wasm`.

mod c;
mod component;
mod fingerprint;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::shell::{run, say};
use crate::toolchain::{TARGET, Toolchain, remapped, target_directory, workspace, workspace_of};

/// Imports of the world `protocol-module`, which makes a module payload-blind.
const PROTOCOL_MODULE: &[&str] = &[];

/// Imports of the world `protocol-module-with-payload`.
const WITH_PAYLOAD: &[&str] = &["bulkhead:protocol/payload@1.0.0"];

/// The most memory of a module that the host takes, in MiB.
const MEMORY_MIB_MAX: u32 = (bulkhead_wit::limits::MEMORY >> 20) as u32;

/// A protocol module: a package with a table `[package.metadata.bulkhead]`.
struct Guest {
    /// Its package, whose library is a `cdylib`; also the name of the component.
    package: String,
    /// What its world lets it import; it may import less.
    imports: &'static [&'static str],
    /// Linear memory in MiB: all of it from the start, so that the host can put it back by copying (a memory that grew
    /// could not shrink again). The kernel gives pages only as they are touched, so room that is not used is free.
    memory_mib: u32,
}

/// Shadow stack of a guest in bytes. It lies below everything else, so that running over its end is a trap.
const STACK: u32 = 256 << 10;

/// Settings of the release profile that guests are built with, where they differ from the host's. A panic is a trap:
/// there is nobody to catch it. Line tables stay, for the backtrace of a fault.
const PROFILE: [&str; 5] = [
    "profile.release.opt-level=3",
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.debug=\"line-tables-only\"",
];

impl Guest {
    /// The guests among a workspace's packages.
    fn of_workspace(workspace: &Value) -> anyhow::Result<Vec<Self>> {
        let packages = workspace["packages"].as_array().into_iter().flatten();
        packages.filter(|package| package["metadata"]["bulkhead"].is_object()).map(Self::of_package).collect()
    }

    fn of_package(package: &Value) -> anyhow::Result<Self> {
        let (name, about) = (package["name"].as_str().unwrap_or_default(), &package["metadata"]["bulkhead"]);
        let memory = about["memory-mib"].as_u64().and_then(|mib| u32::try_from(mib).ok());
        let memory = memory.filter(|mib| (1..=MEMORY_MIB_MAX).contains(mib));
        Ok(Self {
            package: name.to_owned(),
            imports: if about["payload"] == true { WITH_PAYLOAD } else { PROTOCOL_MODULE },
            memory_mib: memory.with_context(|| {
                format!("{name}: [package.metadata.bulkhead] needs memory-mib = 1 to {MEMORY_MIB_MAX}")
            })?,
        })
    }

    /// Compiler flags: the fixed memory, and no path of this machine in the result.
    fn flags(&self) -> Vec<String> {
        let memory = u64::from(self.memory_mib) << 20;
        let mut flags = vec![
            format!("-Clink-arg=--initial-memory={memory}"),
            format!("-Clink-arg=--max-memory={memory}"),
            format!("-Clink-arg=-zstack-size={STACK}"),
        ];
        for (folder, instead) in remapped() {
            flags.push(format!("--remap-path-prefix={}={instead}", folder.to_string_lossy()));
        }
        flags
    }

    /// What cargo calls the library that it links.
    fn linked_name(&self) -> String {
        format!("{}.wasm", self.package.replace('-', "_"))
    }
}

/// Builds every guest of this workspace whose inputs have changed, or all of them.
///
/// # Errors
/// Where there is no compiler, where a guest does not compile, or where one breaks the rules of its world.
pub(crate) fn build_all(force: bool) -> anyhow::Result<()> {
    let workspace = workspace()?;
    let target = target_directory(&workspace)?;
    let toolchain = Toolchain::find()?;
    let version = toolchain.version()?;
    for guest in Guest::of_workspace(&workspace)? {
        let output = target.join("guests").join(format!("{}.wasm", guest.package));
        let mark = output.with_extension("fingerprint");
        let settings = [PROFILE.join(" "), guest.flags().join(" "), version.clone()].join("\n");
        let fingerprint = fingerprint::of_package(&workspace, &guest.package, &settings)?;
        let is_fresh = output.is_file() && std::fs::read_to_string(&mark).is_ok_and(|old| old == fingerprint);
        if is_fresh && !force {
            say(format!("guest {}: up to date", guest.package));
            continue;
        }
        say(format!("guest {}: compiling with {version}", guest.package));
        let core = compile(&guest, toolchain.cargo_build(&guest.flags(), &build_folder(&target)), &target)?;
        let about = wrap(&guest, &core, &output)?;
        write_whole(&mark, fingerprint.as_bytes())?;
        say(format!("guest {}: {} ({about})", guest.package, output.display()));
    }
    c::build(&target, force)
}

/// Builds the guests of another workspace into its own target directory, `guests` there. What they are made of beside
/// themselves is compiled where ours is.
///
/// # Errors
/// As [`build_all`], or where there are none.
pub(crate) fn build_elsewhere(manifest: &Path) -> anyhow::Result<()> {
    let manifest = manifest.canonicalize().with_context(|| format!("there is no {}", manifest.display()))?;
    let elsewhere = workspace_of(&manifest)?;
    let (target, folder) = (target_directory(&workspace()?)?, target_directory(&elsewhere)?.join("guests"));
    let guests = Guest::of_workspace(&elsewhere)?;
    if guests.is_empty() {
        bail!("{} has no [package.metadata.bulkhead]", manifest.display());
    }
    let toolchain = Toolchain::find()?;
    for guest in guests {
        let mut command = toolchain.cargo_build(&guest.flags(), &build_folder(&target));
        command.arg("--manifest-path").arg(&manifest);
        let core = compile(&guest, command, &target)?;
        let output = folder.join(format!("{}.wasm", guest.package));
        let about = wrap(&guest, &core, &output)?;
        say(format!("guest {}: {} ({about})", guest.package, output.display()));
    }
    Ok(())
}

/// Where guests are compiled, below the target directory.
fn build_folder(target: &Path) -> PathBuf {
    target.join("guests-build")
}

/// Compiles a guest by this `cargo build` and returns the core module.
fn compile(guest: &Guest, mut command: Command, target: &Path) -> anyhow::Result<Vec<u8>> {
    command.args(["--package", &guest.package]);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    run(&mut command).with_context(|| format!("guest {} does not compile", guest.package))?;
    let linked = build_folder(target).join(TARGET).join("release").join(guest.linked_name());
    std::fs::read(&linked).with_context(|| {
        format!("{} is missing: {} needs `crate-type = [\"cdylib\"]`", linked.display(), guest.package)
    })
}

/// Wraps a core module into a component, checks both, and writes the component; returns a few words about it.
fn wrap(guest: &Guest, core: &[u8], output: &Path) -> anyhow::Result<String> {
    let name = &guest.package;
    let facts = component::examine_core(core).with_context(|| format!("guest {name}: the core module"))?;
    let memory = u64::from(guest.memory_mib) << 20;
    if facts.memory != memory {
        bail!("guest {name}: its memory is {} bytes, not the {memory} that were asked for", facts.memory);
    }
    let wrapped = component::wrap(core).with_context(|| format!("guest {name} is no component"))?;
    let imports = component::check_world(&wrapped, guest.imports).with_context(|| format!("guest {name}"))?;
    write_whole(output, &wrapped)?;
    let kib = |bytes: usize| bytes.div_ceil(1024);
    let imports = if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") };
    Ok(format!(
        "{} KiB, code {} KiB; imports {imports}; memory {} MiB",
        kib(wrapped.len()),
        kib(facts.code),
        guest.memory_mib
    ))
}

/// Writes a file so that nobody ever sees half of it.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let begun: PathBuf = folder.join(format!(".{}.part", std::process::id()));
    std::fs::write(&begun, bytes)
        .and_then(|()| std::fs::rename(&begun, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
