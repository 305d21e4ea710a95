//! Bytes there and back.

use super::common::{SERVER, address, builder, connected, driven, pattern, stacks};
use bulkhead::Sizes;
use bulkhead::net::{TcpStream, pair};
use bulkhead_wit::{Setting, registry};
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_small_message_comes_back() {
    let (server, client) = stacks();
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    assert_eq!(listener.local_addr(), address(SERVER));
    assert_eq!(stream.peer_addr(), address(SERVER));
    assert_eq!(stream.local_addr(), accepted.peer_addr());
    assert_eq!(accepted.local_addr(), address(SERVER));
    stream.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes).await.unwrap();
    accepted.write_all(&bytes).await.unwrap();
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
}

/// Both ways at once, much more than any buffer holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_is_exact() {
    const LENGTH: usize = 24 << 20;
    let (server, client) = stacks();
    let (_listener, accepted, stream) = connected(&server, &client).await;
    let mut tasks = JoinSet::new();
    for (number, stream) in [accepted, stream].into_iter().enumerate() {
        let (mut read, mut write) = stream.into_split();
        tasks.spawn(async move {
            write.write_all(&pattern(LENGTH, number as u64 + 5)).await.unwrap();
        });
        tasks.spawn(async move {
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.unwrap();
            assert!(got == pattern(LENGTH, 6 - number as u64), "{} bytes", got.len());
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}

/// A reader that takes its time holds the writer back: no byte is lost, and no more than the buffers is under way.
#[tokio::test]
async fn a_slow_reader_holds_the_writer_back() {
    let (server, client) = stacks();
    let (_listener, mut accepted, stream) = connected(&server, &client).await;
    let mut written = 0;
    let chunk = pattern(64 << 10, 3);
    loop {
        match stream.try_write(&chunk) {
            Ok(count) => written += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                // What is in flight may still make room; when nothing does any more, all is full.
                let later = std::time::Duration::from_millis(300);
                if tokio::time::timeout(later, stream.writable()).await.is_err() {
                    break;
                }
            }
        }
        assert!(written < 64 << 20, "no back pressure");
    }
    assert_eq!(stream.shutdown_write().map_err(|error| error.kind()), Ok(()));
    let mut got = Vec::new();
    accepted.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), written);
}

/// Writes until nothing more is taken; says how much was.
async fn fill(stream: &TcpStream) -> usize {
    let (chunk, mut written) = (pattern(16 << 10, 3), 0);
    loop {
        match stream.try_write(&chunk) {
            Ok(count) => written += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "after {written} bytes");
                let later = std::time::Duration::from_millis(300);
                if tokio::time::timeout(later, stream.writable()).await.is_err() {
                    return written;
                }
            }
        }
    }
}

/// Bytes that wait to be sent are bounded, by the connection's own choice if it has made one, and apart from those that are
/// under way.
#[tokio::test]
async fn what_is_not_sent_is_bounded() {
    let (server, client) = stacks();
    let (listener, _accepted, stream) = connected(&server, &client).await;
    let usual = fill(&stream).await;
    let (other, _accepted_too) = tokio::join!(client.connect(address(SERVER)), listener.accept());
    let other = other.unwrap();
    other.set(Setting { key: registry::setting::NOTSENT_LOWAT, value: 16 << 10 }).unwrap();
    let little = fill(&other).await;
    // The queue that a connection begins with is less than the usual bound.
    let first = Sizes::default().send_first as usize;
    assert!((first..4 * first).contains(&usual), "{usual} bytes");
    assert!(little > 16 << 10 && little + first / 4 < usual, "{little} bytes, usually {usual}");
    // A larger one lets a writer go on that waits.
    other.set(Setting { key: registry::setting::NOTSENT_LOWAT, value: 1 << 20 }).unwrap();
    let more = fill(&other).await;
    assert!(more > first / 4, "{more} bytes more, after {little}, usually {usual}");
}

