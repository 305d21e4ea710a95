//! How it ends: in kind, at once, or by a fault of the module.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bulkhead::supervise::RESTARTS;
use serde_json::Value;

use super::server::{Server, is_gone, namespace, noise};

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("10.77.0.2", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream
}

#[test]
#[ignore = "needs root"]
fn tun_ctrl_c_in_the_middle_of_a_download_leaves_nothing_behind() {
    let Some(space) = namespace() else { return };
    std::fs::write(space.folder().join("file"), noise(40 << 20, 4)).unwrap();
    let folder = space.folder().to_str().unwrap();
    let server = Server::start(&space, &["http", folder, "--drain", "1"]);
    let mut curl = space.command("curl");
    curl.args(["-sS", "--limit-rate", "1M", "-o"]).arg(space.folder().join("copy"));
    let mut curl = curl.arg("http://10.77.0.2/file").stderr(Stdio::null()).spawn().unwrap();
    let copied = || std::fs::metadata(space.folder().join("copy")).map_or(0, |about| about.len());
    while copied() == 0 {
        assert!(curl.try_wait().unwrap().is_none(), "curl ended by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.signal("INT");
    let (status, summary, said) = server.wait();
    assert!(status.success(), "{said}");
    assert_eq!(summary["connections"], 1, "{said}");
    // It was reset: curl says so, and does not wait.
    assert!(!curl.wait().unwrap().success());
    assert!(is_gone(&space, "bulkhead0"));
}

#[test]
#[ignore = "needs root"]
fn tun_ctrl_c_lets_finish_what_is_on_its_way() {
    let Some(space) = namespace() else { return };
    let bytes = noise(8 << 20, 5);
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    let folder = space.folder().to_str().unwrap();
    let server = Server::start(&space, &["http", folder, "echo", "--drain", "60"]);
    let rest = space
        .inside(|| {
            let mut idle = connect(7);
            let mut stream = connect(80);
            stream.write_all(b"GET /file HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
            let mut first = vec![0; 1000];
            stream.read_exact(&mut first).unwrap();
            server.signal("TERM");
            // An echo that says nothing gets its FIN at once, while the download goes on.
            assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0);
            // And nobody new is let in, as soon as the other application has heard of it too.
            let refused = (0..5000).find_map(|_| {
                let result = TcpStream::connect("10.77.0.2:80");
                std::thread::sleep(Duration::from_millis(u64::from(result.is_ok())));
                result.err()
            });
            assert_eq!(refused.expect("still let in").kind(), ErrorKind::ConnectionRefused);
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            rest
        })
        .unwrap();
    assert!(rest.ends_with(&bytes[bytes.len() - 4_000_000..]), "{} bytes", rest.len());
    let (status, summary, said) = server.wait();
    // Reset is who comes too late, and who had not been accepted yet when the application stopped listening: nobody else.
    let count = |value: &Value| value.as_u64().unwrap();
    let accepted: u64 =
        summary["applications"].as_array().unwrap().iter().map(|one| count(&one["connections"])).sum();
    let late = count(&summary["connections"]) - accepted + 1;
    assert!(status.success() && count(&summary["census"]["resets_out"]) <= late, "{summary} {said}");
}

#[test]
#[ignore = "needs root"]
fn tun_second_ctrl_c_ends_at_once() {
    let Some(space) = namespace() else { return };
    let mut server = Server::start(&space, &["echo", "--drain", "3600"]);
    // Holds its connection open for ever. What comes back was read: an application that ends with bytes unread resets.
    let mut stream = space.inside(|| connect(7)).unwrap();
    stream.write_all(b"something").unwrap();
    stream.read_exact(&mut [0; 9]).unwrap();
    server.signal("INT");
    server.wait_for("once more ends at once");
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    server.signal("INT");
    let (status, summary, _) = server.wait();
    assert_eq!(status.code(), Some(130));
    assert_eq!(summary["bytes_in"], 9);
    assert!(is_gone(&space, "bulkhead0"));
}

#[test]
#[ignore = "needs root"]
fn tun_the_machine_is_as_before() {
    let Some(space) = namespace() else { return };
    let before = space.run(&["ip", "address"]).unwrap().stdout;
    let server = Server::start(&space, &["echo", "source", "--address", "10.9.8.6/29"]);
    assert!(!is_gone(&space, "bulkhead0") && Path::new("/dev/net/tun").exists());
    let first = space
        .inside(|| {
            let mut stream = TcpStream::connect("10.9.8.6:19").unwrap();
            let mut line = [0; 74];
            stream.read_exact(&mut line).unwrap();
            line
        })
        .unwrap();
    assert!(first.starts_with(b" !\"#$%") && first.ends_with(b"\r\n"));
    server.end();
    assert_eq!(space.run(&["ip", "address"]).unwrap().stdout, before);
}

/// A module that fails takes its connections with it and nothing else: a fresh one serves on. One that keeps failing is
/// given up, and so is the program.
#[test]
#[ignore = "needs root"]
fn tun_a_module_that_fails_is_followed_by_a_fresh_one_until_it_is_given_up() {
    let Some(space) = namespace() else { return };
    let module = Path::new(env!("BULKHEAD_TCP_MODULE")).with_file_name("hostile-guest.wasm");
    if !module.exists() {
        eprintln!("skipped: {} is not built; run `cargo xtask guests`", module.display());
        return;
    }
    // By its own setting, an instance panics for good once it has seen payload three times: nothing can be recovered.
    let defect = format!("{}=3", 0xf005);
    let mut server =
        Server::start(&space, &["echo", "--module", module.to_str().unwrap(), "--setting", &defect]);
    let (mut answered, mut attempts) = (0, 0);
    while !server.has_ended() {
        // Each time from another address, since one whose segments have killed twice is not heard for a while.
        attempts += 1;
        assert!(attempts < 100, "it is never given up: {}", server.said());
        let source = format!("10.77.0.{}", 100 + attempts);
        let _ = space.run(&["ip", "address", "add", &format!("{source}/24"), "dev", "bulkhead0"]);
        let _ = space.run(&["ip", "route", "replace", "10.77.0.0/24", "dev", "bulkhead0", "src", &source]);
        let near = Duration::from_secs(1);
        let to = "10.77.0.2:7".parse().unwrap();
        let Ok(mut stream) = space.inside(|| TcpStream::connect_timeout(&to, near)).unwrap() else {
            continue;
        };
        stream.set_read_timeout(Some(near)).unwrap();
        let mut four = [0; 4];
        for _ in 0..10 {
            if stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut four)).is_err() {
                break;
            }
            assert_eq!(&four, b"ping");
            answered += 1;
        }
    }
    let (status, summary, said) = server.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(summary["faults"], RESTARTS + 1, "{said}");
    // Instances after the first one served too.
    assert!(answered > 3, "{answered} answers: {said}");
    for text in ["panicked", " 0: ", "given up"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(is_gone(&space, "bulkhead0"));
}
