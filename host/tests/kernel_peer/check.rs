//! `bulkhead check`: what holds, what does not and where, and what is not served.

use std::path::Path;

use serde_json::Value;

use super::server::program;

/// Runs it: exit code, standard output, standard error.
fn check(words: &[&str]) -> (Option<i32>, String, String) {
    let output = program(None).arg("check").args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(words: &[&str]) -> Value {
    let (code, out, error) = check(&[words, &["--json"]].concat());
    assert_eq!(code, Some(0), "{out}{error}");
    serde_json::from_str(&out).unwrap()
}

/// What was found out about each question.
fn findings(value: &Value, finding: &str) -> Vec<String> {
    let asked = value["contract"].as_array().unwrap().iter();
    let found = asked.filter(|one| one["finding"] == finding);
    found.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_bundled_modules_keep_the_contract_in_every_placement() {
    for words in [&[][..], &["--placement", "native"]] {
        let value = json(words);
        assert_eq!((&value["holds"], findings(&value, "fails").len()), (&true.into(), 0));
        assert!(findings(&value, "holds").contains(&"another instance takes over in mid-stream".to_owned()));
        let folders = value["scripts"]["folders"].as_array().unwrap();
        let passed: u64 = folders.iter().map(|folder| folder["passed"].as_u64().unwrap()).sum();
        assert!(passed >= 20, "{value}");
    }
    let datagrams = json(&[env!("BULKHEAD_UDP_MODULE")]);
    assert!(findings(&datagrams, "holds").contains(&"datagrams both ways, IPv6".to_owned()));
    assert!(findings(&datagrams, "not served").contains(&"half close".to_owned()));
    assert_eq!(datagrams["scripts"]["folders"], serde_json::json!([]));
}

#[test]
fn a_module_is_started_with_the_settings_that_it_is_given() {
    let neighbours = env!("BULKHEAD_NEIGHBOURS_MODULE");
    let (code, out, _) = check(&[neighbours]);
    assert!(code == Some(1) && out.contains("NO "), "without a link address it does not start: {out}");
    let value = json(&[neighbours, "--setting", "link-address=2199023255553"]);
    assert_eq!((&value["holds"], findings(&value, "fails")), (&true.into(), Vec::<String>::new()));
    assert!(findings(&value, "holds").contains(&"starts, with both versions of IP".to_owned()));
    let (code, _, error) = check(&["--setting", "no-such=1"]);
    assert!(code == Some(2) && error.contains("no such setting"), "{error}");
}

#[test]
fn a_script_that_does_not_hold_is_shown_and_captured() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("scripts/handshake")).unwrap();
    let script = "\
        0   socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n\
        +0  bind(3, ..., ...) = 0\n\
        +0  listen(3, 1) = 0\n\
        +0  < S 0:0(0) win 1000 <mss 1000>\n\
        +0  > S. 0:0(0) ack 2 <mss 1460>\n";
    std::fs::write(folder.join("scripts/handshake/wrong.pkt"), script).unwrap();
    let right = script.replace("ack 2", "ack 1");
    std::fs::write(folder.join("scripts/handshake/right.pkt"), right).unwrap();
    std::fs::write(folder.join("scripts/handshake/broken.pkt"), "soon socket() = 3\n").unwrap();
    let (scripts, captures) = (folder.join("scripts"), folder.join("captures"));
    let words = [
        "--scripts",
        scripts.to_str().unwrap(),
        "--pcap",
        captures.to_str().unwrap(),
        "--placement",
        "native",
    ];
    let (code, out, error) = check(&words);
    assert_eq!((code, error.as_str()), (Some(1), ""), "{out}");
    for text in [
        "handshake       1       2",
        "handshake/wrong.pkt:5: they differ: ack",
        "expected  0.000000 > S. 0:0(0) ack 2 <mss 1460>",
        "got       0.000000 > S. 0:0(0) ack 1 <mss 1460>",
        "\nhandshake/broken.pkt:1: expected a time",
    ] {
        assert!(out.contains(text), "{text}: {out}");
    }
    let capture = std::fs::read(captures.join("handshake-wrong.pcap")).unwrap();
    assert_eq!(capture.get(..4), Some(&[0xd4, 0xc3, 0xb2, 0xa1][..]));
    assert!(!captures.join("handshake-right.pcap").exists());
}

#[test]
fn what_cannot_be_checked_is_told() {
    for (words, code, says) in [
        (&["--scripts", "/no/such/folder"][..], 2, "directory that exists"),
        (&["--placement", "native", "x.wasm"], 2, "leave out"),
        (&["--placement", "elsewhere"], 2, "possible values"),
        (&["/no/such.wasm"], 1, "cannot be read"),
        (&["--scripts", env!("CARGO_TARGET_TMPDIR"), "/dev/null"], 1, "/dev/null"),
    ] {
        let (got, out, error) = check(words);
        assert!(got == Some(code) && out.is_empty() && error.contains(says), "{words:?}: {got:?} {error}");
    }
}
