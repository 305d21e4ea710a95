//! Which program is the server, and how it is started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The program that serves a module, and how host and server wait for each other.
///
/// The program calls [`serve`](super::serve) and does nothing else. A program can be its own server:
///
/// ```no_run
/// use bulkhead::placement::process::{Launch, serve};
/// # struct Tcp;
/// # fn module() -> Box<dyn bulkhead_wit::Module> { unimplemented!() }
/// fn main() -> std::process::ExitCode {
///     if std::env::args().nth(1).as_deref() == Some("serve-module") {
///         return serve(module());
///     }
///     let launch = Launch::this_program(["serve-module"]);
///     // ... Builder::new(device).process(launch) ...
/// #   drop(launch);
///     std::process::ExitCode::SUCCESS
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) spin: Duration,
    pub(super) processor: Option<usize>,
}

impl Launch {
    /// How long a side looks for the other's word before it sleeps, unless [`spin`](Self::spin) says otherwise and
    /// where there is more than one processor: about as long as a wake-up from sleep takes.
    pub const SPIN: Duration = Duration::from_micros(50);

    /// Another program, with these arguments.
    #[must_use]
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let is_alone = std::thread::available_parallelism().is_ok_and(|count| count.get() == 1);
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            spin: if is_alone { Duration::ZERO } else { Self::SPIN },
            processor: None,
        }
    }

    /// This program once more, whatever has happened to its file meanwhile, with these arguments.
    #[must_use]
    pub fn this_program<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::new("/proc/self/exe", arguments)
    }

    /// How long each side looks for the other's word before it sleeps; at most a second, and zero is never. A side
    /// that has looked in vain looks less often, so that an idle stack costs next to nothing.
    #[must_use]
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = time.min(Duration::from_secs(1));
        self
    }

    /// Keeps the server on one processor, by its number.
    #[must_use]
    pub fn processor(mut self, number: usize) -> Self {
        self.processor = Some(number);
        self
    }
}
