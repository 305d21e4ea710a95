//! Both ends of a witness with something between them that is no stack, and a server that sends back what it gets.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Shared, relay};

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// Sends these bytes through a witness, between whose ends `between` hands them on, and back; what came back, and what the
/// witness found wrong.
fn through(
    sent: &[u8],
    stall: Duration,
    between: impl Fn(TcpStream, TcpStream) + Sync,
) -> (Vec<u8>, Option<String>) {
    let shared = Shared::new(stall);
    let ((front, at_front), (back, at_back)) = (listen(), listen());
    let ((middle, at_middle), (server, at_server)) = (listen(), listen());
    let came = std::thread::scope(|scope| {
        scope.spawn(|| relay::front(&front, at_middle, &shared).unwrap());
        scope.spawn(|| relay::back(&back, at_server, &shared).unwrap());
        scope.spawn(|| between(middle.accept().unwrap().0, TcpStream::connect(at_back).unwrap()));
        scope.spawn(|| {
            let (mut stream, _) = server.accept().unwrap();
            let mut got = Vec::new();
            // It ends early where something is wrong.
            let _ = stream.read_to_end(&mut got).and_then(|_| stream.write_all(&got));
        });
        let mut client = TcpStream::connect(at_front).unwrap();
        client.write_all(sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut came = Vec::new();
        let _ = client.read_to_end(&mut came);
        shared.is_over.store(true, Ordering::Relaxed);
        came
    });
    let wrong = shared.wrong();
    if wrong.is_none() {
        assert_eq!(shared.bytes.load(Ordering::Relaxed), 2 * sent.len() as u64);
        assert!(shared.pairs.into_inner().unwrap().is_empty());
    }
    (came, wrong)
}

/// Hands on what comes after the first 8 bytes as `change` makes it, and the way back as it is.
fn changing(change: impl Fn(&mut Vec<u8>) + Sync) -> impl Fn(TcpStream, TcpStream) + Sync {
    move |mut one, mut other| {
        let mut there = Vec::new();
        one.read_to_end(&mut there).unwrap();
        let mut rest = there.split_off(8);
        change(&mut rest);
        // The other end may have seen enough.
        let _ = other.write_all(&there).and_then(|()| other.write_all(&rest));
        let _ = other.shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut other, &mut one);
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_arrives_as_it_was_sent_is_right() {
    let sent: Vec<u8> = (0..300_000_u32).map(|at| (at >> 3) as u8).collect();
    let (came, wrong) = through(&sent, LONG, changing(|_| {}));
    assert_eq!(wrong, None);
    assert!(came == sent);
}

#[test]
fn a_byte_that_differs_is_found() {
    let (_, wrong) = through(&[7; 5000], LONG, changing(|bytes| bytes[4321] ^= 1));
    assert!(wrong.as_ref().is_some_and(|what| what.contains("as others")), "{wrong:?}");
}

#[test]
fn bytes_too_few_or_too_many_are_found() {
    let (_, wrong) = through(&[7; 5000], LONG, changing(|bytes| bytes.truncate(4999)));
    assert_eq!(wrong.as_deref(), Some("it ended with 1 bytes missing"));
    let (_, wrong) = through(&[7; 5000], LONG, changing(|bytes| bytes.push(7)));
    assert!(wrong.as_ref().is_some_and(|what| what.contains("nobody sent")), "{wrong:?}");
}

#[test]
fn bytes_that_are_held_back_are_a_stall() {
    let (_, wrong) = through(&[7; 5000], Duration::from_millis(300), |mut one, mut other| {
        let mut number = [0; 8];
        one.read_exact(&mut number).unwrap();
        other.write_all(&number).unwrap();
        // Until the witness gives up.
        let _ = other.read(&mut number);
    });
    assert!(wrong.as_ref().is_some_and(|what| what.starts_with("stalled: 5000 bytes")), "{wrong:?}");
}

#[test]
fn a_connection_that_overtakes_another_waits_for_it() {
    let shared = Shared::new(LONG);
    let ((front, at_front), (back, at_back)) = (listen(), listen());
    let ((middle, at_middle), (server, at_server)) = (listen(), listen());
    let hand_on = |bytes: &[u8; 9]| {
        let mut other = TcpStream::connect(at_back).unwrap();
        other.write_all(bytes).unwrap();
        other
    };
    std::thread::scope(|scope| {
        scope.spawn(|| relay::front(&front, at_middle, &shared).unwrap());
        scope.spawn(|| relay::back(&back, at_server, &shared).unwrap());
        let clients = [b"1", b"2"].map(|byte| {
            let mut client = TcpStream::connect(at_front).unwrap();
            client.write_all(byte).unwrap();
            client
        });
        let mut between = [(); 2].map(|()| middle.accept().unwrap().0);
        // The number, and a byte of the program's.
        let mut begun = between.each_mut().map(|stream| {
            let mut bytes = [0; 9];
            stream.read_exact(&mut bytes).unwrap();
            bytes
        });
        begun.sort_by(|one, other| other.cmp(one));
        let others = begun.each_ref().map(hand_on);
        let arrived = [(); 2].map(|()| {
            let mut byte = [0];
            server.accept().unwrap().0.read_exact(&mut byte).unwrap();
            byte[0]
        });
        shared.is_over.store(true, Ordering::Relaxed);
        drop((clients, between, others));
        assert_eq!(&arrived, b"12");
    });
}
