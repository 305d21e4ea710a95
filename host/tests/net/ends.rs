//! How connections, listeners and stacks end.

use super::common::{SERVER, address, builder, connected, driven, stacks};
use bulkhead::net::{NetError, pair};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const DRAIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn nobody_listens() {
    let (_server, client) = stacks();
    let refused = client.connect(address(SERVER)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn nobody_is_there() {
    let (first, _cable) = pair(1500).unwrap();
    let net = builder(first, "10.9.0.1", 1).spawn().unwrap();
    let late = net.connect_timeout(address("10.9.0.77:1"), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    assert_eq!(net.stat().census.unwrap().syn_sent, 0, "the dropped connect is gone");
}

#[tokio::test]
async fn an_address_is_taken_once_and_must_be_ours() {
    let (server, _client) = stacks();
    let _listener = server.listen(address(SERVER)).unwrap();
    assert_eq!(server.listen(address(SERVER)).unwrap_err().kind(), ErrorKind::AddrInUse);
    let foreign = server.listen(address("192.0.2.1:80")).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn unread_bytes_make_a_drop_a_reset() {
    let (server, client) = stacks();
    let (_listener, accepted, mut stream) = connected(&server, &client).await;
    stream.write_all(b"nobody wants it").await.unwrap();
    accepted.readable().await.unwrap();
    drop(accepted);
    let reset = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_abort_resets_and_a_drop_delivers() {
    let (server, client) = stacks();
    let (listener, accepted, mut stream) = connected(&server, &client).await;
    accepted.abort();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    let (mut accepted, mut stream) = (accepted.unwrap().0, connected.unwrap());
    stream.write_all(&[7; 100_000]).await.unwrap();
    drop(stream);
    let mut got = Vec::new();
    accepted.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [7; 100_000]);
}

#[tokio::test]
async fn a_shutdown_ends_streams_in_kind_and_tells_all() {
    let (server, client) = stacks();
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    accepted.write_all(b"last words").await.unwrap();
    let accepting = tokio::spawn(async move { listener.accept().await });
    let stopping = {
        let server = server.clone();
        tokio::spawn(async move { server.shutdown(DRAIN).await })
    };
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
    // The server still hears us out.
    stream.write_all(b"goodbye").await.unwrap();
    drop(stream);
    got.clear();
    accepted.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"goodbye");
    let summary = stopping.await.unwrap();
    assert_eq!((summary.connections, summary.bytes_in, summary.bytes_out), (1, 7, 10), "{summary}");
    assert!(summary.census.is_some() && summary.fault.is_none());
    let ended = accepting.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionAborted);
    let source = ended.get_ref().and_then(|error| error.downcast_ref::<NetError>());
    assert!(matches!(source, Some(NetError::Shutdown)), "{ended:?}");
    assert!(!server.is_running());
    assert!(server.listen(address(SERVER)).is_err());
    assert!(server.connect(address("10.9.0.2:1")).await.is_err());
}

#[tokio::test]
async fn a_peer_that_does_not_end_is_reset_after_the_drain() {
    let (server, client) = stacks();
    let (_listener, _accepted, mut stream) = connected(&server, &client).await;
    let summary = server.shutdown(Duration::from_millis(50)).await;
    assert_eq!(summary.census.unwrap().resets_out, 1, "{summary:?}");
    // The end of the stream first, then the reset.
    let mut last = stream.read(&mut [0; 8]).await;
    while last.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        last = match stream.write(b"?").await {
            Ok(_) => continue,
            Err(error) => Err(error),
        };
    }
    assert_eq!(last.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// FIN-WAIT-2 of streams that nobody owns any more: until the drain's end the peer may close in kind.
#[tokio::test]
async fn a_drain_waits_for_the_peers_of_closed_streams() {
    let (server, client) = stacks();
    let (_listener, accepted, mut stream) = connected(&server, &client).await;
    drop(accepted);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    let stopping = {
        let server = server.clone();
        tokio::spawn(async move { server.shutdown(DRAIN).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished(), "the peer has not closed yet");
    drop(stream);
    let summary = stopping.await.unwrap();
    assert_eq!(summary.census.unwrap().resets_out, 0, "{summary:?}");
    let own = client.shutdown(DRAIN).await.census.unwrap();
    assert_eq!((own.resets_in, own.closing), (0, 0), "the peer's end was answered in kind");
}

/// The other end is gone without a word: what waits for it is told in the time that it has set.
#[tokio::test]
async fn a_peer_that_vanishes_is_given_up() {
    let ((server, first), (client, second)) = driven();
    let _first = tokio::spawn(first.run());
    let second = tokio::spawn(second.run());
    let (_listener, mut accepted, _stream) = connected(&server, &client).await;
    accepted.set_user_timeout(Some(Duration::from_millis(100))).unwrap();
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    accepted.write_all(b"anybody there?").await.unwrap();
    let given_up = accepted.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(given_up.kind(), ErrorKind::TimedOut);
    assert_eq!(server.stat().ended, 1);
}

#[tokio::test]
async fn a_dropped_driver_leaves_nobody_hanging() {
    let ((server, first), (client, second)) = driven();
    let first = tokio::spawn(first.run());
    let _second = tokio::spawn(second.run());
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    stream.write_all(b"before").await.unwrap();
    accepted.readable().await.unwrap();
    let accepting = tokio::spawn(async move { listener.accept().await.map(drop) });
    let connecting = {
        let server = server.clone();
        tokio::spawn(async move { server.connect(address("10.9.0.99:1")).await.map(drop) })
    };
    let stopping = {
        let server = server.clone();
        tokio::spawn(async move { server.shutdown(DRAIN).await })
    };
    tokio::task::yield_now().await;
    first.abort();
    for waiting in [accepting, connecting] {
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
    assert_eq!(stopping.await.unwrap().connections, 1);
    // What arrived before can still be read.
    let mut bytes = [0; 6];
    accepted.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"before");
    assert_eq!(accepted.read(&mut bytes).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_driver_ends_with_its_last_handle() {
    let ((server, first), (client, second)) = driven();
    let drivers = [tokio::spawn(first.run()), tokio::spawn(second.run())];
    let (listener, accepted, stream) = connected(&server, &client).await;
    drop((server, client, listener, accepted, stream));
    for driver in drivers {
        let summary = driver.await.unwrap().unwrap();
        assert_eq!((summary.connections, summary.ended), (1, 1), "{summary}");
    }
}
