//! Connections that are handed on: from the stack to the host, from the host into the stack, and by a proxy.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::server::{Server, curl, namespace, noise, program};
use super::{have, nginx, start};

const MIB: usize = 1 << 20;

#[test]
#[ignore = "needs root"]
fn tun_nginx_behind_forward_both_ways_and_by_socks5() {
    let Some(space) = namespace().filter(|_| have(&["nginx", "curl"])) else { return };
    let bytes = noise(8 * MIB, 1);
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    std::fs::write(space.folder().join("small"), b"small").unwrap();
    // The kernel's end is there once the device is.
    let words = ["forward", "80=127.0.0.1:8000", "forward", "host:9000=10.77.0.1:8001", "socks5"];
    let server = Server::start(&space, &words);
    let _inside = nginx(&space, "127.0.0.1:8000", None);
    let _outside =
        start(&space, &["nginx", "-c", outside(&space, "10.77.0.1:8001").as_str()], "10.77.0.1:8001");
    assert!(curl(&space, &["http://10.77.0.2/file"]) == bytes, "from the stack to the host");
    assert!(curl(&space, &["http://127.0.0.1:9000/file"]) == bytes, "from the host into the stack");
    let proxy = ["--socks5-hostname", "127.0.0.1:1080", "http://10.77.0.1:8001/file"];
    assert!(curl(&space, &proxy) == bytes, "by the proxy");
    let refused = space.run(&["curl", "-sS", "--socks5-hostname", "127.0.0.1:1080", "http://10.77.0.1:9/"]);
    assert!(refused.unwrap_err().to_string().contains("SOCKS"), "the refusal is told in kind");
    // Two hundred at once.
    let copies = space.folder().join("copy_#1");
    let copies = copies.to_str().unwrap();
    let all = ["--parallel", "--parallel-immediate", "--parallel-max", "200", "-o", copies];
    curl(&space, &[&all[..], &["http://10.77.0.2/small?[0-199]"]].concat());
    for number in 0..200 {
        assert_eq!(std::fs::read(space.folder().join(format!("copy_{number}"))).unwrap(), b"small");
    }
    let summary = server.end();
    assert!(summary["connections"].as_u64().unwrap() >= 203, "{summary}");
}

/// A second configuration of nginx, for another end.
fn outside(space: &bulkhead_namespace::Namespace, at: &str) -> String {
    let folder = space.folder().join("outside");
    std::fs::create_dir(&folder).unwrap();
    let first = std::fs::read_to_string(space.folder().join("nginx.conf")).unwrap();
    let second = first.replace("127.0.0.1:8000", at).replace("nginx.pid", "outside/nginx.pid");
    let path = folder.join("nginx.conf");
    std::fs::write(&path, second).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs root"]
fn tun_tls_behind_forward() {
    let Some(space) = namespace().filter(|_| have(&["nginx", "curl", "openssl"])) else { return };
    let bytes = noise(20 * MIB, 2);
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    let server = Server::start(&space, &["forward", "443=127.0.0.1:8443"]);
    let _nginx = nginx(&space, "127.0.0.1:8000", Some("127.0.0.1:8443"));
    let certificate = space.folder().join("cert.pem");
    let words = [
        "--cacert",
        certificate.to_str().unwrap(),
        "--resolve",
        "behind.test:443:10.77.0.2",
        "https://behind.test/file",
    ];
    assert!(curl(&space, &words) == bytes);
    server.end();
}

#[test]
#[ignore = "needs root"]
fn tun_redis_benchmark_through_forward() {
    let Some(space) = namespace().filter(|_| have(&["redis-server", "redis-benchmark"])) else { return };
    let server = Server::start(&space, &["forward", "6379=127.0.0.1:6380"]);
    let folder = space.folder().to_str().unwrap();
    let redis = ["redis-server", "--port", "6380", "--bind", "127.0.0.1", "--save", "", "--dir", folder];
    let _redis = start(&space, &redis, "127.0.0.1:6380");
    let words = [
        "redis-benchmark",
        "-h",
        "10.77.0.2",
        "-t",
        "set,get",
        "-n",
        "20000",
        "-c",
        "50",
        "-d",
        "1000",
        "--csv",
    ];
    let out = space.run(&words).unwrap_or_else(|error| panic!("{error}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    println!("{text}");
    assert!(text.contains("\"SET\"") && text.contains("\"GET\""), "{text}");
    server.end();
}

#[test]
#[ignore = "needs root"]
fn tun_stat_and_metrics_tell_what_is_open() {
    let Some(space) = namespace().filter(|_| have(&["curl"])) else { return };
    let control = space.folder().join("control.sock");
    let path = control.to_str().unwrap();
    let server = Server::start(&space, &["echo", "--control", path, "--metrics", "127.0.0.1:9100"]);
    let mode = std::fs::metadata(&control).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = space.inside(|| std::net::TcpStream::connect("10.77.0.2:7").unwrap()).unwrap();
    std::io::Write::write_all(&mut &stream, b"hello").unwrap();
    std::io::Read::read_exact(&mut &stream, &mut [0; 5]).unwrap();
    let stat = |more: &[&str]| {
        let out = program(Some(&space)).args(["stat", "--control", path]).args(more).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let said: Value = serde_json::from_str(&stat(&["--json"])).unwrap();
    let one = &said["connections"][0];
    assert_eq!((&one["state"], &one["local"]), (&"ESTABLISHED".into(), &"10.77.0.2:7".into()), "{said}");
    assert_eq!((&one["bytes_received"], &one["bytes_acked"]), (&5.into(), &5.into()));
    assert_eq!(said["applications"][0]["bytes_out"], 5);
    let text = stat(&[]);
    assert!(text.contains("ESTABLISHED") && text.contains("LISTEN") && text.contains("cwnd:"), "{text}");
    let figures = String::from_utf8(curl(&space, &["http://127.0.0.1:9100/metrics"])).unwrap();
    for line in
        ["bulkhead_connections_established 1", "bulkhead_faults_total 0", "bulkhead_received_bytes_total 5"]
    {
        assert!(figures.contains(&format!("\n{line}\n")), "{line}: {figures}");
    }
    drop(stream);
    server.end();
    assert!(!control.exists(), "the control socket is gone");
}

#[test]
fn what_is_made_of_the_command_line() {
    let generate = |words: &[&str]| {
        let out = program(None).arg("generate").args(words).output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(generate(&["man"]).contains("forward"));
    assert!(generate(&["completions", "bash"]).contains("_bulkhead"));
    assert!(generate(&["systemd"]).contains("ExecStart=/"));
    let nobody = program(None).args(["stat", "--control", "/nonexistent/socket"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no running instance"));
}
