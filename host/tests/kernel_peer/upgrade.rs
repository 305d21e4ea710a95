//! `bulkhead upgrade` while curl downloads, and others talk.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bulkhead_namespace::Namespace;
use serde_json::Value;

use super::server::{PROGRAM, Server, curl, is_gone, namespace, noise, program};

const MIB: usize = 1 << 20;

fn control(space: &Namespace) -> String {
    space.folder().join("control").to_str().unwrap().to_owned()
}

fn upgrade(space: &Namespace, words: &[&str]) -> Output {
    let mut command = program(Some(space));
    command.args(["upgrade", "--json", "--control", &control(space)]).args(words).output().unwrap()
}

/// One that is made, and what is told of it.
fn upgraded(space: &Namespace, words: &[&str]) -> Value {
    let output = upgrade(space, words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One that is not, and why.
fn refused(space: &Namespace, words: &[&str]) -> String {
    let output = upgrade(space, words);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A program that is a script.
fn script(space: &Namespace, name: &str, text: &str) -> String {
    let path = space.folder().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Sends everything in pieces, over a time, and reads what comes back.
fn talk(to: &str, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut writing = stream.try_clone().unwrap();
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in sent.chunks(sent.len() / 200) {
                writing.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            writing.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut got).unwrap();
    });
    got
}

/// The last of the line ends in order, and the first has: what was done in all.
fn end(server: Server, space: &Namespace, last: u64) -> Value {
    let status = Command::new("kill").args(["-INT", &last.to_string()]).status();
    assert!(status.unwrap().success());
    let (status, summary, said) = server.wait();
    assert!(status.success(), "{status}: {said}");
    assert_eq!((&summary["faults"], &summary["device_errors"]), (&0.into(), &0.into()), "{said}");
    assert!(is_gone(space, "bulkhead0") && !Path::new(&control(space)).exists());
    summary
}

fn under_traffic(flags: &[&str]) {
    let Some(space) = namespace() else { return };
    let bytes = noise(100 * MIB, 1);
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    let folder = space.folder().to_str().unwrap();
    let control = control(&space);
    // What is forwarded goes out by the kernel, and comes back to the stack: to echo.
    let words = ["http", folder, "echo", "forward", "81=10.77.0.2:7", "--control", &control];
    let server = Server::start(&space, &[&words[..], &["--metrics", "127.0.0.1:9177"], flags].concat());
    let copy = space.folder().join("copy");
    let (mut last, mut carried) = (0, 0);
    std::thread::scope(|scope| {
        let download = scope.spawn(|| {
            let copy = copy.to_str().unwrap();
            curl(&space, &["--limit-rate", "12M", "-o", copy, "http://10.77.0.2/file"]);
        });
        let talks: Vec<_> = ["10.77.0.2:7", "10.77.0.2:81"]
            .map(|to| {
                let space = &space;
                scope.spawn(move || {
                    let sent = noise(8 * MIB, 5);
                    assert!(
                        space.inside(|| talk(to, &sent)).unwrap() == sent,
                        "{to}: something else came back"
                    );
                })
            })
            .into_iter()
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let mut rounds = 0;
        while !download.is_finished() && rounds < 6 {
            let done = upgraded(&space, &[]);
            assert_eq!(done["version"], env!("CARGO_PKG_VERSION"));
            println!("{done}");
            last = done["pid"].as_u64().unwrap();
            carried = carried.max(done["connections"].as_u64().unwrap());
            rounds += 1;
        }
        assert!(rounds > 2, "{rounds} upgrades under the download");
        download.join().unwrap();
        talks.into_iter().for_each(|talk| talk.join().unwrap());
    });
    assert!(std::fs::read(&copy).unwrap() == bytes, "the copy differs");
    assert!(carried >= 3, "{carried} connections at most");
    let figures = String::from_utf8(curl(&space, &["http://127.0.0.1:9177/metrics"])).unwrap();
    assert!(figures.contains("bulkhead_connections_opened_total 4\n"), "{figures}");
    let summary = end(server, &space, last);
    let applications: Vec<_> = summary["applications"].as_array().unwrap().iter().collect();
    // The echo that was talked to, and the one behind the forward.
    assert_eq!(applications[1]["bytes_in"], 16 * MIB, "{summary}");
    assert_eq!(applications.iter().map(|one| one["failed"].as_u64().unwrap()).sum::<u64>(), 0, "{summary}");
}

#[test]
#[ignore = "needs root"]
fn tun_upgrades_under_traffic() {
    under_traffic(&[]);
}

#[test]
#[ignore = "needs root"]
fn tun_upgrades_without_offload_and_without_the_sandbox() {
    under_traffic(&["--offload", "off", "--placement", "native"]);
}

#[test]
#[ignore = "needs root"]
fn tun_a_successor_that_fails_changes_nothing() {
    let Some(space) = namespace() else { return };
    let control = control(&space);
    let server = Server::start(&space, &["echo", "--control", &control]);
    let udp = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/guest-udp.wasm");
    let udp = udp.to_str().unwrap();
    // It says that it is ready, and is gone.
    let liar = r#"printf '\015\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000{"ready":"x"}' >&0; sleep 1"#;
    let programs = [
        (script(&space, "dies", "exit 3"), "exit status: 3"),
        (script(&space, "liar", liar), "it has ended"),
        (
            script(&space, "other", &format!("exec {PROGRAM} run --take-over discard")),
            "serves echo:7, and this",
        ),
        (
            script(&space, "wrong", &format!("exec {PROGRAM} run --take-over echo --module {udp}")),
            "bulkhead-udp does not serve TCP",
        ),
        (script(&space, "old", &format!("exec {PROGRAM} run --no-such-option")), "exit status: 2"),
    ];
    space
        .inside(|| {
            let mut stream = TcpStream::connect("10.77.0.2:7").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut echoed = |text: &[u8]| {
                stream.write_all(text).unwrap();
                let mut back = vec![0; text.len()];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, text);
            };
            echoed(b"before");
            for (path, why) in &programs {
                let said = refused(&space, &[path]);
                assert!(said.contains(why) && said.contains("not upgraded"), "{path}: {said}");
                echoed(path.as_bytes());
            }
            assert!(refused(&space, &["/nowhere/bulkhead"]).contains("cannot read /nowhere/bulkhead"));
            // And after all of that it can still be done.
            let last = upgraded(&space, &[]);
            echoed(b"after");
            drop(stream);
            end(server, &space, last["pid"].as_u64().unwrap());
        })
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn tun_what_cannot_go_along_is_refused_before_anything_is_touched() {
    let Some(space) = namespace() else { return };
    let control = control(&space);
    let file = space.folder().join("file");
    let file = file.to_str().unwrap();
    for (words, why) in [
        (&["echo", "--record", file][..], "--record"),
        (&["echo", "--pcap", file], "--pcap"),
        (&["echo", "--shards", "2"], "--shards"),
        (&["perf"], "perf:5201 is measuring over 1 connections"),
    ] {
        let server = Server::start(&space, &[words, &["--control", &control]].concat());
        let measuring = space.inside(|| {
            // The beginning of a cookie.
            let stream = (words == ["perf"]).then(|| TcpStream::connect("10.77.0.2:5201").unwrap());
            stream.inspect(|mut stream| stream.write_all(b"cookie").unwrap())
        });
        std::thread::sleep(Duration::from_millis(100));
        let said = refused(&space, &[]);
        assert!(said.contains(why) && said.contains("nothing has changed"), "{said}");
        drop(measuring);
        server.end();
    }
}
