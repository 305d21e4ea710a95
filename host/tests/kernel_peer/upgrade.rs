//! `bulkhead upgrade` while curl downloads, and others talk.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bulkhead_namespace::Namespace;
use serde_json::Value;

use super::recording::replayed;
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

/// What is left of it: the files, and what was done in all.
struct Done {
    space: Namespace,
    summary: Value,
    rounds: u64,
}

fn under_traffic(flags: &[&str]) {
    if let Some(space) = namespace() {
        under_traffic_in(space, flags);
    }
}

fn under_traffic_in(space: Namespace, flags: &[&str]) -> Done {
    let bytes = noise(100 * MIB, 1);
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    let folder = space.folder().to_str().unwrap();
    let control = control(&space);
    // What is forwarded goes out by the kernel, and comes back to the stack: to echo.
    let words = ["http", folder, "echo", "forward", "81=10.77.0.2:7", "--control", &control];
    let server = Server::start(&space, &[&words[..], &["--metrics", "127.0.0.1:9177"], flags].concat());
    let copy = space.folder().join("copy");
    let (mut last, mut carried, mut rounds) = (0, 0, 0);
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
    Done { space, summary, rounds }
}

/// Frames of a file of frames; each is whole, and none is older than the one before.
fn frames(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0xa1b2_3c4d);
    let (mut at, mut count, mut last) = (24, 0, (0, 0));
    while at < bytes.len() {
        let (time, length) = ((word(at), word(at + 4)), word(at + 8) as usize);
        assert!(time >= last && time.1 < 1_000_000_000, "frame {count}: {time:?} after {last:?}");
        assert!(matches!(bytes[at + 16] >> 4, 4 | 6), "frame {count} is no datagram");
        (at, count, last) = (at + 16 + length, count + 1, time);
    }
    assert_eq!(at, bytes.len(), "the last frame is whole");
    count
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
fn tun_upgrades_of_shards_under_traffic() {
    under_traffic(&["--shards", "3"]);
}

#[test]
#[ignore = "needs root"]
fn tun_recordings_and_files_of_frames_go_on_under_traffic() {
    for shards in [1, 2] {
        let Some(space) = namespace() else { return };
        let [record, pcap] = ["run.rec", "wire.pcap"].map(|name| space.folder().join(name));
        let [record, pcap] = [&record, &pcap].map(|path| path.to_str().unwrap());
        let count = shards.to_string();
        let done = under_traffic_in(space, &["--record", record, "--pcap", pcap, "--shards", &count]);
        let name = |name: &str, shard: usize| {
            let name = if shard == 0 { name.to_owned() } else { format!("{name}.{shard}") };
            done.space.folder().join(name)
        };
        // How many of the connections a shard gets is for the key to say.
        let (mut steps, mut seen) = (0, 0);
        for shard in 0..shards {
            let said = replayed(&name("run.rec", shard), &[]);
            assert_eq!(said["end"], "complete", "{said}");
            steps += said["steps"].as_u64().unwrap();
            seen += frames(&name("wire.pcap", shard));
        }
        assert!(seen > 200, "{seen} frames");
        assert_eq!(
            done.summary["steps"], steps,
            "what was recorded is what was done, over {} processes",
            done.rounds
        );
    }
}

#[test]
#[ignore = "needs root"]
fn tun_a_successor_that_fails_changes_nothing() {
    let Some(space) = namespace() else { return };
    let control = control(&space);
    let [record, pcap] = ["run.rec", "wire.pcap"].map(|name| space.folder().join(name));
    let files = ["--record", record.to_str().unwrap(), "--pcap", pcap.to_str().unwrap()];
    let server = Server::start(&space, &[&["echo", "--control", &control][..], &files].concat());
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
    // None of those who failed has left anything in a file.
    assert_eq!(replayed(&record, &[])["end"], "complete");
    assert!(frames(&pcap) > 10);
}

#[test]
#[ignore = "needs root"]
fn tun_shards_go_on_after_a_successor_has_failed() {
    let Some(space) = namespace() else { return };
    let control = control(&space);
    let server = Server::start(&space, &["echo", "--control", &control, "--shards", "3"]);
    let liar = r#"printf '\015\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000{"ready":"x"}' >&0; sleep 1"#;
    let liar = script(&space, "liar", liar);
    space
        .inside(|| {
            // Some for each shard.
            let mut streams: Vec<TcpStream> =
                (0..24).map(|_| TcpStream::connect("10.77.0.2:7").unwrap()).collect();
            let mut echoed = |text: &[u8]| {
                for stream in &mut streams {
                    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                    stream.write_all(text).unwrap();
                    let mut back = vec![0; text.len()];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(back, text);
                }
            };
            echoed(b"before");
            assert!(refused(&space, &[&liar]).contains("everything goes on"));
            echoed(b"between");
            let last = upgraded(&space, &[]);
            assert_eq!(last["connections"], 24);
            echoed(b"after");
            drop(streams);
            end(server, &space, last["pid"].as_u64().unwrap());
        })
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn tun_what_cannot_go_along_is_refused_before_anything_is_touched() {
    let Some(space) = namespace() else { return };
    let control = control(&space);
    let server = Server::start(&space, &["perf", "--control", &control]);
    let measuring = space.inside(|| {
        let mut stream = TcpStream::connect("10.77.0.2:5201").unwrap();
        // The beginning of a cookie.
        stream.write_all(b"cookie").unwrap();
        stream
    });
    std::thread::sleep(Duration::from_millis(100));
    let said = refused(&space, &[]);
    let why = "perf:5201 is measuring over 1 connections";
    assert!(said.contains(why) && said.contains("nothing has changed"), "{said}");
    drop(measuring);
    server.end();
}
