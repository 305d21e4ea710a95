//! The handle.

use super::info::{Census, ConnectionInfo};
use super::limits::ABANDONED;
use super::listener::TcpListener;
use super::offers::Offers;
use super::shared::Shared;
use super::slots::Wake;
use super::stream::TcpStream;
use super::summary::Summary;
use super::udp::UdpSocket;
use super::{NetError, blocking};
use crate::stack::{BindOptions, ConnectOptions, ListenOptions};
use crate::swap::{Newcomer, ShadowReport, SwapError, Swapped};
use bulkhead_wit::{Endpoint, Setting};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A stack, as applications know it: cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Net {
    handle: Arc<Handle>,
}

/// Counts who still uses the stack.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut wake = Wake::default();
        self.shared.lock().begin_shutdown(ABANDONED, &mut wake);
    }
}

impl Net {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Listens on `local` (an unspecified address is all of ours; with port 0 a free one is chosen).
    ///
    /// # Errors
    /// The address is in use or not ours, there are too many listeners, or the stack has ended.
    pub fn listen(&self, local: SocketAddr) -> io::Result<TcpListener> {
        self.listen_with(local, ListenOptions::default())
    }

    /// Listens, with options.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); [`io::ErrorKind::Unsupported`] with `defer`, for which there is
    /// [`offers`](Self::offers).
    pub fn listen_with(&self, local: SocketAddr, options: ListenOptions) -> io::Result<TcpListener> {
        if options.defer {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (id, local) = self.shared().call(|state, wake| state.listen(local, options, wake))?;
        Ok(TcpListener::new(self.clone(), id, local))
    }

    /// Listens for connections that are to be decided about one by one, before their handshake: a gateway connects on the
    /// other side first. With [`any_address`](ListenOptions::any_address) to any address, and with port 0 to any port. One
    /// such listener a stack.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn offers(&self, local: SocketAddr, options: ListenOptions) -> io::Result<Offers> {
        let options = ListenOptions { defer: true, ..options };
        let (id, _) = self.shared().call(|state, wake| state.listen(local, options, wake))?;
        Ok(Offers::new(self.clone(), id))
    }

