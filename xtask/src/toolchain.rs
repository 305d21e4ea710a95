//! Finds, or installs, a compiler for `wasm32-unknown-unknown`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::packages;
use crate::shell::{capture, forget_cargo, root, say, succeeds_within, which};

/// What guests are compiled for: no operating system, not even WASI.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// How long `rustup target add` may take. The download is some 20 MB; without a network it fails or hangs.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// Debian's compiler, for where rustup cannot download. Of one version, installed beside rustup's and not touching it.
const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core";

/// A compiler that can build guests.
pub(crate) enum Toolchain {
    /// The one that builds everything else, with the target's standard library installed.
    Own,
    /// Debian's, which builds `core` and `alloc` itself and borrows the linker.
    Debian {
        /// rust-lld or wasm-ld.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// The first that works: the target in our own compiler's folder; Debian's compiler if it is there already; the
    /// target added by rustup; Debian's compiler installed.
    ///
    /// # Errors
    /// Where none does: what to do by hand.
    pub(crate) fn find() -> anyhow::Result<Self> {
        if own_has_target() {
            return Ok(Self::Own);
        }
        if debian_is_there() {
            return Ok(Self::Debian { linker: linker()? });
        }
        if which("rustup").is_some() {
            say(format!("the target {TARGET} is missing: rustup target add {TARGET}"));
            let mut add = Command::new("rustup");
            add.args(["target", "add", TARGET]);
            if succeeds_within(&mut add, RUSTUP_LIMIT) && own_has_target() {
                return Ok(Self::Own);
            }
            say("rustup could not download it; Debian's compiler will do as well");
        }
        packages::ensure(&DEBIAN, "compile guests for WebAssembly").with_context(|| {
            format!("no compiler for guests: run `rustup target add {TARGET}` where rustup has a network")
        })?;
        if !debian_is_there() {
            bail!(
                "{} are installed, but {DEBIAN_RUSTC}, {DEBIAN_CARGO} or {DEBIAN_SOURCE} is missing: \
                 run `rustup target add {TARGET}` where rustup has a network",
                DEBIAN.join(", ")
            );
        }
        Ok(Self::Debian { linker: linker()? })
    }

    /// Its name and version, in one line; another version is another fingerprint.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        match self {
            Self::Own => capture(own_rustc().arg("--version")),
            Self::Debian { .. } => capture(clean(DEBIAN_RUSTC).arg("--version")),
        }
    }

    /// A `cargo build` for the target in release mode with these compiler flags. Whatever our own cargo, or the user,
    /// has set for other builds is kept away from it: a guest depends on its sources and its compiler alone.
    pub(crate) fn cargo_build(&self, flags: &[String], folder: &Path) -> Command {
        let mut command = match self {
            Self::Own => Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Debian { .. } => clean(DEBIAN_CARGO),
        };
        forget_cargo(&mut command);
        forget_build_settings(&mut command);
        command.current_dir(root()).args(["build", "--release", "--locked", "--quiet", "--target", TARGET]);
        command.arg("--target-dir").arg(folder);
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        if let Self::Debian { linker } = self {
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            command.arg("-Zbuild-std=core,alloc");
        }
        command
    }
}

/// The compiler that builds the host. A proxy of rustup's is sent to the same toolchain by `RUSTUP_TOOLCHAIN`.
fn own_rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

fn own_sysroot() -> Option<PathBuf> {
    capture(own_rustc().args(["--print", "sysroot"])).ok().map(PathBuf::from)
}

fn own_has_target() -> bool {
    own_sysroot().is_some_and(|sysroot| sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

fn debian_is_there() -> bool {
    [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_SOURCE].iter().all(|path| Path::new(path).exists())
}

/// Debian's compiler comes without a linker for WebAssembly. rustup's toolchains have one for the host's use; where there
/// is no rustup, Debian has LLVM's, of the very version that the compiler is made with.
fn linker() -> anyhow::Result<PathBuf> {
    let host = format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-lld", std::env::consts::ARCH);
    if let Some(found) = own_sysroot().map(|sysroot| sysroot.join(host)).filter(|file| file.is_file()) {
        return Ok(found);
    }
    let about = capture(clean(DEBIAN_RUSTC).arg("-vV"))?;
    let llvm = about.lines().find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next());
    let llvm = llvm.with_context(|| format!("{DEBIAN_RUSTC} does not say its version of LLVM"))?;
    let name = format!("wasm-ld-{llvm}");
    if which(&name).is_none() {
        packages::ensure(&[&format!("lld-{llvm}")], "link guests: this compiler has no rust-lld")?;
    }
    which(&name).with_context(|| format!("there is neither rust-lld nor {name}; install lld-{llvm}"))
}

/// A command that sees nothing of rustup: neither its choice of toolchain nor its libraries.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH");
    command
}

/// Removes every setting of another build: wrappers, flags, profiles. Registries, proxies and jobs stay.
fn forget_build_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let is_setting = name.starts_with("RUSTC")
            || ["RUSTFLAGS", "RUSTDOC", "RUSTDOCFLAGS", "CARGO_ENCODED_RUSTFLAGS"].contains(&name)
            || name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_TARGET_")
            || (name.starts_with("CARGO_BUILD_") && name != "CARGO_BUILD_JOBS");
        if is_setting {
            command.env_remove(name);
        }
    }
}

/// Folders that must not show in a guest, since it is to be the same wherever it is built, with what stands for them.
pub(crate) fn remapped() -> Vec<(OsString, &'static str)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| home.map(|h| h.join(".cargo")));
    let mut folders = vec![(root().into_os_string(), ".")];
    folders.extend(cargo.map(|cargo| (cargo.into_os_string(), "cargo")));
    folders
}

/// `cargo metadata` of our workspace, without what it depends on.
pub(crate) fn workspace() -> anyhow::Result<serde_json::Value> {
    workspace_of(&root().join("Cargo.toml"))
}

/// The same of the workspace that a manifest belongs to.
pub(crate) fn workspace_of(manifest: &Path) -> anyhow::Result<serde_json::Value> {
    let mut command = crate::shell::cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    command.arg("--manifest-path").arg(manifest);
    serde_json::from_str(&capture(&mut command)?).context("cargo metadata printed what is no JSON")
}

/// The target directory, as cargo has it.
pub(crate) fn target_directory(workspace: &serde_json::Value) -> anyhow::Result<PathBuf> {
    workspace["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("cargo metadata names no target directory")
}
