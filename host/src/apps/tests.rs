//! The applications over the kernel's own sockets, on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::carried::{Carried as _, Rest, Standing};
use super::connect::{Host, Target};
use super::counted::Counters;
use super::discard::Discard;
use super::echo::Echo;
use super::forward::Forward;
use super::http::Http;
use super::socks5::Socks5;
use super::source::Source;
use super::{Service, Stop, Stopper, serve};

/// An application that is being served.
pub(super) struct Served {
    pub(super) at: SocketAddr,
    pub(super) counters: Arc<Counters>,
    pub(super) stopper: Stopper,
    pub(super) task: JoinHandle<io::Result<Option<Rest<TcpListener>>>>,
    stop: Stop,
}

pub(super) async fn served(service: impl Service) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    let (stopper, stop) = Stopper::new();
    let service =
        serve(Rest { listener, open: Vec::new() }, Arc::new(service), Arc::clone(&counters), stop.clone());
    Served { at, counters, stopper, task: tokio::spawn(service), stop }
}

impl Served {
    /// Everything stands still, is taken apart as if it went to another process, and goes on there.
    pub(super) async fn handed_on(&mut self, service: impl Service) {
        self.stopper.stand();
        let rest = (&mut self.task).await.unwrap().unwrap().expect("it stands");
        let open = rest.open.into_iter().map(|Standing { stream, peer, left }| {
            let stream = TcpStream::take_up(stream.put_aside().unwrap()).unwrap();
            Standing { stream, peer, left }
        });
        let rest = Rest { open: open.collect(), ..rest };
        self.stopper.go();
        self.task =
            tokio::spawn(serve(rest, Arc::new(service), Arc::clone(&self.counters), self.stop.clone()));
    }
}

/// Sends everything, ends then or not, and reads to the end, while the service is handed on again and again.
async fn under_hand_overs<S: Service>(
    served: &mut Served,
    sent: &[u8],
    ends: bool,
    new: impl Fn() -> S,
) -> Vec<u8> {
    let stream = TcpStream::connect(served.at).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let copy = sent.to_vec();
    let writer = tokio::spawn(async move {
        writing.write_all(&copy).await.unwrap();
        if ends {
            writing.shutdown().await.unwrap();
        }
        writing
    });
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        reading.read_to_end(&mut got).await.unwrap();
        drop(writer.await.unwrap());
        got
    });
    let mut rounds = 0;
    while !reader.is_finished() {
        served.handed_on(new()).await;
        rounds += 1;
        tokio::time::sleep(Duration::from_micros(rounds * 37 % 2000)).await;
    }
    assert!(rounds > 3, "{rounds} rounds");
    reader.await.unwrap()
}

fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|at| ((at / 7) ^ (at / 1009)) as u8).collect()
}

#[tokio::test]
async fn echo_and_forward_go_on_elsewhere() {
    let sent = pattern(9_000_000);
    let mut echo = served(Echo).await;
    assert!(under_hand_overs(&mut echo, &sent, true, || Echo).await == sent);
    let to = target(echo.at);
    let new = || Forward { target: to.clone(), by: Host };
    let mut forward = served(new()).await;
    assert!(under_hand_overs(&mut forward, &sent, true, new).await == sent);
    let counts = forward.counters.counts();
    assert_eq!((counts.accepted, counts.failed), (1, 0));
    assert_eq!((counts.bytes_in, counts.bytes_out), (9_000_000, 9_000_000));
}

#[tokio::test]
async fn source_goes_on_where_it_was() {
    let mut served = served(Source::new()).await;
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    let mut got = vec![0; 3_000_000];
    for piece in got.chunks_mut(100_000) {
        stream.read_exact(piece).await.unwrap();
        served.handed_on(Source::new()).await;
    }
    for (number, line) in got.chunks_exact(74).enumerate() {
        assert_eq!((line[0], &line[72..]), (b' ' + (number % 95) as u8, &b"\r\n"[..]));
    }
}

#[tokio::test]
async fn who_does_not_stand_keeps_the_others_waiting_until_they_go() {
    // A client that says nothing: the proxy cannot leave its handshake.
    let served = served(Socks5(Host)).await;
    let mut silent = TcpStream::connect(served.at).await.unwrap();
    while served.counters.counts().accepted == 0 {
        tokio::task::yield_now().await;
    }
    served.stopper.stand();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!served.task.is_finished());
    served.stopper.go();
    silent.write_all(&[5, 1, 0]).await.unwrap();
    let mut chosen = [0; 2];
    silent.read_exact(&mut chosen).await.unwrap();
    assert_eq!(chosen, [5, 0]);
    // And others are accepted again.
    let mut other = TcpStream::connect(served.at).await.unwrap();
    other.write_all(&[5, 1, 0]).await.unwrap();
    other.read_exact(&mut chosen).await.unwrap();
}

/// Requests of one connection, of which the last is to close it: a client that ends its side has gone away, to hyper.
pub(super) async fn http_under_hand_overs(
    served: &mut Served,
    request: &[u8],
    root: &std::path::Path,
) -> Vec<u8> {
    under_hand_overs(served, request, false, || Http::new(root).unwrap()).await
}