/// Writers that never wait, since their own calls make space, let each other run all the same.
#[tokio::test(flavor = "current_thread")]
async fn bulk_writers_share_a_thread() {
    const ENOUGH: usize = 64 << 20;
    let (first, second) = pair(1500).unwrap();
    let server = builder(first, "10.9.0.1", 1).spawn().unwrap();
    let (client, driver) = builder(second, "10.9.0.2", 2).turns_in_calls(true).build().unwrap();
    tokio::spawn(driver.run());
    let reading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = server.listen(address(SERVER)).unwrap();
            let mut tasks = JoinSet::new();
            for _ in 0..4 {
                let (mut stream, _) = listener.accept().await.unwrap();
                tasks.spawn(async move {
                    let mut into = vec![0; 256 << 10];
                    while stream.read(&mut into).await.is_ok_and(|count| count > 0) {}
                });
            }
            tasks.join_all().await;
        });
    });
    let written: Arc<[AtomicUsize; 4]> = Arc::default();
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let (client, written) = (client.clone(), Arc::clone(&written));
        tasks.spawn(async move {
            let mut stream = loop {
                // The listener may not be there yet.
                match client.connect(address(SERVER)).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let chunk = pattern(256 << 10, 3);
            while written[number].load(Ordering::Relaxed) < ENOUGH {
                stream.write_all(&chunk).await.unwrap();
                written[number].fetch_add(chunk.len(), Ordering::Relaxed);
            }
        });
    }
    tasks.join_next().await.unwrap().unwrap();
    let counts = written.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(counts.iter().all(|count| *count > ENOUGH / 8), "{counts:?}");
    drop((tasks, client));
    // What was written is delivered by this thread.
    while !reading.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    reading.join().unwrap();
}

#[tokio::test]
async fn half_close_split_and_reunite() {
    let (server, client) = stacks();
    let (_listener, mut accepted, mut stream) = connected(&server, &client).await;
    {
        let (mut read, mut write) = accepted.split();
        write.write_all(b"from the server").await.unwrap();
        write.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"from the server");
        // The other direction is open still.
        stream.write_all(b"from the client").await.unwrap();
        let mut bytes = [0; 15];
        read.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"from the client");
    }
    let (read, write) = stream.into_split();
    let stream = read.reunite(write).unwrap();
    let (mut read, write) = stream.into_split();
    drop(write);
    let mut got = Vec::new();
    accepted.read_to_end(&mut got).await.unwrap();
    assert!(got.is_empty());
    assert_eq!(read.read(&mut [0; 8]).await.unwrap(), 0);
    let refused = accepted.write(b"late").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn peek_try_vectored_and_ready() {
    let (server, client) = stacks();
    let (_listener, accepted, stream) = connected(&server, &client).await;
    assert_eq!(accepted.try_read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let ready = accepted.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
    assert!(ready.is_writable() && !ready.is_readable());
    let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
    assert_eq!(stream.try_write_vectored(&slices).unwrap(), 7);
    accepted.readable().await.unwrap();
    let mut bytes = [0; 16];
    for _ in 0..2 {
        assert_eq!(accepted.peek(&mut bytes).await.unwrap(), 7);
        assert_eq!(&bytes[..7], b"one two");
    }
    assert_eq!(accepted.try_read(&mut bytes[..4]).unwrap(), 4);
    assert_eq!(accepted.try_read(&mut bytes).unwrap(), 3);
    assert_eq!(&bytes[..3], b"two");
    drop(stream);
    accepted.readable().await.unwrap();
    assert_eq!(accepted.try_read(&mut bytes).unwrap(), 0);
}

#[tokio::test]
async fn options_information_and_figures() {
    let (server, client) = stacks();
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"x").await.unwrap();
    accepted.read_u8().await.unwrap();
    accepted.write_all(b"y").await.unwrap();
    stream.read_u8().await.unwrap();
    let info = stream.tcp_info().unwrap();
    assert_eq!(info.state().to_string(), "ESTABLISHED");
    assert_eq!(info.bytes_received, 1);
    assert!(info.snd_mss > 500, "{info:?}");
    let census = server.census().unwrap();
    assert_eq!((census.established, census.listeners), (1, 1));
    assert_eq!(server.connections(), [(address(SERVER), stream.local_addr())]);
    let stat = client.stat();
    assert_eq!((stat.connections, stat.bytes_in, stat.faults), (1, 1, 0));
    assert!(stat.steps > 0 && stat.turns > 0, "{stat}");
    drop(listener);
    assert_eq!(server.census().unwrap().listeners, 0);
}

