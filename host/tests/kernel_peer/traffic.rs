//! Bytes, both ways, exactly.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bulkhead::device::{Tun, TunOptions};
use bulkhead::net::{Builder, blocking};
use bulkhead::placement::native::Native;

use super::server::{Server, curl, namespace, noise};

const MIB: usize = 1 << 20;

fn download(flags: &[&str]) {
    let Some(space) = namespace() else { return };
    let (file, copy) = (space.folder().join("file"), space.folder().join("copy"));
    let bytes = noise(100 * MIB, 1);
    std::fs::write(&file, &bytes).unwrap();
    let folder = space.folder().to_str().unwrap();
    let server = Server::start(&space, &[&["http", folder], flags].concat());
    assert!(server.said().contains("try: curl http://10.77.0.2/\n"), "{}", server.said());
    curl(&space, &["-o", copy.to_str().unwrap(), "http://10.77.0.2/file"]);
    assert!(std::fs::read(&copy).unwrap() == bytes, "the copy differs");
    let part = curl(&space, &["-r", "1000000-1999999", "http://10.77.0.2/file"]);
    assert!(part == bytes[1_000_000..2_000_000]);
    let head = curl(&space, &["-I", "http://10.77.0.2/file"]);
    assert!(String::from_utf8(head).unwrap().contains("content-length: 104857600\r\n"));
    let summary = server.end();
    let out = summary["bytes_out"].as_u64().unwrap();
    assert!(out > 100 * MIB as u64 + 1_000_000, "{summary}");
    assert_eq!(summary["connections"], 3);
    assert!(summary["steps"].as_u64().unwrap() > 0 && summary["module_ns"].as_u64().unwrap() > 0);
}

#[test]
#[ignore = "needs root"]
fn tun_download_over_the_plain_device() {
    download(&["--offload", "off"]);
}

#[test]
#[ignore = "needs root"]
fn tun_download_with_offload() {
    download(&["--offload", "on"]);
}

#[test]
#[ignore = "needs root"]
fn tun_download_without_the_sandbox() {
    download(&["--placement", "native"]);
}

#[test]
#[ignore = "needs root"]
fn tun_download_from_a_server_process() {
    download(&["--placement", "process"]);
}

/// Sends everything and ends, while it reads to the end.
fn exchange(to: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut writing = stream.try_clone().unwrap();
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writing.write_all(sent).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut got).unwrap();
    });
    got
}

#[test]
#[ignore = "needs root"]
fn tun_uploads_are_echoed_and_discarded() {
    let Some(space) = namespace() else { return };
    for offload in ["on", "off"] {
        let server = Server::start(&space, &["echo", "discard:99", "--offload", offload]);
        let sent = noise(24 * MIB, 2);
        let got = space.inside(|| exchange("10.77.0.2:7".parse().unwrap(), &sent)).unwrap();
        assert!(got == sent, "what came back differs ({} bytes)", got.len());
        let upload = noise(100 * MIB, 3);
        let nothing = space.inside(|| exchange("10.77.0.2:99".parse().unwrap(), &upload)).unwrap();
        assert!(nothing.is_empty());
        let summary = server.end();
        assert_eq!(summary["bytes_in"], 124 * MIB);
        assert_eq!(summary["applications"][1]["bytes_in"], 100 * MIB);
        assert_eq!((&summary["connections"], &summary["ended"]), (&2.into(), &2.into()), "{summary}");
    }
}

#[test]
#[ignore = "needs root"]
fn tun_fifty_connections_in_parallel_over_both_versions_of_ip() {
    fifty(&[]);
}

#[test]
#[ignore = "needs root"]
fn tun_fifty_connections_on_three_shards() {
    fifty(&["--shards", "3"]);
}

#[test]
#[ignore = "needs root"]
fn tun_fifty_connections_with_busy_polling() {
    fifty(&["--busy-poll", "50"]);
}

