//! A running instance: stacks, applications, and what others reach it by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bulkhead::ListenOptions;
use bulkhead_wit::Setting;
use bulkhead_wit::registry::setting;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::address::Cidr;
use super::arguments::Run;
use super::capture::{Capture, Frames};
use super::device::Opened;
use super::module::Module;
use super::outside::Outside;
use super::ready::{Home, Place, Ready, Resting};
use super::stacks::{Ended, Stacks};
use crate::apps::{Stop, Stopper};

/// Everything that runs.
pub(super) struct Running {
    pub(super) stacks: Stacks,
    pub(super) ready: Vec<Ready>,
    pub(super) stopper: Stopper,
    stop: Stop,
    pub(super) tasks: JoinSet<Ended>,
    pub(super) outside: Outside,
    pub(super) frames: Frames,
    /// Held by whoever changes a module, or hands everything over.
    pub(super) swapping: Arc<Mutex<()>>,
}

impl Running {
    /// Starts everything on a device.
    ///
    /// # Errors
    /// A line that says what to do.
    pub(super) fn begin(
        run: &Run,
        ready: Vec<Ready>,
        module: &Module,
        device: &mut Opened,
    ) -> anyhow::Result<Self> {
        let outside = Outside::open(run, device)?;
        let stacks = Stacks::new(run, std::mem::take(&mut device.queues), module)?;
        let mut resting = Vec::new();
        for (application, one) in ready.iter().enumerate() {
            let count = if one.home() == Home::Stack { stacks.nets().len() } else { 1 };
            for (stack, net) in stacks.nets().iter().enumerate().take(count) {
                resting.push((Place { application, stack }, one.listen(net, |port| listening(run, port))?));
            }
        }
        Self::start(stacks, ready, resting, outside, std::mem::take(&mut device.frames))
    }

    /// Starts stacks, and applications from where they stand.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(
        mut stacks: Stacks,
        ready: Vec<Ready>,
        resting: Vec<(Place, Resting)>,
        outside: Outside,
        frames: Frames,
    ) -> anyhow::Result<Self> {
        stacks.start()?;
        let (stopper, stop) = Stopper::new();
        let (tasks, swapping) = (JoinSet::new(), Arc::default());
        let mut running = Self { stacks, ready, stopper, stop, tasks, outside, frames, swapping };
        running.go_on(resting);
        Ok(running)
    }

    /// Applications that stand still go on.
    pub(super) fn go_on(&mut self, resting: Vec<(Place, Resting)>) {
        self.stopper.go();
        for (place, resting) in resting {
            let one = self.ready.get(place.application).zip(self.stacks.nets().get(place.stack));
            if let Some((ready, net)) = one {
                let serving = ready.begin(net, resting, self.stop.clone());
                self.stacks.serve(&mut self.tasks, place, ready.home(), serving);
            }
        }
    }

    /// The files that frames and recordings are written to.
    pub(super) fn files(&self) -> impl Iterator<Item = &Capture> {
        self.frames.files.iter().chain(self.stacks.recordings())
    }
}

/// Answers leave at once: a head and a body are two writes, and a peer that delays its acknowledgement of the first would
/// hold the second back for 40 ms.
fn listening(run: &Run, port: u16) -> (SocketAddr, ListenOptions) {
    let local = SocketAddr::new(everywhere(&run.address), port);
    let is_said = run.setting.iter().any(|said| said.key == setting::NODELAY);
    let nodelay = Setting { key: setting::NODELAY, value: 1 };
    let settings = if is_said { Vec::new() } else { vec![nodelay] };
    (local, ListenOptions { dual_stack: local.is_ipv6(), settings, ..ListenOptions::default() })
}

/// All of our addresses: IPv6's unspecified address stands for those of IPv4 too.
fn everywhere(ours: &[Cidr]) -> IpAddr {
    if ours.iter().all(|own| own.address.is_ipv4()) {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}
