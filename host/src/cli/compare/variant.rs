//! The placements that are compared.

use std::time::Duration;

use bulkhead::Fault;
use bulkhead::artifact::Artifact;
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::placement::process::{Launch, Process};

use super::super::arguments::SERVE_MODULE;

/// The longest time to look before one sleeps, where the two sides do not sleep at all.
const SPIN: Duration = Duration::from_millis(1);

/// A placement, and how its parts share processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(in super::super) enum Variant {
    /// Linked in, no wall
    Native,
    /// In the sandbox
    Wasm,
    /// In a server process on the host's processor, which sleeps while it has nothing to do
    ProcessSame,
    /// The same on another processor
    ProcessOther,
    /// On another processor, where both sides look for each other's word without sleeping
    ProcessSpin,
    /// The kernel's own TCP, through ordinary sockets
    Kernel,
}

impl Variant {
    /// Those that this machine has the processors for.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Native, Self::Wasm, Self::ProcessSame];
        if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
            all.extend([Self::ProcessOther, Self::ProcessSpin]);
        }
        all.push(Self::Kernel);
        all
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Wasm => "wasm",
            Self::ProcessSame => "process, same CPU",
            Self::ProcessOther => "process, other",
            Self::ProcessSpin => "process, spinning",
            Self::Kernel => "kernel",
        }
    }

    /// The processor that its server has, if it has one, while everything else is on processor 0.
    pub(super) const fn processor(self) -> Option<usize> {
        match self {
            Self::ProcessSame => Some(0),
            Self::ProcessOther | Self::ProcessSpin => Some(1),
            _ => None,
        }
    }

    fn launch(self) -> Launch {
        let launch = Launch::this_program([SERVE_MODULE]);
        launch.spin(if self == Self::ProcessSpin { SPIN } else { Duration::ZERO })
    }

    /// A fresh instance, not started yet, and the id of its server if it has one.
    ///
    /// # Errors
    /// How it failed. There is none of the kernel's.
    pub(super) fn instance(self, is_pinned: bool) -> Result<(Box<dyn Instance>, Option<u32>), Fault> {
        match self {
            Self::Wasm => {
                let artifact = Artifact::bundled().map_err(|error| refused(&error.to_string()))?;
                Ok((Box::new(artifact.fresh()?), None))
            }
            Self::Native => Ok((Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))), None)),
            Self::Kernel => Err(refused("the kernel's TCP is no module")),
            Self::ProcessSame | Self::ProcessOther | Self::ProcessSpin => {
                let mut launch = self.launch();
                if let Some(processor) = self.processor().filter(|_| is_pinned) {
                    launch = launch.processor(processor);
                }
                let process = Process::new(&launch)?;
                let id = process.id();
                Ok((Box::new(process), id))
            }
        }
    }
}

fn refused(text: &str) -> Fault {
    Fault::Refused(bulkhead::fault::Refused { call: "start", text: text.to_owned() })
}
