//! The module that is fuzzed, compiled twice: with counters for the search, and as it was built for the proof of what the
//! search has found and for backtraces with source lines.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bulkhead_wit::{Config, Description, Inputs, Outputs, Summary, Time};
use bytes::Bytes;
use wasmtime::component::Component;

use super::rewrite::{self, COUNTERS, Instrumented, RewriteError};
use crate::artifact::{self, ArtifactError, Facts, Problem};
use crate::fault::Fault;
use crate::payload::Desk;
use crate::placement::wasm::{Lines, Prepared, Wasm, engine};
use crate::placement::{Instance, StepCost};

/// A module, fit to be fuzzed. Cloning is cheap.
#[derive(Clone)]
pub struct Target(Arc<Inner>);

struct Inner {
    name: String,
    bytes: Vec<u8>,
    facts: Facts,
    description: Description,
    instrumented: Instrumented,
    counted: Prepared,
    plain: OnceLock<Result<Prepared, String>>,
}

/// Why a file cannot be fuzzed.
#[derive(Debug)]
pub enum TargetError {
    /// It is no protocol module.
    Artifact(ArtifactError),
    /// It cannot be instrumented.
    Rewrite {
        /// The file.
        name: String,
        /// Why.
        error: RewriteError,
    },
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifact(error) => error.fmt(f),
            Self::Rewrite { name, error } => write!(f, "{name} {error}"),
        }
    }
}

impl std::error::Error for TargetError {}

impl From<ArtifactError> for TargetError {
    fn from(error: ArtifactError) -> Self {
        Self::Artifact(error)
    }
}

impl Target {
    /// The TCP module that this program carries inside it.
    ///
    /// # Errors
    /// Where this machine cannot run it.
    pub fn bundled() -> Result<Self, TargetError> {
        Self::from_bytes("bundled TCP module", artifact::BUNDLED)
    }

    /// The UDP module that this program carries inside it.
    ///
    /// # Errors
    /// Where this machine cannot run it.
    pub fn bundled_udp() -> Result<Self, TargetError> {
        Self::from_bytes("bundled UDP module", artifact::BUNDLED_UDP)
    }

    /// A module in a file.
    ///
    /// # Errors
    /// Where it cannot be read, is no protocol module, or cannot be instrumented.
    pub fn from_file(path: &Path) -> Result<Self, TargetError> {
        let name = path.display().to_string();
        let unreadable =
            |error: std::io::Error| ArtifactError::new(&name, Problem::Unreadable(error.to_string()));
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > artifact::SIZE_MAX as u64 {
            return Err(ArtifactError::new(&name, Problem::TooLarge { size }).into());
        }
        Self::from_bytes(&name, &std::fs::read(path).map_err(unreadable)?)
    }

    /// A module in memory; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, TargetError> {
        let failed = |problem| ArtifactError::new(name, problem);
        let facts = Facts::of(bytes).map_err(failed)?;
        let instrumented = rewrite::instrument(bytes)
            .map_err(|error| TargetError::Rewrite { name: name.to_owned(), error })?;
        let counted = prepare(&instrumented.component, &facts).map_err(failed)?;
        let description = counted.describe().map_err(Problem::Describe).map_err(failed)?;
        let (name, bytes, plain) = (name.to_owned(), bytes.to_vec(), OnceLock::new());
        Ok(Self(Arc::new(Inner { name, bytes, facts, description, instrumented, counted, plain })))
    }

    /// The file's name, or what stands for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the module says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// What instrumentation has found in it.
    #[must_use]
    pub fn instrumented(&self) -> &Instrumented {
        &self.0.instrumented
    }

    /// The core module whose edges are counted, as it was built.
    #[must_use]
    pub fn core(&self) -> &[u8] {
        self.0.bytes.get(self.0.instrumented.core.clone()).unwrap_or_default()
    }

    /// What was found out about the file.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// A fresh instance with counters, not started yet.
    ///
    /// # Errors
    /// How the module failed.
    pub fn counted(&self) -> Result<Counted, Fault> {
        Wasm::new(&self.0.counted, self.0.description.clone()).map(Counted)
    }

    /// A fresh instance of the module as it was built, not started yet.
    ///
    /// # Errors
    /// How the module failed.
    pub fn plain(&self) -> Result<Wasm, Fault> {
        let made = self
            .0
            .plain
            .get_or_init(|| prepare(&self.0.bytes, &self.0.facts).map_err(|problem| problem.to_string()));
        match made {
            Ok(prepared) => Wasm::new(prepared, self.0.description.clone()),
            Err(text) => Err(Fault::broken(crate::fault::Rule::Encoding, text.clone())),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Compiles and links a component in the engine for fuzzing.
fn prepare(bytes: &[u8], facts: &Facts) -> Result<Prepared, Problem> {
    let shared = engine::fuzzing().map_err(Problem::System)?;
    let component = Component::from_binary(&shared.engine, bytes)
        .map_err(|error| Problem::Compile(format!("{error:#}")))?;
    let lines = Lines::new(Bytes::copy_from_slice(bytes));
    Prepared::of(shared, &component, facts, lines).map_err(Problem::Link)
}

/// An instance whose edges are counted.
pub struct Counted(Wasm);

impl Counted {
    /// Shows how often each edge was passed since this was called last, modulo 256, and begins anew.
    ///
    /// # Errors
    /// How the module has failed: then there is nothing to see.
    pub fn counters<T>(&mut self, see: impl FnOnce(&[u8]) -> T) -> Result<T, Fault> {
        // The export is there: this component was instrumented.
        self.0.view(COUNTERS, see)?.ok_or(Fault::Ended)
    }
}

impl Instance for Counted {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.0.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        self.0.step(inputs, outputs)
    }

    fn has_payload(&self) -> bool {
        self.0.has_payload()
    }

    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        self.0.step_with(inputs, outputs, desk)
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.0.load(config, now, state)
    }

    fn capacity(&self) -> u32 {
        self.0.capacity()
    }

    fn cost(&self) -> StepCost {
        self.0.cost()
    }
}
