//! Futures dropped at every point where they can wait.

use super::common::{SERVER, address, builder, connected, pattern, stacks};
use bulkhead::ConnectOptions;
use bulkhead::net::{Net, PairDevice, pair};
use bulkhead::placement::native::Native;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};

/// After this long nothing will come any more.
const NOTHING: Duration = Duration::from_millis(20);

/// Waits in earnest, and drops the future when it would wait once more than this often, or where nothing comes that would
/// wake it.
async fn cut<T>(waits: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut waited = 0;
    let polled = poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    });
    tokio::time::timeout(NOTHING, polled).await.unwrap_or(None)
}

/// Every public future of the sockets, by name, and the tests below that drop it.
#[test]
fn every_public_future_is_dropped_in_a_test() {
    const SOURCES: [&str; 6] = [
        include_str!("../../src/net/driver.rs"),
        include_str!("../../src/net/handle.rs"),
        include_str!("../../src/net/listener.rs"),
        include_str!("../../src/net/stream.rs"),
        include_str!("../../src/net/split.rs"),
        include_str!("../../src/net/udp.rs"),
    ];
    const COVERED: &[&str] = &[
        // `ends::a_dropped_driver_leaves_nobody_hanging`
        "run",
        // Net
        "connect",
        "connect_with",
        "connect_timeout",
        "shutdown",
        // TcpListener
        "accept",
        // TcpStream
        "read_bytes",
        "peek",
        "write_bytes",
        "readable",
        "writable",
        "ready",
        // UdpSocket
        "send_to",
        "send_between",
        "send",
        "recv_from",
        "recv_between",
        "peek_from",
        "recv",
    ];
    let names = SOURCES.iter().flat_map(|source| source.split("pub async fn ").skip(1));
    let names: BTreeSet<&str> = names.filter_map(|rest| rest.split(['(', '<']).next()).collect();
    assert_eq!(names, COVERED.iter().copied().collect());
}

