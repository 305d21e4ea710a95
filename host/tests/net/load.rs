//! Many at once, and ends at the worst of times.

use super::common::{SERVER, address, connected, driven, pattern, stacks};
use bulkhead::ListenOptions;
use bulkhead::net::{Net, TcpStream};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

/// Polls a future until it has waited `waits` times, and drops it there; its result if it was done before.
async fn at_most<T>(waits: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut waited = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

/// A whole conversation: connect, ask, hear the answer to the end.
async fn conversation(client: &Net, sent: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = client.connect(address(SERVER)).await?;
    stream.writable().await?;
    let mut got = Vec::new();
    let (mut read, mut write) = stream.split();
    let sending = async {
        write.write_all(sent).await?;
        write.shutdown().await
    };
    tokio::try_join!(sending, read.read_to_end(&mut got))?;
    Ok(got)
}

#[tokio::test]
async fn a_conversation_is_dropped_at_every_point_where_it_waits() {
    let (server, client) = stacks();
    let listener = server.listen(address(SERVER)).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let sent = pattern(700_000, 3);
    let mut waits = 0;
    loop {
        match at_most(waits, conversation(&client, &sent)).await {
            Some(result) => {
                assert!(result.unwrap() == sent);
                break;
            }
            None => waits += 1,
        }
        assert!(waits < 10_000, "it never comes to its end");
    }
    println!("dropped at {waits} points");
    assert!(waits > 2);
    // Nothing is left of those that were dropped.
    let summary = client.shutdown(Duration::from_secs(20)).await;
    assert!(summary.ended >= summary.connections && summary.faults == 0, "{summary}");
    assert_eq!(summary.census.unwrap().established, 0);
}

#[tokio::test]
async fn a_listener_is_flooded_beyond_its_backlog_and_serves_on() {
    const COUNT: usize = 500;
    let (server, client) = stacks();
    let options = ListenOptions { backlog: 8, ..ListenOptions::default() };
    let listener = server.listen_with(address(SERVER), options).unwrap();
    let mut connecting = JoinSet::new();
    let greet = async |mut stream: TcpStream| -> io::Result<()> {
        let mut seven = [0; 7];
        stream.read_exact(&mut seven).await.map(drop)
    };
    for _ in 0..COUNT {
        let client = client.clone();
        connecting.spawn(async move { greet(client.connect(address(SERVER)).await?).await });
    }
    // Nobody accepts for a while: eight are open at the server, the others wait or are refused in kind.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.census().unwrap().established <= 8);
    let serving = tokio::spawn(async move {
        let mut count = 0_usize;
        while let Ok((mut stream, _)) = listener.accept().await {
            count += usize::from(stream.write_all(b"welcome").await.is_ok());
            if count >= COUNT {
                break;
            }
        }
    });
    // Those who connect late are late by the SYN's own retransmissions: a handful shows it. One whose acknowledgement of a SYN
    // cookie came while the backlog was full is open for itself alone until it speaks, as with any listener: it is not waited for.
    for _ in 0..10 {
        connecting.join_next().await.unwrap().unwrap().unwrap();
    }
    connecting.abort_all();
    serving.abort();
    assert_eq!(server.stat().faults, 0);
}

#[tokio::test]
async fn a_driver_is_dropped_under_load() {
    let ((server, first), (client, second)) = driven();
    let (first, _second) = (tokio::spawn(first.run()), tokio::spawn(second.run()));
    let (listener, accepted, stream) = connected(&server, &client).await;
    let mut tasks = JoinSet::new();
    drop((accepted, stream));
    for _ in 0..20 {
        let (accepted, stream) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
        let (mut accepted, mut stream) = (accepted.unwrap().0, stream.unwrap());
        tasks.spawn(async move { while stream.write_all(&[1; 3000]).await.is_ok() {} });
        tasks.spawn(async move {
            let mut into = vec![0; 10_000];
            while accepted.read(&mut into).await.is_ok_and(|count| count > 0) {}
        });
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    first.abort();
    // The server's readers end at once; the client's writers when their peer has been silent, or with their stack.
    let _ = first.await;
    assert!(!server.is_running());
    client.shutdown(Duration::ZERO).await;
    tasks.join_all().await;
}
