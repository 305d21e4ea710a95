//! A stack that goes over to a successor: here in the same process, by nothing but bytes and the device.

use super::common::{SERVER, address, builder, pattern};
use bulkhead::device::{Capabilities, Device, Offload};
use bulkhead::frame::{Frame, FramePool};
use bulkhead::net::{Builder, HandOver, Net, PairDevice, Taken, TcpStream, pair};
use bulkhead_wit::Time;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A device that two stacks may hold, one after the other, and that loses some of what arrives.
#[derive(Clone)]
struct Shared {
    device: Arc<Mutex<PairDevice>>,
    fd: Arc<OwnedFd>,
    /// Every so many-th frame is lost; 0 loses none.
    loses: u64,
    seen: Arc<Mutex<u64>>,
}

impl Shared {
    fn new(device: PairDevice, loses: u64) -> Self {
        let fd = device.as_fd().unwrap().try_clone_to_owned().unwrap();
        Self { device: Arc::new(Mutex::new(device)), fd: Arc::new(fd), loses, seen: Arc::default() }
    }
}

impl Device for Shared {
    fn capabilities(&self) -> Capabilities {
        self.device.lock().unwrap().capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        while let Some(frame) = self.device.lock().unwrap().receive(pool)? {
            let mut seen = self.seen.lock().unwrap();
            *seen += 1;
            if self.loses == 0 || *seen < 100 || !(*seen).is_multiple_of(self.loses) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        self.device.lock().unwrap().transmit(parts, offload)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn set_now(&mut self, now: Time) {
        self.device.lock().unwrap().set_now(now);
    }
}

/// A server on a device that can be handed over, and a client.
fn stacks(loses: u64) -> (Shared, Net, Net) {
    let (first, second) = pair(1500).unwrap();
    let device = Shared::new(first, loses);
    let server = fresh(&device).address("10.9.0.1".parse().unwrap(), 24).seed([1, 2, 3, 4]).spawn().unwrap();
    (device, server, builder(second, "10.9.0.2", 2).spawn().unwrap())
}

fn fresh(device: &Shared) -> Builder {
    super::with_module(Builder::new(device.clone()))
}

/// The successor, once the predecessor has let go.
fn succeeded(device: &Shared, handing: HandOver) -> (Net, Taken) {
    let state = handing.encode().unwrap();
    let (net, driver, taken) = fresh(device).turns_in_calls(true).take_over(&state).unwrap();
    handing.complete();
    tokio::spawn(driver.run());
    (net, taken)
}

/// Echoes until the end, or until it is to stand still: then with what was read and not written.
async fn echo(
    mut stream: TcpStream,
    mut pending: Vec<u8>,
    mut pause: watch::Receiver<bool>,
) -> Option<(TcpStream, Vec<u8>)> {
    let mut buffer = vec![0; 10_000];
    loop {
        if !pending.is_empty() {
            let count = tokio::select! {
                biased;
                _ = pause.wait_for(|is_given| *is_given) => return Some((stream, pending)),
                count = stream.write(&pending) => count.unwrap(),
            };
            drop(pending.drain(..count));
            continue;
        }
        let count = tokio::select! {
            biased;
            _ = pause.wait_for(|is_given| *is_given) => return Some((stream, pending)),
            count = stream.read(&mut buffer) => count.unwrap(),
        };
        if count == 0 {
            stream.shutdown().await.unwrap();
            return None;
        }
        pending.extend_from_slice(&buffer[..count]);
    }
}

/// Sends a pattern and looks that it comes back.
async fn exchange(mut stream: TcpStream, length: usize, seed: u64) {
    let bytes = pattern(length, seed);
    let mut back = Vec::new();
    let (mut read, mut write) = stream.split();
    let writing = async {
        write.write_all(&bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (result, ()) = tokio::join!(read.read_to_end(&mut back), writing);
    result.unwrap();
    assert!(back == bytes, "{} bytes of {length}", back.len());
}

/// Ten echoing connections, while the server goes from one successor to the next.
async fn under_traffic(loses: u64, length: usize) {
    let (device, mut server, client) = stacks(loses);
    let mut listener = server.listen(address(SERVER)).unwrap();
    let mut clients = JoinSet::new();
    let mut held = Vec::new();
    for seed in 0..10 {
        let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
        held.push((accepted.unwrap().0, Vec::new()));
        clients.spawn(exchange(connected.unwrap(), length, seed));
    }
    let mut rounds = 0;
    loop {
        let (pause, paused) = watch::channel(false);
        let mut echoing = JoinSet::new();
        held.drain(..).for_each(|(stream, pending)| drop(echoing.spawn(echo(stream, pending, paused.clone()))));
        tokio::time::sleep(Duration::from_millis(2)).await;
        pause.send_replace(true);
        let open: Vec<_> = echoing.join_all().await.into_iter().flatten().collect();
        if open.is_empty() {
            break;
        }
        let mut handing = server.hand_over().unwrap();
        handing.listener(listener, b"the listener".to_vec());
        open.into_iter().for_each(|(stream, pending)| handing.stream(stream, pending));
        let (net, mut taken) = succeeded(&device, handing);
        assert!(!server.is_running() && net.is_running());
        server = net;
        let (kept, note) = taken.listeners.pop().unwrap();
        assert_eq!((&note[..], taken.abandoned), (&b"the listener"[..], 0));
        listener = kept;
        held.append(&mut taken.streams);
        rounds += 1;
    }
    clients.join_all().await;
    assert!(rounds > 1, "{rounds} rounds");
    let stat = server.stat();
    assert_eq!((stat.faults, stat.connections), (0, 10));
    assert_eq!(stat.census.unwrap().resets_in, 0);
    // And it listens still.
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    let (_pause, paused) = watch::channel(false);
    tokio::join!(echo(accepted.unwrap().0, Vec::new(), paused), exchange(connected.unwrap(), 1000, 7));
}

#[tokio::test]
async fn no_connection_notices_a_successor() {
    under_traffic(0, 8 << 20).await;
}

#[tokio::test]
async fn holes_in_what_arrived_go_along() {
    under_traffic(17, 8 << 20).await;
}

/// A connection: the server's end, then the client's.
async fn connected(server: &Net, client: &Net) -> (bulkhead::net::TcpListener, TcpStream, TcpStream) {
    let listener = server.listen(address(SERVER)).unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    (listener, accepted.unwrap().0, connected.unwrap())
}

#[tokio::test]
async fn everything_that_waits_goes_along() {
    let (device, server, client) = stacks(0);
    let (listener, mut half_closed, mut stream) = connected(&server, &client).await;
    stream.write_all(b"said and ended").await.unwrap();
    stream.shutdown().await.unwrap();
    half_closed.readable().await.unwrap();
    half_closed.write_all(b"answered").await.unwrap();
    // One that nobody has accepted, with bytes in it.
    let mut waiting = client.connect(address(SERVER)).await.unwrap();
    waiting.write_all(b"early").await.unwrap();
    // One that the application keeps to itself, and one that it has closed with bytes on their way.
    let mut kept_back = client.connect(address(SERVER)).await.unwrap();
    let mut closed = client.connect(address(SERVER)).await.unwrap();
    let mut accepted = Vec::new();
    for _ in 0..3 {
        accepted.push(listener.accept().await.unwrap().0);
    }
    let at = |end: &TcpStream| {
        let local = end.local_addr();
        accepted.iter().position(|stream| stream.peer_addr() == local).unwrap()
    };
    let (at_kept_back, at_closed) = (at(&kept_back), at(&closed));
    accepted[at_closed].write_all(&pattern(100_000, 1)).await.unwrap();
    let mut accepted: Vec<_> = accepted.into_iter().map(Some).collect();
    let keeper = accepted[at_kept_back].take();
    drop(accepted[at_closed].take());
    let waiter = accepted.into_iter().flatten().next().unwrap();
    let late = client.connect(address(SERVER)).await.unwrap();

    let mut handing = server.hand_over().unwrap();
    handing.listener(listener, Vec::new());
    handing.stream(half_closed, b"first".to_vec());
    handing.stream(waiter, b"second".to_vec());
    let (net, mut taken) = succeeded(&device, handing);
    assert_eq!(taken.abandoned, 1);
    assert_eq!(keeper.unwrap().try_write(b"x").unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let (mut second, note) = taken.streams.pop().unwrap();
    assert_eq!(note, b"second");
    let mut into = [0; 5];
    second.read_exact(&mut into).await.unwrap();
    assert_eq!(&into, b"early");
    let (mut first, note) = taken.streams.pop().unwrap();
    assert_eq!(note, b"first");
    let mut text = String::new();
    first.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "said and ended");
    first.write_all(b" twice").await.unwrap();
    first.shutdown().await.unwrap();
    text.clear();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answered twice");
    let mut all = Vec::new();
    closed.read_to_end(&mut all).await.unwrap();
    assert!(all == pattern(100_000, 1));
    assert_eq!(kept_back.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (listener, _) = taken.listeners.pop().unwrap();
    assert_eq!(listener.accept().await.unwrap().1, late.local_addr());
    assert!(server.hand_over().is_err(), "who has let go has nothing more to hand over");
    assert_eq!(net.listeners(), [address(SERVER)]);
    let before = server.stat().running;
    assert!(net.stat().running >= before, "time does not go back");
}

#[tokio::test]
async fn who_cannot_take_over_changes_nothing() {
    let (device, server, client) = stacks(0);
    let (listener, accepted, mut stream) = connected(&server, &client).await;
    stream.write_all(b"on the way").await.unwrap();
    accepted.readable().await.unwrap();
    let mut handing = server.hand_over().unwrap();
    handing.listener(listener, Vec::new());
    handing.stream(accepted, b"note".to_vec());
    let state = handing.encode().unwrap();
    assert!(state == handing.encode().unwrap(), "writing it down changes nothing");
    let refused = |state: &[u8]| fresh(&device).take_over(state).unwrap_err();
    // Every way to be cut off; the places of a long state are sampled.
    for cut in (0..state.len()).step_by(1 + state.len() / 50) {
        assert_eq!(refused(&state[..cut]).kind(), ErrorKind::InvalidData, "{cut}");
    }
    let mut longer = state.clone();
    longer.push(0);
    assert!(refused(&longer).to_string().contains("belong to nothing"));
    let mut newer = state.clone();
    newer[8] += 1;
    let says = format!("hands over in format {}", newer[8]);
    assert!(refused(&newer).to_string().contains(&says), "{}", refused(&newer));
    assert!(refused(b"nonsense and more").to_string().contains("no hand-over"));
    let mut taken = handing.go_on();
    let (mut accepted, note) = taken.streams.pop().unwrap();
    assert_eq!(note, b"note");
    let mut into = [0; 10];
    accepted.read_exact(&mut into).await.unwrap();
    assert_eq!(&into, b"on the way");
    accepted.write_all(b"and back").await.unwrap();
    stream.read_exact(&mut into[..8]).await.unwrap();
    assert_eq!(&into[..8], b"and back");
    let (listener, _) = taken.listeners.pop().unwrap();
    let (again, _) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    again.unwrap();
    assert_eq!(server.stat().faults, 0);
}

#[tokio::test]
async fn a_damaged_state_is_refused_or_taken_and_never_a_panic() {
    let (device, server, client) = stacks(0);
    let (listener, accepted, mut stream) = connected(&server, &client).await;
    stream.write_all(&pattern(3000, 1)).await.unwrap();
    accepted.readable().await.unwrap();
    let mut handing = server.hand_over().unwrap();
    handing.listener(listener, Vec::new());
    handing.stream(accepted, Vec::new());
    let state = handing.encode().unwrap();
    let places = pattern(8 * 200, 3);
    for place in places.as_chunks::<8>().0 {
        let place = u64::from_le_bytes(*place);
        let mut damaged = state.clone();
        let at = place as usize % damaged.len();
        damaged[at] ^= 1 << (place >> 61);
        // In the middle of a text it may pass; it is never run.
        drop(fresh(&device).take_over(&damaged));
    }
    drop(handing.go_on());
}
