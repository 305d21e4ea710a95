//! A protocol module as a file: what it is, whether it may be run here, and its machine code.
//!
//! [`Artifact::from_bytes`] reads the component's imports, exports and memories before anything is compiled
//! (`facts`), compiles it or takes the machine code from the cache (`cache`), links it, and asks it once what it
//! is. Nothing of it runs before it was found to import what its world allows.

mod cache;
mod error;
mod facts;

use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_wit::Description;
use bytes::Bytes;
use wasmtime::component::Component;

use crate::fault::Fault;
use crate::placement::wasm::{Lines, Prepared, Wasm, engine};
pub use cache::Cache;
pub use error::{ArtifactError, Problem};
pub use facts::{Facts, Memory};

/// The bundled TCP module, as `cargo xtask guests` built it.
pub(crate) static BUNDLED: &[u8] = include_bytes!(env!("BULKHEAD_TCP_MODULE"));
/// The bundled UDP module.
pub(crate) static BUNDLED_UDP: &[u8] = include_bytes!(env!("BULKHEAD_UDP_MODULE"));
/// The bundled module that answers for a link's neighbours.
pub(crate) static BUNDLED_NEIGHBOURS: &[u8] = include_bytes!(env!("BULKHEAD_NEIGHBOURS_MODULE"));
/// What the bundled module is called in messages.
const BUNDLED_NAME: &str = "bundled TCP module";

/// The longest file that is taken for a module, in bytes: compilation takes time and memory in proportion.
pub const SIZE_MAX: usize = 32 << 20;

/// A checked, compiled and linked protocol module. Cloning is cheap.
#[derive(Clone)]
pub struct Artifact {
    name: String,
    facts: Facts,
    description: Description,
    prepared: Prepared,
    loading: Loading,
}

/// How an artifact came to its machine code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loading {
    /// Whether the machine code was in the cache.
    pub cached: bool,
    /// Time from the bytes to an artifact that can be instantiated.
    pub took: Duration,
}

impl Artifact {
    /// The TCP module that this program carries inside it.
    ///
    /// # Errors
    /// Where this machine cannot run it.
    pub fn bundled() -> Result<Self, ArtifactError> {
        Self::from_bytes(BUNDLED_NAME, BUNDLED)
    }

    /// The UDP module that this program carries inside it, to stand beside TCP.
    ///
    /// # Errors
    /// Where this machine cannot run it.
    pub fn bundled_udp() -> Result<Self, ArtifactError> {
        Self::from_bytes("bundled UDP module", BUNDLED_UDP)
    }

    /// The module that this program carries inside it for links to virtual machines: ARP, Neighbour Discovery, DHCP.
    ///
    /// # Errors
    /// Where this machine cannot run it.
    pub fn bundled_neighbours() -> Result<Self, ArtifactError> {
        Self::from_bytes("bundled neighbours module", BUNDLED_NEIGHBOURS)
    }

    /// A module in a file.
    ///
    /// # Errors
    /// Where it cannot be read, or is no module that can be run here; the error says what to do.
    pub fn from_file(path: &Path) -> Result<Self, ArtifactError> {
        let name = path.display().to_string();
        let failed = |problem| ArtifactError::new(&name, problem);
        let size =
            std::fs::metadata(path).map_err(|error| failed(Problem::Unreadable(error.to_string())))?.len();
        if size > SIZE_MAX as u64 {
            return Err(failed(Problem::TooLarge { size }));
        }
        let bytes = std::fs::read(path).map_err(|error| failed(Problem::Unreadable(error.to_string())))?;
        Self::from_bytes(&name, &bytes)
    }

    /// A module in memory; `name` is what messages call it. Machine code is cached in the user's cache directory.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, ArtifactError> {
        Self::with_cache(name, bytes, Cache::of_user().as_ref())
    }

    /// A module in memory, with this cache or none.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn with_cache(name: &str, bytes: &[u8], cache: Option<&Cache>) -> Result<Self, ArtifactError> {
        let from = Instant::now();
        let failed = |problem| ArtifactError::new(name, problem);
        let facts = Facts::of(bytes).map_err(failed)?;
        let (component, cached) = component(bytes, &facts, cache).map_err(failed)?;
        let lines = Lines::new(Bytes::copy_from_slice(bytes));
        let prepared = Prepared::new(&component, &facts, lines).map_err(Problem::Link).map_err(failed)?;
        let description = prepared.describe().map_err(Problem::Describe).map_err(failed)?;
        let loading = Loading { cached, took: from.elapsed() };
        Ok(Self { name: name.to_owned(), facts, description, prepared, loading })
    }

    /// A new instance, not started yet.
    ///
    /// # Errors
    /// Where the module fails as it is instantiated.
    pub fn instance(&self) -> Result<Wasm, ArtifactError> {
        self.fresh().map_err(|fault| ArtifactError::new(&self.name, Problem::Instance(fault)))
    }

    /// As [`instance`](Self::instance), where it was done before: a supervisor's way back.
    ///
    /// # Errors
    /// How the module failed.
    pub fn fresh(&self) -> Result<Wasm, Fault> {
        Ok(Wasm::new(&self.prepared, self.description.clone())?.named(self.facts.hash))
    }

    /// The file's name, or what stands for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was found out about the file.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the module says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// How long it took to load.
    #[must_use]
    pub fn loading(&self) -> Loading {
        self.loading
    }
}

/// The compiled component, and whether it came from the cache.
fn component(bytes: &[u8], facts: &Facts, cache: Option<&Cache>) -> Result<(Component, bool), Problem> {
    let shared = engine::shared().map_err(Problem::System)?;
    let opened = cache.and_then(|cache| cache.open(&shared.engine));
    if let Some(component) = opened.as_ref().and_then(|cache| cache.get(&shared.engine, &facts.hash)) {
        return Ok((component, true));
    }
    let component = Component::from_binary(&shared.engine, bytes)
        .map_err(|error| Problem::Compile(format!("{error:#}")))?;
    if let Some(cache) = opened {
        cache.put(&component, &facts.hash);
    }
    Ok((component, false))
}
