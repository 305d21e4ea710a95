//! A byte there and back through two stacks joined in memory: what each layer above the raw turn costs. And bulk.
//!
//! `cargo bench -p bulkhead --bench sockets`. The module runs natively, so that what is measured is the host. As a test
//! (`cargo test --benches`) everything runs briefly, and nothing is measured.
use bulkhead::device::Capabilities;
use bulkhead::device::queue::QueueDevice;
use bulkhead::net::{Builder, Net, PairDevice, TcpStream, blocking, pair};
use bulkhead::placement::native::Native;
use bulkhead::{ConnectOptions, ListenOptions, Options, Stack};
use bulkhead_tcp::Tcp;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Round trips and bytes, when it counts.
const ROUNDS: u32 = 20_000;
const BULK: usize = 1 << 30;

/// How much is done: cargo says `--bench` when it counts.
fn scale() -> (u32, usize) {
    if std::env::args().any(|word| word == "--bench") { (ROUNDS, BULK) } else { (20, 1 << 20) }
}

fn main() {
    println!("{:<52} {:>10}", "one byte there and back", "time");
    let show = |name: &str, time: Duration| println!("{name:<52} {:>7.2} us", time.as_secs_f64() * 1e6);
    show("raw turns, both stacks pumped by one loop", raw());
    show("async, tasks and both drivers on one thread", one_thread(false));
    show("async, the same, turns in calls", one_thread(true));
    show("blocking, a thread each for 2 apps, 2 drivers", threads(false));
    show("blocking, the same, turns in calls", threads(true));
    for in_calls in [false, true] {
        let time = bulk(in_calls);
        let name = if in_calls { "turns in calls" } else { "driver's turns" };
        println!("bulk, {name:<46} {:>7.2} Gbit/s", scale().1 as f64 * 8e-9 / time.as_secs_f64());
    }
}

fn tcp() -> Box<Native> {
    Box::new(Native::new(Box::new(Tcp::new())))
}

fn server_address() -> SocketAddr {
    ([10, 0, 0, 1], 7).into()
}

fn raw() -> Duration {
    let stack = |last, seed| {
        let options = Options::new([10, 0, 0, last].into(), 24, 1500, [seed; 4]);
        (Stack::new(tcp(), options).unwrap(), QueueDevice::new(Capabilities::full(1500)))
    };
    let (mut server, mut client) = (stack(1, 1), stack(2, 2));
    let listener = server.0.listen(server_address().into(), ListenOptions::default()).unwrap();
    let asking = client.0.connect(server_address().into(), ConnectOptions::default()).unwrap();
    let clock = Instant::now();
    let turn = |(stack, device): &mut (Stack, QueueDevice), peer: &mut QueueDevice| {
        while stack.turn(clock.elapsed().as_nanos() as u64, device).unwrap().again {}
        while let Some((bytes, offload)) = device.take() {
            peer.inject(&bytes, offload);
            device.recycle(bytes);
        }
    };
    let accepted = loop {
        turn(&mut client, &mut server.1);
        turn(&mut server, &mut client.1);
        if let Ok(accepted) = server.0.accept(listener) {
            break accepted.stream;
        }
    };
    let mut byte = [1];
    let (rounds, _) = scale();
    let begin = Instant::now();
    for _ in 0..rounds {
        client.0.write(asking, &byte).unwrap();
        turn(&mut client, &mut server.1);
        turn(&mut server, &mut client.1);
        assert_eq!(server.0.read(accepted, &mut byte).unwrap(), 1);
        server.0.write(accepted, &byte).unwrap();
        turn(&mut server, &mut client.1);
        turn(&mut client, &mut server.1);
        assert_eq!(client.0.read(asking, &mut byte).unwrap(), 1);
    }
    begin.elapsed() / rounds
}

fn builder(device: PairDevice, last: u8, in_calls: bool) -> Builder {
    Builder::new(device).instance(tcp()).address([10, 0, 0, last].into(), 24).turns_in_calls(in_calls)
}

async fn connected(server: &Net, client: &Net) -> (TcpStream, TcpStream) {
    let listener = server.listen(server_address()).unwrap();
    let (accepted, asking) = tokio::join!(listener.accept(), client.connect(server_address()));
    (accepted.unwrap().0, asking.unwrap())
}

#[tokio::main(flavor = "current_thread")]
async fn one_thread(in_calls: bool) -> Duration {
    let (left, right) = pair(1500).unwrap();
    let (server, first) = builder(left, 1, in_calls).build().unwrap();
    let (client, second) = builder(right, 2, in_calls).build().unwrap();
    tokio::spawn(first.run());
    tokio::spawn(second.run());
    let (mut accepted, mut asking) = connected(&server, &client).await;
    tokio::spawn(async move {
        while let Ok(byte) = accepted.read_u8().await {
            accepted.write_u8(byte).await.unwrap();
        }
    });
    let (rounds, _) = scale();
    let begin = Instant::now();
    for _ in 0..rounds {
        asking.write_u8(1).await.unwrap();
        asking.read_u8().await.unwrap();
    }
    begin.elapsed() / rounds
}

fn spawned(in_calls: bool) -> (blocking::TcpStream, blocking::TcpStream) {
    let (left, right) = pair(1500).unwrap();
    let server = builder(left, 1, in_calls).spawn().unwrap();
    let client = builder(right, 2, in_calls).spawn().unwrap();
    let listener = blocking::TcpListener::bind(&server, server_address()).unwrap();
    let asking = blocking::TcpStream::connect(&client, server_address()).unwrap();
    (listener.accept().unwrap().0, asking)
}

fn threads(in_calls: bool) -> Duration {
    let (mut accepted, mut asking) = spawned(in_calls);
    let answering = std::thread::spawn(move || {
        let mut byte = [0];
        while accepted.read(&mut byte).unwrap() == 1 {
            accepted.write_all(&byte).unwrap();
        }
    });
    let mut byte = [1];
    let (rounds, _) = scale();
    let begin = Instant::now();
    for _ in 0..rounds {
        asking.write_all(&byte).unwrap();
        asking.read_exact(&mut byte).unwrap();
    }
    let time = begin.elapsed() / rounds;
    drop(asking);
    answering.join().unwrap();
    time
}

fn bulk(in_calls: bool) -> Duration {
    let (_, bytes) = scale();
    let (mut accepted, mut asking) = spawned(in_calls);
    let begin = Instant::now();
    let writing = std::thread::spawn(move || {
        let chunk = vec![7; 256 << 10];
        (0..bytes / chunk.len()).for_each(|_| asking.write_all(&chunk).unwrap());
    });
    let mut space = vec![0; 256 << 10];
    let mut got = 0;
    while got < bytes {
        got += accepted.read(&mut space).unwrap();
    }
    writing.join().unwrap();
    begin.elapsed()
}
