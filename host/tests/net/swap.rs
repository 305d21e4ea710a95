//! Modules that take over from each other while streams run.

use super::common::{SERVER, address, builder, connected, pattern, stacks};
use bulkhead::Fault;
use bulkhead::net::{Net, TcpStream, pair};
use bulkhead::placement::native::Native;
use bulkhead::swap::{Newcomer, PROBATION, SwapError};
use bulkhead_tcp::Tcp;
use bulkhead_udp::Udp;
use bulkhead_wit::{Config, Description, Inputs, Module, Outputs, Summary, Time};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What is wrong with a newcomer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Nothing,
    /// It panics in this step, counted from 0.
    PanicsAt(u32),
    /// It says that more was exposed than was.
    Boasts,
    /// It leaves out a connection.
    Forgets,
    /// It wants to be called at another time.
    IsLate,
}

struct Flawed {
    tcp: Tcp,
    flaw: Flaw,
    steps: u32,
}

impl Module for Flawed {
    fn describe(&self) -> Description {
        self.tcp.describe()
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        self.tcp.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        assert!(self.flaw != Flaw::PanicsAt(self.steps), "the flaw");
        self.steps += 1;
        self.tcp.step(inputs, outputs);
        if self.flaw == Flaw::IsLate {
            outputs.deadline = outputs.deadline.min(u64::MAX / 2) + 1;
        }
    }

    fn save(&self) -> Vec<u8> {
        self.tcp.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        let mut accounts = self.tcp.load(config, now, state)?;
        match self.flaw {
            Flaw::Boasts => accounts[0].exposed += 1,
            Flaw::Forgets => drop(accounts.pop()),
            _ => {}
        }
        Ok(accounts)
    }
}

fn newcomer(flaw: Flaw) -> Newcomer {
    Newcomer::new(Box::new(Native::new(Box::new(Flawed { tcp: Tcp::new(), flaw, steps: 0 }))))
}

/// The bundled module in the sandbox.
#[cfg(feature = "wasm")]
fn sandboxed() -> Newcomer {
    Newcomer::artifact(&bulkhead::artifact::Artifact::bundled().unwrap()).unwrap()
}

#[cfg(not(feature = "wasm"))]
fn sandboxed() -> Newcomer {
    newcomer(Flaw::Nothing)
}