    /// Connects to `remote`.
    ///
    /// # Errors
    /// Refused, unreachable, timed out (after the module's own retries, minutes), or the stack has ended.
    ///
    /// # Cancellation
    /// A dropped connect is reset.
    pub async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        self.connect_with(remote, ConnectOptions::default()).await
    }

    /// Connects, with options: one's own end, sizes, settings.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancellation
    /// A dropped connect is reset.
    pub async fn connect_with(&self, remote: SocketAddr, options: ConnectOptions) -> io::Result<TcpStream> {
        let mut stream = self.begin_connect(remote, options)?;
        std::future::poll_fn(|context| stream.poll_opened(context)).await?;
        Ok(stream)
    }

    /// A datagram socket at `local` (an unspecified address is all of ours; with port 0 a free one is chosen).
    ///
    /// # Errors
    /// The address is in use or not ours, no module serves UDP ([`Builder::udp`](super::Builder::udp)), or the stack has
    /// ended.
    pub fn bind_udp(&self, local: SocketAddr) -> io::Result<UdpSocket> {
        self.bind_udp_with(local, BindOptions::default())
    }

    /// A datagram socket, with options: the only peer that is heard, sizes.
    ///
    /// # Errors
    /// As [`bind_udp`](Self::bind_udp).
    pub fn bind_udp_with(&self, local: SocketAddr, options: BindOptions) -> io::Result<UdpSocket> {
        let (module, id, local) = self.shared().call(|state, wake| state.bind(local, options, wake))?;
        let peer = Some(options.remote).filter(|remote| remote.port != 0).map(SocketAddr::from);
        Ok(UdpSocket::new(self.clone(), (module, id), local, peer))
    }

    /// A datagram socket with one peer, at an end of ours that is chosen.
    ///
    /// # Errors
    /// As [`bind_udp`](Self::bind_udp).
    pub fn connect_udp(&self, remote: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let options = BindOptions { remote: remote.into(), ..BindOptions::default() };
        self.bind_udp_with(SocketAddr::new(any, 0), options)
    }

    /// Connects, and gives up after `timeout` with [`io::ErrorKind::TimedOut`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// On a tokio runtime whose timer is not enabled.
    ///
    /// # Cancellation
    /// A dropped connect is reset.
    pub async fn connect_timeout(&self, remote: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        match tokio::time::timeout(timeout, self.connect(remote)).await {
            Ok(result) => result,
            Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
        }
    }

    pub(super) fn begin_connect(&self, remote: SocketAddr, options: ConnectOptions) -> io::Result<TcpStream> {
        let id = self.shared().call(|state, _| {
            state.alive()?;
            if state.is_closing() {
                return Err(io::Error::from(NetError::Shutdown));
            }
            let id = state.stack.connect(Endpoint::from(remote), options)?;
            state.slots.add(id);
            Ok(id)
        })?;
        Ok(TcpStream::opening(self.clone(), id))
    }

    /// Sets an option of the instance, which is the default of connections to come.
    ///
    /// # Errors
    /// The stack has ended.
    pub fn set(&self, setting: Setting) -> io::Result<()> {
        self.shared().call(|state, _| {
            state.alive()?;
            state.stack.set_default(setting);
            Ok(())
        })
    }

    /// The module's own figures. Takes a turn.
    ///
    /// # Errors
    /// The stack has ended.
    pub fn census(&self) -> io::Result<Census> {
        let fields = self.shared().call(|state, wake| state.ask(None, wake))?;
        Ok(Census::from_fields(&fields))
    }

    /// What was done so far, the module's own figures included while it runs.
    #[must_use]
    pub fn stat(&self) -> Summary {
        self.shared().call(|state, wake| {
            state.take_census(wake);
            state.summary()
        })
    }

    /// Both ends of every connection that is alive, ours first.
    #[must_use]
    pub fn connections(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let state = self.shared().lock();
        state.stack.connections().map(|(_, local, remote)| (local.into(), remote.into())).collect()
    }

    /// Every connection that is alive, at most `most`, with what the module knows of it. Takes a turn for every 200.
    #[must_use]
    pub fn connection_infos(&self, most: usize) -> Vec<ConnectionInfo> {
        self.shared().call(|state, wake| {
            let living: Vec<_> = state.stack.connections().take(most).collect();
            let handles: Vec<_> = living.iter().map(|(handle, ..)| *handle).collect();
            let infos = state.ask_each(&handles, wake);
            let both = living.into_iter().zip(infos);
            let found = both.filter_map(|((handle, local, remote), info)| {
                let (unread, unacknowledged) = state.stack.queued(handle);
                let (local, remote) = (local.into(), remote.into());
                Some(ConnectionInfo { local, remote, unread, unacknowledged, tcp: info? })
            });
            found.collect()
        })
    }

    /// Puts another module in the place of the one that serves the same protocol, between two steps: no connection
    /// notices. The newcomer rehearses first, so that the pause is short. See [`swap`](crate::swap) for what makes a swap
    /// fail; then the former module goes on.
    ///
    /// # Errors
    /// Why nothing has changed, or [`SwapError::Failed`] if the running module failed in `save`.
    pub fn swap(&self, mut newcomer: Newcomer) -> Result<Swapped, SwapError> {
        let rehearsal = self.shared().call(|state, _| state.rehearsal(&newcomer))?;
        newcomer.rehearse(&rehearsal)?;
        self.shared().call(|state, wake| state.swap(newcomer, false, wake))
    }

    /// As [`swap`](Self::swap), for a module that cannot take over the state: every connection is reset in kind,
    /// listeners and datagram sockets go on.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn swap_cold(&self, newcomer: Newcomer) -> Result<Swapped, SwapError> {
        self.shared().call(|state, wake| state.swap(newcomer, true, wake))
    }

    /// Gives a newcomer the inputs of the next `steps` steps beside the running module, without listening to it: see
    /// [`shadow_report`](Self::shadow_report). Nothing is swapped.
    ///
    /// # Errors
    /// As [`swap`](Self::swap).
    pub fn shadow(&self, newcomer: Newcomer, steps: u32) -> Result<(), SwapError> {
        self.shared().call(|state, _| state.shadow(newcomer, steps))
    }

    /// The secrets of connections to come are others from now on: initial sequence numbers, ports and cookies no longer follow
    /// from a recording that was made before and is handed on. Connections that are open keep theirs.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn reseed(&self) -> std::io::Result<()> {
        let seed = super::random_seed()?;
        self.shared().call(|state, _| state.reseed(seed));
        Ok(())
    }

    /// How the last shadow has done so far, if there is one.
    #[must_use]
    pub fn shadow_report(&self) -> Option<ShadowReport> {
        self.shared().lock().shadow_report()
    }

    /// Where listeners are.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.shared().lock().slots.listening().collect()
    }

    /// Whether turns are still taken.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared().lock().end.is_none()
    }

    /// Ends the stack in kind: listeners end, every stream ends after what was written to it, and when all
    /// connections are closed, or after `drain`, what is left is reset. Readers go on reading meanwhile.
    ///
    /// # Cancellation
    /// The shutdown goes on without its caller. A second one can only shorten the drain.
    pub async fn shutdown(&self, drain: Duration) -> Summary {
        self.shared().call(|state, wake| state.begin_shutdown(drain, wake));
        let mut summary = self.shared().summary.subscribe();
        match summary.wait_for(Option::is_some).await.map(|told| told.clone()) {
            Ok(Some(summary)) => summary,
            // The sender lives as long as we do.
            Ok(None) | Err(_) => self.stat(),
        }
    }

    /// As [`shutdown`](Self::shutdown), for threads: not on the one that drives the stack.
    pub fn shutdown_blocking(&self, drain: Duration) -> Summary {
        blocking::block_on(self.shutdown(drain))
    }
}
