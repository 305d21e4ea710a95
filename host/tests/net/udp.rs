//! Datagram sockets, and several modules side by side.

use super::common::{Fragile, SERVER, address, builder, connected, pattern};
use bulkhead::BindOptions;
use bulkhead::net::{Net, PairDevice, pair};
use bulkhead::placement::native::Native;
use bulkhead_udp::Udp;
use bulkhead_wit::Inputs;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn udp() -> Box<Native> {
    Box::new(Native::new(Box::new(Udp::new())))
}

fn both(device: PairDevice, host: &str, seed: u64) -> Net {
    builder(device, host, seed).beside(udp()).spawn().unwrap()
}

fn stacks() -> (Net, Net) {
    let (first, second) = pair(1500).unwrap();
    (both(first, "10.9.0.1", 1), both(second, "10.9.0.2", 2))
}

#[tokio::test]
async fn datagrams_there_and_back_of_every_size() {
    let (server, client) = stacks();
    let there = server.bind_udp(address("10.9.0.1:5353")).unwrap();
    let here = client.bind_udp(address("0.0.0.0:0")).unwrap();
    let mut into = vec![0; 70_000];
    for (round, length) in [0, 1, 100, 1472, 1473, 9000, 40_000, 65_507].into_iter().enumerate() {
        let sent = pattern(length, round as u64);
        assert_eq!(here.send_to(&sent, there.local_addr()).await.unwrap(), length);
        let (count, from) = there.peek_from(&mut into).await.unwrap();
        assert_eq!((count, from), (length, address(&format!("10.9.0.2:{}", here.local_addr().port()))));
        let (count, from, to) = there.recv_between(&mut into).await.unwrap();
        assert!(into[..count] == sent, "{length}");
        assert_eq!(to, there.local_addr());
        there.send_between(&sent, to, from).await.unwrap();
        let (count, from) = here.recv_from(&mut into).await.unwrap();
        assert!(into[..count] == sent && from == there.local_addr());
    }
    let long = here.send_to(&vec![0; 65_508], there.local_addr()).await.unwrap_err();
    assert_eq!(long.kind(), ErrorKind::InvalidInput);
    assert_eq!(there.try_recv_from(&mut into).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn one_peer_is_heard_and_a_port_without_a_socket_refuses() {
    let (server, client) = stacks();
    let there = server.bind_udp(address("10.9.0.1:7")).unwrap();
    let here = client.connect_udp(there.local_addr()).unwrap();
    here.send(b"ping").await.unwrap();
    let mut into = [0; 16];
    let (count, from) = there.recv_from(&mut into).await.unwrap();
    assert_eq!(&into[..count], b"ping");
    let stranger = server.bind_udp(address("10.9.0.1:8")).unwrap();
    stranger.send_to(b"not heard", from).await.unwrap();
    there.send_to(b"pong", from).await.unwrap();
    assert_eq!(here.recv(&mut into).await.unwrap(), 4);
    // The stranger was told by ICMP, but has no one peer to be told of.
    drop(there);
    here.send(b"nobody").await.unwrap();
    assert_eq!(here.recv(&mut into).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(server.bind_udp(address("10.9.0.1:8")).unwrap_err().kind(), ErrorKind::AddrInUse);
    let foreign = server.bind_udp(address("192.0.2.1:8")).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn who_does_not_read_loses_what_is_beyond_his_buffer() {
    let (server, client) = stacks();
    let options = BindOptions { receive_max: 10_000, ..BindOptions::default() };
    let there = server.bind_udp_with(address("10.9.0.1:9"), options).unwrap();
    let here = client.bind_udp(address("10.9.0.2:9")).unwrap();
    for _ in 0..100 {
        here.send_to(&[7; 1000], there.local_addr()).await.unwrap();
    }
    // A datagram behind them by another way says that all have arrived.
    let last = server.bind_udp(address("10.9.0.1:10")).unwrap();
    here.send_to(b"last", last.local_addr()).await.unwrap();
    last.recv_from(&mut [0; 8]).await.unwrap();
    let mut count = 0;
    while there.try_recv_from(&mut [0; 2000]).is_ok() {
        count += 1;
    }
    assert_eq!((count, there.dropped()), (8, 92));
}

#[tokio::test]
async fn a_stack_without_the_module_says_so() {
    let (first, _cable) = pair(1500).unwrap();
    let net = builder(first, "10.9.0.1", 1).spawn().unwrap();
    assert_eq!(net.bind_udp(address("10.9.0.1:1")).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn to_oneself() {
    let (first, _cable) = pair(1500).unwrap();
    let net = both(first, "10.9.0.1", 1);
    let (_listener, mut accepted, mut stream) = connected(&net, &net).await;
    let sent = pattern(1 << 20, 5);
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        stream.write_all(&copy).await.unwrap();
        stream
    });
    let mut got = vec![0; sent.len()];
    accepted.read_exact(&mut got).await.unwrap();
    assert!(got == sent);
    drop(writing.await.unwrap());
    let there = net.bind_udp(address("10.9.0.1:5")).unwrap();
    let here = net.bind_udp(address("10.9.0.1:6")).unwrap();
    here.send_to(b"me", there.local_addr()).await.unwrap();
    assert_eq!(there.recv_from(&mut [0; 8]).await.unwrap(), (2, here.local_addr()));
}

#[tokio::test]
async fn one_module_fails_and_the_other_goes_on() {
    let (first, second) = pair(1500).unwrap();
    let of_13 = |inputs: &Inputs<'_>| inputs.messages.iter().any(|message| message.length == 13);
    let fragile = Native::new(Box::new(Fragile(Udp::new(), of_13)));
    let client = builder(first, "10.9.0.2", 1).beside(Box::new(fragile)).spawn().unwrap();
    let server = both(second, "10.9.0.1", 2);
    let (_listener, mut accepted, mut stream) = connected(&server, &client).await;
    let here = client.bind_udp(address("10.9.0.2:9")).unwrap();
    stream.write_all(b"before").await.unwrap();
    here.send_to(&[0; 13], address(SERVER)).await.unwrap();
    let told = here.recv_from(&mut [0; 8]).await.unwrap_err();
    assert!(told.to_string().contains("the weak spot"), "{told}");
    assert!(client.bind_udp(address("10.9.0.2:10")).is_err());
    stream.write_all(b" and after").await.unwrap();
    let mut got = [0; 16];
    accepted.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"before and after");
    assert!(client.is_running());
    let stat = client.stat();
    assert_eq!((stat.faults, stat.modules[0].faults, stat.modules[1].faults), (1, 0, 1));
    client.connect(address(SERVER)).await.unwrap();
}

#[tokio::test]
async fn who_sends_in_vain_is_told_why() {
    let (server, client) = stacks();
    let speaker = server.bind_udp(address("10.9.0.1:1")).unwrap();
    let (far, mut into) = (address("10.9.0.1:77"), [0; 16]);
    for (why, heard) in [
        (ErrorKind::ConnectionRefused, ErrorKind::ConnectionRefused),
        (ErrorKind::HostUnreachable, ErrorKind::HostUnreachable),
        (ErrorKind::NetworkUnreachable, ErrorKind::NetworkUnreachable),
        // As kernels have it: whoever forbids the way is no peer of the socket's.
        (ErrorKind::PermissionDenied, ErrorKind::HostUnreachable),
    ] {
        let here = client.connect_udp(far).unwrap();
        let to = address(&format!("10.9.0.2:{}", here.local_addr().port()));
        speaker.unreachable_between(why, far, to).unwrap();
        assert_eq!(here.recv(&mut into).await.unwrap_err().kind(), heard);
    }
    let other = speaker.unreachable_between(ErrorKind::TimedOut, far, address("10.9.0.2:5")).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::InvalidInput);
}
