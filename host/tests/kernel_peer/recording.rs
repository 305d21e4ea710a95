//! What `bulkhead run --record` writes, `bulkhead replay` does again, in every placement.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::server::{Server, curl, namespace, noise, program};

fn replay(file: &Path, words: &[&str]) -> Output {
    program(None).arg("replay").arg(file).args(words).output().unwrap()
}

pub(crate) fn replayed(file: &Path, words: &[&str]) -> Value {
    let output = replay(file, &[words, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
#[ignore = "needs root"]
fn tun_a_recorded_download_replays_in_both_placements() {
    let Some(space) = namespace() else { return };
    let (file, record) = (space.folder().join("file"), space.folder().join("run.rec"));
    let bytes = noise(160 << 20, 4);
    std::fs::write(&file, &bytes).unwrap();
    // Whoever could read what was there before cannot read the recording.
    std::fs::write(&record, "public").unwrap();
    std::fs::set_permissions(&record, std::fs::Permissions::from_mode(0o644)).unwrap();
    let folder = space.folder().to_str().unwrap();
    let server =
        Server::start(&space, &["http", folder, "--offload", "off", "--record", record.to_str().unwrap()]);
    assert!(curl(&space, &["http://10.77.0.2/file"]) == bytes);
    let summary = server.end();
    assert_eq!(std::fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
    let piece = &bytes[1 << 20..][..32];
    assert!(!std::fs::read(&record).unwrap().windows(32).any(|window| window == piece));

    for placement in ["wasm", "native"] {
        let said = replayed(&record, &["--placement", placement]);
        assert_eq!((&said["end"], &said["steps"]), (&"complete".into(), &summary["steps"]), "{said}");
        assert!(said["checkpoints"].as_u64().unwrap() > 0, "{said}");
        let half = summary["steps"].as_u64().unwrap() / 2;
        let said = replayed(&record, &["--placement", placement, "--from", &half.to_string()]);
        assert_eq!((&said["end"], &said["steps"]), (&"complete".into(), &summary["steps"]), "{said}");
    }
    let pcap = space.folder().join("run.pcap");
    let output = replay(&record, &["--print", "--until", "40", "--pcap", pcap.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("10.77.0.1.") && text.contains("> 10.77.0.2.80: S "), "{text}");
    assert!(text.contains("> 10.77.0.2.80 > ") && text.contains("the same outputs as recorded"), "{text}");
    assert_eq!(std::fs::read(&pcap).unwrap()[..4], [0x4d, 0x3c, 0xb2, 0xa1]);

    let copy = space.folder().join("copy.rec");
    let output = replay(&record, &["--redact", copy.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let output = replay(&copy, &["--print"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("> 240.0.0.") && !text.contains("10.77.0."), "no name but new ones");
    let output = replay(&copy, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("read with --print"), "{said}");
}

#[test]
fn what_is_no_recording_is_told_in_a_line() {
    let folder = std::env::temp_dir().join(format!("bulkhead-replay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes, line) in [
        ("text", &b"a text that is long enough to be looked at"[..], "no recording"),
        ("old", b"bulkrec\n\x09\0\0\0\0\0\0\0", "format 9"),
        ("long", b"bulkrec\n\x02\0\0\0\xff\xff\xff\xff", "damaged"),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, bytes).unwrap();
        let output = replay(&file, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(line) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(replay(&folder.join("nothing"), &[]).status.code(), Some(1));
    std::fs::remove_dir_all(&folder).unwrap();
}
