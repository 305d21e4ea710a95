//! The applications over the kernel's own sockets, on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::counted::Counters;
use super::discard::Discard;
use super::echo::Echo;
use super::source::Source;
use super::{Listener, Service, Stopper, serve};

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn is_final(_: &io::Error) -> bool {
        false
    }
}

/// An application that is being served.
pub(super) struct Served {
    pub(super) at: SocketAddr,
    pub(super) counters: Arc<Counters>,
    pub(super) stopper: Stopper,
    pub(super) task: JoinHandle<io::Result<()>>,
}

pub(super) async fn served(service: impl Service) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    let (stopper, stop) = Stopper::new();
    let task = tokio::spawn(serve(listener, Arc::new(service), Arc::clone(&counters), stop));
    Served { at, counters, stopper, task }
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
