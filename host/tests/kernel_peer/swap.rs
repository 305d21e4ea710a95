//! `bulkhead swap` while curl downloads.

use std::path::Path;
use std::process::Output;

use bulkhead_namespace::Namespace;
use serde_json::Value;

use super::server::{Server, curl, namespace, noise, program};

const MIB: usize = 1 << 20;

/// Another build of the TCP module, for the instance a stranger.
fn other_file(space: &Namespace) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/guest-tcp.wasm");
    let copy = space.folder().join("other.wasm");
    std::fs::copy(file, &copy).unwrap();
    copy.to_str().unwrap().to_owned()
}

fn swap(space: &Namespace, words: &[&str]) -> Output {
    let control = space.folder().join("control");
    let mut command = program(Some(space));
    command.args(["swap", "--json", "--control", control.to_str().unwrap()]).args(words).output().unwrap()
}

/// A swap that is made, and what is told of it.
fn swapped(space: &Namespace, words: &[&str]) -> Value {
    let output = swap(space, words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    said["swapped"].clone()
}

/// One that is not, and why.
fn refused(space: &Namespace, words: &[&str]) -> String {
    let output = swap(space, words);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn under_a_download(flags: &[&str], shards: usize) {
    let Some(space) = namespace() else { return };
    let control = space.folder().join("control");
    let bytes = noise(48 * MIB, 1);
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    let folder = space.folder().to_str().unwrap();
    let words = ["http", folder, "--control", control.to_str().unwrap()];
    let server = Server::start(&space, &[&words[..], flags].concat());
    let other = other_file(&space);
    let copies = space.folder().join("copy_#1");
    std::thread::scope(|scope| {
        let download = scope.spawn(|| {
            let copies = copies.to_str().unwrap();
            let url = "http://10.77.0.2/file?[1-4]";
            curl(&space, &["--limit-rate", "16M", "-Z", "-o", copies, url]);
        });
        // Once there is something to take over.
        while swapped(&space, &[&other]).as_array().unwrap().iter().all(|one| one["connections"] == 0) {
            assert!(!download.is_finished(), "the download was over before a swap met it");
        }
        let mut rounds = 0;
        while !download.is_finished() {
            // A shadow in a shard without traffic waits in vain.
            let shadowed: &[&str] = if shards == 1 { &["--shadow", "20", &other] } else { &[&other] };
            let words: [&[&str]; 4] = [&["--placement", "native"], &[], shadowed, &["--placement", "native"]];
            let done = swapped(&space, words[rounds % words.len()]);
            assert_eq!(done.as_array().unwrap().len(), shards);
            rounds += 1;
        }
        assert!(rounds > 3, "{rounds} swaps under the download");
    });
    for number in 1..=4 {
        let copy = std::fs::read(space.folder().join(format!("copy_{number}"))).unwrap();
        assert!(copy == bytes, "copy {number} differs");
    }
    let summary = server.end();
    assert!(summary["bytes_out"].as_u64().unwrap() > 4 * 48 * MIB as u64, "{summary}");
}

#[test]
#[ignore = "needs root"]
fn tun_swaps_under_a_download() {
    under_a_download(&[], 1);
}

#[test]
#[ignore = "needs root"]
fn tun_swaps_of_two_shards_under_a_download() {
    under_a_download(&["--shards", "2"], 2);
}

#[test]
#[ignore = "needs root"]
fn tun_a_module_that_cannot_take_over_is_not_swapped_in() {
    let Some(space) = namespace() else { return };
    let control = space.folder().join("control");
    let server = Server::start(&space, &["echo", "--control", control.to_str().unwrap()]);
    let junk = space.folder().join("junk.wasm");
    std::fs::write(&junk, noise(1000, 1)).unwrap();
    let udp = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/guest-udp.wasm");
    let udp = udp.to_str().unwrap();
    let said = refused(&space, &[junk.to_str().unwrap()]);
    assert!(said.contains("junk.wasm"), "{said}");
    assert!(refused(&space, &[udp]).contains("serves no protocol that a module here serves"));
    assert!(refused(&space, &["/nowhere/module.wasm"]).contains("cannot read /nowhere/module.wasm"));
    let cold = swapped(&space, &["--cold"]);
    assert_eq!(cold[0]["state_bytes"], Value::Null);
    server.end();
    assert!(refused(&space, &[]).contains("no running instance answers here"));
}