/// Sends a pattern there and back, and looks that it is the same.
async fn exchange(mut there: TcpStream, mut here: TcpStream, length: usize, seed: u64) {
    let bytes = pattern(length, seed);
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = there.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    let (mut read, mut write) = here.split();
    let writing = async {
        write.write_all(&bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (result, ()) = tokio::join!(read.read_to_end(&mut back), writing);
    result.unwrap();
    assert!(back == bytes, "{} bytes of {length}", back.len());
    echo.await.unwrap();
}

/// Connections with traffic, as long as `meanwhile` lasts.
async fn traffic(server: &Net, client: &Net, connections: u64, length: usize) -> tokio::task::JoinSet<()> {
    let listener = server.listen(address(SERVER)).unwrap();
    let mut all = tokio::task::JoinSet::new();
    for seed in 0..connections {
        let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
        all.spawn(exchange(accepted.unwrap().0, connected.unwrap(), length, seed));
    }
    all
}

#[tokio::test]
async fn no_connection_notices() {
    let (server, client) = stacks();
    let mut traffic = traffic(&server, &client, 20, 4 << 20).await;
    let mut swaps = 0;
    while !traffic.is_empty() {
        let next = if swaps % 2 == 0 { sandboxed() } else { newcomer(Flaw::Nothing) };
        let swapped = server.swap(next).unwrap();
        assert!(swapped.connections > 0 || swaps > 0, "the first is while all are open");
        swaps += 1;
        // Both ends change, not only the one that was told to listen.
        client.swap(newcomer(Flaw::Nothing)).unwrap();
        let pause = tokio::time::sleep(Duration::from_millis(5));
        tokio::select! {
            done = traffic.join_next() => if let Some(done) = done { done.unwrap() },
            () = pause => {}
        }
    }
    assert!(swaps > 5, "{swaps} swaps");
    for net in [server, client] {
        let stat = net.stat();
        assert_eq!((stat.faults, stat.connections), (0, 20));
        // A connection that has ended answers what comes late with a reset, as RFC 9293 3.10.7.1 has it: a swap takes long enough in
        // an unoptimised build for a FIN to be sent again. The peer is in TIME-WAIT then, and does not hear it.
        let census = stat.census.unwrap();
        assert_eq!(census.resets_in, 0, "{census:?}");
    }
}

#[tokio::test]
async fn who_cannot_take_over_changes_nothing() {
    let (server, client) = stacks();
    let (_listener, mut accepted, mut stream) = connected(&server, &client).await;
    stream.write_all(b"on the way").await.unwrap();
    accepted.readable().await.unwrap();
    let refused = |flaw| server.swap(newcomer(flaw)).unwrap_err();
    assert!(matches!(refused(Flaw::Boasts), SwapError::Accounts(what) if what.contains("exposed is 10")));
    assert!(matches!(refused(Flaw::Forgets), SwapError::Accounts(what) if what.contains("missing")));
    assert!(matches!(refused(Flaw::PanicsAt(0)), SwapError::FirstStep(Fault::Trap(_))));
    let udp = Newcomer::new(Box::new(Native::new(Box::new(Udp::new()))));
    assert!(matches!(server.swap(udp).unwrap_err(), SwapError::Serves(_)));
    let stat = server.stat();
    assert_eq!(stat.faults, 0);
    let mut bytes = [0; 10];
    accepted.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"on the way");
    exchange(accepted, stream, 100_000, 1).await;
}

#[tokio::test]
async fn the_former_takes_over_again_from_a_newcomer_that_fails() {
    for at in [1, 7, PROBATION - 1] {
        let (server, client) = stacks();
        let traffic = traffic(&server, &client, 3, 1 << 20).await;
        server.swap(newcomer(Flaw::PanicsAt(at))).unwrap();
        traffic.join_all().await;
        let stat = server.stat();
        assert_eq!((stat.faults, stat.incidents.len()), (1, 1), "{at}");
        assert!(stat.fault.is_none() && stat.incidents[0].streams == 0 && stat.incidents[0].restarted);
    }
}

#[tokio::test]
async fn a_newcomer_that_fails_later_is_followed_by_a_fresh_one() {
    let (server, client) = stacks();
    let late = newcomer(Flaw::PanicsAt(PROBATION + 100));
    let fresh = || Ok(Box::new(Native::new(Box::new(Tcp::new()))) as Box<dyn bulkhead::placement::Instance>);
    server.swap(late.restarted_by(Box::new(fresh))).unwrap();
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    let mut bytes = [0; 6];
    let error = loop {
        let there_and_on = async {
            stream.write_all(b"and on").await?;
            accepted.read_exact(&mut bytes).await
        };
        if let Err(error) = there_and_on.await {
            break error;
        }
    };
    assert!([ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset].contains(&error.kind()), "{error:?}");
    drop((accepted, stream));
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    exchange(accepted.unwrap().0, connected.unwrap(), 1000, 1).await;
    assert_eq!(server.stat().faults, 1);
}

#[tokio::test]
async fn a_shadow_is_compared_and_thrown_away() {
    let (server, client) = stacks();
    let watch = async |flaw, steps| {
        let traffic = traffic(&server, &client, 2, 1 << 20).await;
        server.shadow(newcomer(flaw), steps).unwrap();
        traffic.join_all().await;
        // What the listener was for is over.
        server.shadow_report().unwrap()
    };
    let same = watch(Flaw::Nothing, 50).await;
    assert!(same.is_over() && same.same == 50 && same.differs.is_none() && same.fault.is_none(), "{same:?}");
    let other = watch(Flaw::IsLate, 1000).await;
    assert!(other.differs.is_some_and(|what| what.contains("deadline")));
    let failed = watch(Flaw::PanicsAt(20), 1000).await;
    assert!(failed.same == 20 && matches!(failed.fault, Some(Fault::Trap(_))));
    assert_eq!(server.stat().faults, 0);
}

#[tokio::test]
async fn a_cold_swap_resets_in_kind_and_listens_on() {
    let (server, client) = stacks();
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    let swapped = server.swap_cold(sandboxed()).unwrap();
    assert_eq!((swapped.connections, swapped.state), (1, None));
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = accepted.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    exchange(accepted.unwrap().0, connected.unwrap(), 100_000, 1).await;
    assert_eq!(server.stat().faults, 0);
}

#[tokio::test]
async fn the_module_beside_is_swapped_and_sockets_stay() {
    let udp = || Box::new(Native::new(Box::new(Udp::new())));
    let (first, second) = pair(1500).unwrap();
    let server = builder(first, "10.9.0.1", 1).beside(udp()).spawn().unwrap();
    let client = builder(second, "10.9.0.2", 2).beside(udp()).spawn().unwrap();
    let there = server.bind_udp(address("10.9.0.1:53")).unwrap();
    let here = client.connect_udp(there.local_addr()).unwrap();
    let (_listener, accepted, stream) = connected(&server, &client).await;
    for round in 0..3_u8 {
        here.send(&[round; 100]).await.unwrap();
        let mut into = [0; 200];
        let (count, from) = there.recv_from(&mut into).await.unwrap();
        assert!(into[..count] == [round; 100] && from.port() == here.local_addr().port());
        let swapped = server.swap(Newcomer::new(udp())).unwrap();
        assert!(swapped.to.contains("udp"), "{}", swapped.to);
    }
    exchange(accepted, stream, 100_000, 1).await;
}
