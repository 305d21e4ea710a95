//! By what others reach a running instance: the descriptors of its device, its control socket, its figures.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use anyhow::Context as _;

use super::arguments::Run;
use super::control::{Control, path_for};
use super::device::Opened;
use super::metrics;

/// What others reach the instance by.
pub(super) struct Outside {
    /// Second names of the device's descriptors, one a queue.
    pub(super) queues: Vec<OwnedFd>,
    pub(super) control: Option<Control>,
    pub(super) metrics: Option<TcpListener>,
}

impl Outside {
    /// Opens what the command line asks for, beside the device.
    ///
    /// # Errors
    /// A line that says what to do.
    pub(super) fn open(run: &Run, device: &Opened) -> anyhow::Result<Self> {
        let queues = device.queues.iter().filter_map(|queue| queue.as_fd());
        let queues = queues.map(|fd| fd.try_clone_to_owned()).collect::<Result<_, _>>()?;
        let path = run.control.clone().unwrap_or_else(|| path_for(&run.tun));
        let control = match Control::open(&path) {
            Ok(control) => Some(control),
            // Nobody asked for it by name: the program does without.
            Err(error) if run.control.is_none() => {
                tracing::info!("no control socket: {error:#}");
                None
            }
            Err(error) => return Err(error),
        };
        let listen = |at| metrics::listen(at).with_context(|| format!("--metrics {at}: cannot listen there"));
        Ok(Self { queues, control, metrics: run.metrics.map(listen).transpose()? })
    }
}
