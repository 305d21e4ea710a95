//! Datagrams: a flow for each pair of ends, with a socket of the host's, until it is silent.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead::BindOptions;
use bulkhead::net::{Net, UdpSocket};
use bulkhead_wit::limits::DATAGRAM;
use tokio::io::Interest;
use tokio::net::UdpSocket as HostSocket;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::counts::Counts;
use super::limits::{DATAGRAMS, DNS_IDLE, FLOW_IDLE, FLOWS};
use super::policy::DNS;
use super::{Gateway, anywhere, count};

/// Who talks with whom, as the inside knows them.
type Ends = (SocketAddr, SocketAddr);

struct Flow {
    socket: Arc<HostSocket>,
    /// Milliseconds since the gateway began.
    heard: Arc<AtomicU64>,
    idle: Duration,
    answers: JoinHandle<()>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// A socket for everything.
pub(super) fn bind(net: &Net) -> io::Result<UdpSocket> {
    let options = BindOptions {
        dual_stack: true,
        any_port: true,
        receive_max: DATAGRAMS,
        send_max: DATAGRAMS,
        ..BindOptions::default()
    };
    let everything = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    net.bind_udp_with(everything, options)
}

/// Carries datagrams until the stack ends.
pub(super) async fn serve(inside: UdpSocket, gateway: &Arc<Gateway>) -> io::Result<()> {
    let inside = Arc::new(inside);
    let mut flows = Flows {
        inside: Arc::clone(&inside),
        gateway: Arc::clone(gateway),
        begun: Instant::now(),
        open: HashMap::new(),
        sources: Counts::default(),
    };
    let mut sweeps = interval(DNS_IDLE / 3);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = inside.recv_between(&mut buffer) => {
                let (count, from, to) = received?;
                flows.carry(&buffer[..count], (from, to)).await;
            }
            _ = sweeps.tick() => flows.sweep(),
        }
    }
}

struct Flows {
    inside: Arc<UdpSocket>,
    gateway: Arc<Gateway>,
    begun: Instant,
    open: HashMap<Ends, Flow>,
    /// How many each address of the inside has.
    sources: Counts<IpAddr>,
}

impl Flows {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A datagram to the outside. What cannot be sent is lost, as datagrams are.
    async fn carry(&mut self, bytes: &[u8], ends: Ends) {
        let now = self.now();
        if !self.open.contains_key(&ends) {
            match self.open(ends, now).await {
                Ok(flow) => {
                    self.open.insert(ends, flow);
                    self.sources.change(ends.0.ip(), 1, now);
                }
                Err(error) => {
                    tracing::debug!(from = %ends.0, to = %ends.1, %error, "no flow");
                    return tell(&self.inside, error.kind(), ends);
                }
            }
        }
        let Some(flow) = self.open.get(&ends) else { return };
        flow.heard.store(now, Ordering::Relaxed);
        match flow.socket.try_send(bytes) {
            Ok(_) => {
                count(&self.gateway.counters.datagrams_out, 1);
                count(&self.gateway.counters.bytes_out, bytes.len());
            }
            Err(error) => {
                tracing::debug!(to = %ends.1, %error, "a datagram is lost");
                tell(&self.inside, error.kind(), ends);
            }
        }
    }

    async fn open(&mut self, ends: Ends, now: u64) -> io::Result<Flow> {
        if !self.gateway.policy.is_ours(ends.0) {
            count(&self.gateway.counters.strangers, 1);
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let Ok(target) = self.gateway.policy.target(ends.1) else {
            count(&self.gateway.counters.denied, 1);
            return Err(io::ErrorKind::PermissionDenied.into());
        };
        if self.open.len() >= FLOWS {
            self.make_room(now);
        }
        let from = self.gateway.bound_for(target).unwrap_or_else(|| anywhere(target));
        let socket = Arc::new(HostSocket::bind(from).await?);
        socket.connect(target).await?;
        // A socket that the runtime has not heard of yet takes nothing, and the first datagram would be lost.
        socket.writable().await?;
        count(&self.gateway.counters.flows, 1);
        let heard = Arc::new(AtomicU64::new(now));
        let answering = Answering {
            inside: Arc::clone(&self.inside),
            gateway: Arc::clone(&self.gateway),
            socket: Arc::clone(&socket),
            heard: Arc::clone(&heard),
            begun: self.begun,
        };
        let idle = if ends.1.port() == DNS { DNS_IDLE } else { FLOW_IDLE };
        Ok(Flow { socket, heard, idle, answers: tokio::spawn(answering.run(ends)) })
    }

    /// Of whoever has most, the flow that has been silent for longest goes: who opens many takes none from others.
    fn make_room(&mut self, now: u64) {
        let most = self.sources.most();
        let theirs = self.open.iter().filter(|((from, _), _)| Some(from.ip()) == most);
        let oldest = theirs.min_by_key(|(_, flow)| flow.heard.load(Ordering::Relaxed)).map(|(ends, _)| *ends);
        if let Some(ends) = oldest {
            self.close(ends, now);
        }
    }

    fn close(&mut self, ends: Ends, now: u64) {
        if self.open.remove(&ends).is_some() {
            self.sources.change(ends.0.ip(), -1, now);
        }
    }

    fn sweep(&mut self) {
        let now = self.now();
        let is_over = |flow: &Flow| {
            let silent = Duration::from_millis(now.saturating_sub(flow.heard.load(Ordering::Relaxed)));
            silent >= flow.idle || flow.answers.is_finished()
        };
        let over: Vec<Ends> =
            self.open.iter().filter(|(_, flow)| is_over(flow)).map(|(ends, _)| *ends).collect();
        over.into_iter().for_each(|ends| self.close(ends, now));
    }
}

/// Tells the inside why its datagrams do not arrive, where ICMP has a word for it.
fn tell(inside: &UdpSocket, why: io::ErrorKind, (from, to): Ends) {
    let _ = inside.unreachable_between(why, to, from);
}

/// The way back of a flow.
struct Answering {
    inside: Arc<UdpSocket>,
    gateway: Arc<Gateway>,
    socket: Arc<HostSocket>,
    heard: Arc<AtomicU64>,
    begun: Instant,
}

impl Answering {
    /// The host's socket was told that nothing arrives; the inside is told the same.
    fn told(&self, error: &io::Error, ends: Ends) {
        if error.kind() != io::ErrorKind::WouldBlock {
            tracing::debug!(to = %ends.1, %error, "a flow fails");
            tell(&self.inside, error.kind(), ends);
        }
    }

    async fn run(self, (from, to): Ends) {
        let mut buffer = Vec::new();
        loop {
            // A flow that hears nothing holds no buffer.
            let Ok(ready) = self.socket.ready(Interest::READABLE | Interest::ERROR).await else { return };
            if ready.is_error() {
                // Looked at until there is none left, which is when the socket stops to be ready for it.
                let look = || Err(self.socket.take_error()?.unwrap_or(io::ErrorKind::WouldBlock.into()));
                let Err::<(), _>(error) = self.socket.try_io(Interest::ERROR, look) else { return };
                self.told(&error, (from, to));
            }
            buffer.resize(DATAGRAM, 0);
            loop {
                match self.socket.try_recv(&mut buffer) {
                    Ok(length) => {
                        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                        self.heard.store(now, Ordering::Relaxed);
                        count(&self.gateway.counters.datagrams_in, 1);
                        count(&self.gateway.counters.bytes_in, length);
                        if self.inside.send_between(&buffer[..length], to, from).await.is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        self.told(&error, (from, to));
                        break;
                    }
                }
            }
            buffer = Vec::new();
        }
    }
}
