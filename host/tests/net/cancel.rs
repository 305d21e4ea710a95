//! Futures dropped at every point where they can wait.

use super::common::{SERVER, address, connected, pattern, stacks};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
