//! The TUN device as the command line wants it.

use bulkhead::device::interface::Interface;
use bulkhead::device::{Device, DeviceError, OffloadTun, Tun, TunOptions};

use super::address::Cidr;
use super::arguments::{Run, Switch};
use super::capture::{self, Capture};
use super::in_use;

/// An open device, and what to tell of it.
pub(super) struct Opened {
    pub(super) device: Box<dyn Device>,
    pub(super) about: String,
    /// The file that its frames are written to, if they are.
    pub(super) capture: Option<Capture>,
}

/// Opens and configures the device, with the kernel's addresses on it.
///
/// # Errors
/// A line that says what to do.
pub(super) fn open(run: &Run, peers: &[Cidr]) -> anyhow::Result<Opened> {
    // A name that no interface can have is the first thing to be told of.
    Interface::new(&run.tun)?;
    in_use::check(&run.tun, &run.address, peers)?;
    let options = TunOptions {
        name: run.tun.clone(),
        mtu: run.mtu,
        addresses: peers.iter().map(|peer| (peer.address, peer.length)).collect(),
        up: true,
        multi_queue: false,
    };
    let (device, kind) = match run.offload {
        Some(Switch::Off) => plain(&options)?,
        Some(Switch::On) => fast(&options)?,
        None => match fast(&options) {
            // Where the kernel has no offload, or the interface was made without it.
            Err(DeviceError::NoOffload { .. } | DeviceError::OtherKind { .. }) => plain(&options)?,
            other => other?,
        },
    };
    let mtu = device.capabilities().mtu;
    let about = format!("{} {kind}, MTU {mtu}", run.tun);
    let Some(path) = &run.pcap else { return Ok(Opened { device, about, capture: None }) };
    let (device, capture) = capture::tap(device, path)?;
    Ok(Opened { device, about, capture: Some(capture) })
}

type Made = Result<(Box<dyn Device>, &'static str), DeviceError>;

fn fast(options: &TunOptions) -> Made {
    Ok((Box::new(OffloadTun::open(options)?), "with offload"))
}

fn plain(options: &TunOptions) -> Made {
    Ok((Box::new(Tun::open(options)?), "without offload"))
}