fn fifty(flags: &[&str]) {
    let Some(space) = namespace() else { return };
    let folder = space.folder().join("site");
    std::fs::create_dir(&folder).unwrap();
    for number in 0..50 {
        std::fs::write(folder.join(format!("file{number}")), noise(MIB + number, number as u64 + 9)).unwrap();
    }
    let site = folder.to_str().unwrap();
    let words = ["http:8080", site, "--address", "10.77.0.2/24", "--address", "fd77::2/64"];
    let server = Server::start(&space, &[&words[..], flags].concat());
    for host in ["10.77.0.2", "[fd77::2]"] {
        let copies = space.folder().join("copy_#1");
        let url = format!("http://{host}:8080/file[0-49]");
        let copies = copies.to_str().unwrap();
        curl(&space, &["--parallel", "--parallel-immediate", "--parallel-max", "50", "-o", copies, &url]);
        for number in 0..50 {
            let copy = std::fs::read(space.folder().join(format!("copy_{number}"))).unwrap();
            assert!(copy == noise(MIB + number, number as u64 + 9), "file {number} from {host} differs");
        }
    }
    let summary = server.end();
    assert!(summary["connections"].as_u64().unwrap() >= 100, "{summary}");
}

/// The same stack as a library, opening towards a server of the kernel's.
#[test]
#[ignore = "needs root"]
fn tun_active_open_to_a_server_of_the_kernels() {
    let Some(space) = namespace() else { return };
    space
        .inside(|| {
            let device = Tun::open(&TunOptions {
                name: "bhactive".into(),
                addresses: vec![("10.77.0.1".parse().unwrap(), 24)],
                up: true,
                ..TunOptions::default()
            })
            .unwrap();
            let net = Builder::new(device)
                .instance(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))))
                .address("10.77.0.2".parse().unwrap(), 24)
                .spawn()
                .unwrap();
            let server = TcpListener::bind("10.77.0.1:0").unwrap();
            let at = server.local_addr().unwrap();
            let (up, down) = (noise(8 * MIB, 5), noise(8 * MIB, 6));
            std::thread::scope(|scope| {
                let kernel = scope.spawn(|| {
                    let (mut stream, from) = server.accept().unwrap();
                    assert_eq!(from.ip().to_string(), "10.77.0.2");
                    let mut writing = stream.try_clone().unwrap();
                    let mut got = Vec::new();
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            writing.write_all(&down).unwrap();
                            writing.shutdown(Shutdown::Write).unwrap();
                        });
                        stream.read_to_end(&mut got).unwrap();
                    });
                    got
                });
                let mut stream = blocking::TcpStream::connect(&net, at).unwrap();
                assert_eq!(stream.peer_addr(), at);
                // Read and write in turns, so that both directions are under way at once.
                let mut got = Vec::new();
                let mut buffer = vec![0; 64 << 10];
                for piece in up.chunks(64 << 10) {
                    stream.write_all(piece).unwrap();
                    let count = stream.read(&mut buffer).unwrap();
                    got.extend_from_slice(&buffer[..count]);
                }
                stream.shutdown_write().unwrap();
                stream.read_to_end(&mut got).unwrap();
                assert!(got == down, "what came from the kernel differs");
                assert!(kernel.join().unwrap() == up, "what went to the kernel differs");
            });
            // Nobody listens there any more.
            drop(server);
            let refused = blocking::TcpStream::connect(&net, at).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let summary = net.shutdown_blocking(Duration::from_secs(5));
            assert_eq!((summary.faults, summary.device_errors), (0, 0));
        })
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn tun_frames_are_captured() {
    let Some(space) = namespace() else { return };
    let file = space.folder().join("wire.pcap");
    let server = Server::start(&space, &["echo", "--pcap", file.to_str().unwrap(), "--seed", "7"]);
    let got = space.inside(|| exchange("10.77.0.2:7".parse().unwrap(), b"over the wire")).unwrap();
    assert_eq!(got, b"over the wire");
    server.end();
    let frames = std::fs::read(&file).unwrap();
    let found = frames.windows(13).filter(|part| part == b"over the wire").count();
    assert_eq!(found, 2, "once in each direction");
}
