//! Many at a time: connections, datagrams, questions to a name server.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use bulkhead_namespace::Namespace;
use tokio::io::copy;

use super::{HOST, command, host, inside, name_server, report, said};

/// Gives back what it gets, by TCP and UDP at port 7, for as long as `work` lasts.
fn echoing<T>(space: &Namespace, work: impl FnOnce() -> T) -> T {
    let (listener, socket) = space
        .inside(|| (TcpListener::bind((HOST, 7)).unwrap(), UdpSocket::bind((HOST, 7)).unwrap()))
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = copy(&mut read, &mut write).await;
            });
        }
    });
    runtime.spawn(async move {
        let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
        let mut bytes = vec![0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut bytes).await {
            socket.send_to(&bytes[..count], from).await.unwrap();
        }
    });
    let result = work();
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Opens a thousand connections, all of them before the first byte; each carries bytes of its own.
const THOUSAND: &str = r#"
import socket, sys
held = []
for number in range(1000):
    one = socket.socket()
    one.settimeout(30)
    one.setblocking(False)
    one.connect_ex((sys.argv[1], 7))
    held.append(one)
for one in held:
    one.setblocking(True)
    one.settimeout(30)
said = [b"%04d" % number * 500 for number in range(1000)]
for one, bytes in zip(held, said):
    one.sendall(bytes)
print(sum(one.getpeername()[1] == 7 for one in held))
right = 0
for one, bytes in zip(held, said):
    one.shutdown(socket.SHUT_WR)
    got = b""
    while some := one.recv(65536):
        got += some
    right += got == bytes
print(right)
"#;

#[test]
#[ignore = "needs root"]
fn tun_a_thousand_connections_at_a_time() {
    let Some(space) = host() else { return };
    let script = space.folder().join("thousand.py");
    std::fs::write(&script, THOUSAND).unwrap();
    let output = echoing(&space, || {
        // The limit that most systems have leaves no room for as many descriptors; that of the gateway's is its own affair.
        let line = format!("ulimit -Sn; ulimit -Sn 4096; python3 {} {HOST}", script.display());
        let gateway = command(&space);
        let words: Vec<_> = gateway.get_args().collect();
        let mut limited = space.command("sh");
        limited.args(["-c", "ulimit -Sn 512; exec \"$@\"", "sh"]).args(&words[3..]);
        limited.args(["--", "sh", "-c", &line]).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        limited.output().unwrap()
    });
    assert_eq!(said(&output), "512\n1000\n1000");
    let report = report(&output);
    assert_eq!((&report["gateway"]["connections"], &report["gateway"]["refused"]), (&1000.into(), &0.into()));
    assert_eq!(report["gateway"]["bytes_in"], 2_000_000, "{report}");
}

/// A flow from each of a hundred ports, and every length up to the longest.
const DATAGRAMS: &str = r#"
import socket, sys
lengths = [0, 1, 1471, 1472, 1473, 4000, 20000, 65507]
right, kept = 0, []
for number in range(100):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # A port that is free again may be taken again, and that would be the same flow.
    kept.append(one)
    one.settimeout(5)
    one.connect((sys.argv[1], 7))
    for length in lengths if number % 10 == 0 else [100]:
        bytes = (b"%04d" % number * 20000)[:length]
        one.send(bytes)
        right += one.recv(65536) == bytes
print(right)
"#;

#[test]
#[ignore = "needs root"]
fn tun_datagrams_of_every_length_come_back() {
    let Some(space) = host() else { return };
    let script = space.folder().join("datagrams.py");
    std::fs::write(&script, DATAGRAMS).unwrap();
    let output = echoing(&space, || inside(&space, &[], &format!("python3 {} {HOST}", script.display())));
    assert_eq!(said(&output), "170");
    let report = report(&output);
    assert_eq!((&report["gateway"]["udp_flows"], &report["faults"]), (&100.into(), &0.into()), "{report}");
}

/// Fifty threads with twenty questions each.
const NAMES: &str = r#"
import concurrent.futures as many, socket
look = lambda number: socket.getaddrinfo(f"host{number}.example", 80, socket.AF_INET)[0][4][0]
with many.ThreadPoolExecutor(50) as threads:
    print(len([a for a in threads.map(look, range(1000)) if a == "198.51.100.1"]))
"#;

#[test]
#[ignore = "needs root"]
fn tun_a_thousand_questions_to_the_name_server() {
    let Some(space) = host() else { return };
    let script = space.folder().join("names.py");
    std::fs::write(&script, NAMES).unwrap();
    let socket = space.inside(|| UdpSocket::bind((HOST, 53)).unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| name_server(&socket));
        let output = inside(&space, &["--dns", HOST], &format!("python3 {}", script.display()));
        space.inside(|| UdpSocket::bind((HOST, 0)).unwrap().send_to(b"end", (HOST, 53)).unwrap()).unwrap();
        assert_eq!(said(&output), "1000");
        // A socket for each, but for those that get the port of one before.
        let report = report(&output);
        assert!(report["gateway"]["udp_flows"].as_u64().unwrap() >= 900, "{report}");
    });
}