#[tokio::test]
async fn streams_cut_at_every_wait_lose_nothing() {
    const LENGTH: usize = 1 << 20;
    for waits in 0..4 {
        let (server, client) = stacks();
        let (_listener, mut accepted, mut stream) = connected(&server, &client).await;
        let sent = Bytes::from(pattern(LENGTH, 20 + waits as u64));
        let (mut left, mut got, mut into) = (sent.clone(), Vec::new(), vec![0; 50_000]);
        for round in 0_usize.. {
            match round % 4 {
                _ if left.is_empty() => {}
                // What was taken before the drop is gone from `left`, and nothing else is.
                0 => {
                    let written = cut(waits, stream.write_bytes(&mut left)).await;
                    assert!(written.is_none_or(|written| written.is_ok()));
                }
                1 => {
                    let written = cut(waits, stream.write(&left)).await.transpose().unwrap();
                    drop(left.split_to(written.unwrap_or(0)));
                }
                2 => assert!(cut(waits, stream.writable()).await.is_none_or(|ready| ready.is_ok())),
                _ => {
                    let ready = cut(waits, stream.ready(Interest::WRITABLE)).await;
                    assert!(ready.is_none_or(|ready| ready.is_ok()));
                }
            }
            let ahead = cut(waits, accepted.peek(&mut into)).await.transpose().unwrap().unwrap_or(0);
            assert!(into[..ahead] == sent[got.len()..got.len() + ahead]);
            let readable = cut(waits, accepted.readable()).await;
            assert!(readable.is_none_or(|ready| ready.is_ok()));
            if round.is_multiple_of(2) {
                let count = cut(waits, accepted.read(&mut into)).await.transpose().unwrap();
                got.extend_from_slice(&into[..count.unwrap_or(0)]);
            } else {
                let bytes = cut(waits, accepted.read_bytes(40_000)).await.transpose().unwrap();
                got.extend_from_slice(&bytes.unwrap_or_default());
            }
            if got.len() == LENGTH {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(got == sent, "{waits} waits");
    }
}

#[tokio::test]
async fn connects_and_accepts_cut_at_every_wait_leave_nothing() {
    let (server, client) = stacks();
    let listener = server.listen(address(SERVER)).unwrap();
    for waits in 0..8 {
        let options = ConnectOptions::default();
        let (_, _, _, accepted) = tokio::join!(
            cut(waits, client.connect(address(SERVER))),
            cut(waits, client.connect_with(address(SERVER), options)),
            cut(waits, client.connect_timeout(address(SERVER), Duration::from_secs(60))),
            cut(waits, listener.accept()),
        );
        drop(accepted);
    }
    // Whoever was not accepted is still to be, or was reset by the connect's drop.
    while let Some(accepted) = cut(3, listener.accept()).await {
        drop(accepted.unwrap());
    }
    // One that is kept finds its way as ever.
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    drop((accepted.unwrap(), connected.unwrap()));
    for waits in 0..2 {
        // It goes on without its caller.
        assert!(cut(waits, client.shutdown(Duration::from_secs(20))).await.is_none_or(|told| told.faults == 0));
    }
    drop(listener);
    for net in [client, server] {
        let summary = net.shutdown(Duration::from_secs(20)).await;
        let census = summary.census.unwrap();
        let living = census.established + census.syn_sent + census.syn_received + census.closing;
        // Attempts that were dropped have ended too.
        assert!(living == 0 && summary.ended >= summary.connections, "{summary:?}");
    }
}

fn with_datagrams(device: PairDevice, host: &str, seed: u64) -> Net {
    let udp = Native::new(Box::new(bulkhead_udp::Udp::new()));
    builder(device, host, seed).beside(Box::new(udp)).spawn().unwrap()
}

#[tokio::test]
async fn datagrams_cut_at_every_wait_arrive_whole_and_once() {
    let (first, second) = pair(1500).unwrap();
    let (server, client) = (with_datagrams(first, "10.9.0.1", 1), with_datagrams(second, "10.9.0.2", 2));
    let there = server.bind_udp(address("10.9.0.1:7")).unwrap();
    let here = client.connect_udp(there.local_addr()).unwrap();
    let mut into = [0; 64];
    let mut next = 0_u8;
    for waits in 0..3 {
        for round in 0..12 {
            let datagram = [next; 32];
            let to = there.local_addr();
            let sent = match round % 3 {
                0 => cut(waits, here.send(&datagram)).await,
                1 => cut(waits, here.send_to(&datagram, to)).await,
                _ => cut(waits, here.send_between(&datagram, here.local_addr(), to)).await,
            };
            // A send that was dropped has sent nothing.
            let Some(sent) = sent else { continue };
            assert_eq!(sent.unwrap(), 32);
            drop(cut(waits, here.writable()).await);
            drop(cut(waits, there.readable()).await);
            drop(cut(waits, there.peek_from(&mut into)).await);
            let count = loop {
                let got = match round % 3 {
                    0 => cut(waits, there.recv(&mut into)).await.transpose().unwrap(),
                    1 => cut(waits, there.recv_from(&mut into)).await.transpose().unwrap().map(|got| got.0),
                    _ => cut(waits, there.recv_between(&mut into)).await.transpose().unwrap().map(|got| got.0),
                };
                match got {
                    Some(count) => break count,
                    None => tokio::task::yield_now().await,
                }
            };
            assert_eq!((count, into[..32] == datagram), (32, true), "{waits} waits, round {round}");
            next = next.wrapping_add(1);
        }
    }
    assert!(there.try_recv_from(&mut into).is_err(), "nothing arrives twice");
}

/// Polls once and drops what was not ready.
fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn dropped_reads_and_writes_lose_nothing() {
    const LENGTH: usize = 3 << 20;
    let (server, client) = stacks();
    let (_listener, mut accepted, mut stream) = connected(&server, &client).await;
    let sent = pattern(LENGTH, 11);
    let (mut got, mut from) = (Vec::new(), 0);
    let mut round = 0_usize;
    while got.len() < LENGTH {
        round += 1;
        // Every third attempt waits in earnest; the others are dropped where they stand.
        if from < LENGTH {
            let to = (from + 1 + round * 37 % 100_000).min(LENGTH);
            let written = stream.write(&sent[from..to]);
            from += if round.is_multiple_of(3) {
                written.await.unwrap()
            } else {
                once(written).map_or(0, Result::unwrap)
            };
        }
        let mut bytes = vec![0; 1 + round * 53 % 90_000];
        if let Some(count) = once(accepted.read(&mut bytes)) {
            got.extend_from_slice(&bytes[..count.unwrap()]);
        } else if round % 3 == 1 {
            let count = accepted.read(&mut bytes).await.unwrap();
            got.extend_from_slice(&bytes[..count]);
        }
        assert!(once(accepted.readable()).is_none_or(|ready| ready.is_ok()));
        assert!(once(accepted.peek(&mut [0; 3])).is_none_or(|peeked| peeked.is_ok()));
    }
    assert!(got == sent);
}

#[tokio::test]
async fn dropped_accepts_lose_no_connection_and_dropped_connects_leave_nothing() {
    let (server, client) = stacks();
    let listener = server.listen(address(SERVER)).unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        assert!(once(listener.accept()).is_none());
        streams.push(client.connect(address(SERVER)).await.unwrap());
        assert!(once(client.connect(address("10.9.0.99:9"))).is_none());
        let (accepted, _) = listener.accept().await.unwrap();
        streams.push(accepted);
    }
    let census = client.census().unwrap();
    assert_eq!((census.established, census.syn_sent), (20, 0));
}
