//! The protocol module: from a file or from inside this program, in the placement that is asked for.

use std::path::Path;
use std::time::Duration;

use bulkhead::Fault;
use bulkhead::artifact::Artifact;
use bulkhead::net::Builder;
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::placement::process::{Launch, Process};
use bulkhead::swap::Newcomer;
use bulkhead_wit::Description;

use super::arguments::{Placement, SERVE_MODULE};
use super::failure::usage;

/// A module that was found fit to run.
pub(super) enum Module {
    /// A component, for the sandbox.
    Sandboxed(Box<Artifact>),
    /// The bundled module's code as a part of this program.
    Native,
    /// The same in a process of its own.
    Process(Launch),
}

/// The component in this file, or the bundled one.
///
/// # Errors
/// A line that says what is wrong with it.
pub(super) fn artifact(file: Option<&Path>) -> anyhow::Result<Artifact> {
    Ok(match file {
        Some(path) => Artifact::from_file(path)?,
        None => Artifact::bundled()?,
    })
}

impl Module {
    /// What the command line asks for.
    ///
    /// # Errors
    /// A line that says what is wrong with the file, or with the command line.
    pub(super) fn of(placement: Placement, file: Option<&Path>) -> anyhow::Result<Self> {
        match (placement, file) {
            (Placement::Native | Placement::Process, Some(_)) => Err(usage(
                "--placement native and process run the module that is compiled into this program; leave out --module (or the file)",
            )),
            (Placement::Native, None) => Ok(Self::Native),
            (Placement::Process, None) => Ok(Self::Process(Launch::this_program([SERVE_MODULE]))),
            (Placement::Wasm, file) => {
                let artifact = artifact(file)?;
                // Found out now, while nothing is set up yet.
                artifact.instance()?;
                Ok(Self::Sandboxed(Box::new(artifact)))
            }
        }
    }

    /// The same, with so many microseconds of looking before a host or a server sleeps.
    pub(super) fn server_spin(self, microseconds: Option<u64>) -> Self {
        match (self, microseconds) {
            (Self::Process(launch), Some(time)) => Self::Process(launch.spin(Duration::from_micros(time))),
            (module, _) => module,
        }
    }

    /// A fresh instance, not started yet.
    ///
    /// # Errors
    /// How it failed.
    pub(super) fn instance(&self) -> Result<Box<dyn Instance>, Fault> {
        match self {
            Self::Sandboxed(artifact) => Ok(Box::new(artifact.fresh()?)),
            Self::Native => Ok(native()),
            Self::Process(launch) => process(launch),
        }
    }

    /// Hands it to a stack that is being set up; a fresh instance of it follows one that fails.
    pub(super) fn give_to(&self, builder: Builder) -> Builder {
        match self {
            Self::Sandboxed(artifact) => builder.artifact((**artifact).clone()),
            Self::Native => builder.instance(native()).restarted_by(Box::new(|| Ok(native()))),
            Self::Process(launch) => builder.process(launch.clone()),
        }
    }

    /// An instance of it to take over from another module.
    ///
    /// # Errors
    /// How making the instance failed.
    pub(super) fn newcomer(&self) -> anyhow::Result<Newcomer> {
        Ok(match self {
            Self::Sandboxed(artifact) => Newcomer::artifact(artifact)?,
            Self::Native => Newcomer::new(native()).restarted_by(Box::new(|| Ok(native()))),
            Self::Process(launch) => {
                let launch = launch.clone();
                Newcomer::new(process(&launch)?).restarted_by(Box::new(move || process(&launch)))
            }
        })
    }

    /// Where it runs, in one word.
    pub(super) const fn placement(&self) -> &'static str {
        match self {
            Self::Sandboxed(_) => "wasm",
            Self::Native => "native",
            Self::Process(_) => "process",
        }
    }

    /// What it imports, in words.
    pub(super) fn imports(&self) -> String {
        match self {
            Self::Sandboxed(artifact) if !artifact.facts().payload_blind => {
                artifact.facts().imports.join(", ")
            }
            _ => "nothing".to_owned(),
        }
    }

    /// A line about it.
    pub(super) fn about(&self) -> String {
        match self {
            Self::Sandboxed(artifact) => {
                let loading = artifact.loading();
                let how = if loading.cached { "machine code from the cache" } else { "compiled" };
                let blind =
                    if artifact.facts().payload_blind { "payload-blind" } else { "with payload access" };
                format!(
                    "{} in a sandbox, {blind}, {how} in {:.0} ms",
                    name(artifact.description()),
                    loading.took.as_secs_f64() * 1e3
                )
            }
            Self::Native => format!("{} natively, without a sandbox", name(native().description())),
            Self::Process(_) => {
                format!("{} in a process of its own, without privileges", name(native().description()))
            }
        }
    }
}

fn native() -> Box<dyn Instance> {
    Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new())))
}

fn process(launch: &Launch) -> Result<Box<dyn Instance>, Fault> {
    Ok(Box::new(Process::new(launch)?))
}

/// Name and version, as a module gives them: untrusted text.
pub(super) fn name(description: &Description) -> String {
    format!("{} {}", shown(&description.name), shown(&description.version))
}

/// Characters of a module's name or version that are shown.
const SHOWN: usize = 80;

/// Text of a module's own, made fit for a terminal and for one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).filter(|letter| !letter.is_control()).collect()
}