/// Driver, server and client as tasks of one thread.
#[tokio::test(flavor = "current_thread")]
async fn applications_and_drivers_share_a_thread() {
    let ((server, first), (client, second)) = driven();
    let drivers = [tokio::spawn(first.run()), tokio::spawn(second.run())];
    let (_listener, mut accepted, mut stream) = connected(&server, &client).await;
    for round in 0..200_u32 {
        stream.write_u32(round).await.unwrap();
        let got = accepted.read_u32().await.unwrap();
        accepted.write_u32(got + 1).await.unwrap();
        assert_eq!(stream.read_u32().await.unwrap(), round + 1);
    }
    drop((_listener, accepted, stream, server, client));
    for driver in drivers {
        assert_eq!(driver.await.unwrap().unwrap().connections, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once() {
    const COUNT: usize = 200;
    let (server, client) = stacks();
    let listener = server.listen(address("10.9.0.1:0")).unwrap();
    let there = listener.local_addr();
    assert_ne!(there.port(), 0);
    let serving = tokio::spawn(async move {
        let mut tasks = JoinSet::new();
        for _ in 0..COUNT {
            let (stream, _) = listener.accept().await.unwrap();
            tasks.spawn(async move {
                let (mut read, mut write) = stream.into_split();
                tokio::io::copy(&mut read, &mut write).await.unwrap()
            });
        }
        tasks.join_all().await
    });
    let mut tasks = JoinSet::new();
    for number in 0..COUNT {
        let client = client.clone();
        tasks.spawn(async move {
            let mut stream = client.connect(there).await.unwrap();
            let bytes = pattern(20_000 + number, number as u64);
            let mut back = vec![0; bytes.len()];
            let (mut read, mut write) = stream.split();
            let (_, read) = tokio::join!(write.write_all(&bytes), read.read_exact(&mut back));
            read.unwrap();
            assert!(back == bytes);
        });
    }
    tasks.join_all().await;
    let echoed = serving.await.unwrap();
    assert_eq!(echoed.len(), COUNT);
}

#[tokio::test]
async fn bytes_pass_without_copies_and_several_tasks_wait_on_one_side() {
    use bytes::Bytes;
    let (server, client) = stacks();
    let (_listener, accepted, stream) = connected(&server, &client).await;
    let accepted = std::sync::Arc::new(accepted);
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        let accepted = std::sync::Arc::clone(&accepted);
        waiting.spawn(async move { accepted.readable().await });
    }
    tokio::task::yield_now().await;
    let sent = Bytes::from(pattern(3 << 20, 77));
    let mut rest = sent.clone();
    let writing = tokio::spawn(async move {
        while !rest.is_empty() {
            stream.write_bytes(&mut rest).await.unwrap();
        }
        stream
    });
    for ready in waiting.join_all().await {
        ready.unwrap();
    }
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let bytes = accepted.read_bytes(100_000).await.unwrap();
        assert!(!bytes.is_empty() && bytes.len() <= 100_000);
        got.extend_from_slice(&bytes);
    }
    assert!(got == sent);
    drop(writing.await.unwrap());
    assert!(accepted.read_bytes(1).await.unwrap().is_empty());
    let mut parts = [[0; 2]; 3];
    let mut slices = parts.each_mut().map(|part| std::io::IoSliceMut::new(part));
    assert_eq!(accepted.try_read_vectored(&mut slices).unwrap(), 0);
}