#[tokio::test]
async fn echo_gives_back_what_it_gets_and_ends_in_kind() {
    let served = served(Echo).await;
    let stream = TcpStream::connect(served.at).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 3) as u8).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        writing.write_all(&copy).await.unwrap();
        writing.shutdown().await.unwrap();
        writing
    });
    let mut got = Vec::new();
    reading.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    drop(writer.await.unwrap());

    // One that is open when the end comes is told so, and what it sent before comes back.
    let mut late = TcpStream::connect(served.at).await.unwrap();
    late.write_all(b"late").await.unwrap();
    let mut four = [0; 4];
    late.read_exact(&mut four).await.unwrap();
    served.stopper.stop();
    assert_eq!(late.read(&mut four).await.unwrap(), 0);
    drop(late);
    served.task.await.unwrap().unwrap();
    let counts = served.counters.counts();
    assert_eq!((counts.accepted, counts.ended, counts.failed), (2, 2, 0));
    assert_eq!((counts.bytes_in, counts.bytes_out), (1_000_004, 1_000_004));
    assert!(TcpStream::connect(served.at).await.is_err());
}

#[tokio::test]
async fn discard_takes_everything() {
    let served = served(Discard).await;
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    stream.write_all(&[7; 300_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    served.stopper.stop();
    served.task.await.unwrap().unwrap();
    assert_eq!(served.counters.counts().bytes_in, 300_000);
}

#[tokio::test]
async fn source_sends_lines_that_are_known() {
    let served = served(Source::new()).await;
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    let mut got = vec![0; 250_000];
    stream.read_exact(&mut got).await.unwrap();
    assert!(got.starts_with(b" !\"#$%&'()*+,-./0123456789"));
    for (number, line) in got.chunks_exact(74).enumerate() {
        assert_eq!(line[0], b' ' + (number % 95) as u8);
        assert_eq!(&line[72..], b"\r\n");
    }
    // It ends where it is told to, in order.
    served.stopper.stop();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    drop(stream);
    served.task.await.unwrap().unwrap();
    let counts = served.counters.counts();
    assert_eq!((counts.failed, counts.bytes_out), (0, (got.len() + rest.len()) as u64));
}

fn target(at: SocketAddr) -> Target {
    Target { host: at.ip().to_string(), port: at.port() }
}

#[tokio::test]
async fn forward_passes_bytes_and_ends_on() {
    let echo = served(Echo).await;
    let forward = served(Forward { target: target(echo.at), by: Host }).await;
    let stream = TcpStream::connect(forward.at).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
    let copy = sent.clone();
    tokio::spawn(async move {
        writing.write_all(&copy).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    reading.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    // Nobody at the other end.
    let nobody = served(Forward { target: Target { host: "127.0.0.1".into(), port: 1 }, by: Host }).await;
    let mut stream = TcpStream::connect(nobody.at).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn forward_passes_resets_on_both_ways() {
    let target_of_all = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = target(target_of_all.local_addr().unwrap());
    let forward = served(Forward { target: to, by: Host }).await;
    for is_ours in [false, true] {
        let mut near = TcpStream::connect(forward.at).await.unwrap();
        let (mut far, _) = target_of_all.accept().await.unwrap();
        // Some of it has arrived at both ends, and not all.
        let mut byte = [0; 1];
        far.write_all(b"1").await.unwrap();
        near.read_exact(&mut byte).await.unwrap();
        near.write_all(b"2").await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
        let (one, mut other) = if is_ours { (near, far) } else { (far, near) };
        one.reset();
        let told = other.read(&mut byte).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
    }
    let counts = forward.counters.counts();
    assert_eq!((counts.accepted, counts.failed), (2, 2));
}

#[tokio::test]
async fn socks5_connects_by_number_and_by_name_and_refuses_in_kind() {
    let echo = served(Echo).await;
    let socks = served(Socks5(Host)).await;
    let port = echo.at.port().to_be_bytes();
    let by_number = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port].concat();
    let by_name = [&[5, 1, 0, 3, 9][..], b"localhost", &port].concat();
    for request in [by_number, by_name] {
        let mut stream = TcpStream::connect(socks.at).await.unwrap();
        stream.write_all(&[5, 2, 0, 2]).await.unwrap();
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).await.unwrap();
        assert_eq!(chosen, [5, 0]);
        stream.write_all(&request).await.unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..2], [5, 0]);
        stream.write_all(b"hello").await.unwrap();
        let mut five = [0; 5];
        stream.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"hello");
    }
    for (request, code) in [([5, 1, 0, 1, 127, 0, 0, 1, 0, 1], 5), ([5, 2, 0, 1, 127, 0, 0, 1, 0, 1], 7)] {
        let mut stream = TcpStream::connect(socks.at).await.unwrap();
        stream.write_all(&[5, 1, 0]).await.unwrap();
        stream.read_exact(&mut [0; 2]).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..2], [5, code]);
    }
    let mut wrong = TcpStream::connect(socks.at).await.unwrap();
    wrong.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(wrong.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[test]
fn targets_are_read() {
    for (text, host, port) in [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:8", "::1", 8), ("a.b:9", "a.b", 9)]
    {
        assert_eq!(text.parse(), Ok(Target { host: host.into(), port }));
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
    }
    for wrong in ["80", ":80", "a:0", "::1:80", "a:b"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}
