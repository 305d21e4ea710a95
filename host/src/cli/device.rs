//! The TUN device as the command line wants it.

use bulkhead::device::interface::Interface;
use bulkhead::device::{Device, DeviceError, OffloadTun, Tun, TunOptions};

use super::address::Cidr;
use super::arguments::{Run, Switch};
use super::capture::Frames;
use super::in_use;

/// An open interface, and what to tell of it.
pub(super) struct Opened {
    /// A queue for each shard.
    pub(super) queues: Vec<Box<dyn Device>>,
    pub(super) about: String,
    pub(super) frames: Frames,
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
        multi_queue: run.shards > 1,
    };
    let (first, kind) = match run.offload {
        Some(Switch::Off) => plain(&options)?,
        Some(Switch::On) => fast(&options)?,
        None => match fast(&options) {
            // Where the kernel has no offload, or the interface was made without it.
            Err(DeviceError::NoOffload { .. } | DeviceError::OtherKind { .. }) if run.shards == 1 => {
                plain(&options)?
            }
            other => other?,
        },
    };
    let mtu = first.capabilities().mtu;
    let mut queues = vec![first];
    // The interface is configured; what is left is one more queue each.
    let another = TunOptions { name: options.name, multi_queue: true, ..TunOptions::default() };
    for _ in 1..run.shards {
        queues.push(fast(&another)?.0);
    }
    let several = if run.shards > 1 { format!(", {} queues", run.shards) } else { String::new() };
    let about = format!("{} {kind}, MTU {mtu}{several}", run.tun);
    let (queues, frames) = Frames::tap(queues, run.pcap.as_deref())?;
    Ok(Opened { queues, about, frames })
}

type Made = Result<(Box<dyn Device>, &'static str), DeviceError>;

fn fast(options: &TunOptions) -> Made {
    Ok((Box::new(OffloadTun::open(options)?), "with offload"))
}

fn plain(options: &TunOptions) -> Made {
    Ok((Box::new(Tun::open(options)?), "without offload"))
}
